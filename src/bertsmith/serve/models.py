"""The models of a server: each with its batcher, found by name, replaced while they answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from bertsmith.errors import BertsmithError, UsageError
from bertsmith.serve.asked import Asked, Gone, Refused, Served, Watcher
from bertsmith.serve.batching import Batcher
from bertsmith.serve.model import LoadSettings, Model, load_model
from bertsmith.serve.room import BatchSettings

Load = Callable[[Path], Model]
Reload = Callable[[str], Awaitable[None]]
"""Has a model loaded again, or all where the name is ""; it raises `Refused` where nothing changed."""
_LOG = logging.getLogger("bertsmith.serve")
_PROBE = "Is anybody there?"
_PROBE_S = 10.0
_FRESH_S = 1.0
"""Seconds for which an answer to the probe is still one: whoever asks often must not keep the engine busy."""
_RETIRING_S = 600.0


class Models:
    """What a server answers with. Its coroutines belong to one loop."""

    def __init__(
        self,
        models: Sequence[Model],
        batch: BatchSettings | None = None,
        *,
        load: Load = load_model,
        watcher: Watcher | None = None,
    ) -> None:
        """Take models that are loaded; `start` begins to answer.

        Args:
            models: One at least; the first answers where a request names none.
            batch: How requests wait.
            load: How one is loaded again.
            watcher: Told of queues and batches.

        Raises:
            UsageError: There is none, or two have one name.
        """
        _check_names(models)
        self._batch, self._load, self._watcher = batch or BatchSettings(), load, watcher
        self._through: Reload | None = None
        self._told: Callable[[Model], object] = _ignored
        self._batchers = {each.name: self._batcher(each) for each in models}
        self._accepting = True
        self._reloading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._probed: dict[Model, tuple[float, Served]] = {}

    @classmethod
    def load(
        cls,
        folders: Sequence[Path],
        settings: LoadSettings | None = None,
        batch: BatchSettings | None = None,
        *,
        watcher: Watcher | None = None,
    ) -> Models:
        """Load runs, verified.

        Raises:
            BundleError: One is incomplete, was changed, or is none.
            UsageError: There is none, or two have one name.
        """
        how = settings or LoadSettings()

        def load(folder: Path) -> Model:
            return load_model(folder, how)

        return cls([load(folder) for folder in folders], batch, load=load, watcher=watcher)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, the first the default."""
        return tuple(self._batchers)

    @property
    def default(self) -> str:
        """The model that answers where a request names none."""
        return self.names[0]

    def get(self, name: str = "") -> Model:
        """Find a model; "" is the default.

        Raises:
            Refused: 404.
        """
        return self._of(name).model

    def queue_tokens(self, name: str = "") -> int:
        """Tokens that wait for a model or are computed.

        Raises:
            Refused: 404.
        """
        return self._of(name).queue_tokens

    def check_room(self, tokens: int = 1, *, name: str = "") -> None:
        """Refuse a request before its body is read, where it would be refused then.

        Raises:
            Refused: 404, 429 or 503.
        """
        self._of(name).check_room(tokens)

    def watch(self, watcher: Watcher) -> None:
        """Tell this one of queues and batches from now on, of models that are loaded later too."""
        self._watcher = watcher
        for each in self._batchers.values():
            each.watch(watcher)

    def tell(self, told: Callable[[Model], object]) -> None:
        """Tell this one of every model that takes an old one's place."""
        self._told = told

    def reload_through(self, through: Reload) -> None:
        """Let this one see to reloads: it asks all processes that answer, and they `prepare` and take."""
        self._through = through

    def start(self) -> None:
        """Start to answer."""
        for each in self._batchers.values():
            each.start()

    async def ask(self, asked: Asked, *, deadline: float | None = None, gone: Gone | None = None) -> Served:
        """Answer a request with the model that it names; see `Batcher.ask`.

        Raises:
            Refused: 404, or what `Batcher.ask` refuses with.
        """
        return await self._of(asked.model).ask(asked, deadline=deadline, gone=gone)

    async def probe(self, name: str = "") -> Served:
        """Answer a made-up text, so that readiness is more than a promise; the answer may be a second old.

        Raises:
            Refused: 404; 503 where there is no answer.
        """
        batcher = self._of(name)
        if not self._accepting:
            batcher.check_room()
        at, served = self._probed.get(batcher.model, (0.0, None))
        if served is not None and time.monotonic() - at < _FRESH_S:
            return served
        served = await _probe(batcher)
        self._probed = {batcher.model: (time.monotonic(), served)} | {
            model: each for model, each in self._probed.items() if model is not batcher.model
        }
        return served

    async def reload(self, name: str = "") -> list[Model]:
        """Load a model again, or all: verified and asked beside the old ones, which answer until then.

        What the old ones accepted, they answer. Where one cannot be used, nothing changes: in no worker, where there
        are several.

        Raises:
            Refused: 404; 409 where one cannot be used, or a server stops.
        """
        names = self._named(name)
        if self._through is None:
            (await self.prepare(name)).take()
        else:
            await self._through(name)
        return [self.get(each) for each in names]

    async def prepare(self, name: str = "") -> Prepared:
        """Load a model again, or all, and let the old ones answer until that is decided on; one at a time.

        Raises:
            Refused: 404; 409 where one cannot be used.
        """
        names = self._named(name)
        await self._reloading.acquire()
        fresh: list[Batcher] = []
        try:
            for each in names:
                fresh.append(await self._fresh(each))
        except BaseException:
            self._leave(fresh)
            raise
        return Prepared(fresh, take=self._take, leave=self._leave)

    async def drain(self, grace_s: float) -> bool:
        """Accept nothing more and wait for what was accepted; False where the time did not suffice."""
        self._accepting = False
        tasks = [asyncio.ensure_future(each.drain(grace_s)) for each in self._batchers.values()]
        ended = await asyncio.gather(*tasks)
        old = {*self._retiring}
        late = (await asyncio.wait(old, timeout=grace_s))[1] if old else old
        return all(ended) and not late

    def close(self) -> None:
        """Stop to answer."""
        self._accepting = False
        for task in self._retiring:
            task.cancel()
        for each in self._batchers.values():
            each.close()

    def _named(self, name: str) -> list[str]:
        return [self.get(name).name] if name else list(self.names)

    def _of(self, name: str) -> Batcher:
        found = self._batchers.get(name or self.default)
        if found is None:
            raise Refused(404, "no such model", f"There is no model {name!r} here. There is: {', '.join(self.names)}.")
        return found

    def _batcher(self, model: Model) -> Batcher:
        return Batcher(model, self._batch, watcher=self._watcher)

    async def _fresh(self, name: str) -> Batcher:
        """Load a model beside the one that answers, and let it answer the probe."""
        folder = self.get(name).folder
        try:
            model = await asyncio.get_running_loop().run_in_executor(None, self._load, folder)
        except BertsmithError as error:
            raise _not_taken(name, str(error)) from error
        except Exception as error:  # files that are whole may still hold anything
            _LOG.exception("%s: not loaded again", folder)
            raise _not_taken(name, f"{type(error).__name__}: {error}") from error
        batcher = self._batcher(model).start()
        try:
            await _probe(batcher)
        except Refused as refused:
            batcher.close()
            raise _not_taken(name, refused.detail) from refused
        return batcher

    def _take(self, fresh: Sequence[Batcher]) -> None:
        if not self._accepting:
            self._leave(fresh)
            raise Refused(409, "reload refused", "This server is about to stop.")
        for each in fresh:
            self._swap(each)
        self._reloading.release()

    def _leave(self, fresh: Sequence[Batcher]) -> None:
        for each in fresh:
            each.close()
        self._reloading.release()

    def _swap(self, fresh: Batcher) -> None:
        name = fresh.model.name
        old = self._batchers[name]
        fresh.follow(old)
        self._batchers[name] = fresh
        self._probed.pop(old.model, None)
        task = asyncio.get_running_loop().create_task(_retire(old))
        # The loop holds tasks weakly.
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._told(fresh.model)


class Prepared:
    """Models that were loaded beside those that answer: `take` or `leave` decides on them, once."""

    def __init__(
        self,
        fresh: Sequence[Batcher],
        *,
        take: Callable[[Sequence[Batcher]], None],
        leave: Callable[[Sequence[Batcher]], None],
    ) -> None:
        self._fresh, self._take, self._leave = fresh, take, leave

    @property
    def versions(self) -> dict[str, str]:
        """Name of each → its version."""
        return {each.model.name: each.model.version for each in self._fresh}

    def take(self) -> None:
        """Put them in the place of the old ones, which answer what they accepted.

        Raises:
            Refused: 409 where the server stops.
        """
        self._take(self._fresh)

    def leave(self) -> None:
        """Give them up."""
        self._leave(self._fresh)


def _ignored(model: Model) -> None:
    """Take no notice."""


async def _retire(old: Batcher) -> None:
    """Let a model answer what it accepted, and stop it."""
    try:
        await old.drain(_RETIRING_S)
    finally:
        old.close()


async def _probe(batcher: Batcher) -> Served:
    """Ask what needs no knowledge of the model's texts.

    Raises:
        Refused: 503.
    """
    asked = Asked((_PROBE,), (_PROBE,) if batcher.model.info.pair else None)
    try:
        served = await batcher.ask_beside(asked, deadline=_PROBE_S)
    except Refused as refused:
        raise Refused(503, "not ready", f"No answer: {refused.detail}", retry_after=1) from refused
    if not np.isfinite(served.probabilities).all():
        raise Refused(503, "not ready", "The model gives numbers that are none (NaN or infinite).", retry_after=1)
    return served


def _not_taken(name: str, why: str) -> Refused:
    detail = f"{name} was not loaded again, and answers as before. {why}"
    return Refused(409, "reload refused", detail)


def _check_names(models: Sequence[Model]) -> None:
    if not models:
        raise UsageError("there is no model to serve.", tip="Name a run: bertsmith serve RUN")
    name, count = Counter(each.name for each in models).most_common(1)[0]
    if count > 1:
        folders = ", ".join(str(each.folder) for each in models if each.name == name)
        raise UsageError(
            f"{count} models would be called {name!r}: {folders}.", tip="Rename a folder: a model is called after it."
        )


__all__ = ["LoadSettings", "Model", "Models", "load_model"]
