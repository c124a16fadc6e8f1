"""Schemes of tags and the spans that they mark, against seqeval."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities, Token

from bertsmith.tasks.tags import Reading, Tagged, scheme_of
from tests.tasks.token_rows import IOB_TAGS, IOBES_TAGS, POS_TAGS, sentences_in, sentences_of, tagged_of

BILOU_TAGS = [tag.replace("E-", "L-").replace("S-", "U-") for tag in IOBES_TAGS]
ANY_SCHEME = st.sampled_from([IOB_TAGS, IOBES_TAGS, BILOU_TAGS, ["O", "B", "I"]])


def spans_in(tagged: Tagged) -> list[tuple[int, str, int, int]]:
    """Row, type, first word and word after the last of each span, in order."""
    reading = Reading.of(tagged.names)
    spans = reading.spans(tagged.ids, tagged.offsets)
    found = []
    for begin, end, kind in zip(spans.begins.tolist(), spans.ends.tolist(), spans.types.tolist(), strict=True):
        row = int(tagged.rows[begin])
        first = int(tagged.offsets[row])
        found.append((row, reading.types[kind], begin - first, end - first))
    return found


def lenient(sentences: list[list[str]]) -> list[tuple[int, str, int, int]]:
    """What seqeval's default mode reads; it knows L and U by the names E and S."""
    names = str.maketrans("LU", "ES")
    found = []
    for row, tags in enumerate(sentences):
        known = [tag[:1].translate(names) + tag[1:] for tag in tags]
        found += [(row, kind, begin, end + 1) for kind, begin, end in get_entities(known)]
    return found


def strict(sentences: list[list[str]], scheme: type[Token]) -> list[tuple[int, str, int, int]]:
    """What seqeval's strict mode reads."""
    every = (entity for each in Entities(sentences, scheme).entities for entity in each)
    return [(entity.sent_id, entity.tag, entity.start, entity.end) for entity in every]


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (["O", "B-PER", "I-PER"], "IOB2"),
        (["O", "I-PER"], "IOB2"),
        (["B", "I", "O"], "IOB2"),
        (["O", "B-PER", "I-PER", "MISC"], "IOB2"),
        (["O", "S-PER"], "BIOES"),
        (["O", "I-PER", "E-PER"], "BIOES"),
        (["O", "B-X", "L-X", "U-X"], "BILOU"),
        (["O", "U-X", "S-X"], "BIOES"),
        (["O", "PER", "LOC"], "IO"),
        (["O"], "IO"),
        (["NOUN", "VERB", "X"], "plain"),
        (["NN", "-LRB-", "S"], "plain"),
        ([], "plain"),
    ],
)
def test_the_scheme_is_told_from_the_tags(names: list[str], scheme: str):
    """Prefixes of most tags tell the scheme; without prefixes an O tells that tags mark spans."""
    assert scheme_of(names).name == scheme


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_spans_of_any_sequence_are_those_of_seqeval(data: st.DataObject):
    """Valid or broken, a sequence in any scheme has the spans that seqeval's default mode reads."""
    sentences = data.draw(sentences_of(data.draw(ANY_SCHEME)))
    tagged = tagged_of(sentences)
    if tagged.scheme.prefixed:
        assert spans_in(tagged) == lenient(sentences)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_repaired_sequences_are_valid_and_say_the_same(data: st.DataObject):
    """Repair makes sequences whose strict reading is the lenient one of what was given, and is then at rest."""
    sentences = data.draw(sentences_of(data.draw(ANY_SCHEME)))
    tagged = tagged_of(sentences)
    if not tagged.scheme.prefixed:
        return
    repaired = tagged.repaired(tagged.scheme)
    schemes = {"IOB1": IOB2, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}
    assert strict(sentences_in(repaired), schemes[tagged.scheme.name]) == lenient(sentences)
    assert sentences_in(repaired.repaired(scheme_of(repaired.names))) == sentences_in(repaired)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_valid_sequences_stay_as_they_are(data: st.DataObject):
    """What was repaired once is told to be of the same scheme and is written in the same way again."""
    sentences = data.draw(sentences_of(data.draw(ANY_SCHEME)))
    tagged = tagged_of(sentences)
    if tagged.scheme.prefixed and any(tag != "O" for each in sentences for tag in each):
        valid = sentences_in(tagged.repaired(tagged.scheme))
        again = tagged_of(valid)
        assert again.scheme.name == tagged.scheme.name.replace("IOB1", "IOB2")
        assert sentences_in(again.repaired(again.scheme)) == valid


@given(sentences_of(IOB_TAGS))
@settings(max_examples=60, deadline=None)
def test_iob1_is_told_and_read_as_seqeval_reads_it(sentences: list[list[str]]):
    """Where the scheme is told to be IOB1, seqeval's strict IOB1 finds the spans that we find."""
    tagged = tagged_of(sentences)
    if tagged.scheme.name == "IOB1":
        assert strict(sentences, IOB1) == spans_in(tagged)


def test_a_b_only_between_neighbours_is_iob1():
    """B- after a word of its type, and I- at the beginning of all other spans, is IOB1, written anew as IOB2."""
    tagged = tagged_of([["I-PER", "B-PER", "I-PER", "O", "I-LOC"]])
    assert tagged.scheme.name == "IOB1"
    assert sentences_in(tagged.repaired(tagged.scheme)) == [["B-PER", "B-PER", "I-PER", "O", "B-LOC"]]


def test_types_without_prefixes_join_and_plain_tags_do_not():
    """With an O, neighbours of one tag are one span; without, every word is a span."""
    assert spans_in(tagged_of([["PER", "PER", "O", "LOC"]])) == [(0, "PER", 0, 2), (0, "LOC", 3, 4)]
    assert spans_in(tagged_of([["NOUN", "NOUN"]])) == [(0, "NOUN", 0, 1), (0, "NOUN", 1, 2)]


@given(sentences_of(POS_TAGS))
@settings(max_examples=60, deadline=None)
def test_plain_tags_are_never_changed(sentences: list[list[str]]):
    """Plain tags have nothing to repair."""
    tagged = tagged_of(sentences)
    assert sentences_in(tagged.repaired(tagged.scheme)) == sentences
