"""encode against transformers' own tokenizer: the same ids and windows, every lost token counted, no word lost."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith import encoders
from bertsmith.data import encode
from bertsmith.data.encode import TokenEncoder, show_tokens
from bertsmith.data.picks import best_windows
from bertsmith.words import split_words

words = st.lists(
    st.sampled_from(["good", "bad", "the", "film", "was", "unfathomable", "é", "你好", "😀", "x-y", "!", "NA", "null"]),
    max_size=40,
).map(" ".join)

odd_words = st.sampled_from(
    ["good", "unfathomable", "né", "ne\u0301", "你好吗", "😀", "👩\u200d👩\u200d👧", "\r\n", "\x00", "\u200b", "\u0301", "ﬁn", "İx", "x-y", "[SEP]", "\u3000"]
)  # fmt: skip
any_text = st.one_of(
    st.text(max_size=60), st.lists(odd_words, max_size=60).map(" ".join), st.lists(odd_words, max_size=30).map("".join)
)
LENGTHS = st.sampled_from([8, 9, 12, 16, 31])
STRIDES = st.sampled_from([None, 0, 1, 3, 100])


@pytest.fixture(scope="module")
def minilm():
    """The embedded encoder's tokenizer."""
    return encoders.find("minilm").tokenizer()


@pytest.fixture(scope="module")
def minilm_oracle():
    """The embedded encoder's tokenizer as transformers has it."""
    return encoders.find("minilm").transformers_tokenizer()


@pytest.fixture(scope="module")
def tiny(tiny_encoder):
    """The tiny encoder's tokenizer: one of few words, which is quick to copy."""
    return encoders.find(str(tiny_encoder)).tokenizer()


@pytest.fixture(scope="module")
def sliding(minilm):
    """Encoders of the embedded encoder's windows, each made once."""
    return {stride: TokenEncoder(minilm, 11, 0, long="windows", stride=stride, pooling="max") for stride in (0, 1, 8)}


@pytest.fixture(scope="module")
def contexts(minilm):
    """Encoder of the embedded encoder's context tokens."""
    return TokenEncoder(minilm, 50, 0, units="token", stride=7)


@pytest.fixture(scope="module")
def byte_level():
    """A tokenizer of RoBERTa's kind, which counts a blank to the token after it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate(["<s>", "</s>", "<unk>", *alphabet, "Ġg", "oo"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "g"), ("o", "o")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    return tokenizer


@pytest.fixture(scope="module")
def oracle(tiny_encoder):
    """The tiny encoder's tokenizer as transformers has it."""
    return encoders.find(str(tiny_encoder)).transformers_tokenizer()


@pytest.fixture(scope="module")
def tokens(tiny_encoder):
    """Ours, of the same encoder."""
    return TokenEncoder(encoders.find(str(tiny_encoder)).tokenizer(), 12, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=8))
def test_ids_equal_transformers(oracle, tokens, texts):
    """Ids after truncation are transformers' ids, and what was cut is counted."""
    ours = tokens.encode(texts)
    theirs = oracle(texts, truncation=True, max_length=12)["input_ids"]
    whole = oracle(texts, truncation=False)["input_ids"]
    assert ours.table.column("input_ids").to_pylist() == theirs
    assert ours.tokens_cut.tolist() == [len(full) - len(cut) for full, cut in zip(whole, theirs, strict=True)]
    assert ours.lengths.tolist() == [len(cut) for cut in theirs]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8))
def test_pairs_equal_transformers(oracle, tokens, pairs):
    """Pairs have true segments, and the longer text is cut first."""
    ours = tokens.encode([one for one, _ in pairs], [other for _, other in pairs])
    theirs = oracle([one for one, _ in pairs], [other for _, other in pairs], truncation="longest_first", max_length=12,
                    return_token_type_ids=True)  # fmt: skip
    assert ours.table.column("input_ids").to_pylist() == theirs["input_ids"]
    assert ours.table.column("token_type_ids").to_pylist() == theirs["token_type_ids"]


def test_padding_equals_transformers(oracle, tokens):
    """A padded batch has transformers' ids and mask."""
    texts = ["good film", "the film was bad bad bad", ""]
    ours = tokens.encode(texts).pad([0, 1, 2])
    theirs = oracle(texts, truncation=True, max_length=12, padding="longest", return_tensors="np")
    assert (ours["input_ids"] == theirs["input_ids"]).all()
    assert (ours["attention_mask"] == theirs["attention_mask"]).all()
    assert tokens.encode(texts).pad([2], width=12)["input_ids"].shape == (1, 12)


def test_large_data_lies_on_disk_and_is_the_same(tokens, tmp_path, monkeypatch):
    """Above the limit token ids are mapped from a file, and rows of any chunk are right."""
    monkeypatch.setattr(encode, "IN_MEMORY_ROWS", 10)
    monkeypatch.setattr(encode, "_CHUNK", 7)
    texts = pa.chunked_array([pa.array([f"good film {'the ' * (number % 9)}" for number in range(50)])])
    mapped = tokens.encode(texts, spill=tmp_path / "tokens.arrow")
    held = tokens.encode(texts)
    rows = np.random.default_rng(0).permutation(50)
    assert (tmp_path / "tokens.arrow").is_file()
    assert mapped.table.column("input_ids").num_chunks > 1
    for name, array in held.pad(rows).items():
        assert (mapped.pad(rows)[name] == array).all()


def test_shown_tokens_are_what_the_model_sees(tiny_encoder, oracle):
    """Pieces, ids, special tokens and mask of one text."""
    shown = show_tokens(encoders.find(str(tiny_encoder)).tokenizer(), "good xq")
    assert shown.pieces == ("[CLS]", "good", "x", "##q", "[SEP]")
    assert list(shown.ids) == oracle("good xq")["input_ids"]
    assert shown.special == (True, False, False, False, True)
    assert shown.mask == (1, 1, 1, 1, 1)
    assert shown.offsets[1:4] == ((0, 4), (5, 6), (6, 7))


def same_windows(ours, theirs):
    """Whether windows, segments and owners are those that transformers gives."""
    assert ours.table.column("input_ids").to_pylist() == theirs["input_ids"]
    assert ours.table.column("token_type_ids").to_pylist() == theirs["token_type_ids"]
    assert ours.owners.tolist() == theirs["overflow_to_sample_mapping"]


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=4), st.sampled_from([0, 1, 8]))
def test_windows_equal_transformers(sliding, minilm_oracle, texts, stride):
    """Windows of texts are those of transformers, and no token is lost."""
    ours = sliding[stride].encode(texts)
    same_windows(
        ours,
        minilm_oracle(texts, truncation=True, max_length=11, stride=stride, return_overflowing_tokens=True,
                      return_token_type_ids=True),
    )  # fmt: skip
    assert not ours.has_picks
    assert ours.tokens_cut.tolist() == [0] * len(texts)
    assert ours.pooling == "max"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words.map(lambda text: text[:20]), any_text), min_size=1, max_size=4))
def test_context_tokens_equal_transformers(contexts, minilm_oracle, pairs):
    """Every window has its [CLS] and then each token of the second text with transformers' characters."""
    firsts, seconds = [one for one, _ in pairs], [other for _, other in pairs]
    ours = contexts.encode(firsts, seconds)
    theirs = minilm_oracle(
        firsts, seconds, truncation="only_second", max_length=50, stride=7, return_overflowing_tokens=True,
        return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    same_windows(ours, theirs)
    for window, offsets in enumerate(theirs["offset_mapping"]):
        inside = [place for place, part in enumerate(theirs.sequence_ids(window)) if part == 1]
        mine = ours.unit_windows == window
        assert ours.table.column("picks")[window].as_py() == [0, *inside]
        assert ours.unit_starts[mine].tolist() == [-1, *(offsets[place][0] for place in inside)]
        assert ours.unit_ends[mine].tolist() == [-1, *(offsets[place][1] for place in inside)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=3), LENGTHS, STRIDES)
def test_windows_of_pairs_lose_nothing_of_the_second_text(tiny, pairs, max_length, stride):
    """However short windows are, all tokens of the second text are in them, and what the first lost is counted."""
    ours = TokenEncoder(tiny, max_length, 0, units="token", stride=stride)
    encoded = ours.encode([one for one, _ in pairs], [other for _, other in pairs])
    assert encoded.window_lengths.max() <= max_length
    for row, pair in enumerate(pairs):
        whole = tiny.encode(*pair)
        expected = {each for each, part in zip(whole.offsets, whole.sequence_ids, strict=True) if part == 1}
        places = encoded.flat([row])
        found = set(zip(encoded.unit_starts[places].tolist(), encoded.unit_ends[places].tolist(), strict=True))
        assert found == expected | {(-1, -1)}
        first_left = len(tiny.encode(pair[0]).ids) - 2 - encoded.tokens_cut[row]
        assert first_left == whole.sequence_ids.count(0) - encoded.tokens_cut[row]
        window = encoded.pad_windows(encoded.windows_of([row])[:1])
        assert (window["token_type_ids"] == 0).sum() - (window["attention_mask"] == 0).sum() == first_left + 2
        assert first_left <= max_length // 2 or len(whole) <= max_length


def naive_units(tokenizer, text, ours):
    """Each word's tokens in each window, by the offsets of the windows themselves: (window, place, start, end)."""
    first = tokenizer.encode(text)
    sliding = ours._sliding.encode(text)
    windows = [sliding, *sliding.overflowing] if len(first) > ours.max_length else [first]
    whole = [each for each, part in zip(first.offsets, first.sequence_ids, strict=True) if part == 0]
    held, begin, step = [], 0, 0
    for number, window in enumerate(windows):
        size = window.sequence_ids.count(0)
        if number == 0:
            step = size - ours._sliding.truncation["stride"] if ours._sliding.truncation else size
        held.append(range(begin, begin + size))
        begin += step
    units = []
    for start, end in split_words(text):
        touching = [place for place, (one, other) in enumerate(whole) if one < end and other > start]
        before = [place for place, (one, other) in enumerate(whole) if one < other <= start]
        anchor = touching[0] if touching else before[-1] if before else None
        if anchor is None:
            units.append((0, 0, start, end))
            continue
        best = max(
            (number for number, each in enumerate(held) if anchor in each),
            key=lambda number: (min(anchor - held[number][0], held[number][-1] - anchor), -number),
        )
        units.append((best, 1 + anchor - held[best][0], start, end))
    return units


@settings(max_examples=100, deadline=None)
@given(any_text, LENGTHS, STRIDES)
def test_every_word_is_answered_once_where_it_has_most_context(tiny, text, max_length, stride):
    """Each word has one unit, in the window where its first token is farthest from the edges."""
    ours = TokenEncoder(tiny, max_length, 0, units="word", stride=stride)
    encoded = ours.encode([text])
    padded = encoded.pad([0])
    found = zip(padded["pick_window"], padded["pick_token"], encoded.unit_starts, encoded.unit_ends, strict=True)
    assert [tuple(map(int, unit)) for unit in found] == naive_units(tiny, text, ours)
    assert encoded.tokens_cut.tolist() == [0]
    assert encoded.window_lengths.max() <= max_length


@settings(max_examples=100, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=4), LENGTHS, STRIDES, st.sampled_from(["row", "word", "token"]))
def test_windows_hold_every_token_of_a_text(tiny, texts, max_length, stride, units):
    """Windows laid over each other where they agree with the whole text give back the whole text."""
    encoded = TokenEncoder(tiny, max_length, 0, units=units, long="windows", stride=stride).encode(texts)
    ids = encoded.table.column("input_ids").to_pylist()
    step = max_length - 2 - max(0, min(max_length // 4 if stride is None else stride, max_length - 3))
    for row, text in enumerate(texts):
        whole = tiny.encode(text).ids[1:-1]
        for number, window in enumerate(encoded.windows_of([row])):
            assert ids[window][1:-1] == whole[number * step :][: max_length - 2]
        assert number * step + len(ids[window]) - 2 == len(whole)


def test_words_may_be_given(minilm):
    """Words that someone else found are the units, with their own characters; one without a token has the one before."""
    text = "\u200b New York \u200b didn't"
    words_given = [(0, 1), (2, 10), (11, 12), (13, 19)]
    column = pa.array([[], [{"start": one, "end": other} for one, other in words_given]])
    encoded = TokenEncoder(minilm, 16, 0, units="word").encode([text], words=pa.chunked_array([column]).slice(1))
    assert list(zip(encoded.unit_starts.tolist(), encoded.unit_ends.tolist(), strict=True)) == words_given
    assert encoded.table.column("picks").to_pylist() == [[0, 1, 2, 3]]


@settings(max_examples=60, deadline=None)
@given(any_text, st.sampled_from(["word", "token"]))
def test_blanks_are_no_part_of_a_token(byte_level, text, units):
    """Tokens of RoBERTa's kind stand for their letters without the blank before them, and no word is lost."""
    encoded = TokenEncoder(byte_level, 12, 0, units=units).encode([text])
    spans = list(zip(encoded.unit_starts.tolist(), encoded.unit_ends.tolist(), strict=True))
    if units == "word":
        assert spans == split_words(text)
        return
    assert all(text[start:end] == text[start:end].strip() for start, end in spans if start >= 0)
    assert {place for start, end in spans for place in range(start, end) if start >= 0} == {
        place for place, sign in enumerate(text) if not sign.isspace()
    }


def test_a_word_of_roberta_begins_at_its_own_token(byte_level):
    """The token with the blank in front belongs to the word after the blank."""
    encoded = TokenEncoder(byte_level, 32, 0, units="word").encode(["o goo  g"])
    assert encoded.table.column("picks").to_pylist() == [[1, 2, 5]]


@settings(max_examples=60, deadline=None)
@given(st.lists(any_text, min_size=1, max_size=4), LENGTHS)
def test_head_tail_is_a_quarter_and_the_rest(tiny, texts, max_length):
    """A text that is too long keeps the first quarter of the room and three quarters from its end."""
    ours = TokenEncoder(tiny, max_length, 0, long="head-tail").encode(texts)
    room = max_length - 2
    head = round(room / 4 + 1e-9)
    for row, text in enumerate(texts):
        cls, *inner, sep = tiny.encode(text).ids
        kept = inner if len(inner) <= room else inner[:head] + inner[len(inner) - (room - head) :]
        assert ours.table.column("input_ids")[row].as_py() == [cls, *kept, sep]
        assert ours.tokens_cut[row] == len(inner) - len(kept)


def test_head_tail_of_sun_and_others(minilm):
    """Of 510 tokens 128 come from the beginning and 382 from the end, as in the paper."""
    text = " ".join(["good"] * 300 + ["film"] * 300)
    ids = TokenEncoder(minilm, 512, 0, long="head-tail").encode([text]).table.column("input_ids")[0].as_py()
    good, film = minilm.encode("good film").ids[1:-1]
    assert ids[1:-1] == [good] * (300 - 90) + [film] * 300
    ids = TokenEncoder(minilm, 512, 0, long="head-tail").encode(
        [" ".join(["good"] * 128 + ["was"] * 9 + ["film"] * 382)]
    )
    assert ids.table.column("input_ids")[0].as_py()[1:-1] == [good] * 128 + [film] * 382


def test_head_tail_of_pairs(minilm):
    """The first text keeps half of the tokens at most, and the second its beginning and its end."""
    one, other = "a b c d e f g h i j", "k l m n o p q r s t"
    encoded = TokenEncoder(minilm, 16, 0, long="head-tail").encode([one, one], [other, "k"])
    shown = [[minilm.id_to_token(each) for each in ids] for ids in encoded.table.column("input_ids").to_pylist()]
    assert " ".join(shown[0]) == "[CLS] a b c d e f g h [SEP] k q r s t [SEP]"
    assert " ".join(shown[1]) == "[CLS] a b c d e f g h i j [SEP] k [SEP]"
    assert encoded.tokens_cut.tolist() == [7, 0]


@pytest.mark.parametrize("units", ["row", "word", "token"])
@pytest.mark.parametrize("long", ["head", "head-tail", "windows"])
def test_lone_surrogates_and_no_text_are_encoded(tiny, units, long):
    """Texts that no tokenizer takes, and texts of nothing, get their row."""
    encoded = TokenEncoder(tiny, 8, 0, units=units, long=long).encode(["\ud800 good", "", "x\udfff" * 30])
    assert len(encoded) == 3
    assert encoded.windows_of([0, 1]).tolist() == [0, 1]
    assert encoded.pad([1])["input_ids"].tolist() == [tiny.encode("").ids]
    assert len(TokenEncoder(tiny, 8, 0, units=units, long=long).encode([])) == 0


def test_words_of_pairs_are_refused(minilm):
    """Who asks for the words of pairs is told that there are none."""
    with pytest.raises(ValueError, match=r"^units='word' encodes one text a row, not pairs$"):
        TokenEncoder(minilm, 8, 0, units="word").encode(["a"], ["b"])


def test_windows_on_disk_are_the_same(tiny, tmp_path, monkeypatch):
    """Windows, picks and characters of large data come back from the file as they were."""
    monkeypatch.setattr(encode, "IN_MEMORY_ROWS", 10)
    monkeypatch.setattr(encode, "_CHUNK", 7)
    texts = [f"good film {'the ' * (number % 19)}" for number in range(40)]
    ours = TokenEncoder(tiny, 9, 0, units="word")
    mapped, held = ours.encode(texts, spill=tmp_path / "tokens.arrow"), ours.encode(texts)
    assert mapped.table.column("picks").num_chunks == 6
    assert mapped.table.combine_chunks().equals(held.table)
    assert (mapped.unit_starts == held.unit_starts).all()
    assert mapped.take([39, 3]).table.equals(held.take([39, 3]).table)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_the_best_window_is_the_middle_one(tokens_there, size, step):
    """The window chosen for a place is the one in which the nearer edge is farthest, the first of equals."""
    step = min(step, size)
    begins = np.arange(0, max(1, tokens_there - size + step), step)
    begins = begins[: 1 + int(np.argmax(begins + size >= tokens_there))]
    ends = np.minimum(begins + size, tokens_there)
    best = best_windows(np.arange(tokens_there), begins, ends)
    for place in range(tokens_there):
        room = [
            min(place - one, other - 1 - place) if one <= place < other else -1
            for one, other in zip(begins, ends, strict=True)
        ]
        assert best[place] == room.index(max(room))
