"""Every exception of bertsmith.

    BertsmithError            anything that bertsmith says on purpose
    ├── UsageError            a wrong call: flag, setting, path                     exit 2
    │   ├── RecipeError       a setting that is unknown or out of its range
    │   ├── EncoderError      an encoder that cannot be found or loaded
    │   └── MissingExtraError a part of bertsmith that is not installed
    ├── DataError             a file or table that cannot be learned from          exit 1
    ├── BundleError           a model folder that is incomplete or was changed     exit 1
    ├── ExportError           a model that cannot be exported, or not well enough     exit 1
    ├── CheckpointError       a checkpoint that cannot be saved or used            exit 1
    └── StoppedError          a training that was interrupted and can go on        exit 130

A message says where, what was found and what was expected; the tip says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar


class BertsmithError(Exception):
    """The base of all errors that are the user's to mend.

    >>> try:
    ...     raise BertsmithError("reviews.csv: no rows.", tip="Is it the right file?")
    ... except BertsmithError as error:
    ...     print(error)
    reviews.csv: no rows.
      Is it the right file?
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, tip: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.tip = tip

    def __str__(self) -> str:
        return f"{self.message}\n  {self.tip}" if self.tip else self.message

    def __reduce__(self) -> tuple[Callable[..., BertsmithError], tuple[object, ...]]:
        # An error may come from another process; some classes word their message from other arguments.
        return _as_it_was, (type(self), self.message, self.tip)


def _as_it_was(kind: type[BertsmithError], message: str, tip: str) -> BertsmithError:
    error = kind.__new__(kind)
    BertsmithError.__init__(error, message, tip=tip)
    return error


class UsageError(BertsmithError):
    """A call that cannot be carried out as it stands."""

    exit_code: ClassVar[int] = 2


class RecipeError(UsageError):
    """One or more settings are unknown or out of range; the message lists all of them."""


class EncoderError(UsageError):
    """The encoder was not found, or is none that can be used."""


class MissingExtraError(UsageError):
    """A part of bertsmith needs packages that are not installed."""

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(
            f"{what} needs the package '{package}', which is not installed.",
            tip=f"Install it with: pip install 'bertsmith[{extra}]'",
        )


class DataError(BertsmithError):
    """A file or table that cannot be read or learned from."""


class BundleError(BertsmithError):
    """A model folder that is incomplete, was changed after training, or is no model folder."""


class ExportError(BertsmithError):
    """A model whose export cannot be made, or does not answer as the model does."""


class CheckpointError(BertsmithError):
    """A checkpoint that cannot be saved, or one that is missing or damaged."""


class StoppedError(BertsmithError):
    """A training that was interrupted from outside; a checkpoint of its last step was written."""

    exit_code: ClassVar[int] = 130
