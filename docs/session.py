"""Run the console sessions of README and tutorial again, and put what they say into the pages.

    python docs/session.py             about as long as `make demo`; trains once

A session is a ```console block under a line `<!-- session: NAME -->`; its first line is the command. Commands run once
each, in the order of the pages, in the root of the repository, with a folder `runs/` that is made anew. Standard output
counts; lines about the epochs in between are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial" / "first-classifier.md")
SESSION = re.compile(r"(<!-- session: \w+ -->\n```console\n\$ )([^\n]*)\n.*?^```$", re.DOTALL | re.MULTILINE)
_BETWEEN = re.compile(r"(fit +epoch 1:[^\n]*\n)(?:fit +epoch[^\n]*\n)+(fit +epoch[^\n]*\n)")


@cache
def said(command: str) -> str:
    """Run a command and return what it says on standard output."""
    words = [sys.executable, "-m", *shlex.split(command)]
    if "train" in words:
        words.append("--force")
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"NO_COLOR": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    return _BETWEEN.sub(r"\1          […]\n\2", done.stdout)


def refreshed(page: str) -> str:
    """Return a page with every session as it runs now."""
    return SESSION.sub(lambda found: f"{found[1]}{found[2]}\n{said(found[2]).rstrip()}\n```", page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
