"""bertsmith predict RUN [TEXT... | --in FILE --out FILE | --in FILES --out DIR]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.loading import load_model
from bertsmith.errors import UsageError

if TYPE_CHECKING:
    from bertsmith.inference.predictor import Predictor
    from bertsmith.recipe import Recipe
    from bertsmith.tasks import Answer


_ONE_FILE = "bertsmith predict RUN --in FILE --out FILE"
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
            name="--in",
            help="File whose rows are answered (CSV, TSV, JSONL, Parquet), a folder of such files, or a pattern: "
            "'part-*.parquet' (in quotes). A path or a URL.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    out: Annotated[
        str | None,
        Parameter(help="File for all columns of --in and the answers; for several files a folder. A path or a URL."),
    ] = None,
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
    quarantine: Annotated[
        Path | None,
        Parameter(help="JSONL file for rows of the one file --in that cannot be read; without it they are an error."),
    ] = None,
    spreadsheet_safe: Annotated[
        bool, Parameter(negative=(), help="Put ' before cells of CSV and TSV that a spreadsheet would run as formulas.")
    ] = False,
    force: Annotated[
        bool, Parameter(negative=(), help="Replace the answers of another job in the folder --out.")
    ] = False,
    cluster: Annotated[
        Literal["ray"] | None, Parameter(help="Share the files of --in out to the workers of a Ray cluster.")
    ] = None,
    workers: Annotated[int | None, Parameter(help="Workers of --cluster [as many as it has room for].")] = None,
    engine: Annotated[
        str, Parameter(help="auto (the newest accepted export, else torch), torch, onnx, onnx-int8.")
    ] = "auto",
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    rung: Annotated[
        str,
        Parameter(help="Answer with a cheap model of the ladder: majority, tfidf, words, frozen.", show_default=False),
    ] = "",
    json: Annotated[bool, Parameter(negative=(), help="Print one JSON object a line.")] = False,
) -> int:
    """Answer texts, or the rows of a file or of many files."""
    if in_ == "-":
        in_, texts = None, ("-", *texts)
    given = {"text": text, "encoding": encoding, "device": device, "threads": threads}
    # Texts on the command line need no settings, and without them the answer is there a tenth of a second sooner.
    settings = None if in_ is None and device == threads == "auto" else _settings(given)
    show = _Show(as_json=json, scores=scores)
    load = partial(load_model, run, settings, rung=rung, engine=engine, json_output=json)
    if in_ is None or settings is None:
        _check_no_file(texts, out)
        show.all(list(_answers(load, list(_read_texts(texts)), text_pair)))
        return 0
    if texts:
        raise UsageError(f"give texts or --in, not both. Got --in {in_} and the text {texts[0][:40]!r}.")
    pair = {"text_pair": text_pair[0]} if text_pair else {}
    columns = settings.changed(pair)
    from bertsmith.cli.predict_job import Wanted, is_job, predict_job

    if is_job(in_, out):
        wanted = Wanted(in_, out, columns, scores, spreadsheet_safe, force, cluster, workers, rung, quarantine, json)
        return predict_job(load, run, wanted)
    if cluster or force:
        raise UsageError(f"--{'cluster' if cluster else 'force'} is for several files. Got the one file {in_}.")
    return _predict_file(load, _OneFile(in_, out, quarantine, spreadsheet_safe), columns, show)


def _settings(given: dict[str, str]) -> Recipe:
    from bertsmith.recipe import Recipe

    return Recipe().changed(given, shown=lambda name: f"--{name}")


@dataclass(frozen=True)
class _OneFile:
    """One file of rows, and where its answers and the rows that cannot be read go: paths or URLs."""

    source: str
    target: str | None
    quarantine: Path | None
    spreadsheet_safe: bool


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


def _predict_file(load: Callable[[], Predictor], file: _OneFile, settings: Recipe, show: _Show) -> int:
    from bertsmith.scoring import places
    from bertsmith.scoring.files import Asked, named, score_file
    from bertsmith.scoring.writers import check_ending

    if file.target is None:
        if file.quarantine or file.spreadsheet_safe:
            raise UsageError("--quarantine and --spreadsheet-safe need --out.", tip=_ONE_FILE)
        return _print_file(load, file.source, settings, show)
    check_ending(Path(file.target), spreadsheet_safe=file.spreadsheet_safe)
    voice = listener(json_output=show.as_json)
    with places.fetched(file.source) as source, named(source, file.source), _written(file.target) as target:
        _require_readable(source, settings, file)
        predictor = load()
        asked = Asked(settings.read, show.scores, file.spreadsheet_safe)
        done = score_file(predictor, source, target, asked=asked, listener=voice, quarantine=file.quarantine)
    more = [
        f"{done.cut:,} texts were longer than {predictor.info.max_length} tokens and were cut" if done.cut else "",
        f"{done.bad:,} {'row' if done.bad == 1 else 'rows'} could not be read ({file.quarantine})" if done.bad else "",
    ]
    voice.tell(
        "predict",
        "; ".join(
            [f"{done.rows:,} rows, answers in columns {listed(list(done.columns.names.values()))}", *filter(None, more)]
        ),
        aside=file.target,
    )
    if show.as_json:
        print_json(
            {
                "rows": done.rows,
                "cut": done.cut,
                "repeated": done.repeated,
                "bad": done.bad,
                "out": file.target,
                "columns": done.columns.names,
            }
        )
    return 0


def _print_file(load: Callable[[], Predictor], place: str, settings: Recipe, show: _Show) -> int:
    from bertsmith.data.files import open_batches
    from bertsmith.scoring import places
    from bertsmith.scoring.files import answer_batches, named

    with places.fetched(place) as source, named(source, place):
        _require_readable(source, settings, None)
        predictor = load()
        file = open_batches(source, encoding=settings.read.encoding, task=predictor.task.name)
        for part in answer_batches(predictor, file, settings=settings.read, source=str(source)):
            show.all(list(zip(part.texts.to_pylist(), part.answers, strict=True)))
    return 0


def _require_readable(source: Path, settings: Recipe, file: _OneFile | None) -> None:
    """Say what is wrong with a file before a model is loaded; broken rows are left to the quarantine."""
    from bertsmith.data.files import open_batches, require_there

    require_there(source)
    if file is None or file.quarantine is None:
        open_batches(source, encoding=settings.read.encoding, task="token-labels")


def _written(place: str) -> AbstractContextManager[Path]:
    """Give the path to write a file to: its own, or a temporary one that is put behind its URL."""
    from bertsmith.scoring import places

    return places.committed(place) if places.is_url(place) else nullcontext(places.local(place))


def listed(names: list[str]) -> str:
    """Name columns in words.

    >>> listed(["label", "guess", "score"])
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


def _check_no_file(texts: tuple[str, ...], out: str | None) -> None:
    if out is not None:
        raise UsageError("--out needs --in: it takes the rows of a file.", tip=_ONE_FILE)
    if not texts:
        raise UsageError("no text to answer.", tip='bertsmith predict RUN "text", or --in FILE, or - for stdin.')
