"""The settings of a server: one typed field each, checked at once, in the words of the command line."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertsmith.errors import UsageError
from bertsmith.inference.engine import NAMES
from bertsmith.serve.limits import Limits


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server answers, and what it refuses.

    Attributes:
        runs: Runs, or model folders; the first answers where a request names no model.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        workers: Processes that answer; they share the socket and the CPU threads.
        engine: auto, torch, onnx or onnx-int8.
        threads: CPU threads of all workers together; None takes what this process may use.
        max_queue_tokens: Tokens that may wait; what comes on top is refused with 429.
        max_wait_s: Seconds that a request may have to wait for its first turn; where the queue is longer it is refused
            with 429.
        batch_tokens: Tokens of a batch; None takes 512 for each thread that computes it.
        max_body: Bytes of a request's body.
        max_texts: Texts of a request.
        max_characters: Characters of a text.
        max_tokens: Tokens of a text, before it is cut to what the model reads.
        max_explained: Texts of a request that asks for an explanation.
        max_depth: Arrays and objects of a JSON body within one another.
        deadline_s: Seconds after which a request that still waits is given up with 504.
        grace_s: Seconds that accepted requests have when the server is told to stop.
        api_key_file: File with the hashes of the keys; None asks for none.
        no_auth: True serves a public address without keys.
        feedback: URL of the database that keeps what people say of answers; "" keeps nothing.
        feedback_days: Days that it is kept; None keeps it for good.
        reload: True looks at the bundles again and again, and takes a changed one; without it POST /admin/reload does.
        log_texts: True writes texts to the log.
        cors: Origins whose pages may ask.
        page: False leaves the page at /ui away.
    """

    runs: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    engine: str = "auto"
    threads: int | None = None
    max_queue_tokens: int = 262_144
    max_wait_s: float = 0.5
    batch_tokens: int | None = None
    max_body: int = 16 << 20
    max_texts: int = 10_000
    max_characters: int = 100_000
    max_tokens: int = 65_536
    max_explained: int = 16
    max_depth: int = 16
    deadline_s: float = 30.0
    grace_s: float = 20.0
    api_key_file: Path | None = None
    no_auth: bool = False
    feedback: str = ""
    feedback_days: int | None = None
    reload: bool = False
    log_texts: bool = False
    cors: tuple[str, ...] = ()
    page: bool = True

    def __post_init__(self) -> None:
        wrong = [*self._wrong_choices(), *self._too_small()]
        if wrong:
            raise UsageError("\n".join(wrong), tip="`bertsmith serve --help` lists the flags.")

    def _wrong_choices(self) -> Iterator[str]:
        if not self.runs:
            yield "RUN is missing: there is nothing to serve."
        if self.engine not in NAMES:
            yield f"'--engine' must be one of {', '.join(NAMES)}. Got {self.engine!r} instead."
        if not 0 <= self.port <= 65_535:
            yield f"'--port' must be between 0 and 65535. Got {self.port} instead."
        for origin in self.cors:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2 or "*" in origin:
                yield f"'--cors' must be an origin such as https://shop.example. Got {origin!r} instead."

    def _too_small(self) -> Iterator[str]:
        least = {
            "workers": 1, "threads": 1, "max_queue_tokens": 1, "batch_tokens": 1, "max_body": 64, "max_texts": 1,
            "max_characters": 1, "max_tokens": 1, "max_explained": 1, "max_depth": 3, "feedback_days": 1,
        }  # fmt: skip
        for name, smallest in least.items():
            given = getattr(self, name)
            if given is not None and given < smallest:
                yield f"'{_flag(name)}' must be at least {smallest:,}. Got {given} instead."
        for name in ("max_wait_s", "deadline_s", "grace_s"):
            if not getattr(self, name) > 0:
                yield f"'{_flag(name)}' must be more than 0 seconds. Got {getattr(self, name)} instead."

    @property
    def limits(self) -> Limits:
        """What one request may ask at most."""
        return Limits(self.max_body, self.max_texts, self.max_characters, self.max_explained, self.max_depth)

    @property
    def is_public(self) -> bool:
        """True where others than this machine can reach the address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return True


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")
