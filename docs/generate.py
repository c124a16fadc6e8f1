"""Write the parts of the reference that come from the code.

    python docs/generate.py            write docs/reference/cli.md and docs/reference/recipe.md
    python docs/generate.py --check    exit 1 when they are stale

`tests/test_docs.py` fails when they are stale.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bertsmith.cli.app import app
from bertsmith.cli.flags import as_flag
from bertsmith.recipe import Recipe, Setting, settings

REFERENCE = Path(__file__).parent / "reference"
WIDTH = 100
_MADE = "<!-- Made by `python docs/generate.py`. Do not edit. -->"
_CLI = """\
Results go to standard output; progress and warnings go to standard error. `--json` prints results for scripts.
`NO_COLOR` is honoured. [Exit codes and errors](errors.md) and [what the JSON holds](files.md) have pages of their own.
"""
_RECIPE = """\
Every setting has one name, unique over all stages. It is the same setting as a flag (`--batch-size 16`), as an
argument of `bertsmith.train` (`batch_size=16`) and in a recipe file (`batch_size = 16` under `[fit]`). A flag wins
over the recipe file, and the recipe file wins over the default. `RUN/recipe.toml` holds the settings of a finished
run, with `auto` replaced by the value that was used; `dropout = "auto"` stays where it is the encoder's own.
"""
_STAGES = {
    "read": "Where the examples come from, and which column is which",
    "split": "How the rows are shared out",
    "text": "How text becomes tokens",
    "fit": "How the encoder is fine-tuned",
    "decide": "When an answer is given, and when it is UNKNOWN",
    "run": "What holds for the whole run",
}


def verbs() -> list[str]:
    """Return the verbs of the command line, in their order."""
    return [name for name in app if not name.startswith("-")]


def help_of(*tokens: str) -> str:
    """Return what `bertsmith TOKENS --help` prints, in plain characters."""
    screen = io.StringIO()
    app.help_print(list(tokens), console=Console(file=screen, width=WIDTH, no_color=True, legacy_windows=False))
    return "\n".join(line.rstrip() for line in screen.getvalue().strip().splitlines())


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    return "\n".join(_cli_lines()) + "\n"


def recipe_page() -> str:
    """Return docs/reference/recipe.md."""
    return "\n".join(_recipe_lines()) + "\n"


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    return {REFERENCE / "cli.md": cli_page(), REFERENCE / "recipe.md": recipe_page()}


def main(arguments: list[str]) -> int:
    """Write the pages, or only compare them."""
    stale = [path for path, page in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != page]
    if "--check" in arguments:
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8", newline="\n")
    return 0


def _cli_lines() -> Iterator[str]:
    yield from (_MADE, "", "# Command line", "", *_CLI.splitlines(), "", "```text", help_of(), "```")
    for verb in verbs():
        yield from ("", f"## bertsmith {verb}", "", "```text", help_of(verb), "```")


def _recipe_lines() -> Iterator[str]:
    yield from (_MADE, "", "# Settings", "", *_RECIPE.splitlines())
    by_stage: dict[str, list[Setting]] = {stage: [] for stage in Recipe.model_fields}
    for each in settings().values():
        by_stage[each.stage].append(each)
    for stage, found in by_stage.items():
        yield from ("", f"## [{stage}]", "", f"{_STAGES[stage]}.", "")
        yield from ("| setting | default | what it does |", "|---|---|---|", *map(_row, found))


def _row(setting: Setting) -> str:
    flag = f"`{as_flag(setting.name)}`" if setting.is_flag else f"`{setting.name}` (no flag)"
    if isinstance(setting.default, bool):
        flag += f", `{as_flag(f'no_{setting.name}')}`"
    shown = ("no", "yes")[setting.default] if isinstance(setting.default, bool) else setting.shown_default
    default = f"`{shown}`" if shown else "not set"
    return f"| {flag} | {default} | {setting.help.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
