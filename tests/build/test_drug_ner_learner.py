"""The tagger as a user has it: any vectors, places in texts, what it refuses, what a seed fixes."""

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone

from stackwise.build.drug_ner import TokenTagger, train_vectors
from stackwise.build.drug_ner.selection import selected
from stackwise.build.drug_ner.word_vectors.lookup import given_vectors
from stackwise.errors import DataError, KnobError
from stackwise.models import load_learner
from stackwise.tasks.tags.baselines.dictionary import DictionaryTagger
from stackwise.tasks.tags.baselines.word_windows import WordWindowsTagger, shape_of
from stackwise.tasks.tags.schemes import spans_of
from stackwise.tasks.tags.small import small_sentences
from stackwise.tasks.tags.task import TagsTask
from stackwise.training.session import session

X, Y = small_sentences()
TINY = {"vector_size": 8, "vector_epochs": 1, "hidden": 8, "min_count": 1, "max_epochs": 2,
        "min_steps": 0, "pretrain_epochs": 1, "threads": 1}  # fmt: skip


def tagger(**knobs) -> TokenTagger:
    return TokenTagger(**TINY | knobs)


@pytest.fixture(scope="module")
def learned() -> TokenTagger:
    """One that has learned the small sentences."""
    more = {"max_epochs": 60, "lr": 1e-2, "patience": None, "scheme": "BIO", "hidden": 16}
    return tagger(**more).fit(X, Y)


VARIANTS = [
    {}, {"arch": "mlp"}, {"arch": "dbn"}, {"arch": "sae"}, {"bidirectional": True},
    {"crf": True, "scheme": "BIO"}, {"representation": "window"}, {"unknown": "pieces"},
    {"arch": "sae", "representation": "sequence", "scheme": "IOBES"}, {"distance": "scalar"},
    {"arch": "mlp", "select": "cluster"}, {"arch": "mlp", "select": "frequency"},
]  # fmt: skip


@pytest.mark.parametrize("knobs", VARIANTS, ids=str)
def test_every_form_answers_with_valid_tags_and_is_kept(knobs, tmp_path):
    made = tagger(**knobs).fit(X, Y)
    asked = [["I", "took", "Unheard"], [], X[0]]
    found = made.predict_proba(asked)
    assert [one.shape for one in found] == [(len(row), len(made.classes_)) for row in asked]
    assert all(np.allclose(one.sum(1), 1, atol=1e-5) for one in found if len(one))
    for row, tags in zip(asked, made.predict(asked), strict=True):
        assert len(tags) == len(row) and spans_of(tags, "BIO") is not None
    made.save(tmp_path)
    again = load_learner(tmp_path)
    for one, other in zip(found, again.predict_proba(asked), strict=True):
        assert np.array_equal(one, other)


def test_no_passes_before_are_the_plain_network_bit_for_bit():
    plain = tagger(arch="mlp", activation="sigmoid", layers=2, hidden=8).fit(X, Y)
    for arch in ("dbn", "sae"):
        before = tagger(arch=arch, pretrain_epochs=0, hidden=8).fit(X, Y)
        for one, other in zip(
            plain.network_.state_dict().values(), before.network_.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other)
        assert len(tagger(arch=arch).fit(X, Y).history_) == 1 + 2 + 2  # vectors, layers, network


def test_it_finds_names_and_their_places_in_a_text(learned):
    assert learned.score(X, Y) > 0.9
    text = "I took Xanax in New York\nno drug, &amp; they sell Cipro near Rome now"
    found = learned.entities(text)
    assert [text[one["start"] : one["end"]] for one in found] == [one["text"] for one in found]
    assert {"Xanax", "New York"} <= {one["text"] for one in found}
    assert all(0 <= one["score"] <= 1 for one in found)
    assert learned.entities("") == [] and learned.predict([[]]) == [[]]


def test_a_seed_fixes_everything_and_tags_never_reach_the_vectors():
    one, other = tagger().fit(X, Y), tagger().fit(X, Y)
    assert np.array_equal(one.predict_proba(X[:3])[0], other.predict_proba(X[:3])[0])
    turned = [["B-drug", *["O"] * (len(row) - 1)] for row in X]
    assert np.array_equal(tagger().fit(X, turned).vectors_.table, one.vectors_.table)
    assert clone(one).get_params() == one.get_params()


def test_vectors_read_the_training_text_alone_unless_more_is_named(tmp_path):
    held = (["Zyban", "word"], ["B-drug", "O"])
    alone = tagger().fit(X, Y, validation=([held[0]], [held[1]]))
    assert "zyban" not in alone.vectors_.words
    (tmp_path / "more.txt").write_text("Zyban word\nand Zyban again\n")
    more = tagger(text=str(tmp_path / "more.txt")).fit(X, Y)
    assert "zyban" in more.vectors_.words


def test_words_without_a_vector_have_the_mean_or_what_their_letters_say():
    mean = train_vectors(X, size=4, min_count=1, epochs=1)
    looked = mean.lookup([["Xanax", "Zzz", "XANAX"]])
    assert np.allclose(looked.table[looked.ids[1]], mean.table.mean(0))
    assert looked.ids[0] == looked.ids[2]
    pieces = train_vectors(X, size=4, min_count=1, epochs=1, pieces=True)
    found = pieces.lookup([["Zolofta", "Qqqq"]])
    assert not np.allclose(*found.table[found.ids])


def test_vectors_that_are_given_are_read_from_any_form(tmp_path):
    rows = {"Xanax": np.array([1.0, 2.0]), "rome": np.array([0.0, 1.0])}
    (tmp_path / "a.vec").write_text("2 2\nXanax 1 2\nrome 0 1\n")

    class Keyed:
        def __init__(self):
            self.key_to_index = {"Xanax": 0, "rome": 1}
            self.vectors = np.array([[1.0, 2.0], [0.0, 1.0]])

    for given in (rows, tmp_path / "a.vec", Keyed()):
        assert given_vectors(given).table.tolist() == [[1, 2], [0, 1]]
        assert list(given_vectors(given).words) == ["xanax", "rome"]
    made = tagger(vectors=rows, vector_size=2).fit(X, Y)
    assert made.vectors_.size == 2
    with pytest.raises(KnobError, match="vectors have size 2, vector_size is 100"):
        tagger(vectors=rows, vector_size=100).fit(X, Y)
    with pytest.raises(DataError, match="different shapes"):
        given_vectors({"a": [1.0], "b": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"window": 1}, "window must be at least 2, got 1"),
        ({"arch": "mlp", "crf": True}, "crf=True is of whole sentences"),
        ({"arch": "mlp", "bidirectional": True}, "bidirectional is an LSTM's"),
        ({"select": "cluster"}, "chooses windows, and the representation is sequence"),
        ({"arch": "dbn", "activation": "relu"}, "does not go with arch=dbn"),
        ({"activation": "relu"}, "an LSTM has its own"),
        ({"crf": True, "class_weight": "sqrt"}, "learns whole sentences"),
        ({"vectors": {"a": [1.0]}, "text": "x"}, "text is of vectors that are trained"),
    ],
)
def test_knobs_that_do_not_go_together_are_refused(knobs, said):
    with pytest.raises(KnobError, match=said):
        tagger(**knobs).fit(X, Y)


def test_bad_sentences_are_refused(learned):
    with pytest.raises(DataError, match="sentence 2 has 1 tokens but 2 tags"):
        tagger().fit([["a"], ["b"]], [["O"], ["O", "O"]])
    with pytest.raises(DataError, match="no token is labelled as an entity"):
        tagger().fit([["a"]], [["O"]])
    with pytest.raises(DataError, match="not a list of words"):
        learned.predict(["a text"])
    with pytest.raises(DataError, match='unknown tag "thing"'):
        learned.score([["a"]], [["B-thing"]])


def test_windows_that_begin_a_name_always_stay():
    labels = np.zeros(40, dtype=np.int64)
    labels[[3, 17]] = 1
    words = [[f"w{n % 7}" for n in range(40)]]
    windows = np.stack([np.arange(40), np.roll(np.arange(40), -1)], 1)
    table = np.random.default_rng(0).normal(size=(41, 3)).astype(np.float32)
    for how in ("frequency", "cluster"):
        kept = selected(how, words, windows, labels, table, 0)
        assert {3, 17} <= set(kept.tolist()) and len(kept) <= 40
    assert len(selected("all", words, windows, labels, table, 0)) == 40


def test_zero_and_one_come_back_as_they_were_told():
    told = [["1" if tag != "O" else "0" for tag in row] for row in Y]
    made = tagger().fit(X, told)
    assert made.types_ == ["entity"] and {tag for row in made.predict(X) for tag in row} <= {
        "0",
        "1",
    }


def test_what_is_found_is_written_a_line_each(learned, tmp_path):
    (tmp_path / "notes.txt").write_text("I took Xanax in Rome\n\nnothing, he said\n")
    task = TagsTask.small()
    assert task.write_predictions(tmp_path / "a.jsonl", learned, tmp_path / "notes.txt") == 3
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["I took Xanax in Rome", "", "nothing, he said"]
    for row in rows:
        for one in row["entities"]:
            assert row["text"][one["start"] : one["end"]] == one["text"]
    columns = "\n\n".join(
        "\n".join(map("\t".join, zip(*one, strict=True))) for one in zip(X, Y, strict=True)
    )
    (tmp_path / "train.conll").write_text(columns)
    count = task.write_predictions(tmp_path / "b.jsonl", learned, tmp_path / "train.conll")
    assert count == len(X)
    again = TagsTask.load(tmp_path / "b.jsonl")
    assert len(again.sentences) == len(X)
    with pytest.raises(DataError, match="must end in .jsonl"):
        task.write_predictions(tmp_path / "a.csv", learned, [])


def test_a_transform_goes_on_training_what_it_learned(learned):
    joined = learned.trainable(TagsTask.small())
    loss = joined.loss(joined.model, next(iter(joined.batches.epoch(0))))
    assert torch.isfinite(loss)
    assert joined.finish(joined.model).predict(X[:1])[0] == learned.predict(X[:1])[0]


def test_the_dictionary_finds_what_it_saw_and_nothing_new():
    made = DictionaryTagger().fit(X, Y)
    assert made.predict([["new", "york", "or", "Unheard"]]) == [["B-place", "I-place", "O", "O"]]
    assert made.score(X, Y) == 1.0


def test_words_and_shapes_are_told_as_they_look():
    assert [shape_of(word) for word in ("Xanax", "COVID19", "mg/kg", "é")] == [
        "Xxx", "XX99", "xx/xx", "x"
    ]  # fmt: skip
    made = WordWindowsTagger(penalty=1.0, max_steps=20).fit(X, Y)
    assert made.score(X, Y) > 0.9


@pytest.mark.slow
def test_an_encoders_vectors_stand_in_the_place_of_trained_ones(tmp_path):
    from stackwise.tasks.tags.pretrained import missing

    if missing():
        pytest.skip(missing())
    made = tagger(vectors="minilm").fit(X, Y)
    assert made.vectors_.size == 384
    alone = made.vectors_.lookup([X[0]]).table
    assert np.allclose(made.vectors_.lookup([X[5], X[0]]).table[-len(X[0]) :], alone, atol=1e-5)
    long = made.vectors_.lookup([["Xanax"] * 700]).table
    assert long.shape == (700, 384) and np.isfinite(long).all()
    made.save(tmp_path)
    again = load_learner(tmp_path)
    assert np.array_equal(made.predict_proba(X[:2])[0], again.predict_proba(X[:2])[0])


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("at", ["vectors", "layer 2", "train"])
def test_a_fit_that_is_stopped_in_any_phase_and_resumed_is_the_same_to_the_bit(
    at, tmp_path, monkeypatch
):
    from stackwise.training import loop

    monkeypatch.setattr(loop, "EPOCH_PAUSE", 0.0)
    monkeypatch.setattr(loop, "WRITE_PAUSE", 0.0)
    knobs = {"arch": "sae", "vector_epochs": 3, "pretrain_epochs": 3, "max_epochs": 4}
    whole = tagger(**knobs).fit(X, Y)

    def stop(event):
        if event.get("metrics") and event["phase"] == at and event["epoch"] == 2:
            raise Stopped

    with pytest.raises(Stopped), session(folder=tmp_path, on_event=stop):
        tagger(**knobs).fit(X, Y)
    with session(folder=tmp_path, resume=True):
        again = tagger(**knobs).fit(X, Y)
    assert np.array_equal(again.vectors_.table, whole.vectors_.table)
    for one, other in zip(whole.predict_proba(X[:4]), again.predict_proba(X[:4]), strict=True):
        assert np.array_equal(one, other)
    assert [one["metrics"] for one in again.history_] == [one["metrics"] for one in whole.history_]
