"""What each figure of scores.json means, in one sentence. Plain data, and one function that picks what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

METRICS: Mapping[str, str] = {
    "accuracy": "Share of rows whose answer is the gold label.",
    "macro_f1": "Mean F1 of the labels, each label counting the same.",
    "micro_f1": "F1 over all pairs of a row and a label.",
    "weighted_f1": "Mean F1 of the labels, weighted by their rows.",
    "samples_f1": "Mean over rows of each row's own F1.",
    "balanced_accuracy": "Mean recall of the labels that occur.",
    "subset_accuracy": "Share of rows whose whole set of labels is right.",
    "mcc": "Matthews' correlation of gold labels and answers, from -1 to 1 (Gorodkin 2004).",
    "log_loss": "Mean of minus the natural logarithm of the right label's probability; lower is better.",
    "mean_average_precision": "Mean average precision of the labels that occur.",
    "quadratic_kappa": "Cohen's kappa with squared distances between levels, from -1 to 1.",
    "mae": "Mean absolute error, in the units of the data (of levels: in their values or places); lower is better.",
    "mse": "Mean squared error, in squared units of the data; lower is better.",
    "pearson": "Pearson's correlation of answers and gold numbers.",
    "spearman": "Spearman's rank correlation of answers and gold numbers.",
    "r2": "1 minus the squared error over that of always answering the mean.",
    "span_f1": "F1 of spans; right is a span whose first word, last word and type are right.",
    "span_precision": "Share of the given spans that are right as a whole.",
    "span_recall": "Share of the gold spans that were found as a whole.",
    "token_accuracy": "Share of words whose tag is right.",
    "exact_match": "Share of questions whose answer equals a gold answer after SQuAD's normalisation.",
    "f1": "Mean F1 of the answer's words against the nearest gold answer, as SQuAD 2.0 defines it.",
}
"""Metrics, wherever they stand: in `test`, on the ladder, as differences, over seeds."""

_INTERVAL = "low and high are its 95 % interval"
_COUNTS = {
    "precision": "Share of the answers with this label that are right; 0 where there are none.",
    "recall": "Share of this label's rows (or spans) that were answered with it; 0 where there are none.",
    "f1": "Harmonic mean of precision and recall.",
    "support": "Rows (or spans, or words) whose gold label this is.",
}
_VIEWS = {
    **{name: _COUNTS[name] for name in ("precision", "recall", "f1")},
    "correct": "Spans that are right in this view.",
    "incorrect": "Spans that overlap a gold span and are wrong in this view.",
    "partial": "Spans that overlap a gold span of which only a part was found.",
    "missed": "Gold spans that no given span overlaps.",
    "spurious": "Given spans that overlap no gold span.",
    "actual": "Spans that were given.",
    "possible": "Gold spans.",
}
_KINDS = {
    "rows": "Test rows of this kind.",
    "exact_match": METRICS["exact_match"],
    "f1": METRICS["f1"],
}
_BINS = {
    "low": "Lowest probability in this bin of rows.",
    "high": "Highest probability in this bin of rows.",
    "rows": "Answers in this bin.",
    "confidence": "Mean probability that the model gave in this bin.",
    "right": "Share of the bin's answers that are right.",
    "right_low": "Lower end of the 95 % interval of that share.",
    "right_high": "Upper end of the 95 % interval of that share.",
}
_ROW = {
    "row": "Number of the row in its file, from 1, a header not counted.",
    "score": "Probability that the model gave its answer.",
    "gold": "The gold answer.",
    "guess": "The model's answer, before anything is refused.",
}


def _under(path: str, told: Mapping[str, str]) -> dict[str, str]:
    return {f"{path}.{name}": sentence for name, sentence in told.items()}


_DEFINED: Mapping[str, str] = {
    "format": "Version of this file's layout.",
    "model.parameters": "Numbers that the model consists of.",
    "model.trainable_parameters": "Those of them that were trained.",
    "model.max_length": "Tokens that a text, or a window of it, may have.",
    "data.rows": "Rows that were read.",
    "data.split.*": "Rows of this side: train learns, validation chooses, calibration tunes, test is only scored.",
    "decision.thresholds.*": "Probability from which on this label is given, tuned on calibration rows.",
    "decision.no_answer": "Difference of logits from which on a question is declined, tuned on calibration rows.",
    "decision.accept.threshold": "Probability from which on an answer is accepted; below it the label is UNKNOWN.",
    "decision.accept.by_label.*": "Probability from which on this label is accepted; below it the label is UNKNOWN.",
    "test.rows": "Test rows that were scored; they were used for nothing else.",
    **_under("test.per_class", _COUNTS),
    **_under("test.per_tag", _COUNTS),
    **_under("test.per_label", _COUNTS),
    "test.per_label.threshold": "Probability from which on this label is given.",
    "test.per_label.average_precision": "Precision of this label averaged over recall, as scikit-learn defines it.",
    "test.labels_per_row.gold": "Mean number of gold labels a row.",
    "test.labels_per_row.given": "Mean number of given labels a row.",
    "test.confusion": "Test rows (or words): a row for each gold label, a column for each answer.",
    "test.values": "What each level is worth, in the order of the labels.",
    "test.words": "Words that were scored.",
    **_under("test.views.all.*", _VIEWS),
    **_under("test.views.by_label.*.*", _VIEWS),
    **_under("test.by_answer.*", _KINDS),
    **_under("test.by_answer_length.*", _KINDS),
    **_under("test.by_question_word.*", _KINDS),
    "test.no_answer_accuracy": "Share of questions that were rightly answered or rightly declined.",
    "test.no_answer": "The threshold for declining, tuned on calibration rows.",
    "test.errors.*": "This quantile of answer minus gold number.",
    "test.range.gold": "Lowest and highest gold number.",
    "test.range.given": "Lowest and highest number that was answered.",
    "test.soft.rows": "Test rows with soft labels.",
    "test.soft.mean_entropy": "Mean entropy of the gold shares (natural logarithm).",
    "test.soft.agreement.rows": "Rows with two votes or more.",
    "test.soft.agreement.votes": "Mean number of votes a row.",
    "test.soft.agreement.pairwise": "Share of pairs of annotators that agree.",
    "test.soft.agreement.fleiss_kappa": "Fleiss' kappa: agreement of annotators beyond chance.",
    "test.soft.agreement.krippendorff_alpha": "Krippendorff's alpha: agreement of annotators beyond chance.",
    "baselines.*.seconds": "Seconds that this rung took, the choice of its strength included.",
    "baselines.*.decision.thresholds.*": "Probability from which on this rung gives this label.",
    "baselines.*.decision.no_answer": "Difference of logits from which on this rung declines a question.",
    "baselines.*.fine_tuning_minus_rung.rows": "Test rows on which the two were compared.",
    "baselines.*.fine_tuning_minus_rung.only_ours_right": "Rows that only the fine-tuned model answered right.",
    "baselines.*.fine_tuning_minus_rung.only_theirs_right": "Rows that only this rung answered right.",
    "baselines.*.fine_tuning_minus_rung.mcnemar_p": "McNemar's exact test, two-sided, that the two err equally often.",
    "calibration.temperature": "What the logits were divided by: fitted on validation rows, folded into the weights.",
    "calibration.rows": "Test rows on which calibration was measured.",
    "calibration.ece_before": "Calibration error before: mean distance of probability and share right, debiased.",
    "calibration.ece_after": "Calibration error after: mean distance of probability and share right, debiased.",
    "calibration.ece_after_low": "Lower end of the 95 % interval of the calibration error after.",
    "calibration.ece_after_high": "Upper end of the 95 % interval of the calibration error after.",
    "calibration.brier_before": "Mean squared distance of the probabilities from the truth, before; lower is better.",
    "calibration.brier_after": "Mean squared distance of the probabilities from the truth, after; lower is better.",
    "calibration.log_loss_before": "Log loss of the test rows before calibration; lower is better.",
    "calibration.log_loss_after": "Log loss of the test rows after calibration; lower is better.",
    **_under("calibration.reliability.before", _BINS),
    **_under("calibration.reliability.after", _BINS),
    "decide.target": "Share of accepted answers that shall be right.",
    "decide.delta": "Probability, over draws of the calibration rows, that the promise is broken.",
    "decide.threshold": "Probability from which on an answer is accepted; below it the label is UNKNOWN.",
    "decide.by_label.*": "Probability from which on this label is accepted; below it the label is UNKNOWN.",
    "decide.coverage": "Share of the calibration rows that are accepted.",
    "decide.rows": "Calibration rows that the threshold was tested on.",
    "decide.rows_needed": "About how many calibration rows the rule would need, where there are too few.",
    "decide.test.rows": "Test rows on which the chosen threshold was measured.",
    "decide.test.coverage": f"Share of the test rows that are accepted; {_INTERVAL}.",
    "decide.test.right": f"Share of the accepted test rows that are right; {_INTERVAL}.",
    "decide.risk_coverage.threshold": "A threshold on the probability.",
    "decide.risk_coverage.coverage": "Share of the test rows that would be accepted with it.",
    "decide.risk_coverage.right": "Share of those that would be right.",
    "out_of_scope.threshold": "Out-of-scope score above which a text counts as foreign.",
    "out_of_scope.alarms_wanted": "Share of the user's own rows that may be called foreign.",
    "out_of_scope.validation.rows": "Validation rows that the threshold was set on.",
    "out_of_scope.validation.alarms": "Share of the validation rows that are called foreign.",
    "out_of_scope.test.rows": "Test rows that are in scope.",
    "out_of_scope.test.alarms": "Share of the test rows that are called foreign, though they are not.",
    "out_of_scope.foreign.rows": "Test rows that are labelled out of scope.",
    "out_of_scope.foreign.auroc": "Probability that a foreign row has a higher score than a row in scope.",
    "out_of_scope.foreign.answered": "Share of the foreign rows that get an answer after all, as sure as any other.",
    "out_of_scope.foreign.recall": "Share of the foreign rows that are called foreign.",
    **{
        f"out_of_scope.{part}_{end}": f"{where} end of the 95 % interval of {part.replace('.', ' ')}."
        for part in ("validation.alarms", "test.alarms", "foreign.auroc", "foreign.recall", "foreign.answered")
        for end, where in (("low", "Lower"), ("high", "Upper"))
    },
    **_under("errors.worst", _ROW),
    "errors.worst.loss": "Loss of the row: minus the natural logarithm of the gold label's probability.",
    "errors.worst.words": "First and last character of a word, and how much it speaks for the answer.",
    "errors.confused.rows": "Test rows with this gold label that got this answer.",
    "errors.confused.share": "Share of the gold label's test rows that got this answer.",
    **_under("errors.confused.examples", _ROW),
    "slices.rows": "Test rows of this slice.",
    "slices.right": f"Share of the slice's rows that are right; {_INTERVAL}.",
    "slices.rest": "Share of all other test rows that are right.",
    "slices.difference": "Share right in the slice minus share right in the rest.",
    "slices.low": "Lower end of the 95 % interval of the difference.",
    "slices.high": "Upper end of the 95 % interval of the difference.",
    "slices.p": "Probability of such a difference by chance, corrected for all slices that were looked at.",
    "suspects.rows": "Rows whose labels were looked at.",
    "suspects.flagged": "Rows whose label models that did not see them disagree with.",
    **_under("suspects.worst", _ROW),
    "suspects.worst.quality": "How well the label agrees with models that did not see the row; 0 is worst, 1 is best.",
    "seeds.seeds": "Seeds of the trainings.",
    "seeds.metrics.*.values": "The metric of each training, in the order of the seeds.",
    "seeds.metrics.*.mean": "Mean over the seeds.",
    "seeds.metrics.*.sd": "Standard deviation over the seeds (n - 1).",
    "seeds.metrics.*.low": "Lower end of the 95 % interval of the mean over seeds; none below three seeds.",
    "seeds.metrics.*.high": "Upper end of the 95 % interval of the mean over seeds.",
    "lengths.rows": "Training rows whose tokens were counted.",
    "lengths.mean": "Mean number of tokens of a training row, before anything is cut.",
    "lengths.median": "Half of the training rows have no more tokens.",
    "lengths.p95": "95 % of the training rows have no more tokens.",
    "lengths.p99": "99 % of the training rows have no more tokens.",
    "lengths.longest": "Tokens of the longest training row.",
    "lengths.cut": "Share of the training rows of which something is not read.",
    "lengths.lost": "Share of the training rows' tokens that are not read.",
    "lengths.histogram.low": "Fewest tokens of the rows in this bin.",
    "lengths.histogram.high": "Most tokens of the rows in this bin.",
    "lengths.histogram.rows": "Training rows in this bin.",
    "long.choices.*.score": "Metric on validation rows with the encoder frozen; a loss with a minus.",
    "long.choices.*.work": "Work of a training, as a multiple of that of keeping the head of each text.",
    "training.examples_per_second": "Rows a second while training, without validation and checkpoints.",
    "training.tokens_per_second": "Real tokens a second while training.",
    "training.padding_waste": "Share of the processed tokens that was padding.",
    "training.utilisation": "Floating-point work of real tokens, as a share of this machine's peak over that time.",
    "training.epochs": "Epochs that were trained.",
    "training.best_epoch": "Epoch whose weights were kept.",
    "training.rate_scale": "What the learning rate was multiplied by because the loss was no number; 1 if never.",
    "seconds.total": "Seconds of the whole run.",
    "seconds.*": "Seconds of this stage; features is a part of baselines.",
}


def definitions(scores: Mapping[str, Any]) -> dict[str, str]:
    """Define every figure that stands in scores.json: dotted path → one sentence.

    Positions in lists are left out of a path (`test.per_class.f1`), names that come from the data or the run are
    `*` (`decide.by_label.*`, `baselines.*.seconds`), and `value`, `low`, `high` of a metric are told together.

    >>> definitions({"test": {"rows": 12, "accuracy": {"value": 0.5, "low": 0.3, "high": 0.7}}})["test.accuracy"]
    'Share of rows whose answer is the gold label; low and high are its 95 % interval.'
    """
    found = {}
    for path in dict.fromkeys(figures_of(scores)):
        known = definition_of(path)
        if known:
            found[known[0]] = known[1]
    return found


def figures_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the path of every number in scores.json; `definitions` itself has none."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if (*path, name) != ("definitions",):
                yield from figures_of(each, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from figures_of(each, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def definition_of(path: tuple[str, ...]) -> tuple[str, str] | None:
    """Find the definition of a figure: its path as `definitions` has it, and the sentence; None for an unknown one."""
    for length in (len(path), len(path) - 1):
        for pattern, sentence in _by_length().get(length, ()):
            if all(wanted in ("*", part) for wanted, part in zip(pattern, path, strict=False)):
                return ".".join(pattern), sentence
    return None


@cache
def _by_length() -> dict[int, list[tuple[tuple[str, ...], str]]]:
    """Sort the patterns by their number of parts; exact ones first."""
    whole = {**_metric_definitions(), **_DEFINED}
    found: dict[int, list[tuple[tuple[str, ...], str]]] = {}
    for pattern, sentence in sorted(whole.items(), key=lambda each: (each[0].count("*"), each[0])):
        parts = tuple(pattern.split("."))
        found.setdefault(len(parts), []).append((parts, sentence))
    return found


def _metric_definitions() -> dict[str, str]:
    """Define each metric where it stands."""
    found = {}
    for name, sentence in METRICS.items():
        told = sentence.rstrip(".")
        found[f"test.{name}"] = f"{told}; {_INTERVAL}."
        found[f"baselines.*.{name}"] = f"{told}; of this rung, on the same test rows; {_INTERVAL}."
        minus = "Fine-tuned model minus this rung, paired by test row, in"
        found[f"baselines.*.fine_tuning_minus_rung.{name}"] = f"{minus} {name.replace('_', ' ')}; {_INTERVAL}."
    return found
