"""bertsmith adapt TEXTS --out ENCODER."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.errors import UsageError


def adapt(  # noqa: PLR0913 - one parameter a flag
    source: Annotated[
        str | None,
        Parameter(name="TEXTS", help="A .txt file with one text a line, or CSV, TSV, JSONL, Parquet (gzip too)."),
    ] = None,
    /,
    *,
    out: Annotated[str | None, Parameter(help="Folder of the adapted encoder; it is made.")] = None,
    text: Annotated[str, Parameter(help="Column that holds the text.", show_default=False)] = "",
    encoding: Annotated[
        str, Parameter(help="Character encoding of TEXTS, when it is not UTF-8.", show_default=False)
    ] = "",
    encoder: Annotated[str, Parameter(help="The encoder to begin with: minilm, a Hub name, a folder.")] = "minilm",
    epochs: Annotated[int, Parameter(help="Times that each text is read.")] = 3,
    max_length: Annotated[int, Parameter(help="Tokens of a window; a longer text becomes several windows.")] = 128,
    learning_rate: Annotated[float, Parameter(help="The highest learning rate.")] = 1e-4,
    batch_size: Annotated[int, Parameter(help="Windows of a step.")] = 32,
    mask_share: Annotated[float, Parameter(help="Share of the words that is left out.")] = 0.15,
    held_out: Annotated[float, Parameter(help="Share of the texts that is measured on only; at most 2,000.")] = 0.05,
    head_epochs: Annotated[
        int, Parameter(help="Epochs that a head learns alone first, where the encoder came without one.")
    ] = 1,
    seed: Annotated[int, Parameter(help="Seed of everything that is drawn.")] = 42,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    force: Annotated[bool, Parameter(negative=(), help="Replace an adapted encoder that is already at --out.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print the figures as JSON.")] = False,
) -> int:
    """Let an encoder go on learning from raw texts of your domain, before `train --encoder ENCODER`.

    Words are left out, and the encoder learns to name them. No labels are needed.
    """
    from bertsmith.masked.adapt import Settings
    from bertsmith.masked.adapt import adapt as adapt_encoder
    from bertsmith.recipe import Recipe

    if source is None:
        raise UsageError("TEXTS is missing: a file of raw texts.", tip="bertsmith adapt TEXTS --out ENCODER")
    if out is None:
        raise UsageError(
            "--out is missing: it says where the encoder is written.", tip="bertsmith adapt TEXTS --out ENCODER"
        )
    run = Recipe().changed({"device": device, "threads": threads}, shown=lambda name: f"--{name}").run
    settings = Settings(
        encoder=encoder, epochs=epochs, max_length=max_length, learning_rate=learning_rate, batch_size=batch_size,
        mask_share=mask_share, held_out=held_out, head_epochs=head_epochs, seed=seed,
    )  # fmt: skip
    adapted = adapt_encoder(
        source, out=Path(out), settings=settings, text=text, encoding=encoding, device=run.device,
        threads_wanted=run.threads, force=force, listener=listener(json_output=json),
    )  # fmt: skip
    if json:
        print_json(adapted.as_json())
    return 0
