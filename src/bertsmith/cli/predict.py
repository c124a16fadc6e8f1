"""bertsmith predict RUN [TEXT... | --in FILE --out FILE]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.loading import load_model
from bertsmith.errors import UsageError

if TYPE_CHECKING:
    from bertsmith.inference.predictor import Predictor
    from bertsmith.recipe import Recipe
    from bertsmith.tasks import Answer


_WIDEST = 60
"""Characters up to which answers stand in a column of their own."""


def predict(  # noqa: PLR0913 - one parameter a flag
    run: Annotated[Path, Parameter(help="A run, or its model folder.")],
    /,
    *texts: Annotated[
        str, Parameter(help="Texts to answer; - reads them from stdin, one a line.", allow_leading_hyphen=True)
    ],
    in_: Annotated[
        str | None,
        Parameter(
            name="--in", help="File whose rows are answered: CSV, TSV, JSONL, Parquet.", allow_leading_hyphen=True
        ),
    ] = None,
    out: Annotated[Path | None, Parameter(help="File for all columns of --in and the answers.")] = None,
    text: Annotated[str, Parameter(help="Column of --in that holds the text.", show_default=False)] = "",
    text_pair: Annotated[
        list[str] | None,
        Parameter(
            help="Second text of each TEXT (of a question: its context), or its column in --in.",
            consume_multiple=True,
            negative=(),
        ),
    ] = None,
    encoding: Annotated[
        str, Parameter(help="Character encoding of --in, when it is not UTF-8.", show_default=False)
    ] = "",
    scores: Annotated[
        bool, Parameter(negative=(), help="Give the probability of every label, or further answers.")
    ] = False,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    rung: Annotated[
        str,
        Parameter(help="Answer with a cheap model of the ladder: majority, tfidf, words, frozen.", show_default=False),
    ] = "",
    json: Annotated[bool, Parameter(negative=(), help="Print one JSON object a line.")] = False,
) -> int:
    """Answer texts, or the rows of a file."""
    from bertsmith.recipe import Recipe

    settings = Recipe().changed(
        {"text": text, "encoding": encoding, "device": device, "threads": threads}, shown=lambda name: f"--{name}"
    )
    show = _Show(as_json=json, scores=scores)
    load = partial(load_model, run, settings, what="predicting", rung=rung)
    if in_ == "-":
        in_, texts = None, ("-", *texts)
    if in_ is None:
        _check_no_file(texts, out)
        show.all(list(_answers(load, list(_read_texts(texts)), text_pair)))
        return 0
    if texts:
        raise UsageError(f"give texts or --in, not both. Got --in {in_} and the text {texts[0][:40]!r}.")
    pair = {"text_pair": text_pair[0]} if text_pair else {}
    return _predict_file(load, Path(in_), out, settings.changed(pair), show)


class _Show:
    """Prints answers, one a line."""

    def __init__(self, *, as_json: bool, scores: bool) -> None:
        self.as_json = as_json
        self.scores = scores

    def all(self, answered: list[tuple[str, Answer]]) -> None:
        lines = [] if self.as_json else _aligned([answer.line for _, answer in answered])
        width = max((len(line) for line in lines), default=0)
        for place, (text, answer) in enumerate(answered):
            if self.as_json:
                print_json({"text": text, **answer.as_json(scores=self.scores)})
                continue
            sys.stdout.write(f"{lines[place]:<{min(width, _WIDEST)}}  {' '.join(text.split())}\n")
            found = answer.as_json(scores=True).get("scores") if self.scores else None
            ranked = sorted((found or {}).items(), key=lambda each: -each[1])
            sys.stdout.writelines(f"  {score:.3f}  {label}\n" for label, score in ranked)


def _aligned(lines: list[str]) -> list[str]:
    """Put the last columns of lines below each other; two blanks part columns.

    >>> _aligned(["good  0.9", "not good  0.8"])
    ['good      0.9', 'not good  0.8']
    """
    cells = [line.rpartition("  ") for line in lines]
    width = min(_WIDEST, max((len(first) for first, _, _ in cells), default=0))
    return [f"{first:<{width}}{between}{last}" for first, between, last in cells]


def _answers(load: Callable[[], Predictor], texts: list[str], pairs: list[str] | None) -> Iterator[tuple[str, Answer]]:
    if not texts:
        raise UsageError("no text to answer.", tip='bertsmith predict RUN "text", or --in FILE, or - for stdin.')
    predictor = load()
    return zip(texts, predictor.predict(texts, pairs), strict=True)


def _predict_file(
    load: Callable[[], Predictor], source: Path, target: Path | None, settings: Recipe, show: _Show
) -> int:
    from bertsmith.data.files import open_batches
    from bertsmith.scoring.files import answer_batches, score_file
    from bertsmith.scoring.writers import check_ending

    if target is not None:
        check_ending(target)
    # A file that is not there is said before a model is loaded.
    open_batches(source, encoding=settings.read.encoding, task="token-labels")
    predictor = load()
    file = open_batches(source, encoding=settings.read.encoding, task=predictor.task.name)
    voice = listener(json_output=show.as_json)
    if target is None:
        for part in answer_batches(predictor, file, settings=settings.read, source=str(source)):
            show.all(list(zip(part.texts.to_pylist(), part.answers, strict=True)))
        return 0
    done = score_file(predictor, source, target, settings=settings.read, scores=show.scores, listener=voice)
    cut = f"; {done.cut:,} texts were longer than {predictor.info.max_length} tokens and were cut" if done.cut else ""
    voice.tell(
        "predict",
        f"{done.rows:,} rows, answers in columns {_listed(list(done.columns.names.values()))}{cut}",
        aside=str(target),
    )
    if show.as_json:
        print_json(
            {
                "rows": done.rows,
                "cut": done.cut,
                "out": str(target),
                "columns": done.columns.names,
            }
        )
    return 0


def _listed(names: list[str]) -> str:
    """Name columns in words.

    >>> _listed(["label", "guess", "score"])
    "'label', 'guess' and 'score'"
    """
    quoted = [f"'{name}'" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _read_texts(texts: tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        if text == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        else:
            yield text


def _check_no_file(texts: tuple[str, ...], out: Path | None) -> None:
    if out is not None:
        raise UsageError(
            "--out needs --in: it takes the rows of a file.", tip="bertsmith predict RUN --in FILE --out FILE"
        )
    if not texts:
        raise UsageError("no text to answer.", tip='bertsmith predict RUN "text", or --in FILE, or - for stdin.')
