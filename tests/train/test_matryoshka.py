"""Nested embeddings, by hand: sizes, heads, losses, gradients, the cascade and rankings."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from stackwise.errors import DataError, KnobError
from stackwise.train.matryoshka import (
    MatryoshkaHead,
    MatryoshkaLoss,
    adaptive_answers,
    contrastive_loss,
    cut,
    expected_dim,
    halvings,
    mean_average_precision,
    precision_at,
    recall_at,
    tune_thresholds,
)
from stackwise.train.matryoshka.heads import tied_logits
from stackwise.train.matryoshka.rule import NestedLoss, summed
from stackwise.train.matryoshka.sizes import checked_sizes, checked_weights

DIMS = (2, 4, 8)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def head(tied: bool, dims=DIMS) -> MatryoshkaHead:
    return MatryoshkaHead(8, 5, dims=dims, tied=tied).double()


# --------------------------------------------------------------------------- sizes


def test_the_default_sizes_are_the_papers_lists():
    assert halvings(2048) == (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    assert halvings(768) == (12, 24, 48, 96, 192, 384, 768)
    assert halvings(7) == (7,) and halvings(100) == (25, 50, 100)


@pytest.mark.parametrize("wrong", [(8, 16, 128), (16, 8, 64), (0, 64), (8, 8, 64), (), (7.5, 64)])
def test_sizes_that_do_not_rise_to_the_embedding_are_refused(wrong):
    with pytest.raises(KnobError, match="increasing, positive and end at the embedding size 64"):
        checked_sizes(wrong, 64)


def test_weights_are_one_a_size():
    with pytest.raises(KnobError, match="weights has 3 entries for 4 dims"):
        checked_weights((1, 1, 1), (2, 4, 8, 16))
    with pytest.raises(KnobError, match="at least 0"):
        checked_weights((1, -1), (2, 4))


def test_the_cut_comes_before_the_norm():
    z = draw(6, 8)
    z[:, 2:] *= 100  # most of the mass is in the tail
    for dim in DIMS:
        assert torch.allclose(cut(z, dim, normalise=True).norm(dim=1), torch.ones(6).double())
    wrong = functional.normalize(z, dim=1)[:, :2].norm(dim=1)
    assert (wrong < 0.2).all()


# --------------------------------------------------------------------------- heads


def test_a_tied_head_cuts_the_columns_of_one_layer():
    made, z = head(tied=True), draw(6, 8)
    W, b = made.layers[0].weight, made.layers[0].bias
    for dim, logits in made.nested(z).items():
        assert torch.allclose(logits, functional.linear(z[:, :dim], W[:, :dim], b), atol=1e-12)
    assert torch.equal(made(z), made.layers[0](z))
    assert list(made.state_dict()) == ["layers.0.weight", "layers.0.bias"]


def test_columns_behind_a_size_learn_nothing_from_it():
    made, z = head(tied=True), draw(6, 8)
    made.nested(z)[4].square().sum().backward()
    grad = made.layers[0].weight.grad
    assert (grad[:, 4:] == 0).all() and (grad[:, :4] != 0).all()


@pytest.mark.parametrize("tied", [False, True])
def test_numbers_behind_a_size_learn_nothing_from_it(tied):
    made, z = head(tied), draw(6, 8).requires_grad_()
    made.nested(z)[2].square().sum().backward()
    assert (z.grad[:, 2:] == 0).all() and (z.grad[:, :2] != 0).all()


@pytest.mark.parametrize("tied", [False, True])
def test_the_gradient_is_the_sum_of_those_of_the_sizes(tied):
    made, z, y = head(tied), draw(6, 8).requires_grad_(), torch.arange(6) % 5
    whole = summed(made.nested(z), (1, 1, 1), lambda o: functional.cross_entropy(o, y))
    (together,) = torch.autograd.grad(whole, z)
    apart = torch.zeros_like(together)
    for dim in DIMS:
        part = z[:, :dim].detach().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(made(part, dim), y), part)
        apart[:, :dim] += grad
    assert torch.allclose(together, apart, atol=1e-12)


def test_every_size_at_once_is_each_by_itself():
    made, z = head(tied=False), draw(6, 8)
    assert torch.equal(made.all_sizes(z), torch.stack([made(z, dim) for dim in DIMS], 1))


def test_only_a_tied_head_answers_between_the_trained_sizes():
    z = draw(6, 8)
    with pytest.raises(DataError, match="no head for dim 3; trained dims are 2, 4, 8"):
        head(tied=False)(z, 3)
    assert head(tied=True)(z, 3).shape == (6, 5)
    with pytest.raises(DataError, match="no head for dim 9"):
        head(tied=True)(z, 9)


def test_any_matrix_serves_as_a_tied_head():
    """The vocabulary's of a masked language model, over the tokens of a text."""
    tokens, words, bias = draw(2, 3, 8), nn.Embedding(11, 8).double(), draw(11)
    found = tied_logits(tokens, words.weight, bias, DIMS)
    assert torch.allclose(found[4], tokens[..., :4] @ words.weight[:, :4].T + bias)


def test_one_size_of_all_numbers_is_plain_training_step_by_step():
    nested, plain = head(tied=False, dims=(8,)), nn.Linear(8, 5).double()
    plain.load_state_dict(nested.layers[0].state_dict())
    z, y = draw(6, 8), torch.arange(6) % 5
    for model, loss in (
        (nested, lambda: summed(nested.nested(z), (1,), lambda o: functional.cross_entropy(o, y))),
        (plain, lambda: functional.cross_entropy(plain(z), y)),
    ):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        for _ in range(5):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    assert torch.equal(nested.layers[0].weight, plain.weight)
    assert torch.equal(nested.layers[0].bias, plain.bias)


# --------------------------------------------------------------------------- losses


def pairs(one, other):
    return contrastive_loss(one, other)


def test_the_loss_is_the_weighted_sum_of_its_parts():
    a, b = draw(6, 8), draw(6, 8)
    parts = [pairs(a[:, :dim], b[:, :dim]) for dim in DIMS]
    assert torch.allclose(MatryoshkaLoss(pairs, DIMS)(a, b), sum(parts))
    weighed = MatryoshkaLoss(pairs, DIMS, weights=(3, 0, 0.5))(a, b)
    assert torch.allclose(weighed, 3 * parts[0] + 0.5 * parts[2])
    assert torch.allclose(MatryoshkaLoss(pairs)(a, b), parts[2])  # halvings(8) is (8,)


def test_a_loss_with_weights_of_its_own_learns_through_it():
    wrapped = MatryoshkaLoss(nn.TripletMarginLoss(margin=5.0), DIMS)
    anchor, near, far = (draw(6, 8).requires_grad_() for _ in range(3))
    wrapped(anchor, near, far).backward()
    assert all((one.grad != 0).any() for one in (anchor, near, far))


def test_normalising_changes_a_loss_of_distances_and_no_loss_of_angles():
    a, b = draw(6, 8), draw(6, 8)
    mse = functional.mse_loss
    assert not torch.allclose(MatryoshkaLoss(mse, DIMS)(a, b),
                              MatryoshkaLoss(mse, DIMS, normalise=True)(a, b))  # fmt: skip
    assert torch.allclose(MatryoshkaLoss(pairs, DIMS)(a, b),
                          MatryoshkaLoss(pairs, DIMS, normalise=True)(a, b))  # fmt: skip


def test_targets_that_are_embeddings_are_cut_unless_places_are_named():
    z, teacher = draw(6, 8), draw(6, 8)
    seen = []

    def loss(one, other):
        seen.append((one.shape[1], other.shape[1]))
        return one.sum()

    MatryoshkaLoss(loss, DIMS)(z, teacher)
    MatryoshkaLoss(loss, DIMS, cuts=(0,))(z, teacher)
    assert seen == [(2, 2), (4, 4), (8, 8), (2, 8), (4, 8), (8, 8)]


def test_embeddings_of_tokens_are_cut_too():
    seen = []
    MatryoshkaLoss(lambda z: seen.append(z.shape) or z.sum(), DIMS)(draw(2, 3, 8))
    assert seen == [(2, 3, 2), (2, 3, 4), (2, 3, 8)]


def test_a_step_may_draw_its_sizes():
    seen = []
    drawn = MatryoshkaLoss(lambda z: seen.append(z.shape[1]) or z.sum(), DIMS, dims_per_step=2)
    for _ in range(20):
        drawn(draw(6, 8))
    assert len(seen) == 40 and set(seen) == set(DIMS)


def test_a_loss_without_an_embedding_of_its_size_is_refused():
    with pytest.raises(DataError, match=r"no argument is an embedding of 8 numbers"):
        MatryoshkaLoss(pairs, DIMS)(draw(6, 7), draw(6, 7))
    with pytest.raises(DataError, match="argument 1 of the loss is no embedding"):
        MatryoshkaLoss(pairs, DIMS, cuts=(0, 1))(draw(6, 8), torch.arange(6))
    with pytest.raises(KnobError, match="weights are one a size"):
        MatryoshkaLoss(pairs, weights=(1, 1))
    with pytest.raises(KnobError, match="dims_per_step"):
        MatryoshkaLoss(pairs, DIMS, dims_per_step=0)


def test_the_contrastive_loss_by_hand():
    a, b = draw(4, 8), draw(4, 8)
    s = functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T / 0.5
    there = -s.log_softmax(1).diagonal().mean()
    back = -s.log_softmax(0).diagonal().mean()
    assert torch.allclose(contrastive_loss(a, b, temperature=0.5), (there + back) / 2)


def test_rows_of_one_label_are_partners_and_no_row_is_its_own():
    z, labels = draw(5, 8), torch.tensor([0, 0, 1, 1, 2])
    unit = functional.normalize(z, dim=1)
    total = 0.0
    for i, mates in enumerate(([1], [0], [3], [2])):
        others = [j for j in range(5) if j != i]
        s = unit[i] @ unit[others].T / 0.07
        total -= sum(s.log_softmax(0)[others.index(mate)] for mate in mates) / len(mates)
    assert torch.allclose(contrastive_loss(z, labels=labels), total / 4)


def test_what_cannot_be_told_apart_is_refused():
    z = draw(4, 8)
    with pytest.raises(DataError, match="partners of the rows, or their labels"):
        contrastive_loss(z)
    with pytest.raises(DataError, match="nobody to be told apart from"):
        contrastive_loss(z[:1], z[:1])
    with pytest.raises(DataError, match="no two rows"):
        contrastive_loss(z, labels=torch.arange(4))
    with pytest.raises(DataError, match="no pairs"):
        contrastive_loss(z, z[:, :3])


def test_one_pass_of_the_encoder_serves_every_size():
    calls = []

    class Encoder(nn.Module):
        head = MatryoshkaHead(8, 5, dims=DIMS)

        def embed(self, x):
            calls.append(1)
            return x

    batch = {"x": torch.randn(6, 8), "target": torch.arange(6) % 5, "weight": torch.ones(6)}
    loss = NestedLoss((1, 1, 1), lambda o, b: functional.cross_entropy(o, b["target"]))
    loss(Encoder(), batch)
    assert len(calls) == 1


# --------------------------------------------------------------------------- the cascade


def chances(rows: int = 200) -> tuple[dict[int, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 5, rows)
    found = {}
    for dim, signal in zip(DIMS, (0.8, 1.5, 3.0), strict=True):
        logits = generator.normal(size=(rows, 5)) + signal * np.eye(5)[y]
        found[dim] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return found, y


def test_a_threshold_of_0_asks_the_first_size_alone_and_of_1_the_last():
    found, _ = chances()
    answers, used = adaptive_answers(found, (0, 0))
    assert (used == 2).all() and np.array_equal(answers, found[2].argmax(1))
    answers, used = adaptive_answers(found, (1, 1))
    assert (used == 8).all() and np.array_equal(answers, found[8].argmax(1))


def test_the_expected_size_rises_with_the_thresholds():
    found, _ = chances()
    sizes = [expected_dim(adaptive_answers(found, (tau, tau))[1]) for tau in np.linspace(0, 1, 11)]
    assert sizes == sorted(sizes) and sizes[0] == 2 and sizes[-1] == 8


def test_a_size_answers_where_it_is_sure_strictly():
    sure = {2: np.array([[0.7, 0.3]]), 4: np.array([[0.1, 0.9]])}
    assert adaptive_answers(sure, (0.7,))[1] == 4 and adaptive_answers(sure, (0.69,))[1] == 2


def test_thresholds_are_the_best_of_each_pair_and_the_least_of_those():
    found, y = chances()
    tuned = tune_thresholds(found, y)
    for dim, after, threshold in zip(DIMS, DIMS[1:], tuned, strict=False):

        def right(tau, dim=dim, after=after):
            sure = found[dim].max(1) > tau
            return (np.where(sure, found[dim].argmax(1), found[after].argmax(1)) == y).sum()

        best = max(right(tau) for tau in np.linspace(0.1, 1, 100))
        assert right(threshold) == best
        assert all(right(tau) < best for tau in np.linspace(0.1, 1, 100) if tau < threshold)


def test_thresholds_that_do_not_fit_are_refused():
    found, y = chances()
    with pytest.raises(DataError, match="1 thresholds for 3 sizes"):
        adaptive_answers(found, (0.5,))
    with pytest.raises(DataError, match="from 0 to 1"):
        adaptive_answers(found, (0.5, 1.5))
    with pytest.raises(DataError, match="truths"):
        tune_thresholds(found, y[:-1])


# --------------------------------------------------------------------------- rankings


def test_the_average_precision_by_hand():
    hits = np.array([[1, 0, 1, 0]])
    assert mean_average_precision(hits, 4) == pytest.approx((1 + 2 / 3) / 4)
    assert precision_at(hits, 2) == 0.5
    assert recall_at(np.array([[1, 0, 1, 0], [0, 0, 0, 0]]), 3, np.array([4, 2])) == 0.25
    with pytest.raises(DataError, match="first 5 places"):
        mean_average_precision(hits, 5)
