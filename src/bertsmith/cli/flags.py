"""Flags made from the recipe: every setting is a flag of its own name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from bertsmith.recipe import Recipe, Setting, settings

_STAGES = {
    "read": "what to learn from",
    "split": "split",
    "text": "tokens",
    "fit": "fine-tuning",
    "decide": "when an answer is given",
    "run": "the run",
}


def with_settings(*wanted: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a verb flags for settings, named one by one or by their stage; it gets them as one mapping, `flags`.

    Only flags that were given are in the mapping. Values stay text: the recipe reads and checks them, so
    that a wrong value is worded the same from the command line, from TOML and from Python.
    """
    taken = [each for each in settings().values() if each.is_flag and {each.stage, each.name} & set(wanted)]
    groups = {stage: Group(title, sort_key=place) for place, (stage, title) in enumerate(_STAGES.items())}

    def decorate(verb: Callable[..., int]) -> Callable[..., int]:
        def command(*positional: Any, **named: Any) -> int:
            flags = {each.name: named.pop(each.name) for each in taken if each.name in named}
            return verb(*positional, **named, flags=flags)

        hints = get_type_hints(verb, include_extras=True)
        own = [
            each.replace(annotation=hints[each.name])
            for each in inspect.signature(verb).parameters.values()
            if each.name != "flags"
        ]
        parameters = [*own, *(_parameter(each, groups[each.stage]) for each in taken)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        command.__name__ = verb.__name__
        command.__doc__ = verb.__doc__
        return command

    return decorate


def as_flag(name: str) -> str:
    """Say a setting's name as the command line has it.

    >>> as_flag("batch_size"), as_flag("texts")
    ('--batch-size', '--texts')
    """
    return "--" + name.replace("_", "-")


def recipe_of(flags: Mapping[str, Any], *, file: Path | None) -> Recipe:
    """Put flags over a recipe file over the defaults.

    Raises:
        RecipeError: Settings are unknown or out of range.
    """
    base = Recipe() if file is None else Recipe.load(file)
    given = {name: value for name, value in flags.items() if value is not None}
    return base.changed(given, shown=as_flag)


def _parameter(setting: Setting, group: Group) -> inspect.Parameter:
    is_switch = isinstance(setting.default, bool)
    default = ("yes" if setting.default else "no") if is_switch else setting.shown_default
    shown = Parameter(
        name=as_flag(setting.name),
        help=setting.help + (f" [{default}]" if default else ""),
        group=group,
        show_default=False,
        allow_leading_hyphen=True,
        negative=as_flag(f"no_{setting.name}") if is_switch else (),
    )
    kind = bool if is_switch else str
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
    )
