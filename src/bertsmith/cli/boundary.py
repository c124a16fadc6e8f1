"""The one place where errors become words and exit codes.

0 done, 1 the data or the model did not pass, 2 wrong usage, 70 our own bug, 130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

from bertsmith.cli.app import VERBS, app
from bertsmith.errors import BertsmithError, UsageError

PREDICT_FLAGS = (
    "--in",
    "--out",
    "--scores",
    "--json",
    "--device",
    "--text",
    "--text-pair",
    "--encoding",
    "--threads",
    "--rung",
    "--help",
)
"""Flags of the one verb whose arguments may begin with hyphens."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one return a kind of error
    """Run a command line and return its exit code."""
    try:
        if list(arguments[:1]) == ["predict"]:
            _refuse_mistyped(arguments[1:])
        code = app(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return int(code or 0)
    except BertsmithError as error:
        _complain(error.message, error.tip)
        return error.exit_code
    except CycloptsError as error:
        _complain(_reworded(error), f"`bertsmith{_verb(arguments)} --help` lists what there is.")
        return 2
    except BrokenPipeError:
        # Whoever read our output has left (`| head`); nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _complain("interrupted.", "")
        return 130
    except MemoryError:
        _complain("out of memory.", "A smaller --batch-size or --max-length needs less.")
        return 1
    except Exception:
        traceback.print_exc()
        _complain(
            "this is a bug in bertsmith.",
            "Please report the lines above: https://github.com/bertsmith/bertsmith/issues",
        )
        return 70


def _reworded(error: CycloptsError) -> str:
    """Say what cyclopts found in one line."""
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        return f"{name} needs a value." if name.startswith("-") else f"{name} is missing."
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"'{error.unused_tokens[0]}' is one argument too many."
    return " ".join(str(error).split())


def _verb(arguments: Sequence[str]) -> str:
    return f" {arguments[0]}" if arguments and arguments[0] in VERBS else ""


def _refuse_mistyped(arguments: Sequence[str]) -> None:
    """Texts may begin with a hyphen, but one that is nearly a flag is a slip of the pen.

    Raises:
        UsageError: It is one, and does not stand after a lone `--`.
    """
    before = list(arguments[: list(arguments).index("--")] if "--" in arguments else arguments)
    for text in before:
        name = text.partition("=")[0]
        near = difflib.get_close_matches(name, PREDICT_FLAGS, n=1, cutoff=0.75) if text.startswith("--") else []
        if near and name not in PREDICT_FLAGS:
            raise UsageError(
                f"unknown flag '{name}'. Did you mean '{near[0]}'?",
                tip="If it is a text, put it after a lone --: RUN -- TEXT",
            )


def _complain(message: str, tip: str) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if colour else ("", "", "")
    below = message.replace("\n", "\n       ")
    sys.stderr.write(f"{red}ERROR{plain}  {below}\n")
    if tip:
        sys.stderr.write(f"{dim}TIP{plain}    {tip}\n")
    sys.stderr.flush()
