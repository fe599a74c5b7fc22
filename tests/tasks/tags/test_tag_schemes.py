"""Tags, spans and scores: each scheme gives the others back, and F1 is seqeval's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackwise.errors import DataError
from stackwise.tasks.tags.names import labels_from_names
from stackwise.tasks.tags.schemes import Span, scheme_of, spans_of, tags_of
from stackwise.tasks.tags.scoring import counted, scores_of, span_f1
from stackwise.tasks.tags.words import words_of


@st.composite
def sentences_with_names(draw, types=("drug", "group"), longest=5):
    """A length and spans that do not overlap; two may touch."""
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 5))):
        place += draw(st.integers(0, 3))
        size = draw(st.integers(1, longest))
        spans.append(Span(place, place + size, draw(st.sampled_from(types))))
        place += size
    return place + draw(st.integers(0, 3)) + (not spans), spans


@given(sentences_with_names())
def test_spans_come_back_from_each_scheme(sentence):
    length, spans = sentence
    for scheme in ("BIO", "IOBES"):
        tags = tags_of(spans, length, scheme)
        assert spans_of(tags, scheme) == spans
        assert spans_of(tags, scheme, repair=True) == spans


def test_bilou_is_read_as_iobes():
    tags = ["B-x", "L-x", "U-y", "O"]
    assert scheme_of([tags]) == "IOBES"
    assert spans_of(tags, "IOBES") == [(0, 2, "x"), (2, 3, "y")]


def test_zero_and_one_join_names_that_touch():
    assert spans_of(["0", "1", "1", "0", "1"], "01") == [(1, 3, "entity"), (4, 5, "entity")]
    assert tags_of([Span(1, 2, "x"), Span(2, 3, "x")], 4, "01") == ["0", "1", "1", "0"]


def test_a_tag_that_cannot_follow_is_an_error_or_repaired():
    with pytest.raises(DataError, match=r'tag "I-drug" follows "O" in sentence 3 \(BIO\)'):
        spans_of(["O", "I-drug"], "BIO", "sentence 3")
    assert spans_of(["O", "I-drug", "I-x"], "BIO", repair=True) == [(1, 2, "drug"), (2, 3, "x")]
    with pytest.raises(DataError, match='unknown tag "drug"'):
        spans_of(["drug"], "BIO")
    with pytest.raises(DataError, match='ends with "E-x"'):
        spans_of(["B-x", "O"], "IOBES")


def test_f1_is_that_of_seqeval_on_random_tags():
    pytest.importorskip("seqeval")
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    generator = np.random.default_rng(0)
    tags = ["O", "O", "B-a", "I-a", "B-b", "I-b"]
    for _ in range(40):
        lengths = generator.integers(1, 12, size=6)
        truth, said = (
            [
                tags_of(
                    spans_of(generator.choice(tags, size=n).tolist(), "BIO", repair=True), n, "BIO"
                )
                for n in lengths
            ]
            for _ in range(2)
        )
        spans = [[spans_of(row, "BIO") for row in rows] for rows in (truth, said)]
        wanted = f1_score(truth, said, mode="strict", scheme=IOB2, zero_division=0)
        assert span_f1(*spans) == pytest.approx(float(wanted), abs=1e-12)


def test_seen_and_new_names_are_scored_apart():
    words = [["take", "Xanax", "or", "Zoloft"]]
    truth = [[Span(1, 2, "drug"), Span(3, 4, "drug")]]
    scores = scores_of(counted(words, truth, [[Span(1, 2, "drug")]], {"xanax"}))
    assert scores["recall_seen"] == 1.0 and scores["recall_unseen"] == 0.0
    assert scores["f1"] == pytest.approx(2 / 3) and scores["precision"] == 1.0
    assert next(iter(scores)) == "f1"


@given(st.text(alphabet="aé&#039;;x \u0301\u200d.-\U0001f600&amp;\n", max_size=40))
def test_words_stand_where_they_say(text):
    found = words_of(text)
    ends = 0
    for (start, end), token in zip(found.places, found.tokens, strict=True):
        assert ends <= start < end <= len(text)
        assert token and not token.isspace()
        ends = end
    plain = all(sign not in text for sign in "&")
    if plain:
        assert ["".join(text[a:b]) for a, b in found.places] == found.tokens


def test_entities_of_html_and_combining_marks_keep_their_places():
    text = "Don&#039;t take Exe\u0301lon&reg; &amp; co"
    found = words_of(text)
    assert found.tokens == ["Don", "'", "t", "take", "Exe\u0301lon", "®", "&", "co"]
    assert [text[a:b] for a, b in found.places][1] == "&#039;"
    assert text[slice(*found.places[4])] == "Exe\u0301lon"


def test_names_label_texts_the_longest_first_and_drop_common_words():
    texts = ["I take xanax xr and Plan B", "Xanax&#039;s fine, so is Yes"]
    records, dropped = labels_from_names(
        texts, ["Xanax", "Xanax XR", "Plan B", "20", "the"], label="drug", common=["plan b"]
    )
    assert [r["text"][a:b] for r in records for a, b, _ in r["entities"]] == ["xanax xr", "Xanax"]
    assert dropped == ["20", "Plan B", "the"]
    with pytest.raises(DataError, match="no name is left"):
        labels_from_names(texts, ["20"])
