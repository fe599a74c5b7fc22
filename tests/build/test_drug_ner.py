"""What drug-ner promises exactly: its representations, its labels, its layers that learn before."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stackwise.build.drug_ner import (
    CRF,
    RBM,
    DenoisingAutoencoder,
    TagNetwork,
    adjacent_distance,
    decode_windows,
    window_tuples,
)
from stackwise.build.drug_ner.batches import NONE
from stackwise.build.drug_ner.layers.rbm import contrastive_divergence
from stackwise.build.drug_ner.losses import TagLoss, class_weights
from stackwise.build.drug_ner.representation import window_places, with_distance
from stackwise.errors import KnobError
from stackwise.tasks.tags.estimators.coding import Runs
from stackwise.tasks.tags.schemes import Span, spans_of, tags_of


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_jump_is_symmetric_not_negative_and_none_at_the_first_word():
    x = normal(2, 5, 3)
    jump = adjacent_distance(x)
    assert torch.equal(jump[:, 0], torch.zeros(2, 3)) and (jump >= 0).all()
    assert torch.equal(jump[:, 1], (x[:, 1] - x[:, 0]).abs())
    pair = x[:, :2]
    assert torch.equal(adjacent_distance(pair), adjacent_distance(pair.flip(1)))
    assert torch.allclose(adjacent_distance(x + 7.0), jump, atol=1e-6)
    scalar = with_distance(x, None, "scalar")[..., 3:]
    assert torch.allclose(scalar[..., 0], jump.norm(dim=-1))
    assert torch.equal(with_distance(x, None, "none"), x)


def test_padding_on_either_side_leaks_into_no_jump():
    x = normal(1, 4, 3)
    alone = adjacent_distance(x)[0]
    junk = torch.full((1, 2, 3), 9.0)
    for before, behind in ((2, 0), (0, 2)):
        padded = torch.cat([junk[:, :before], x, junk[:, :behind]], 1)
        mask = torch.tensor([[False] * before + [True] * 4 + [False] * behind])
        found = adjacent_distance(padded, mask)[0]
        assert torch.equal(found[mask[0]], alone) and not found[~mask[0]].any()


def test_window_labels_are_runs_that_begin_at_the_first_word():
    tags = ["0", "0", "1", "1", "0", "0"]
    X = np.arange(12.0).reshape(6, 2)
    windows, labels = window_tuples(X, tags)
    assert windows.shape == (6, 10) and labels.tolist() == [0, 0, 2, 0, 0, 0]
    assert windows[4].tolist() == [8, 9, 10, 11, 0, 0, 0, 0, 0, 0]
    assert window_tuples(X, tags, inside=True)[1].tolist() == [0, 0, 2, 1, 0, 0]
    assert decode_windows(labels, "01") == tags
    with pytest.raises(KnobError, match="window must be at least 2, got 1"):
        window_tuples(X, tags, 1)


def test_a_sentence_shorter_than_the_window_and_a_run_longer_than_it():
    short = window_tuples(np.ones((2, 1)), ["1", "0"])[0]
    assert short.tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    long = ["1"] * 7
    labels = window_tuples(np.ones((7, 1)), long)[1]
    assert labels.tolist() == [5, 0, 0, 0, 0, 0, 0]  # cut to five words, the rest is lost
    assert decode_windows(labels, "01") == ["1"] * 5 + ["0"] * 2


def test_windows_of_the_text_as_one_reach_over_the_ends_of_sentences():
    places = window_places([2, 1], 2)
    assert places.tolist() == [[0, 1], [1, -1], [2, -1]]
    assert window_places([2, 1], 2, stream=True).tolist() == [[0, 1], [1, 2], [2, -1]]


@st.composite
def names(draw):
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 5))):
        place += draw(st.integers(0, 2))  # 0: it touches the name before
        size = draw(st.integers(1, 5))
        spans.append(Span(place, place + size, "x"))
        place += size
    return place + draw(st.integers(0, 2)) + (not spans), spans


@given(names(), st.booleans())
@settings(deadline=None)
def test_names_come_back_from_window_labels_adjacent_ones_too(sentence, inside):
    length, spans = sentence
    tags = tags_of(spans, length, "BIO")
    labels = window_tuples(np.zeros((length, 1)), tags, inside=inside)[1]
    found = spans_of(decode_windows(labels), "BIO")
    assert [one[:2] for one in found] == [one[:2] for one in spans]
    coding = Runs(["x", "y"], 5)
    assert coding.decode(coding.encode(spans, length)) == spans


@given(st.lists(st.integers(0, 10), min_size=1, max_size=12))
@settings(deadline=None)
def test_whatever_windows_say_the_tags_are_valid(codes):
    spans = Runs(["a", "b"], 5).decode(np.array(codes))
    tags = tags_of(spans, len(codes), "BIO")
    assert spans_of(tags, "BIO") == spans


def network(**knobs) -> TagNetwork:
    torch.manual_seed(0)
    given = {"size": 3, "n_outputs": 2, "widths": [4], "recurrent": True, "distance": "elementwise"}
    return TagNetwork(**given | knobs).eval()


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([6, 2, 4])
    mask = torch.arange(6) < lengths[:, None]
    return normal(3, 6, 3) * mask[..., None], mask


@pytest.mark.parametrize("knobs", [{}, {"bidirectional": True}, {"widths": [4, 4]}])
def test_a_padded_batch_equals_one_sentence_at_a_time(knobs):
    made = network(**knobs)
    x, mask = padded()
    whole = made(x, mask)
    for row in range(3):
        n = int(mask[row].sum())
        alone = made(x[row : row + 1, :n], mask[row : row + 1, :n])
        assert torch.allclose(alone[0], whole[row, :n], atol=1e-6)


def test_a_sentence_is_read_forward_unless_both_ways():
    x, mask = padded()
    later = x.clone()
    later[0, 5] += 1.0
    for ways in (False, True):
        made = network(bidirectional=ways)
        same = torch.equal(made(x, mask)[0, :5], made(later, mask)[0, :5])
        assert same is not ways


def test_both_ways_is_torchs_bidirectional_lstm_on_packed_sentences():
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    made = network(bidirectional=True, distance="none")
    block = made.blocks[0]
    peer = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    for way, ending in ((block.forth, ""), (block.back, "_reverse")):
        for name, value in way.named_parameters():
            getattr(peer, name + ending).data.copy_(value.data)
    x, mask = padded()
    packed = pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
    wanted = pad_packed_sequence(peer(packed)[0], batch_first=True, total_length=6)[0]
    assert torch.allclose(block(x, mask)[mask], wanted[mask], atol=1e-6)


def test_the_lstm_is_the_one_of_the_equations():
    made = network(distance="none")
    cell, x = made.blocks[0], normal(1, 5, 3)
    W, U = cell.weight_ih_l0, cell.weight_hh_l0
    b = cell.bias_ih_l0 + cell.bias_hh_l0
    h, c, found = torch.zeros(4), torch.zeros(4), []
    for step in x[0]:
        i, f, g, o = (W @ step + U @ h + b).split(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        found.append(h)
    assert torch.allclose(torch.stack(found), cell(x)[0][0], atol=1e-6)


def test_divergence_with_no_weights_is_known():
    v0 = (normal(8, 5) > 0).float()
    generator = torch.Generator().manual_seed(3)
    zero = torch.zeros(5, 3), torch.zeros(5), torch.zeros(3)
    found = contrastive_divergence(v0, *zero, "bernoulli", generator)
    h0 = torch.bernoulli(torch.full((8, 3), 0.5), generator=torch.Generator().manual_seed(3))
    half = torch.full((8, 5), 0.5)
    assert torch.allclose(found.weight, (v0.T @ h0 - half.T @ torch.full((8, 3), 0.5)) / 8)
    assert torch.allclose(found.visible, (v0 - 0.5).mean(0))
    assert torch.allclose(found.hidden, (h0 - 0.5).mean(0))
    gaussian = contrastive_divergence(v0, *zero, "gaussian", generator)
    assert torch.allclose(gaussian.visible, v0.mean(0))


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_free_energy_is_the_sum_over_all_hidden_states(visible):
    machine = RBM(4, 8, visible=visible, seed=1)
    for name, parameter in machine.named_parameters():
        parameter.data = normal(*parameter.shape, seed=len(name))
    v = normal(3, 4)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)))
    own = v @ machine.visible_bias
    if visible == "gaussian":
        own = -(v - machine.visible_bias).square().sum(1) / 2
    energy = -own[:, None] - v @ machine.weight @ states.T - states @ machine.hidden_bias
    wanted = -torch.logsumexp(-energy, dim=1)
    assert torch.allclose(machine.free_energy(v), wanted, atol=1e-4)


def test_hidden_units_and_free_energy_are_those_of_scikit_learn():
    from sklearn.neural_network import BernoulliRBM

    rows = (normal(20, 6).numpy() > 0).astype(np.float64)
    peer = BernoulliRBM(4, random_state=0, n_iter=2).fit(rows)
    machine = RBM(6, 4, visible="bernoulli")
    machine.weight.data = torch.from_numpy(peer.components_.T).float()
    machine.hidden_bias.data = torch.from_numpy(peer.intercept_hidden_).float()
    machine.visible_bias.data = torch.from_numpy(peer.intercept_visible_).float()
    assert np.allclose(machine.transform(rows).numpy(), peer.transform(rows), atol=1e-5)
    ours = machine.free_energy(torch.from_numpy(rows).float()).detach().numpy()
    assert np.allclose(ours, peer._free_energy(rows), atol=1e-4)


def test_a_machine_learns_and_refuses_what_is_no_bit():
    rows = (normal(64, 1) > 0).float().expand(64, 6).contiguous()
    machine = RBM(6, 4, visible="bernoulli")
    mixed = normal(64, 6, seed=1).sign() / 2 + 0.5
    before = machine.free_energy(rows).mean() - machine.free_energy(mixed).mean()
    machine.fit(rows, epochs=60, lr=0.5)
    after = machine.free_energy(rows).mean() - machine.free_energy(mixed).mean()
    assert after < before
    with pytest.raises(ValueError, match="bits lie between 0 and 1"):
        machine.fit(rows - 1)


def test_the_decoder_is_the_encoder_turned_around_and_noise_0_is_none():
    made = DenoisingAutoencoder(5, 3, noise=0.0)
    x = normal(4, 5)
    y = torch.sigmoid(x @ made.weight.T + made.bias)
    assert torch.allclose(made.encode(x), y)
    assert torch.allclose(made(x), y @ made.weight + made.visible_bias, atol=1e-6)
    assert torch.allclose(made.loss(x), (made(x) - x).square().sum(1).mean())
    bits = DenoisingAutoencoder(5, 3, noise=0.0, values="bits")
    x = torch.sigmoid(x)
    wanted = nn.functional.binary_cross_entropy(bits(x), x, reduction="none").sum(1).mean()
    assert torch.allclose(bits.loss(x), wanted, atol=1e-5)
    noisy = DenoisingAutoencoder(5, 3, noise=0.5)
    before = float(noisy.loss(x, torch.Generator().manual_seed(0)))
    noisy.fit(x, epochs=50, lr=0.05)
    assert float(noisy.loss(x, torch.Generator().manual_seed(0))) < before


def test_the_loss_of_a_batch_is_the_mean_over_words_of_its_sentences():
    made = network(dropout=0.0)
    x, mask = padded()
    target = torch.where(mask, torch.randint(0, 2, (3, 6), generator=torch.Generator()), NONE)
    weight = class_weights([target[mask].numpy()], 2, "sqrt")
    for loss in (TagLoss(), TagLoss(weight)):
        scale = torch.full((3,), 3 / int(mask.sum()))
        whole = loss(made, {"vectors": x, "mask": mask, "target": target, "scale": scale})
        parts = []
        for row in range(3):
            n = int(mask[row].sum())
            one = {"vectors": x[row : row + 1, :n], "mask": mask[row : row + 1, :n],
                   "target": target[row : row + 1, :n], "scale": torch.tensor([1 / n])}  # fmt: skip
            parts.append(loss(made, one) * n)
        assert torch.allclose(whole, sum(parts) / mask.sum(), atol=1e-6)
    words = target[mask]
    assert float(weight[words].mean()) == pytest.approx(1.0, abs=1e-5)


def chain_and_emissions():
    chain = CRF(3)
    for name, parameter in chain.named_parameters():
        parameter.data = normal(*parameter.shape, seed=len(name))
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])
    return chain, normal(3, 5, 3, seed=5), mask


def test_the_chain_is_that_of_pytorch_crf():
    torchcrf = pytest.importorskip("torchcrf")
    chain, emissions, mask = chain_and_emissions()
    peer = torchcrf.CRF(3, batch_first=True)
    peer.start_transitions.data, peer.end_transitions.data = chain.start.data, chain.end.data
    peer.transitions.data = chain.transition.data
    y = torch.randint(0, 3, (3, 5), generator=torch.Generator().manual_seed(0))
    wanted = peer(emissions, y, mask=mask, reduction="none")
    assert torch.allclose(chain.log_likelihood(emissions, y, mask), wanted, atol=1e-5)
    found = chain.decode(emissions, mask)
    for row, best in enumerate(peer.decode(emissions, mask=mask)):
        assert found[row, : len(best)].tolist() == best


def test_the_chains_probabilities_are_those_of_all_sequences():
    chain, emissions, mask = chain_and_emissions()
    found = chain.marginals(emissions, mask)
    for row in range(3):
        n = int(mask[row].sum())
        every = torch.tensor(list(itertools.product(range(3), repeat=n)))
        rows = emissions[row : row + 1, :n].expand(len(every), -1, -1)
        p = chain.log_likelihood(rows, every, torch.ones_like(every, dtype=torch.bool)).exp()
        assert float(p.sum()) == pytest.approx(1.0, abs=1e-4)
        wanted = torch.stack([(p[:, None] * (every == c)).sum(0) for c in range(3)], -1)
        assert torch.allclose(found[row, :n], wanted.detach(), atol=1e-4)
        best = every[p.argmax()]
        assert chain.decode(emissions, mask)[row, :n].tolist() == best.tolist()
