"""The one place where errors become words and exit codes.

0 done, 1 the data or the model did not pass, 2 wrong usage, 70 our own bug, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import CycloptsError

from bertsmith.cli.app import app
from bertsmith.errors import BertsmithError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        code = app(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return int(code or 0)
    except BertsmithError as error:
        _complain(error.message, error.tip)
        return error.exit_code
    except CycloptsError as error:
        _complain(_reworded(error), "`bertsmith --help` and `bertsmith VERB --help` list what there is.")
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
    return " ".join(str(error).split())


def _complain(message: str, tip: str) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if colour else ("", "", "")
    sys.stderr.write(f"{red}ERROR{plain}  {message}\n")
    if tip:
        sys.stderr.write(f"{dim}TIP{plain}    {tip}\n")
    sys.stderr.flush()
