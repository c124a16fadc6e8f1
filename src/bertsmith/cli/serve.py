"""bertsmith serve RUN [RUN...]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    import socket

    from bertsmith.serve.settings import ServeSettings


def serve(  # noqa: PLR0913 - one parameter a flag
    run: Annotated[Path, Parameter(help="A run, or its model folder; it answers where a request names no model.")],
    /,
    *runs: Annotated[Path, Parameter(help="More runs, each called by its folder's name.")],
    host: Annotated[str, Parameter(help="Address to listen at; 0.0.0.0 is every one of this machine.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port; 0 takes a free one, and says which.")] = 8000,
    workers: Annotated[int, Parameter(help="Processes that answer; they share the CPU threads.")] = 1,
    engine: Annotated[
        str, Parameter(help="auto (the newest accepted export, else torch), torch, onnx, onnx-int8.")
    ] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    max_queue_tokens: Annotated[int, Parameter(help="Tokens that may wait; more is refused with 429.")] = 262_144,
    max_wait: Annotated[float, Parameter(help="Seconds that a request may wait for its turn; else 429.")] = 0.5,
    batch_tokens: Annotated[int | None, Parameter(help="Tokens of a batch [512 a thread].")] = None,
    max_body: Annotated[int, Parameter(help="Bytes of a request.")] = 16 << 20,
    max_texts: Annotated[int, Parameter(help="Texts of a request.")] = 10_000,
    max_characters: Annotated[int, Parameter(help="Characters of a text.")] = 100_000,
    max_tokens: Annotated[int, Parameter(help="Tokens of a text, before it is cut as in training.")] = 65_536,
    max_explained: Annotated[int, Parameter(help="Texts of a request for explanations.")] = 16,
    max_depth: Annotated[int, Parameter(help="Arrays and objects of a JSON body within one another.")] = 16,
    deadline: Annotated[float, Parameter(help="Seconds after which a request that waits is given up.")] = 30.0,
    grace: Annotated[float, Parameter(help="Seconds that accepted requests have when the server is stopped.")] = 20.0,
    api_key_file: Annotated[
        Path | None, Parameter(help="File with the keys that may ask (bertsmith keys add NAME --file FILE).")
    ] = None,
    no_auth: Annotated[bool, Parameter(negative=(), help="Serve a public address without keys.")] = False,
    feedback: Annotated[
        str, Parameter(help="Database for corrections: a file, sqlite:///…, or postgresql://…", show_default=False)
    ] = "",
    feedback_days: Annotated[int | None, Parameter(help="Days that corrections are kept [for good].")] = None,
    reload: Annotated[bool, Parameter(negative=(), help="Take a bundle as soon as it changes.")] = False,
    log_texts: Annotated[bool, Parameter(negative=(), help="Write texts to the log.")] = False,
    cors: Annotated[
        list[str] | None, Parameter(help="Origin whose pages may ask: https://shop.example.", negative=())
    ] = None,
) -> int:
    """Answer texts over HTTP, with a page to try it at /ui."""
    from bertsmith.serve.settings import ServeSettings

    settings = ServeSettings(
        runs=(run, *runs), host=host, port=port, workers=workers, engine=engine, threads=_threads(threads),
        max_queue_tokens=max_queue_tokens, max_wait_s=max_wait, batch_tokens=batch_tokens, max_body=max_body,
        max_texts=max_texts, max_characters=max_characters, max_tokens=max_tokens, max_explained=max_explained,
        max_depth=max_depth, deadline_s=deadline, grace_s=grace, api_key_file=api_key_file, no_auth=no_auth,
        feedback=feedback, feedback_days=feedback_days, reload=reload, log_texts=log_texts, cors=tuple(cors or ()),
    )  # fmt: skip
    return _run(settings)


def _threads(given: str) -> int | None:
    from bertsmith.recipe import Recipe

    chosen = Recipe().changed({"threads": given}, shown=lambda name: f"--{name}").run.threads
    return None if chosen == "auto" else int(chosen)


def _run(settings: ServeSettings) -> int:
    """Check everything that can be checked, and serve until told to stop."""
    from bertsmith.cli.loading import bundle_of
    from bertsmith.encoders import require

    for package in ("fastapi", "uvicorn"):
        require(package, what="serving", extra="serve")
    from bertsmith.serve.keys import check_open
    from bertsmith.serve.serving import serve_forever
    from bertsmith.serve.sockets import listening

    check_open(settings)
    for run in settings.runs:
        bundle_of(run)
    with listening(settings) as sock:
        return serve_forever(settings, sock, told=_told)


def _told(settings: ServeSettings, sock: socket.socket, models: list[str]) -> None:
    from bertsmith.cli.console import listener

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{sock.getsockname()[1]}"
    listener(json_output=True).tell("serve", f"{', '.join(models)} at {address}", aside=f"{address}/ui")
