"""The estimator on texts with nested heads."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from stackwise import MatryoshkaTextClassifier
from stackwise.errors import KnobError
from stackwise.models import open_model
from stackwise.tasks.labels.baselines.transformer import TransformerClassifier
from stackwise.tasks.labels.small import small_texts
from stackwise.tasks.labels.task import LabelsTask
from stackwise.train.matryoshka import embed, matryoshka

SMALL = {"layers": 1, "width": 16, "heads": 2, "max_epochs": 2, "min_steps": 0, "threads": 1,
         "vocabulary": 300}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> MatryoshkaTextClassifier:
    return MatryoshkaTextClassifier(**SMALL).fit(*small_texts())


def test_a_code_is_the_mean_of_a_texts_tokens(model, tmp_path):
    texts, _ = small_texts()
    codes = model.transform(texts, dim=5)
    model.save(tmp_path / "kept")
    plain = AutoModel.from_pretrained(tmp_path / "kept" / "model")
    assert plain.config.matryoshka_dimensions == [8, 16]
    for text, code in zip(texts[:5], codes, strict=False):
        inputs = dict(model.tokenizer_(text, return_tensors="pt"))
        assert np.allclose(embed(plain, inputs)[0, :5], code, atol=1e-5)


def test_it_is_kept_and_read_back(model, tmp_path):
    texts, _ = small_texts()
    model.save(tmp_path / "kept")
    again = MatryoshkaTextClassifier.load(tmp_path / "kept")
    assert np.array_equal(again.predict_proba(texts, dim=8), model.predict_proba(texts, dim=8))
    assert np.array_equal(again.transform(texts), model.transform(texts))
    assert again.predict_adaptive(texts)[1].tolist() == model.predict_adaptive(texts)[1].tolist()


def test_the_last_blocks_of_a_pretrained_encoder_learn_alone(model, tmp_path):
    texts, y = small_texts()
    deep = MatryoshkaTextClassifier(**SMALL | {"layers": 2, "max_epochs": 1}).fit(texts, y)
    deep.save(tmp_path / "kept")
    before = deep.network_.encoder.model.state_dict()
    tuned = MatryoshkaTextClassifier(
        model=tmp_path / "kept" / "model", blocks=1, max_epochs=1, min_steps=0, lr=1e-3, threads=1
    ).fit(texts, y)
    after = tuned.network_.encoder.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("layer.1." in name or "pooler" in name for name in moved)
    assert all(parameter.requires_grad for parameter in tuned.network_.parameters())
    with pytest.raises(KnobError, match="has 2 blocks, and 3 are to learn"):
        tuned.set_params(blocks=3).fit(texts, y)


def test_texts_are_embedded_in_the_order_of_their_file(model, tmp_path):
    texts, _ = small_texts()
    (tmp_path / "new.txt").write_text("\n".join(texts[:6]))
    assert np.array_equal(model.transform(str(tmp_path / "new.txt"), dim=4),
                          model.transform(texts[:6], dim=4))  # fmt: skip


def test_an_encoder_is_given_a_head_of_the_tasks_classes(model, tmp_path):
    model.save(tmp_path / "kept")
    encoder = open_model(tmp_path / "kept" / "model")
    task = LabelsTask.small()
    made = matryoshka(encoder, task, epochs=1)
    assert type(made).__name__ == "BertForSequenceClassification"
    assert made.config.matryoshka_dimensions == [8, 16] and made.config.num_labels == 3
    assert 0 <= task.judge(made, "test").scores["accuracy"] <= 1


def test_a_classifier_of_texts_goes_on_nested():
    texts, y = small_texts()
    plain = TransformerClassifier(**SMALL).fit(texts, y)
    made = matryoshka(plain, (texts, y), epochs=1)
    assert type(made) is TransformerClassifier
    assert embed(made, texts, dim=8).shape == (72, 8)
