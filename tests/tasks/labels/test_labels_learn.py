"""Learners and modules of transformers on labelled texts: heads, tokens, what is kept and shown."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from stackwise.conformance import small_language_model
from stackwise.errors import DataError, ModelError, RunError
from stackwise.learning.trainable import trainable
from stackwise.models import open_model
from stackwise.tasks.labels.baselines.frozen_encoder import FrozenEncoderClassifier
from stackwise.tasks.labels.baselines.transformer import TransformerClassifier
from stackwise.tasks.labels.baselines.word_counts import WordCountsClassifier
from stackwise.tasks.labels.estimators.tokens import through, tokenized
from stackwise.tasks.labels.heads import with_head
from stackwise.tasks.labels.small import small_texts
from stackwise.tasks.labels.task import LabelsTask
from stackwise.tasks.labels.writing import answer_rows
from stackwise.training.rules import Backprop

SMALL = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "max_epochs": 1, "threads": 1}


@pytest.fixture(scope="module")
def task():
    return LabelsTask.small()


@pytest.fixture(scope="module")
def encoder(task):
    """A fitted small transformer."""
    return task.fit(TransformerClassifier(**SMALL))


@pytest.fixture(scope="module")
def decoder():
    return open_model(small_language_model())


def test_words_are_counted_as_scikit_learn_counts_them(task, tmp_path):
    from sklearn.feature_extraction.text import TfidfVectorizer

    made = task.fit(WordCountsClassifier(penalty=1.0))
    texts = task.part("train")[0]
    counter = TfidfVectorizer(
        token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True
    )  # fmt: skip
    wanted = counter.fit_transform(texts.values).toarray()
    assert np.allclose(made._matrix(texts).toarray(), wanted, atol=1e-15)
    made.save(tmp_path / "kept")
    again = WordCountsClassifier.load(tmp_path / "kept")
    X, _ = task.part("test")
    assert np.array_equal(made.predict_proba(X), again.predict_proba(X))
    assert made.predict_proba(["never a known one"]).shape == (1, 3)


def test_a_head_leaves_the_weights_below_it_as_they_are(decoder):
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    made = with_head(decoder, ["a", "b", "c"], pad=0)
    assert type(made).__name__ == "LlamaForSequenceClassification"
    assert made.config.id2label == {0: "a", 1: "b", 2: "c"}
    for name, value in made.base_model.state_dict().items():
        assert torch.equal(value, decoder.base_model.state_dict()[name])
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    again = with_head(decoder, ["a", "b", "c"], pad=0)
    assert torch.equal(made.score.weight, again.score.weight)
    assert with_head(made, ["a", "b", "c"], pad=0) is made
    assert with_head(made, ["a", "b"], pad=0).score.weight.shape == (2, 16)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BertConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1,
                                num_attention_heads=2, intermediate_size=16),
        transformers.RobertaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1,
                                   num_attention_heads=2, intermediate_size=16),
        transformers.DistilBertConfig(vocab_size=99, dim=16, n_layers=1, n_heads=2, hidden_dim=16),
        transformers.GPT2Config(vocab_size=99, n_embd=16, n_layer=1, n_head=2),
        transformers.Qwen2Config(vocab_size=99, hidden_size=16, num_hidden_layers=1,
                                 num_attention_heads=2, num_key_value_heads=2,
                                 intermediate_size=16),
        transformers.GPTNeoXConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1,
                                   num_attention_heads=2, intermediate_size=16),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_six_families_take_a_head(config):
    made = with_head(transformers.AutoModel.from_config(config).eval(), ["a", "b"], pad=1)
    ids = torch.randint(2, 99, (3, 7))
    assert made(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (3, 2)


def test_what_takes_no_head_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="a Linear is no encoder or decoder of transformers"):
        with_head(torch.nn.Linear(2, 2), ["a", "b"], pad=0)
    config = transformers.MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1)
    with pytest.raises(ModelError, match="transformers has none for its family"):
        with_head(transformers.MambaModel(config), ["a", "b"], pad=0)


def test_a_module_without_a_head_says_how_to_get_one(task, decoder):
    batch = next(iter(task.batches("train", model=decoder).epoch(0)))
    with pytest.raises(ModelError, match=r"no head of 3 classes: put one on by task\.headed"):
        task.loss(decoder, batch)
    with pytest.raises(ModelError, match=r"task\.headed"):
        task.judge(decoder, "test")


def test_any_module_with_a_head_learns_and_is_judged(task, decoder):
    model = task.headed(decoder)
    joined = trainable(model, task)
    before = joined.validate(model)["loss"]
    from stackwise.training.loop import train

    trained = train(model, Backprop(joined.loss, lr=1e-2), joined.batches, max_epochs=8, seed=0)
    assert joined.validate(trained.model)["loss"] < before
    judged = task.judge(trained.model, "test")
    assert next(iter(judged.scores)) == "accuracy" and "text" in judged.samples


def test_a_batch_is_as_wide_as_its_longest_text_and_classes_are_numbered(task, decoder):
    for batch in task.batches("validation", model=decoder, batch_size=4).epoch(0):
        assert batch["attention_mask"].sum(1).max() == batch["input_ids"].shape[1]
        assert batch["target"].dtype == torch.int64 and batch["target"].max() < 3


@pytest.mark.parametrize("size", [1, 5])
def test_the_answer_to_a_text_does_not_depend_on_the_others(task, encoder, size):
    X, _ = task.part("train")
    assert np.array_equal(encoder.predict_proba(X)[7 : 7 + size],
                          encoder.predict_proba(X[7 : 7 + size]))  # fmt: skip
    mixed = ["rain", " ".join(["the wind came"] * 30), "no"]
    alone = np.concatenate([encoder.predict_proba([text]) for text in mixed])
    assert np.array_equal(encoder.predict_proba(mixed), alone)


def test_padding_changes_an_answer_by_rounding_alone(encoder):
    tokens = tokenized(["the rain was good", "snow"], encoder.tokenizer_, 99)
    wide = tokens.padded([0, 1], 64)
    with torch.no_grad():
        padded = encoder.network_(**wide).logits.numpy()
        tight = [
            encoder.network_(**tokens.padded([row], len(tokens.rows[row]))).logits.numpy()
            for row in (0, 1)
        ]
    assert np.allclose(padded, np.concatenate(tight), atol=1e-6)
    kept = through(encoder.network_, tokens, lambda output: output[:, 0].numpy())
    assert np.allclose(kept, padded, atol=1e-6)


def test_what_is_kept_loads_in_plain_transformers(task, encoder, tmp_path):
    encoder.save(tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    X, _ = task.part("test")
    read = tokenizer(list(X.values), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model.eval()(read["input_ids"], attention_mask=read["attention_mask"]).logits
    assert np.allclose(found.softmax(-1).numpy(), encoder.predict_proba(X), atol=1e-6)
    assert [model.config.id2label[place] for place in range(3)] == encoder.classes_.tolist()


@pytest.mark.parametrize("given", ["folder", "object"])
def test_a_pretrained_model_is_tuned_and_left_as_it_was(task, decoder, given):
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    model = decoder if given == "object" else small_language_model()
    made = task.fit(TransformerClassifier(model=model, max_epochs=1, lr=1e-2, threads=1))
    assert type(made.network_).__name__ == "LlamaForSequenceClassification"
    moved = made.network_.base_model.state_dict()
    assert any(not torch.equal(moved[name.removeprefix("model.")], value)
               for name, value in before.items() if name.startswith("model."))  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


def test_a_small_transformer_learns():
    texts = [f"the {word} of number {n}" for n in range(40) for word in ("cat", "dog")]
    easy = LabelsTask.load((texts, ["c", "d"] * 40))
    made = easy.fit(TransformerClassifier(**SMALL | {"max_epochs": 20, "lr": 1e-2}))
    assert easy.judge(made, "test").scores["accuracy"] > 0.9


def test_frozen_states_are_the_mean_over_the_tokens(task, decoder, tmp_path):
    made = task.fit(FrozenEncoderClassifier(model=decoder, penalty=1.0))
    texts = task.part("test")[0]
    found = made._matrix(texts)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    ids = made.encoder_.tokenizer(texts[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        state = decoder.base_model(input_ids=ids).last_hidden_state[0].mean(0)
    assert np.allclose(found[0], torch.nn.functional.normalize(state, dim=0), atol=1e-6)
    made.save(tmp_path / "object")
    assert np.array_equal(
        FrozenEncoderClassifier.load(tmp_path / "object").predict_proba(texts),
        made.predict_proba(texts),
    )


def test_a_frozen_encoder_that_is_another_by_now_is_refused(task, tmp_path):
    from stackwise.models import save_model

    base = tmp_path / "base"
    model = open_model(small_language_model())
    save_model(model, base)
    transformers.AutoTokenizer.from_pretrained(small_language_model()).save_pretrained(base)
    task.fit(FrozenEncoderClassifier(model=str(base), penalty=1.0)).save(tmp_path / "kept")
    FrozenEncoderClassifier.load(tmp_path / "kept")
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    save_model(model, base)
    with pytest.raises(RunError, match="has other weights than the one"):
        FrozenEncoderClassifier.load(tmp_path / "kept")


def test_mistakes_are_kept_as_texts_and_laid_out(task, encoder):
    class Kept:
        record = {"slug": "transformer"}  # noqa: RUF012

        def predictions_on(self, part):
            return task.judge(encoder, part).samples

    found = LabelsTask.shows([Kept()], task.describe())
    assert list(found.figures) == ["What transformer takes for what"]
    assert found.tables["classes"]["texts"].sum() == len(task.part("test")[1])
    mistakes = found.tables["surest mistakes"]
    assert set(mistakes.index) <= set(task.part("test")[0].values)
    assert (mistakes["answer"] != mistakes["is"]).all() and mistakes["sure"].is_monotonic_decreasing


def test_predictions_have_a_row_a_text_and_none_for_a_blank_one(encoder, tmp_path, command):
    texts, _ = small_texts()
    path = tmp_path / "new.txt"
    path.write_text("\n".join(texts[:3]))
    rows = answer_rows(encoder, path)
    assert rows["text"].tolist() == texts[:3]
    assert rows["prediction"].tolist() == encoder.predict(texts[:3]).tolist()
    blank = answer_rows(encoder, [{"text": texts[0]}, {"text": ""}])
    assert blank["prediction"].isna().tolist() == [False, True]
    assert len(answer_rows(encoder, ["  "])) == 1
    assert np.allclose(rows.filter(like="probability_").sum(axis=1), 1)


def test_commands_fit_and_predict(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts, subjects = small_texts()
    records = [{"said": one, "label": of} for one, of in zip(texts, subjects, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    pd.DataFrame(records).to_csv("a.csv", index=False)
    code, _, err = command(
        "fit", "word-counts", "a.csv", "--field", "said", "--target", "label", "--out", "run"
    )
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["task"] == "labels"
    code, _, err = command("predict", "run", "a.jsonl", "--field", "said", "-o", "out.csv")
    assert code == 0, err
    rows = pd.read_csv("out.csv")
    assert rows["text"].tolist() == texts and (rows["prediction"] == subjects).mean() > 0.9
    code, _, err = command("fit", "word-counts", "a.csv", "--task", "labels", "--out", "other")
    assert code == 2 and "which of its fields is the text (it has said, label)" in err


def test_apply_puts_a_head_on_and_keeps_the_number_type(tmp_path):
    from stackwise.conformance.small_models import half_language_model
    from stackwise.runs import derive_run

    task, source = LabelsTask.small(), half_language_model(tmp_path / "half")
    run = derive_run(
        "transform", "gradual-pruning", source, out=tmp_path / "out", data=task,
        knobs={"epochs": 1, "min_steps": 0, "every": 1, "sparsity": 0.5},
    )  # fmt: skip
    made = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out/model")
    assert made.dtype == torch.bfloat16 and made.config.num_labels == 3
    assert "accuracy" in json.dumps(run.record["scores"])


@pytest.mark.parametrize("X", ["a text", [["a"], ["b"]], [1, 2], np.zeros((3, 4)), [None, "a"]])
def test_what_is_no_list_of_texts_is_refused(X):
    with pytest.raises(DataError, match="text"):
        WordCountsClassifier().fit(X, ["a", "b"])
