"""Serving under load: our server beside what people use, too much of it, for a long time, and stopped in the midst.

The test texts of BANKING77 in a fixed order, one text a request, asked by a client in a process of its own
(`serve_load_client.py`); all servers have the model of the same run, one server runs at a time. The parts:

* throughput: requests a second over 64 connections, each asking again once it is answered (closed load); the servers in
  turns, the ratio is the median of the rounds' ratios. `plain` is FastAPI with a pipeline as tutorials write it, with
  `def` and with `async def`; LitServe batches; infinity is called by its command line. Our answers hold every label.
* offline: `bertsmith.load(RUN).predict(texts)` in the rounds of throughput.
* overload: capacity by a closed load; then requests at 80 % of it, and at three times of it (open load: they come at a
  steady rate, whatever the server does).
* soak: lines, pages, single words, texts of 2,000 tokens, and 1 % rubbish; memory of the server.
* stops: SIGTERM, POST /admin/reload, and SIGKILL for one of two workers, each under load, again and again.

Answers of ours are compared with the offline ones: every label's probability, bit for bit with ONNX.

    python benchmarks/serve_load.py --run RUN [--peers FOLDER] [--parts throughput offline overload soak stops]
        [--sides plain plain-async litserve infinity] [--engine onnx-int8] [--rounds 5] [--seconds 15]
        [--overload-seconds 60] [--soak-seconds 600] [--times 20] [--connections 64] [--out FILE.json]

RUN is one trained on BANKING77 (`bertsmith train`, then `bertsmith export RUN --int8`). FOLDER has the peers'
environments, as `serve_load_peers.sh` makes them. Linux only: memory and processes are read in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bertsmith import threads
from measuring import machine, rows_of, say
from serve_load_client import Job, Request, job_as_json
from serve_load_figures import Expected, Load, closed_figures, growth, open_figures
from serve_load_offline import Offline, offline
from serve_load_servers import PEERS, Server, Side, ours, peer, running
from serve_load_stops import is_kept, kills, reloads, sigterms, summary
from serve_load_texts import MOST_BODY, RUBBISH, rubbish, shuffled, varied, with_rubbish

PARTS = ("throughput", "offline", "overload", "soak", "stops")
LEAST = {"plain": 8.0, "plain-async": 8.0, "litserve": 2.0, "infinity": 2.0, "offline": 0.6}
"""How many times as many requests a second as a peer we are to answer; the share of the offline rate."""
WARM = 3.0
"""Seconds of a load that are not counted."""
STEADY, OVER = 0.8, 3.0
"""Loads, as shares of the capacity."""
MOST_CONNECTIONS = 8_000
"""Connections of an open load."""
SAMPLES_S = 1.0


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        options: The command line.
        folder: For jobs, notes and the servers' logs.
        texts: Asked in this order.
        side: Our server, in one process.
        expected: The offline answers to the texts.
    """

    options: argparse.Namespace
    folder: Path
    texts: list[str]
    side: Side
    expected: Expected

    def flagged(self, *flags: str) -> Side:
        """Describe our server with more flags."""
        return replace(self.side, command=(*self.side.command, *flags))

    @property
    def shared(self) -> Side:
        """Our server with all its workers."""
        return self.flagged("--workers", str(self.options.workers))

    def requests(self, side: Side | None = None) -> list[Request]:
        """Make the requests that ask a server the texts."""
        return [(side or self.side).request(text) for text in self.texts]


class Client:
    """The client in its process."""

    def __init__(self, job: Job, folder: Path) -> None:
        """Start it; `result` waits for it."""
        self._notes = Path(tempfile.mkdtemp(dir=folder))
        file = self._notes / "job.json"
        file.write_text(json.dumps(job_as_json(job)), encoding="utf-8")
        program = Path(__file__).with_name("serve_load_client.py")
        command = [sys.executable, "-S", "-E", str(program), str(file), str(self._notes)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("the client ended; its error stands above.")

    @property
    def is_done(self) -> bool:
        """True once it has ended."""
        return self._process.poll() is not None

    def result(self) -> Load:
        """Wait until it has ended, and read its notes."""
        if self._process.wait():
            raise SystemExit("the client ended; its error stands above.")
        return Load.read(self._notes)


def closed(bench: Bench, server: Server, requests: list[Request], seconds: float, *, side: str) -> dict[str, Any]:
    """Ask over all connections as fast as answers come; our answers are checked, a peer's labels compared."""
    job = Job(server.port, requests, seconds + WARM, connections=bench.options.connections)
    load = Client(job, bench.folder).result()
    found = closed_figures(load, warm=WARM)
    wrong = {"wrong": bench.expected.wrong(load)} if side == bench.side.name else {}
    return {**found, **wrong, "same_label": round(bench.expected.agreement(load), 4)}


def opened(bench: Bench, server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a steady rate; our answers are checked."""
    job = Job(server.port, bench.requests(), seconds, connections=MOST_CONNECTIONS, rate=rate)
    load = Client(job, bench.folder).result()
    return {**open_figures(load), "wrong": bench.expected.wrong(load)}


def throughput(bench: Bench, engine: Offline | None) -> list[dict[str, Any]]:
    """Measure the servers in turns, and the offline engine beside them."""
    sides = [bench.shared, *(_peers(bench.options) if "throughput" in bench.options.parts else [])]
    rounds: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    rates: list[float] = []
    for number in range(bench.options.rounds):
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            with running(side, bench.folder) as server:
                found = closed(bench, server, bench.requests(side), bench.options.seconds, side=side.name)
                found |= {"started_s": round(server.started_s, 2), "memory_mib": round(server.memory() / 2**20)}
            rounds[side.name].append(found)
            say({"round": number + 1, "side": side.name, **found})
        if engine is not None:
            rates.append(engine.rate(bench.texts))
            say({"round": number + 1, "side": "offline", "texts_a_second": round(rates[-1], 1)})
    mine = [each["requests_a_second"] for each in rounds[bench.side.name]]
    rows = [
        {"part": "throughput", "side": name, **_medians(each), **_ratio(name, mine, each)}
        for name, each in rounds.items()
    ]
    return [*rows, *([_beside_offline(mine, rates)] if rates else [])]


def overload(bench: Bench) -> list[dict[str, Any]]:
    """Measure capacity, then 80 % of it, then three times of it."""
    options = bench.options
    with running(bench.shared, bench.folder) as server:
        full = closed(bench, server, bench.requests(), options.seconds, side=bench.side.name)
        capacity = full["requests_a_second"]
        say({"capacity": capacity, **full})
    hasty = bench.flagged("--workers", str(options.workers), "--max-wait", str(options.max_wait))
    with running(hasty, bench.folder) as server:
        closed(bench, server, bench.requests(), WARM, side=bench.side.name)
        steady = opened(bench, server, STEADY * capacity, options.seconds)
        say({"load": STEADY, **steady})
        over = opened(bench, server, OVER * capacity, options.overload_seconds)
        say({"load": OVER, **over})
    goodput = over["goodput_a_second"] / capacity
    slower = (over["accepted_p99_ms"] or 0) / (steady["accepted_p99_ms"] or 1)
    sound = not over["wrong"] and not over["not_sent"] and over["statuses"].keys() <= {"200", "429", "503"}
    kept = sound and goodput >= 0.95 and (over["refused_p99_ms"] or 0) <= 5 and slower <= 2
    row = {"part": "overload", "capacity": capacity, "goodput": round(goodput, 3), "p99_ratio": round(slower, 2)}
    return [{**row, "refused_p99_ms": over["refused_p99_ms"], "kept": kept, "steady": steady, "over": over}]


def soak(bench: Bench, engine: Offline) -> list[dict[str, Any]]:
    """Ask for a long time, all lengths and some rubbish, and watch the server's memory."""
    seconds = bench.options.soak_seconds
    texts = varied(bench.texts, [text for text, _ in rows_of("imdb", "test")], bench.options.soak_texts)
    row, bad = with_rubbish([bench.side.request(text) for text in texts], rubbish(bench.side.path), RUBBISH)
    side = bench.flagged("--max-body", str(MOST_BODY))
    samples: list[tuple[float, float]] = []
    with running(side, bench.folder) as server:
        client = Client(Job(server.port, row, seconds, connections=bench.options.connections), bench.folder)
        begin = time.monotonic()
        while not client.is_done and time.monotonic() < begin + seconds:
            samples.append((time.monotonic() - begin, float(server.memory())))
            time.sleep(SAMPLES_S)
        load = client.result()
    expected = _in_the_row(engine.expected(texts), len(row), bad)
    figures = open_figures(load)
    failed = [status for status in figures["statuses"] if status.startswith("5")]
    grown = growth(samples, warm=min(seconds / 5, 60))
    wrong = expected.wrong(load, left_out=bad)
    found = {"part": "soak", "seconds": seconds, "statuses": figures["statuses"], "wrong": wrong, "growth": grown}
    sizes = {"memory_mib": [round(size / 2**20, 1) for _, size in samples[:: max(1, len(samples) // 20)]]}
    taken = sum(times for which, _, times in load.answers if which in bad)
    kept = not failed and not wrong and not taken and grown <= 0.02
    return [
        {
            **found,
            **sizes,
            "rubbish_answered": taken,
            "p99_ms": figures["accepted_p99_ms"],
            "kept": kept,
            "others": load.others,
        }
    ]


def stops(bench: Bench) -> list[dict[str, Any]]:
    """Stop, reload and kill under load."""

    def begun(server: Server, requests: list[Request], seconds: float, names: str) -> Client:
        job = Job(server.port, requests, seconds, connections=bench.options.connections, names=names)
        return Client(job, bench.folder)

    two = bench.flagged("--workers", "2")
    found = []
    for events, side in ((sigterms, bench.side), (reloads, bench.side), (kills, two)):
        if events.__name__ not in bench.options.stops:
            continue
        rows = []
        times = bench.options.times
        for row in events(side, bench.folder, bench.requests(), bench.expected, times=times, begun=begun):
            say(row)
            rows.append(row)
        total = summary(rows)
        found.append({"part": "stops", **total, "kept": is_kept(total)})
    return found


def _peers(options: argparse.Namespace) -> list[Side]:
    """Describe the peers that are installed; say which are not."""
    found = []
    for name in options.sides:
        if options.peers is None or not (options.peers / PEERS[name]).is_dir():
            say({"side": name, "left out": "no environment in --peers"})
        else:
            found.append(peer(name, options.run, options.peers, batch=options.batch))
    return found


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: round(statistics.median(each[name] for each in rounds if each[name] is not None), 4)
        for name in rounds[0]
        if any(each[name] is not None for each in rounds)
    }


def _ratio(name: str, mine: Sequence[float], rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Say how many times as fast we are, in the median of the rounds, and whether that is enough."""
    if name not in LEAST:
        return {}
    theirs = [each["requests_a_second"] for each in rounds]
    ratio = statistics.median(one / other for one, other in zip(mine, theirs, strict=True) if other)
    return {"ratio": round(ratio, 2), "least": LEAST[name], "kept": ratio >= LEAST[name]}


def _beside_offline(mine: Sequence[float], rates: Sequence[float]) -> dict[str, Any]:
    share = statistics.median(one / rate for one, rate in zip(mine, rates, strict=True))
    row = {"part": "offline", "texts_a_second": round(statistics.median(rates), 1), "share": round(share, 3)}
    return {**row, "least": LEAST["offline"], "kept": share >= LEAST["offline"]}


def _in_the_row(expected: Expected, size: int, bad: set[int]) -> Expected:
    """Give answers their places in a row that holds rubbish too."""
    import numpy as np

    spread = np.full((size, len(expected.labels)), np.nan)
    spread[[place for place in range(size) if place not in bad]] = expected.probabilities
    return replace(expected, probabilities=spread)


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure the parts that were asked for; return and print their rows."""
    texts = shuffled([text for text, _ in rows_of("banking77", "test")])[: options.texts]
    side = ours(options.run, engine=options.engine, top_k=options.top_k)
    with offline(options.run, engine=options.engine, threads=options.threads) as engine:
        bench = Bench(options, folder, texts, side, engine.expected(texts))
        found = []
        if {"throughput", "offline"} & {*options.parts}:
            found += throughput(bench, engine if "offline" in options.parts else None)
        found += overload(bench) if "overload" in options.parts else []
        found += soak(bench, engine) if "soak" in options.parts else []
        found += stops(bench) if "stops" in options.parts else []
    for row in found:
        say(row)
    return found


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, required=True, help="a run trained on BANKING77, with its exports")
    parser.add_argument("--peers", type=Path, help="folder with the peers' environments")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sides", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--stops", nargs="+", choices=("sigterms", "reloads", "kills"),
                        default=["sigterms", "reloads", "kills"])  # fmt: skip
    parser.add_argument("--engine", choices=("torch", "onnx", "onnx-int8"), default="onnx-int8")
    parser.add_argument("--workers", type=int, default=threads.allowed(), help="of our server, but for soak and stops")
    parser.add_argument("--max-wait", type=float, default=0.05, help="of our server in the overload, in seconds")
    parser.add_argument("--top-k", type=int, help="labels wanted of our answers [all]")
    parser.add_argument("--batch", type=int, default=64, help="most texts of a peer's batch")
    parser.add_argument("--texts", type=int, help="the first so many texts only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of a load")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--soak-seconds", type=float, default=600.0)
    parser.add_argument("--soak-texts", type=int, default=5000, help="different texts of the soak")
    parser.add_argument("--times", type=int, default=20, help="stops of each kind")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=threads.allowed(), help="of the offline engine")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    told = {"benchmark": "serve_load", "machine": machine(), "engine": options.engine, "results": results}
    if options.out:
        options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
