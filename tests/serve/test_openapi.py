"""What /openapi.json says holds: no input brings a 5xx, and no answer breaks its schema."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from bertsmith.serve.app import create_app
from bertsmith.serve.keys import add_key
from bertsmith.serve.settings import ServeSettings
from tests.serve.asgi_call import call
from tests.serve.standing import StandIn

ROUTES = (
    "/", "/predict", "/models/{name}/predict", "/classify", "/models/{name}/classify", "/v2/models/{name}/infer",
    "/v2/models/{name}", "/info", "/models", "/health/live", "/health/ready", "/admin/reload", "/feedback",
    "/feedback/{id}",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An application with feedback, and the headers of somebody who may do everything."""
    folder = tmp_path_factory.mktemp("attacked")
    secret = add_key(folder / "keys.toml", "tests", admin=True)
    settings = ServeSettings(
        runs=(Path("toy"),), api_key_file=folder / "keys.toml", feedback=str(folder / "feedback.db"), page=False
    )
    app = create_app(settings, StandIn())
    yield app, {"Authorization": f"Bearer {secret}"}
    app.state.feedback.close()


def attacked(served, examples: int, only: tuple[str, ...] = ROUTES) -> None:
    """Let schemathesis make up requests, sound and unsound ones, for every operation."""
    import schemathesis
    from schemathesis import checks

    wanted = [
        checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    app, headers = served

    async def always_on(scope, receive, send):
        # schemathesis starts and ends an application with every call; a server does so once.
        if scope["type"] == "http":
            await app(scope, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", always_on, headers=headers)
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode if found.ok().path in only else ():
            attack_one(found.ok(), mode, wanted, examples, headers)


def attack_one(operation, mode, wanted, examples: int, headers) -> None:
    """Let schemathesis make up requests of one kind for one operation."""
    from hypothesis.errors import Unsatisfiable

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def ask(case):
        case.call_and_validate(checks=wanted, headers=headers)

    # Where there is nothing to send, nothing wrong can be sent.
    with contextlib.suppress(Unsatisfiable):
        ask()


@pytest.mark.filterwarnings("ignore")
def test_nothing_brings_a_server_error(served):
    """Whatever is sent is answered as described: with 200, or with a clear 4xx."""
    attacked(served, 2, ("/predict", "/classify", "/v2/models/{name}/infer"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nothing_brings_a_server_error_in_many_tries(served):
    """The same for hundreds of requests an operation."""
    attacked(served, 200)


@pytest.fixture(scope="module")
def document(served):
    app, headers = served
    return call(app, "/openapi.json", method="GET", headers=headers).json


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_is_described(document, path):
    """Each route that answers stands in the document, with what it answers."""
    for operation in document["paths"][path].values():
        assert operation["summary"]
        answers = {status: told for status, told in operation["responses"].items() if status < "400"}
        assert "204" in answers or all(each["content"] for each in answers.values())


def test_what_is_not_there_is_not_described():
    """Feedback, and the keys that are asked for, stand in the document only of a server that has them."""
    app = create_app(ServeSettings(runs=(Path("toy"),)), StandIn())
    document = call(app, "/openapi.json", method="GET", headers={"Host": "localhost"}).json
    assert not [path for path in document["paths"] if path.startswith("/feedback")]
    assert "security" not in document


def test_keys_are_described(document):
    """A client that is made from the document knows the two ways to send a key."""
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["components"]["securitySchemes"]["header"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }


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
