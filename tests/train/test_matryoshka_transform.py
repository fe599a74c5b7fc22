"""Going on with a trained encoder until its first numbers serve by themselves."""

import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, BertModel, CLIPConfig, CLIPModel

from stackwise import MatryoshkaClassifier, matryoshka
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.models import open_model, save_model
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.table.baselines import MLPRegressor
from stackwise.tasks.table.task import TableTask
from stackwise.train.matryoshka import contrastive_loss, cut, embed
from stackwise.train.matryoshka.rule import ClassLoss
from stackwise.training import session

WIDE = 16
SIZES = {
    "vocab_size": 64, "hidden_size": WIDE, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def encoder() -> BertModel:
    return BertModel(BertConfig(**SIZES)).eval()


def ids(rows: int = 8) -> torch.Tensor:
    return torch.randint(1, 64, (rows, 12))


def labelled(batches: int = 6) -> list[dict]:
    return [{"input_ids": ids(), "labels": torch.arange(8) % 3} for _ in range(batches)]


def paired(batches: int = 6) -> list[dict]:
    found = []
    for _ in range(batches):
        one = ids()
        other = one.clone()
        other[:, 8:] = ids()[:, 8:]  # says nearly the same
        found.append({"anchor": {"input_ids": one}, "positive": {"input_ids": other}})
    return found


def same(one: nn.Module, other: nn.Module) -> list[str]:
    """The names of the tensors that are equal."""
    right = other.state_dict()
    return [name for name, value in one.state_dict().items() if torch.equal(value, right[name])]


def pair_loss(model, batches, dim: int) -> float:
    losses = []
    for batch in batches:
        one, other = (embed(model, batch[side]) for side in ("anchor", "positive"))
        losses.append(contrastive_loss(cut(one, dim), cut(other, dim)))
    return float(torch.stack(losses).mean())


# --------------------------------------------------------------------------- encoders


def test_pairs_bring_every_size_forward_and_the_model_given_stays():
    model, batches = encoder(), paired()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = matryoshka(model, batches, epochs=8, lr=3e-3)
    for dim in (8, 16):
        assert pair_loss(made, batches, dim) < 0.8 * pair_loss(model, batches, dim)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not hasattr(model.config, "matryoshka_dimensions")


def test_the_config_says_the_sizes_and_is_read_back(tmp_path):
    made = matryoshka(encoder(), labelled(), epochs=1, dims=(4, 16))
    save_model(made, tmp_path / "kept")
    again = open_model(tmp_path / "kept")
    assert type(again) is BertModel and again.config.matryoshka_dimensions == [4, 16]
    inputs = {"input_ids": ids()}
    assert torch.equal(embed(again, inputs, dim=4), embed(made, inputs, dim=4))


def test_an_encoder_that_was_not_trained_so_is_not_cut_in_silence():
    model, inputs = encoder(), {"input_ids": ids()}
    with pytest.raises(ModelError, match="was not trained for its first 4 numbers"):
        embed(model, inputs, dim=4)
    assert embed(model, inputs).shape == (8, WIDE)


def test_the_embedding_of_a_text_is_the_mean_of_its_tokens_without_the_padding():
    model, tokens = encoder(), ids()
    mask = torch.ones_like(tokens)
    mask[:, 7:] = 0
    found = embed(model, {"input_ids": tokens, "attention_mask": mask})
    with torch.no_grad():
        hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    assert torch.allclose(found, hidden[:, :7].mean(1), atol=1e-6)
    first = embed(model, {"input_ids": tokens, "attention_mask": mask}, pooling="first")
    assert torch.equal(first, hidden[:, 0])


def test_the_last_blocks_alone_learn():
    model = encoder()
    made = matryoshka(model, labelled(), epochs=1, blocks=1)
    kept = same(model, made)
    assert all(n in kept for n in model.state_dict() if "embeddings" in n or "layer.0." in n)
    assert not any("layer.1.output.dense.weight" in name for name in kept)
    assert all(parameter.requires_grad for parameter in made.parameters())
    with pytest.raises(KnobError, match="has 2 blocks, and 3 are to learn"):
        matryoshka(model, labelled(), blocks=3)


def test_two_towers_find_each_other():
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64,
            "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0}  # fmt: skip
    seen = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "image_size": 16,
            "num_attention_heads": 2, "patch_size": 8}  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=16)).eval()
    batches = [
        {"input_ids": ids()[:, :8], "pixel_values": torch.randn(8, 3, 16, 16)} for _ in range(2)
    ]

    def loss_of(model, dim: int) -> float:
        with torch.no_grad():
            out = [model(**batch) for batch in batches]
        return sum(
            float(contrastive_loss(o.text_embeds[:, :dim], o.image_embeds[:, :dim])) for o in out
        )

    made = matryoshka(model, batches, epochs=8, lr=3e-3)
    assert all(loss_of(made, dim) < 0.9 * loss_of(model, dim) for dim in (8, 16))


# --------------------------------------------------------------------------- classifiers


def test_a_classifier_keeps_its_class_and_its_last_layer_serves_every_size():
    config = BertConfig(**SIZES)
    config.num_labels = 3
    model = BertForSequenceClassification(config).eval()
    batch = labelled(1)[0]
    loss = ClassLoss("classifier", (4, 16), (1.0, 1.0))
    z = embed_of(model, batch)
    W, b = model.classifier.weight, model.classifier.bias
    by_hand = sum(
        functional.cross_entropy(functional.linear(z[:, :m], W[:, :m], b), batch["labels"])
        for m in (4, 16)
    )
    assert torch.allclose(loss(model, batch), by_hand, atol=1e-6)
    made = matryoshka(model, labelled(), epochs=1, dims=(4, 16))
    assert type(made) is BertForSequenceClassification
    assert list(made.state_dict()) == list(model.state_dict())


def embed_of(model, batch) -> torch.Tensor:
    seen = []
    hook = model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(input_ids=batch["input_ids"])
    hook.remove()
    return seen[0]


def test_a_fitted_classifier_comes_back_as_one_whose_features_are_nested():
    task = ImagesTask.small()
    plain = ResidualCNNClassifier(width=4, max_epochs=2, min_steps=0, threads=1)
    task.fit(plain)
    before = {name: value.clone() for name, value in plain.network_.state_dict().items()}
    made = matryoshka(plain, task, epochs=2, dims=(4, 16))
    assert type(made) is ResidualCNNClassifier
    assert all(torch.equal(before[n], v) for n, v in plain.network_.state_dict().items())
    assert not torch.equal(made.network_.head.weight, plain.network_.head.weight)
    X, _ = task.part("test")
    code = embed(made, X, dim=4)
    assert torch.equal(code, embed(made, X)[:, :4]) and code.shape == (len(X), 4)


def test_a_learner_of_this_method_goes_on_with_its_own_heads():
    task = ImagesTask.small()
    own = MatryoshkaClassifier(width=4, n_blocks=1, embed_dim=16, dims=(4, 16), max_epochs=1,
                               min_steps=0, threads=1)  # fmt: skip
    task.fit(own)
    made = matryoshka(own, task, epochs=1)
    for mine, theirs in zip(own.network_.head.layers, made.network_.head.layers, strict=True):
        assert not torch.equal(mine.weight, theirs.weight)
    with pytest.raises(KnobError, match=r"the model has heads for \(4, 16\)"):
        matryoshka(own, task, dims=(8, 16))


# --------------------------------------------------------------------------- modules, any loss


def test_a_linear_layer_on_frozen_vectors_with_a_loss_of_ones_own():
    vectors, partners = torch.randn(64, WIDE), None
    partners = vectors + 0.5 * torch.randn(64, WIDE)
    plain = nn.Linear(WIDE, WIDE)
    made = matryoshka(plain, (vectors, partners), loss=contrastive_loss, dims=(4, 16), epochs=30,
                      lr=0.01)  # fmt: skip
    one, other = (embed(m, vectors) for m in (plain, made))
    for dim in (4, 16):
        assert contrastive_loss(cut(other, dim), partners[:, :dim]) < contrastive_loss(
            cut(one, dim), partners[:, :dim]
        )


def test_a_module_with_a_last_layer_learns_classes_from_numbers():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    made = matryoshka(net, (torch.randn(32, 6), torch.arange(32) % 3), dims=(2, 8), epochs=2)
    assert isinstance(made, nn.Sequential) and not same(net, made)


def test_nothing_is_trained_in_no_epochs():
    model = encoder()
    made = matryoshka(model, labelled(), epochs=0)
    assert len(same(model, made)) == len(model.state_dict())
    assert not hasattr(made.config, "matryoshka_dimensions")


def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    model, batches = encoder(), paired(4)

    def stop(event):
        if event["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = matryoshka(model, batches, epochs=4)
    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        matryoshka(model, batches, epochs=4)
    with session(folder=tmp_path, resume=True):
        again = matryoshka(model, batches, epochs=4)
    assert len(same(whole, again)) == len(whole.state_dict())


def test_what_does_not_suit_is_one_sentence():
    model = encoder()
    with pytest.raises(DataError, match="give it data"):
        matryoshka(model)
    with pytest.raises(DataError, match="neither pairs .* nor labels"):
        matryoshka(model, [{"input_ids": ids()}], epochs=1)
    with pytest.raises(KnobError, match="end at the embedding size 16"):
        matryoshka(model, labelled(), dims=(4, 8))
    with pytest.raises(ModelError, match="holds no linear layer whose features could be nested"):
        matryoshka(nn.Linear(6, 3), (torch.randn(4, 6), torch.arange(4) % 3))
    behind = nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1))
    with pytest.raises(ModelError, match="is not what gives its output"):
        matryoshka(behind, (torch.randn(4, 6), torch.arange(4) % 3))
    net, x = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), torch.randn(4, 6)
    for knob in ({"temperature": 0.1}, {"pooling": "first"}):
        with pytest.raises(KnobError, match="leave them out"):
            matryoshka(net, (x, torch.arange(4) % 3), **knob)
    with pytest.raises(KnobError, match="temperature is of the contrastive loss"):
        matryoshka(net, (x, torch.randn(4, 3)), loss=functional.mse_loss, temperature=0.1)
    task = TableTask.small("regression")
    number = MLPRegressor(width=8, max_epochs=1, min_steps=0, threads=1)
    task.fit(number)
    with pytest.raises(ModelError, match="predicts no classes"):
        matryoshka(number, task)
