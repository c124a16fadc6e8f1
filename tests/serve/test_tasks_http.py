"""Every task over HTTP, with real bundles of weights that learned nothing: answers are those of the Python API, or a clear 4xx."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bertsmith import bundle, encoders, tasks
from bertsmith.bundle import BundleInfo
from bertsmith.examples import LabelSet
from bertsmith.inference.loading import load
from bertsmith.serve.app import create_app
from bertsmith.serve.model import LoadSettings
from bertsmith.serve.models import Models
from bertsmith.serve.settings import ServeSettings
from tests.inference.exports import bundle_with_exports
from tests.live_server import served


@dataclass(frozen=True)
class Case:
    """A model, and texts for it."""

    task: str
    labels: tuple[str, ...]
    pair: bool = False
    more: dict[str, Any] = field(default_factory=dict)


def texts_of(case: Case) -> tuple[list[str], list[str] | None]:
    if case.pair:
        return ["was it good ?", "the bed is not fine"], ["the film was good and the room plain", "lovely staff"]
    return ["the film was good but slow", "bad soup"], None


def for_classify(case: Case, **more: Any) -> dict[str, Any]:
    texts, pairs = texts_of(case)
    return {"texts": texts, **({"pairs": pairs} if pairs else {}), **more}


def for_predict(case: Case, **more: Any) -> dict[str, Any]:
    texts, pairs = texts_of(case)
    return {
        "inputs": [[text] for text in texts]
        if pairs is None
        else [list(each) for each in zip(texts, pairs, strict=True)],
        **more,
    }


WINDOWS = {"long": "windows", "stride": 4}
CASES = {
    "single": Case("single-label", ("bad", "fine", "good")),
    "pairs": Case("single-label", ("no", "yes"), pair=True),
    "stars": Case("ordered", ("1", "2", "3", "4")),
    "sets": Case("multi-label", ("bad", "fine", "good")),
    "numbers": Case("regression", ("stars",)),
    "tags": Case("token-labels", ("O", "B-BAD", "I-BAD", "B-GOOD"), more=WINDOWS),
    "questions": Case("question-answering", ("start", "end"), pair=True, more=WINDOWS),
}
OF_LABELS = [name for name, case in CASES.items() if case.task in {"single-label", "ordered", "multi-label"}]
OTHERS = [name for name in CASES if name not in OF_LABELS]


def write_bundle(case: Case, encoder: Path, folder: Path) -> Path:
    """Write a bundle of random but decided weights."""
    import torch

    from bertsmith.training.model import build

    torch.manual_seed(len(case.labels))
    found = encoders.find(str(encoder))
    model: Any = build(tasks.task_named(case.task), found, LabelSet(case.labels), dropout=None)
    head = model.qa_outputs if case.task == "question-answering" else model.classifier
    with torch.no_grad():
        head.weight.normal_(0, 2)
    info = BundleInfo(
        task=case.task, labels=case.labels, max_length=20, pair=case.pair, encoder="tiny", fingerprint="0", **case.more
    )
    bundle.save(folder, model, found.transformers_tokenizer(), info=info)
    return folder


@pytest.fixture(scope="module")
def bundles(tiny_encoder, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    return {name: write_bundle(case, tiny_encoder, folder / name) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def app(bundles):
    models = Models.load(tuple(bundles.values()), LoadSettings("torch", 1))
    return create_app(ServeSettings(runs=tuple(bundles.values()), engine="torch", page=False), models)


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, base_url="http://127.0.0.1:8000") as found:
        yield found


@pytest.fixture(scope="module")
def known(bundles) -> dict[str, list[Any]]:
    """What the Python API answers to the texts of each model."""
    found = {}
    for name, case in CASES.items():
        found[name] = list(load(bundles[name], engine="torch", threads=1, device="cpu").predict(*texts_of(case)))
    return found


def near(value: Any) -> Any:
    """Compare numbers within 1e-4, all else exactly."""
    if isinstance(value, dict):
        return {name: near(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [near(each) for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


@pytest.mark.parametrize("name", CASES)
def test_classify_answers_what_the_python_api_answers(client, known, name):
    """Every task has its own answer on /classify, and what was cut beside it."""
    answers = client.post(f"/models/{name}/classify", json=for_classify(CASES[name])).json()["answers"]
    for answer, wanted in zip(answers, known[name], strict=True):
        assert {each: answer[each] for each in wanted.as_json()} == near(wanted.as_json())
        assert answer["cut"] == 0
    kept = {
        "single-label": "scores",
        "ordered": "scores",
        "multi-label": "scores",
        "question-answering": "alternatives",
    }
    key = kept.get(CASES[name].task)
    if key:
        assert answers[0][key] == near(known[name][0].as_json(scores=True)[key])


@pytest.mark.parametrize("name", CASES)
def test_answers_of_every_task_are_counted(client, name, caplog):
    """/metrics counts the texts of each task, and counting never fails."""
    series = f'bertsmith_texts_total{{model="{name}"}} '
    before = sum(float(line.removeprefix(series)) for line in lines_of(client, series))
    with caplog.at_level(logging.ERROR):
        client.post(f"/models/{name}/classify", json=for_classify(CASES[name]))
    assert caplog.messages == []
    assert [float(line.removeprefix(series)) for line in lines_of(client, series)] == [before + 2]


def lines_of(client: TestClient, begin: str) -> list[str]:
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith(begin)]


@pytest.mark.parametrize("name", OF_LABELS)
def test_predict_sorts_labels_by_what_the_model_decides_by(client, known, name):
    """For labels /predict has the list of `{label, score}` that transformers' pipeline has, a list of it a text."""
    told = client.post(f"/models/{name}/predict", json=for_predict(CASES[name])).json()
    for listed, wanted in zip(told, known[name], strict=True):
        scores = wanted.as_json(scores=True)["scores"]
        assert {each["label"]: each["score"] for each in listed} == near(scores)
        assert [each["score"] for each in listed] == sorted((each["score"] for each in listed), reverse=True)


def test_predict_has_the_shape_of_other_pipelines(client, known):
    """Tags are groups of words, numbers one score, and answers to questions are found in the context."""
    tags = client.post("/models/tags/predict", json=for_predict(CASES["tags"])).json()
    spans = [each.as_json()["spans"] for each in known["tags"]]
    assert sum(map(len, spans)) > 0
    for found, wanted in zip(tags, spans, strict=True):
        assert [(each["entity_group"], each["word"], each["start"], each["end"]) for each in found] == [
            (each["label"], each["text"], each["start"], each["end"]) for each in wanted
        ]
    numbers = client.post("/models/numbers/predict", json=for_predict(CASES["numbers"])).json()
    assert numbers == [[{"label": "stars", "score": near(each.as_json()["value"])}] for each in known["numbers"]]
    case = CASES["questions"]
    for found, context in zip(
        client.post("/models/questions/predict", json=for_predict(case)).json(), texts_of(case)[1] or (), strict=True
    ):
        assert context[found["start"] : found["end"]] == found["answer"]


def test_several_answers_to_a_question_are_listed(client):
    """`top_k` gives the best answers to a question, as the pipeline does; without it there is the best one alone."""
    one = {"inputs": {"question": "was it good ?", "context": "the film was good"}}
    best = client.post("/models/questions/predict", json=one).json()
    several = client.post("/models/questions/predict", json={**one, "parameters": {"top_k": 3}}).json()
    assert len(several) == 3
    assert several[0] == near(best)


@pytest.mark.parametrize("name", CASES)
def test_the_open_protocol_gives_what_it_promises(client, known, name):
    """Each output that the model's metadata names is answered with its type and shape, and says the same as /classify."""
    case, count = CASES[name], 2
    promised = {each["name"]: each for each in client.get(f"/v2/models/{name}").json()["outputs"]}
    texts, pairs = texts_of(case)
    columns = {"text": texts, **({"text_pair": pairs} if pairs else {})}
    inputs = [{"name": each, "shape": [count], "datatype": "BYTES", "data": data} for each, data in columns.items()]
    body = {"inputs": inputs, "outputs": [{"name": each} for each in promised]}
    told = {each["name"]: each for each in client.post(f"/v2/models/{name}/infer", json=body).json()["outputs"]}
    assert list(told) == list(promised)
    for output, tensor in told.items():
        assert tensor["datatype"] == promised[output]["datatype"]
        assert tensor["shape"] == [count, *promised[output]["shape"][1:]]
    assert [json.loads(each) for each in told["answer"]["data"]] == near([each.as_json() for each in known[name]])
    if name == "numbers":
        assert told["value"]["data"] == near([each.as_json()["value"] for each in known[name]])


@pytest.mark.parametrize("name", OF_LABELS)
def test_words_are_weighed_for_labels(client, name):
    """With `explain` each word of the text has a weight for the label that is explained."""
    case = CASES[name]
    told = client.post(f"/models/{name}/classify", json=for_classify(case, explain=True)).json()["answers"][0]
    assert told["method"] == "occlusion"
    assert told["explained"] in case.labels
    words = [each["word"] for each in told["words"] if each["part"] == 0]
    assert words == texts_of(case)[0][0].split()


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_labels_refuses_what_only_labels_have(client, name):
    """Explanations and functions of scores are refused with a sentence, not left out in silence."""
    task = CASES[name].task
    told = client.post(f"/models/{name}/classify", json=for_classify(CASES[name], explain=True))
    assert (told.status_code, told.json()["detail"]) == (
        422,
        f"Only the labels of texts can be explained; this is a {task} model.",
    )
    for more in ({"raw_scores": True}, {"parameters": {"function_to_apply": "sigmoid"}}):
        told = client.post(f"/models/{name}/predict", json=for_predict(CASES[name], **more))
        assert (told.status_code, told.json()) == (
            422,
            {
                "error": f"'function_to_apply' and 'raw_scores' are for models of labels; this is a {task} model.",
                "error_type": "Validation",
            },
        )


@pytest.mark.parametrize("name", CASES)
def test_nothing_to_read_is_answered(client, name):
    """Texts without a word are answered as any other; a second text too many or too few is refused."""
    case = CASES[name]
    blank = {"texts": ["", " \n"], **({"pairs": ["", "\t"]} if case.pair else {})}
    assert client.post(f"/models/{name}/classify", json=blank).status_code == 200
    wrong = client.post(f"/models/{name}/classify", json={"texts": ["a"], **({} if case.pair else {"pairs": ["b"]})})
    sentence = (
        "This model was trained on pairs of texts, and the second texts are missing."
        if case.pair
        else "This model was trained on single texts, and takes no second texts."
    )
    assert (wrong.status_code, wrong.json()["detail"]) == (422, sentence)


@pytest.fixture(scope="module")
def live(bundles):
    """The address of a server of the same models that listens on a free port."""
    models = Models.load([bundles[name] for name in ("tags", "questions")], LoadSettings("torch", 1))
    app = create_app(ServeSettings(runs=tuple(bundles.values()), engine="torch", page=False), models)
    with served(app, lifespan="on") as (url, _):
        yield url


def test_hugging_face_hub_reads_tags_and_answers(live, known, monkeypatch):
    """The client of Hugging Face's API gives words with their tags, and answers with their places."""
    from huggingface_hub import InferenceClient

    # Offline, as the tests are, the client asks nobody, this machine included.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    tags = InferenceClient(model=f"{live}/models/tags/predict", token="none")
    found = [
        (each.entity_group, each.word, each.start, each.end)
        for each in tags.token_classification(texts_of(CASES["tags"])[0][0])
    ]
    wanted = known["tags"][0].as_json()["spans"]
    assert found == [(each["label"], each["text"], each["start"], each["end"]) for each in wanted]
    questions = InferenceClient(model=f"{live}/models/questions/predict", token="none")
    context = (texts_of(CASES["questions"])[1] or [""])[0]
    answer: Any = questions.question_answering(question=texts_of(CASES["questions"])[0][0], context=context)
    assert (answer.answer, answer.score) == (context[answer.start : answer.end], near(known["questions"][0].score))


ALONE = """
import json, sys
missing = ("torch", "transformers", "onnx", "onnxscript", "scipy", "sklearn", "pandas")
for name in missing:
    sys.modules[name] = None
from pathlib import Path
from starlette.testclient import TestClient
from bertsmith.serve.app import create_app
from bertsmith.serve.metrics import Metrics
from bertsmith.serve.serving import load_models
from bertsmith.serve.settings import ServeSettings
folder = Path(sys.argv[1])
settings = ServeSettings(runs=(folder,), threads=1, feedback=sys.argv[2])
watcher = Metrics()
app = create_app(settings, load_models(settings, watcher), watcher=watcher)
with TestClient(app, base_url="http://127.0.0.1:8000") as client:
    found = [client.post("/classify", json={"texts": ["good film"], "explain": True}).json()["answers"][0]]
    found.append(client.post("/predict", json={"inputs": "good film"}).json())
    gets = ("/models", "/health/ready", "/metrics", "/stats", "/openapi.json", "/ui", "/ui/facts", "/v2/models/exported")
    statuses = [client.get(path).status_code for path in gets]
    statuses.append(client.post("/feedback", json={"text": "good film", "right": True}).status_code)
    statuses.append(client.post("/admin/reload").status_code)
print(json.dumps([found, statuses]))
"""


def test_an_export_is_served_where_torch_is_not(tiny_encoder, tmp_path_factory, tmp_path):
    """Without torch and transformers every route answers, words are weighed, and the answer is that of torch."""
    folder = bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(tmp_path / "feedback.db")], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (told, listed), statuses = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [200] * 8 + [201, 200]
    wanted = load(folder, engine="onnx-int8", threads=1).predict(["good film"])[0].as_json(scores=True)
    assert {each["label"]: each["score"] for each in listed} == near(wanted["scores"])
    assert (told["guess"], told["explained"]) == (wanted["guess"], wanted["guess"])
    assert [each["word"] for each in told["words"]] == ["good", "film"]
