"""The names that others may rely on: few, sorted, all there, and cheap to import."""

from __future__ import annotations

import importlib.metadata

import pytest

import bertsmith


def test_the_public_names_are_these():
    """At most twelve, in order, and `dir` shows them."""
    assert bertsmith.__all__ == [
        "BertsmithError", "DataError", "Finding", "Findings", "Prediction", "Recipe", "Run", "UsageError",
        "check", "load", "train",
    ]  # fmt: skip
    assert sorted(bertsmith.__all__) == bertsmith.__all__
    assert len(bertsmith.__all__) <= 12
    assert dir(bertsmith) == sorted([*bertsmith.__all__, "__version__"])


@pytest.mark.parametrize("name", bertsmith.__all__)
def test_every_public_name_is_there_and_documented(name):
    """Each name is importable from the root, is defined where it says, and has a docstring."""
    found = getattr(bertsmith, name)
    assert found.__name__ == name
    assert found.__module__.startswith("bertsmith.")
    assert (found.__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError) as caught:
        bertsmith.tarin  # noqa: B018
    assert str(caught.value) == "module 'bertsmith' has no attribute 'tarin'"


def test_the_version_is_the_installed_one():
    """What the module says is what the package's metadata says."""
    assert bertsmith.__version__ == importlib.metadata.version("bertsmith")


def test_star_import_gives_the_public_names():
    """`from bertsmith import *` brings exactly the public names."""
    names: dict[str, object] = {}
    exec("from bertsmith import *", names)
    assert {name for name in names if not name.startswith("__")} == set(bertsmith.__all__)
