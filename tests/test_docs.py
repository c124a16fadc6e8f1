"""What the documentation says is so: commands exist, code compiles, links lead somewhere, nothing is stale."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from cyclopts import CycloptsError

import bertsmith
from bertsmith import errors
from bertsmith.bundle import BundleInfo
from bertsmith.cli.app import app
from bertsmith.recipe import Recipe, settings
from bertsmith.tasks import ROLES, task_named
from bertsmith.tasks.spans import SCHEMA, Span

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bertsmith"
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`bertsmith ([a-z][^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MAKERS = {"Finding": slice(0, 1), "finding_at": slice(0, 0), "_nothing": slice(1, 2)}
"""What makes findings, and which of its arguments is the kind."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def commands(text: str) -> list[list[str]]:
    """Words after `bertsmith` of every command in sh and console blocks; pipes end a command."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")]
    found = []
    for line in lines:
        words = list(shlex.shlex(line, posix=True, punctuation_chars="|")) if "|" in line else None
        words = shlex.split(line, comments=True) if words is None else shlex.split(line.rpartition("|")[2])
        if words[:1] == ["bertsmith"]:
            found.append(words[1:])
    return found


def mentions(text: str) -> list[str]:
    return INLINE.findall(FENCE.sub("", text))


def keys_of(file: str, function: str) -> set[str]:
    """Text keys of every dict that is written out in the functions of a name."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    homes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
    dicts = [node for home in homes for node in ast.walk(home) if isinstance(node, ast.Dict)]
    return {key.value for each in dicts for key in each.keys if isinstance(key, ast.Constant)}


def section(name: str, title: str) -> str:
    """The text under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page(name), re.DOTALL | re.MULTILINE)
    assert found, f"{name} has no section '{title}'"
    return found[1]


def named_in(text: str) -> set[str]:
    """Names in code marks; of dotted ones the last part counts too."""
    marked = set(re.findall(r"`([^`]+)`", text))
    return marked | {name.rpartition(".")[2] for name in marked} | {name.partition(".")[0] for name in marked}


def finding_kinds() -> set[str]:
    """Kinds of all findings that the source can make."""
    kinds = set()
    for path in [*(SOURCE / "data").rglob("*.py"), *(SOURCE / "tasks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS:
                given = [each.value for each in node.keywords if each.arg == "kind"] + node.args[MAKERS[node.func.id]]
                kinds |= {each.value for each in given if isinstance(each, ast.Constant)}
    return kinds


def modules_with_doctests() -> list[str]:
    files = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(generate):
    """The reference of commands and settings is what the code says; `python docs/generate.py` renews it."""
    stale = [path.name for path, text in generate.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == []


def test_every_verb_has_help_and_is_documented(generate):
    """A verb has a sentence of help, a section in the reference and a line in the README with that sentence."""
    verbs = generate.verbs()
    assert verbs == [
        "check", "train", "tune", "evaluate", "compare", "predict", "explain", "export", "serve", "keys",
        "review", "drift", "adapt", "fill", "models",
    ]  # fmt: skip
    for verb in verbs:
        sentence = str(app[verb].help)
        assert sentence.endswith(".")
        assert f"## bertsmith {verb}\n" in page("docs/reference/cli.md")
        assert re.search(rf"^\| `bertsmith {verb}\b.*\| {re.escape(sentence[:-1])}", page("README.md"), re.MULTILINE), (
            verb
        )


def test_every_flag_has_help(generate):
    """No line of a verb's help names a flag and says nothing about it."""
    bare = re.compile(r"^│ (--[\w-]+)(?: --[\w-]+)*(?: [A-Z.]+)? +│$", re.MULTILINE)
    assert {verb: bare.findall(generate.help_of(verb)) for verb in generate.verbs()} == {
        verb: [] for verb in generate.verbs()
    }


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    """Every relative link of a page is a file of the repository."""
    text = FENCE.sub("", page(name))
    targets = [link.partition("#")[0] for link in LINK.findall(text) if not link.startswith(("http", "#"))]
    assert [link for link in targets if not ((ROOT / name).parent / link).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_compile(name):
    """Every Python example is Python."""
    for block in blocks(page(name), "python"):
        compile(block, name, "exec")


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name):
    """Every command of an example is taken by the command line, and its settings by the recipe."""
    for words in commands(page(name)):
        try:
            _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"{name}: bertsmith {' '.join(words)}: {error}")
        found = {key: str(value) if isinstance(value, Path) else value for key, value in bound.arguments.items()}
        given = {setting: value for setting, value in found.items() if setting in settings() and value}
        if words[0] != "predict":
            Recipe.of(**given)


@pytest.mark.parametrize("name", NAMES)
def test_mentioned_flags_exist(name, generate):
    """A command in running text names a verb and flags that there are."""
    wrong = []
    for mention in mentions(page(name)):
        verb, _, rest = mention.partition(" ")
        known = set(re.findall(r"--[a-z-]+", generate.help_of(verb))) if verb in generate.verbs() else set()
        wrong += [] if verb in generate.verbs() else [mention]
        wrong += [f"{verb} {flag}" for flag in re.findall(r"--[a-z-]+", rest) if flag not in known | {"--help"}]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_read(name, tmp_path):
    """Every TOML example is a recipe."""
    for block in blocks(page(name), "toml"):
        (tmp_path / "recipe.toml").write_text(block, encoding="utf-8")
        assert Recipe.load(tmp_path / "recipe.toml") != Recipe()


@pytest.mark.parametrize("name", NAMES)
def test_no_page_knows_the_machine_it_was_written_on(name):
    """Recorded sessions hold no absolute path."""
    assert re.findall(r"(?<![\w.:/])/(?:home|root|tmp|Users|work|var|mnt)/\S*", page(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_flags_in_running_text_exist(name, generate):
    """A flag that is named alone belongs to some verb, or to pip."""
    known = {flag for verb in generate.verbs() for flag in re.findall(r"--[a-z-]+", generate.help_of(verb))}
    known |= {"--help", "--version"}
    assert set(re.findall(r"`(--[a-z][a-z-]+)", FENCE.sub("", page(name)))) - known == set()


def test_the_check_of_commands_can_fail(tmp_path):
    """An example with a flag that does not exist is noticed, in blocks and behind pipes."""
    text = "```sh\nbertsmith train a.csv --out b  # fine\ncat x | bertsmith predict runs/a - --jsn\n```\n"
    good, bad = commands(text)
    assert good == ["train", "a.csv", "--out", "b"]
    app.parse_args(good, exit_on_error=False, print_error=False)
    with pytest.raises(CycloptsError):
        app.parse_args(["train", "a.csv", "--uot", "b"], exit_on_error=False, print_error=False)
    assert bad == ["predict", "runs/a", "-", "--jsn"]


def test_readme_is_short_and_begins_with_commands():
    """The README has at most 150 lines, and the first command stands within the first 20."""
    lines = page("README.md").splitlines()
    first = next(number for number, line in enumerate(lines, 1) if re.match(r"(\$ )?(pip|bertsmith) ", line))
    assert len(lines) <= 150
    assert first <= 20


def test_every_page_is_in_the_index():
    """docs/README.md leads to every other page."""
    here = ROOT / "docs"
    linked = {(here / link).resolve() for link in LINK.findall(page("docs/README.md"))}
    assert {path for path in here.rglob("*.md") if path != here / "README.md"} - linked == set()


def test_changelog_knows_the_version():
    """The newest version of the changelog is the package's."""
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", page("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == bertsmith.__version__


def test_findings_are_documented():
    """The page of findings has a row for every kind that the source can make, and for no other."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:error|warning|note)", page("docs/reference/findings.md"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == finding_kinds()


def test_scores_are_documented():
    """Every key of scores.json is in the contract."""
    keys: set[str] = set()
    for file, function in (
        ("record.py", "write_scores"), ("record.py", "data_summary"), ("pipeline.py", "_model_summary"),
        ("evaluation/ladder.py", "ladder_summary"), ("evaluation/scores.py", "score"),
        ("evaluation/compare.py", "as_json"), ("evaluation/intervals.py", "as_json"), ("training/fit.py", "as_json"),
        ("long_texts.py", "as_json"), ("tasks/agreement.py", "agreement"), ("pipeline.py", "_account"),
        ("assessing.py", "assess"), ("evaluation/acceptance.py", "as_decision"),
        ("evaluation/calibration.py", "as_json"), ("evaluation/acceptance.py", "as_json"),
        ("evaluation/acceptance.py", "on_test"), ("evaluation/acceptance.py", "risk_coverage"),
        ("evaluation/out_of_scope.py", "as_json"), ("evaluation/mistakes.py", "find_mistakes"),
        ("evaluation/mistakes.py", "worst"), ("evaluation/mistakes.py", "_told"), ("evaluation/mistakes.py", "_pair"),
        ("evaluation/slices.py", "as_json"), ("evaluation/suspects.py", "as_json"), ("evaluation/seeds.py", "as_json"),
        ("report/lengths.py", "length_figures"), ("report/lengths.py", "_histogram"),
        *((f"tasks/{name}.py", "detail") for name in ("single_label", "multi_label", "ordered", "regression")),
        ("tasks/single_label.py", "_soft_detail"), ("tasks/token_labels.py", "detail"),
        ("tasks/token_metrics.py", "views"), ("tasks/answer_detail.py", "answer_detail"),
        ("tasks/answer_detail.py", "_by"), ("tasks/multi_label.py", "decide"),
    ):  # fmt: skip
        found = keys_of(file, function)
        assert found, (file, function)
        keys |= found
    keys |= {"label", "precision", "recall", "f1", "support", "exact_match"}
    keys |= {"file", "row", "text", "text_pair", "suggested", "quality", "scope", "words"}
    keys |= {f"{share}{end}" for share in ("alarms", "recall", "auroc") for end in ("", "_low", "_high")}
    assert keys - named_in(section("docs/reference/files.md", "scores.json")) == set()


@pytest.mark.parametrize("name", ROLES)
def test_tasks_are_documented(name):
    """Each task has its metrics, its deciding ones and the columns of its answers on their pages."""
    task = task_named(name)
    assert f"`{name}`" in page("docs/how-to/read-your-file.md")
    assert set(task.metrics) - named_in(section("docs/reference/files.md", "scores.json")) == set()
    row = re.search(
        rf"^\| `{name}` \| `(\w+)` \| `(\w+)` \| (.*) \|$", page("docs/explanation/metrics.md"), re.MULTILINE
    )
    assert row is not None
    assert (row[1], row[2], *re.findall(r"`(\w+)`", row[3])) == (task.stop_metric, *task.compared)
    assert set(task.metrics) - named_in(page("docs/explanation/metrics.md")) == set()
    for title in ("predictions.parquet", "predict --json"):
        assert set(task.answer_schema().names) - named_in(section("docs/reference/files.md", title)) == set()


def test_spans_are_documented():
    """Every key of a span is in the contract."""
    assert SCHEMA.names == ["spans", "tags"]
    keys = {field.name for field in fields(Span)}
    assert keys - named_in(section("docs/reference/files.md", "predict --json")) == set()


@pytest.mark.parametrize(
    ("titles", "file", "function"),
    [
        (("data.json", "split.parquet", "findings.json and check --json"), "record.py", "write_prepared"),
        (("predictions.parquet",), "record.py", "write_predictions"),
        (("findings.json and check --json",), "findings.py", "as_json"),
        (("findings.json and check --json",), "cli/check.py", "check"),
        (("evaluate --json",), "rescore.py", "evaluate"),
        (("evaluate --json",), "evaluation/acceptance.py", "on_test"),
        (("compare --json",), "evaluation/run_comparison.py", "as_json"),
        (("explain --json",), "explaining/explanation.py", "as_json"),
        (("drift --json",), "cli/drift.py", "drift"),
        (("drift --json",), "drift/compare.py", "as_json"),
        (("reference.json",), "drift/observed.py", "as_json"),
        (("reference.json",), "drift/bins.py", "as_json"),
        (("predict --json",), "examples.py", "as_json"),
        (("predict --json",), "tasks/spans.py", "as_json"),
        (("predict --json",), "tasks/question_answering.py", "as_json"),
        (("predict --json",), "cli/predict.py", "_predict_file"),
        (("adapt.json and adapt --json",), "masked/adapt.py", "as_json"),
        (("adapt.json and adapt --json",), "masked/adapt.py", "_record"),
        (("fill --json",), "masked/fill.py", "as_json"),
        (("trials.jsonl and tune --json",), "tuning/study.py", "as_json"),
        (("trials.jsonl and tune --json",), "tuning/tune.py", "as_json"),
        (("manifest.json",), "atomic.py", "write_manifest"),
    ],
)
def test_files_are_documented(titles, file, function):
    """Every key of the other files and of --json is in the contract; `format` is told once, above."""
    keys = keys_of(file, function) - {"format", "python"}  # Python is one of the versions
    text = "".join(section("docs/reference/files.md", title) for title in titles)
    assert keys
    assert keys - named_in(text) == set()


def test_bundle_is_documented():
    """Every field of bertsmith.json is in the contract."""
    keys = {field.name for field in fields(BundleInfo)}
    assert keys - named_in(section("docs/reference/files.md", "bertsmith.json")) == set()


def test_errors_are_documented():
    """The page of errors draws every exception, and gives its exit code beside it."""
    text = page("docs/reference/errors.md")
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.BertsmithError):
            assert re.search(rf"\b{name}\b", text), name
            assert f"| {kind.exit_code} |" in text


def test_public_names_are_documented():
    """The page of Python has every name that the package hands out."""
    text = page("docs/reference/python.md")
    assert [name for name in bertsmith.__all__ if f"`bertsmith.{name}" not in text] == []


@pytest.mark.parametrize("name", modules_with_doctests())
def test_examples_in_docstrings_hold(name):
    """What a docstring shows is what happens."""
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
