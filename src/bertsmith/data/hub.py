"""Data sets of the Hugging Face Hub, by name."""

from __future__ import annotations

from typing import Any

from bertsmith.encoders import require
from bertsmith.errors import UsageError


def load(name: str) -> Any:
    """Load a data set from the Hub, or from the cache when offline.

    Args:
        name: Its name, with the configuration after a colon where it has several: `nyu-mll/glue:sst2`.

    Returns:
        A `datasets.DatasetDict`.

    Raises:
        MissingExtraError: The package `datasets` is not installed.
        UsageError: It is not there, cannot be reached, or needs a configuration.
    """
    require("datasets", what=f"the data set '{name}'", extra="train")
    import datasets

    path, _, configuration = name.partition(":")
    try:
        return datasets.load_dataset(path, configuration or None)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UsageError(
            f"the Hub has no data set '{path}' (or it is private).", tip="Names look like stanfordnlp/imdb."
        ) from error
    except (ConnectionError, FileNotFoundError) as error:
        raise UsageError(
            f"the data set '{path}' is not on this machine, and the Hub cannot be reached.",
            tip="Go online once, or give a file instead of --dataset.",
        ) from error
    except (ValueError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the data set '{name}' cannot be loaded: {reason}",
            tip="Where a data set has several configurations, name one after a colon: nyu-mll/glue:sst2",
        ) from error
