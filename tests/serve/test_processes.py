"""`bertsmith serve` as people run it: processes that crash, reload and stop while clients ask."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertsmith.atomic import write_manifest
from bertsmith.inference.loading import load
from tests.cli.finished import execute
from tests.conftest import toy_rows
from tests.inference.exports import bundle_with_exports
from tests.serve.processes import Clients, Served, until

TEXTS = [text for text, _ in toy_rows(12)]


@pytest.fixture(scope="module")
def bundle(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with both exports."""
    return bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")


@pytest.fixture(scope="module")
def run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of our own, which a test may spoil and must mend."""
    folder = tmp_path_factory.mktemp("served") / "toy"
    shutil.copytree(bundle, folder / "model")
    return folder


@pytest.fixture(scope="module")
def right(bundle: Path) -> dict[str, tuple[str, float]]:
    """Text → best label and its score, as the export answers offline."""
    predictor = load(bundle, engine="onnx-int8", threads=1)
    best = predictor.probabilities(TEXTS)
    return {
        text: (predictor.labels.names[int(row.argmax())], float(row.max()))
        for text, row in zip(TEXTS, best, strict=True)
    }


@pytest.fixture(scope="module")
def served(run: Path, right: dict[str, tuple[str, float]]) -> Iterator[Served]:
    """Two workers, which stop well under load after all that was done to them."""
    server = Served(run / "model", "--workers", "2", "--reload")
    yield server
    stop_under_load(server, right)
    assert server.workers == []


def stop_under_load(server: Served, right: dict[str, tuple[str, float]]) -> None:
    """Each request that met a server is answered, and rightly; afterwards there is none; the code is 0."""
    done = sum(each.get("route") == "/predict" for each in server.log)
    clients = Clients(server.port, TEXTS, clients=6)
    with clients.asking():
        code = server.end()
        until(lambda: len(clients.lost) >= 6)
    assert code == 0
    # The system holds one more connection than it is told to; nobody accepted that one.
    assert clients.lost.count("ConnectionResetError") <= 1
    assert set(clients.lost) <= {"ConnectionRefusedError", "ConnectionResetError"}
    assert {each for each in clients.answers if right[each[0]] != each[1]} == set()
    logged = [each["status"] for each in server.log if each.get("route") == "/predict"][done:]
    assert logged == [200] * len(clients.answers)


def rewrite(run: Path, **changed: object) -> None:
    """Change what the bundle says of itself, as another training would."""
    file = run / "model" / "bertsmith.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    write_manifest(run / "model", without="onnx")


def damage(run: Path) -> None:
    """Change a file after its sha256 was taken."""
    file = run / "model" / "bertsmith.json"
    file.write_text(file.read_text() + " ")


def test_a_reload_reaches_every_worker_and_a_bad_bundle_none(served: Served, run: Path) -> None:
    """Whichever is asked, all have the new version once it answers; where the files are damaged, all keep the old."""
    before = served.versions()
    assert len({version for _, version in before}) == 1
    rewrite(run, fingerprint="1")
    status, told = served.call("POST", "/admin/reload", {"model": "toy"})
    assert status == 200
    after = served.versions()
    assert {pid for pid, _ in after} == {pid for pid, _ in before}
    assert {version for _, version in after} == {told["models"][0]["version"]} != {version for _, version in before}
    damage(run)
    status, told = served.call("POST", "/admin/reload")
    assert (status, told["title"]) == (409, "Reload refused")
    assert told["detail"].startswith("toy was not loaded again, and answers as before.")
    assert "bertsmith.json: changed after training." in told["detail"]
    assert served.versions() == after
    rewrite(run, fingerprint="1")
    assert served.call("POST", "/admin/reload", {"model": "none"})[0] == 404
    served.process.send_signal(signal.SIGHUP)
    until(lambda: any(each.startswith("loaded again: toy ") for each in served.events))


def test_a_worker_that_is_killed_takes_only_what_it_had_with_it(
    served: Served, run: Path, right: dict[str, tuple[str, float]]
) -> None:
    """Its clients find their connections closed, all others are answered, and another worker comes.

    Where the bundle is damaged meanwhile, that one waits until it is whole, and the others answer on.
    """
    clients = Clients(served.port, TEXTS, clients=6)
    with clients.asking():
        before = served.workers
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(served.workers) == 2 and served.workers != before)
        damage(run)
        os.kill(served.workers[0], signal.SIGKILL)
        until(lambda: any(each.startswith("a worker cannot begin: ") for each in served.events))
        clients.more()
        assert len(served.workers) == 1
        rewrite(run, fingerprint="2")
        until(lambda: len(served.workers) == 2)
        clients.more()
    assert len(clients.lost) <= 2 * 6
    assert set(clients.lost) <= {"RemoteDisconnected", "ConnectionResetError", "IncompleteRead"}
    assert set(clients.refused) <= {429}
    assert {each for each in clients.answers if right[each[0]] != each[1]} == set()
    until(lambda: len({version for _, version in served.versions()}) == 1)


def test_the_figures_are_those_of_all_workers(served: Served) -> None:
    """A count does not depend on who is asked, and one version answers."""
    before = served.call("GET", "/stats")[1]["answers"]
    for _ in range(6):
        served.call("POST", "/predict", {"inputs": TEXTS[0]})
    until(lambda: served.call("GET", "/stats")[1]["answers"] == before + 6)
    assert served.call("GET", "/stats")[1]["queue_tokens"] == 0


def test_nothing_that_was_accepted_is_lost_when_it_is_told_to_stop(
    run: Path, right: dict[str, tuple[str, float]]
) -> None:
    """As with several workers, at whose end that is looked at too."""
    rewrite(run, fingerprint="3")
    stop_under_load(Served(run / "model"), right)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_whoever_is_told_to_stop_while_it_starts_stops(run: Path, workers: str) -> None:
    """At any moment of the start; and a supervisor that is killed leaves no worker behind."""
    for pause_s in (0.2, 0.5, 1.0, 1.5):
        command = [sys.executable, "-m", "bertsmith", "serve", str(run / "model"), "--port", "0", "--workers", workers]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(pause_s)
        process.terminate()
        assert process.wait(20) in (0, -signal.SIGTERM)
    server = Served(run / "model", "--workers", "2")
    there = server.workers
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not server.workers)
    assert len(there) == 2


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_damaged_bundle_is_one_clear_error(run: Path, workers: str) -> None:
    """It is said once, however many workers found it, with the code of a model that is not sound."""
    damage(run)
    try:
        said = execute(["serve", run / "model", "--port", "0", "--workers", workers])
    finally:
        rewrite(run, fingerprint="3")
    first, *rest = said.err.splitlines()
    assert (said.code, len(rest)) == (1, 1)
    assert first.startswith(f"ERROR  {run / 'model' / 'bertsmith.json'}: changed after training.")
    assert rest == ["TIP    Copy the model folder again, or train again."]
