"""What /openapi.json says holds: no input brings a 5xx, and no answer breaks its schema."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from bertsmith.serve.app import create_app
from bertsmith.serve.settings import ServeSettings
from tests.serve.standing import StandIn

ROUTES = (
    "/", "/predict", "/models/{name}/predict", "/classify", "/models/{name}/classify", "/v2/models/{name}/infer",
    "/v2/models/{name}", "/info", "/models", "/health/live", "/health/ready", "/admin/reload",
)  # fmt: skip


def app():
    # A public address takes requests for any host, as the attack's are.
    return create_app(ServeSettings(runs=(Path("toy"),), host="0.0.0.0", no_auth=True, page=False), StandIn())


def attacked(examples: int, only: tuple[str, ...] = ROUTES) -> None:
    """Let schemathesis make up requests, sound and unsound ones, for every operation."""
    import schemathesis
    from schemathesis import checks

    wanted = [
        checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    schema = schemathesis.openapi.from_asgi("/openapi.json", app())
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode if found.ok().path in only else ():
            attack_one(found.ok(), mode, wanted, examples)


def attack_one(operation, mode, wanted, examples: int) -> None:
    """Let schemathesis make up requests of one kind for one operation."""
    from hypothesis.errors import Unsatisfiable

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def ask(case):
        case.call_and_validate(checks=wanted)

    # Where there is nothing to send, nothing wrong can be sent.
    with contextlib.suppress(Unsatisfiable):
        ask()


@pytest.mark.filterwarnings("ignore")
def test_nothing_brings_a_server_error():
    """Whatever is sent is answered as described: with 200, or with a clear 4xx."""
    attacked(2, ("/predict", "/classify", "/v2/models/{name}/infer"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nothing_brings_a_server_error_in_many_tries():
    """The same for hundreds of requests an operation."""
    attacked(200)


@pytest.fixture(scope="module")
def document():
    with TestClient(app(), base_url="http://127.0.0.1:8000") as found:
        return found.get("/openapi.json").json()


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_is_described(document, path):
    """Each route that answers stands in the document, with what it answers."""
    for operation in document["paths"][path].values():
        assert operation["summary"]
        assert operation["responses"]["200"]["content"]


def test_every_reference_is_there(document):
    """No schema points to one that is missing."""
    names = set(document["components"]["schemas"])

    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"].rpartition("/")[2]] if "$ref" in value else [])
            for each in value.values():
                yield from references(each)
        if isinstance(value, list):
            for each in value:
                yield from references(each)

    assert set(references(document)) <= names
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
