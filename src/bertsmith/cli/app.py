"""The verbs, in the order of the path. Each is loaded only when it is called, so that --help stays fast."""

from __future__ import annotations

from cyclopts import App

from bertsmith import __version__

app = App(
    name="bertsmith",
    help="Fine-tune a BERT-family encoder on your own labelled text, know how good it is, and put it to work.",
    version=__version__,
    result_action="return_value",
    sort_key=0,
    suppress_keyboard_interrupt=False,
)
VERBS = {
    "check": "Say whether DATA is fit to learn from (exit 1 when it is not).",
    "train": "Learn from DATA and write everything to RUN.",
    "tune": "Search settings on train and validation rows, and write the best as a recipe.",
    "evaluate": "Show how good RUN is: on its test rows, or on your file.",
    "compare": "Say which of several runs is better on the same test rows, or that they do not differ.",
    "predict": "Answer texts, the rows of a file, or of many files.",
    "explain": "Mark the words of a text that speak for its label and against it.",
    "export": "Make an ONNX graph of RUN, in fp32 or INT8, and let it answer where it is as good.",
    "serve": "Answer texts over HTTP, with a page to try it at /ui.",
    "keys": "Make, remove or list the keys with which programs may ask `bertsmith serve`.",
    "review": "List what people said of answers, as CSV.",
    "drift": "Say whether new rows are still like those that RUN was made of.",
    "adapt": "Let an encoder learn from raw TEXTS of your domain, before it is trained on labelled ones.",
    "fill": "Name the most probable words for each [MASK] of a text.",
    "models": "List known encoders: size, speed on this machine, when to take which.",
}
_USAGE = {
    "check": "DATA [OPTIONS]",
    "train": "DATA --out RUN [OPTIONS]",
    "tune": "DATA --out DIR [OPTIONS]",
    "evaluate": "RUN [DATA] [OPTIONS]",
    "compare": "RUN RUN... [OPTIONS]",
    "explain": "RUN TEXT [OPTIONS]",
    "drift": "RUN DATA [OPTIONS]",
    "export": "RUN [DATA] [OPTIONS]",
    "serve": "RUN [RUN...] [OPTIONS]",
    "keys": "add|remove|list [NAME] --file FILE",
    "review": "DB [OPTIONS]",
    "predict": "RUN [TEXT... | --in FILE --out FILE | --in GLOB --out DIR] [OPTIONS]",
    "adapt": "TEXTS --out ENCODER [OPTIONS]",
    "fill": "ENCODER TEXT... [OPTIONS]",
    "models": "[OPTIONS]",
}
_EXAMPLES = {
    "check": ("check reviews.csv", 'check --show-tokens "unfathomable"'),
    "train": (
        "train reviews.csv --out runs/reviews",
        "train reviews.csv --out runs/b --epochs 5 --metric accuracy",
        "train --recipe runs/reviews/recipe.toml --out runs/again",
    ),
    "tune": (
        "tune reviews.csv --out tuned --trials 20 --timeout 3600",
        "tune reviews.csv --out tuned/encoders --encoders minilm,bert-base-uncased --epochs 3",
    ),
    "evaluate": ("evaluate runs/reviews", "evaluate runs/reviews newer.csv"),
    "compare": ("compare runs/whole runs/upper-half", "compare runs/a runs/b runs/c --json"),
    "explain": (
        'explain runs/reviews "The food was lovely, but the waiters were rude."',
        'explain runs/reviews "Not bad at all." --label negative --html why.html',
    ),
    "drift": ("drift runs/reviews newer.csv", "drift runs/reviews newer.csv --json"),
    "predict": (
        'predict runs/reviews "Not bad, but not great either."',
        "predict runs/reviews --in new.csv --out answers.csv --scores",
        "predict runs/reviews --in 'parts/*.parquet' --out answers/",
        "predict runs/reviews - --json < texts.txt",
    ),
    "serve": ("serve runs/reviews", "serve runs/reviews runs/topics --port 9000 --api-key-file keys.toml"),
    "keys": ("keys add shop --file keys.toml", "keys list --file keys.toml"),
    "review": ("review feedback.db --corrected --out corrected.csv", "review feedback.db --least-certain 50"),
    "export": ("export runs/reviews --int8", "export runs/reviews --int8 --allow-drop 0.01"),
    "adapt": ("adapt texts.txt --out encoders/ours", "adapt reviews.csv --text body --out encoders/ours --epochs 5"),
    "fill": ('fill encoders/ours "The film was [MASK]."',),
    "models": ("models",),
}
for _place, (_verb, _help) in enumerate(VERBS.items()):
    app.command(
        f"bertsmith.cli.{_verb}:{_verb}",
        name=_verb,
        help=_help,
        usage=f"Usage: bertsmith {_verb} {_USAGE[_verb]}",
        help_epilogue="\n\n".join(("Examples:", *(f"bertsmith {_line}" for _line in _EXAMPLES[_verb]))),
        sort_key=_place,
    )
