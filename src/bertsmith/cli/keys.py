"""bertsmith keys add|remove|list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bertsmith.errors import UsageError


def keys(
    action: Annotated[Literal["add", "remove", "list"], Parameter(help="What to do.")],
    name: Annotated[str, Parameter(help="Whose key: up to 64 letters, digits, '.', '_' and '-'.")] = "",
    /,
    *,
    file: Annotated[Path, Parameter(help="File with the hashes of the keys; add makes it where there is none.")],
    admin: Annotated[
        bool, Parameter(negative=(), help="Let the key also reload models, and read and delete feedback.")
    ] = False,
) -> int:
    """Make, remove or list the keys with which programs may ask `bertsmith serve`.

    A new key is printed once and kept nowhere; the file has its hash. A running server reads the file again when it
    changes.
    """
    from bertsmith.serve.keys import add_key, read_keys, remove_key

    if (action == "list") == bool(name):
        raise UsageError(f"keys {action} takes {'no name' if name else 'the NAME of a key'}.")
    if admin and action != "add":
        raise UsageError("--admin is for keys add.")
    if action == "add":
        sys.stdout.write(add_key(file, name, admin=admin) + "\n")
    elif action == "remove":
        remove_key(file, name)
    else:
        found = read_keys(file)
        width = max((len(key.name) for key in found), default=0)
        lines = (f"{key.name:<{width}}  {key.created:<10}  {'admin' * key.admin}".rstrip() for key in found)
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0
