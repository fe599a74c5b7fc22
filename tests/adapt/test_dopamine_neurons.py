"""Neurons of modes: how often they fire, and the network without those that never do."""

import copy

import pandas as pd
import pytest
import torch
from delta_families import learned_from, model_of, output, same_bits, state
from test_dopamine import PICTURES, X, Y, convolutions, net, random_mode, sites_of
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from stackwise.adapt import base_hash
from stackwise.adapt.dopamine import Numbers, TauGate, attribute, dopamine, prune_silent
from stackwise.errors import DataError, ModelError

LOSS = {"loss": functional.cross_entropy}
ROWS = (X, Y)


def some_silent(model: nn.Module, x: torch.Tensor = X, count: int = 3) -> TauGate:
    """A hard mode in which the last units of each layer never fire on x."""
    mode = random_mode(model, x=x).hardened()
    for one in mode.numbers.values():
        one.tau[-count:] = 50.0
        one.tau[:-count] = -50.0
    return mode


# ---- rates


def test_rates_gates_and_contributions_are_means_over_all_positions():
    model = net(nn.Tanh())
    mode = random_mode(model)
    before = state(model)
    found = attribute(model, ROWS, modes=[mode], **LOSS).tables["units"]
    z = model[0](X).detach()
    one = mode.numbers["1"]
    gate = torch.sigmoid(10 * (z - one.tau))
    wanted = {
        "rate base": (z > 0).double(), "contribution base": z.tanh().abs(),
        "rate a": (z > one.tau).double(), "gate a": gate,
        "contribution a": (z.tanh() * gate * one.gain).abs(),
    }  # fmt: skip
    there = found[found.index.str.startswith("1[")]
    for name, values in wanted.items():
        torch.testing.assert_close(
            torch.tensor(there[name].to_numpy()), values.double().mean(0), atol=1e-5, rtol=1e-5
        )
    assert same_bits(state(model), before) and not model[1]._forward_hooks


def test_modes_are_looked_at_one_by_one_and_stay_on():
    model = net()
    one, two = random_mode(model, 1, "one"), random_mode(model, 2, "two")
    alone = attribute(model, ROWS, modes=[two], **LOSS).tables["units"]["rate two"]
    one.put(model)
    two.put(model)
    found = attribute(model, ROWS, **LOSS)
    pd.testing.assert_series_equal(found.tables["units"]["rate two"], alone)
    overlap = found.tables["overlap"]
    assert list(overlap) == ["base", "one", "two"]
    assert (overlap.to_numpy().diagonal() == 1).all() and (overlap == overlap.T).all(axis=None)
    assert found.summary["units"] == 14 and "modes" in found.figures
    two.take_off(model)
    one.take_off(model)


def test_a_channel_is_a_unit():
    model = convolutions()
    y = torch.arange(4) % 3
    mode = random_mode(model, x=PICTURES)
    found = attribute(model, (PICTURES, y), modes=[mode], **LOSS).tables["layers"]
    assert list(found.index) == ["2", "5"] and found["strongly active a"].between(0, 1).all()


def test_rates_without_data_or_of_two_modes_of_one_name_are_refused():
    model = net()
    with pytest.raises(DataError, match="give some"):
        attribute(model)
    with pytest.raises(ModelError, match="told apart by their names"):
        attribute(model, ROWS, modes=[random_mode(model), random_mode(model, 2)], **LOSS)


# ---- cutting


def test_what_is_left_says_the_same_and_is_smaller():
    model = net()
    mode, before = some_silent(model), state(model)
    made = prune_silent(model, mode, ROWS, **LOSS)
    assert same_bits(state(model), before)
    assert made.table["silent"].tolist() == [3, 3] and made.table["after"].tolist() == [5, 3]
    assert [made.model[at].weight.shape for at in (0, 2, 4)] == [(5, 5), (3, 5), (3, 3)]
    assert made.mode.base == base_hash(made.model) and made.faster > 0
    # on every input, for the units that went would fire on none of these either
    other = 3 * torch.randn(50, 5)
    with mode.on(model), made.mode.on(made.model):
        torch.testing.assert_close(made.model(other), model(other), atol=1e-6, rtol=1e-5)


def test_channels_are_cut_with_their_norms():
    model = convolutions()
    mode = some_silent(model, PICTURES, count=2)
    made = prune_silent(model, mode, (PICTURES, torch.arange(4) % 3), **LOSS)
    assert made.model[1].num_features == 2 and made.model[7].in_features == 16
    with mode.on(model), made.mode.on(made.model):
        torch.testing.assert_close(made.model(PICTURES), model(PICTURES), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_language_model_that_is_cut_evenly_is_kept_and_opened(family, tmp_path):
    model = model_of(family)
    data = learned_from(family)
    mode = dopamine(model, data, epochs=1).hardened()
    for place, one in enumerate(mode.numbers.values()):
        one.tau[: 4 + place] = 50.0
        one.tau[4 + place :] = -50.0
    made = prune_silent(model, mode, data, even=True)
    width = int(made.table["before"].iloc[0])
    assert made.table["after"].tolist() == [width - 4] * 2
    made.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with mode.on(model), made.mode.on(again):
        torch.testing.assert_close(
            output(again, family), output(model, family), atol=1e-5, rtol=1e-4
        )


def test_what_cannot_be_cut_is_one_sentence():
    model = net()
    with pytest.raises(ModelError, match="in a soft gate no unit is silent"):
        prune_silent(model, random_mode(model), ROWS, **LOSS)
    residual = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    mode = random_mode(residual).hardened()
    assert mode.sites["1"].into == ()  # a norm lies between, for which a 0 is something
    with pytest.raises(ModelError, match="none can be cut"):
        prune_silent(residual, mode, ROWS, **LOSS)
    on = some_silent(model)
    with pytest.raises(ModelError, match="take them off"), on.on(model):
        prune_silent(model, on, ROWS, **LOSS)


def test_a_unit_that_is_read_in_a_way_that_was_not_found_is_noticed():
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.act(self.a(x))
            return self.b(h) + (self.a.weight.shape[0] - 8)  # what no pass can show

    torch.manual_seed(0)
    model = Summed().eval()
    (site,) = sites_of(model)
    mode = TauGate("m", [site], {"act": Numbers(tau=torch.tensor([50.0] * 3 + [-50.0] * 5))},
                   hard=True, base=base_hash(model))  # fmt: skip
    weighted = {"loss": lambda out, y: out[:, 0].mean()}
    with pytest.raises(ModelError, match="its units are used in a way that was not found"):
        prune_silent(model, mode, ROWS, **weighted)
    assert copy.deepcopy(model)(X).shape == (16, 3)
