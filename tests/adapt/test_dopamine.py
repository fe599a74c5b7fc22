"""What a mode promises exactly: the gate, where it stands, what it leaves, what may be merged."""

import copy
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch
from delta_families import FAMILIES, learned_from, model_of, output, same_bits, state
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from stackwise.adapt import LoraDelta, base_hash
from stackwise.adapt.dopamine import Modes, Numbers, TauGate, attribute, dopamine, find_sites, gated
from stackwise.adapt.dopamine.learning import FACTORS
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.training.session import session

ACTIVATIONS = {"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}


def net(activation: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    act = activation or nn.ReLU()
    return nn.Sequential(
        nn.Linear(5, 8), act, nn.Linear(8, 6), copy.deepcopy(act), nn.Linear(6, 3)
    ).eval()


X = torch.linspace(-2, 2, 80).view(16, 5).sin()
Y = torch.arange(16) % 3


def sites_of(model: nn.Module, x: Tensor = X, layers: list[str] | None = None):
    return find_sites(model, lambda: model(x).sum(), layers)


def random_mode(
    model: nn.Module, seed: int = 0, name: str = "a", roles=("tau", "gain"), x=X, **more
):
    """A mode with random numbers."""
    torch.manual_seed(seed)
    sites = sites_of(model, x, more.pop("layers", None))
    numbers = {
        site.name: Numbers(**{
            role: {"tau": 0.2, "gain": 1.0, "bias": 0.3}[role] * torch.randn(site.width)
            for role in roles
        })
        for site in sites
    }  # fmt: skip
    return TauGate(name, sites, numbers, base=base_hash(model), **more)


def learned(model: nn.Module, data=None, **knobs):
    given = {"loss": functional.cross_entropy, "epochs": 3, "batch_size": 8, "device": "cpu"}
    return dopamine(model, (X, Y) if data is None else data, **given | knobs)


# ---- the gate


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_hard_gate_that_is_always_open_is_the_base_exactly(name):
    model = net(ACTIVATIONS[name])
    said = model(X)
    sites = sites_of(model)
    open_ = {
        s.name: Numbers(tau=torch.full((s.width,), -torch.inf), gain=torch.ones(s.width))
        for s in sites
    }
    with TauGate("open", sites, open_, hard=True).on(model):
        assert torch.equal(model(X), said)


def test_a_hard_gate_at_zero_is_a_relu_network_exactly():
    model = net()
    said = model(X)
    sites = sites_of(model)
    zero = {s.name: Numbers(tau=torch.zeros(s.width), gain=torch.ones(s.width)) for s in sites}
    with TauGate("zero", sites, zero, hard=True).on(model):
        assert torch.equal(model(X), said)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sharpness", [5.0, 20.0, 100.0])
def test_soft_comes_to_hard_but_at_the_threshold_itself(tau, sharpness):
    z = torch.linspace(-4, 4, 100_001, dtype=torch.float64)[:, None]
    gain = torch.tensor([-1.7], dtype=torch.float64)
    soft = Numbers(tau=torch.full_like(gain, tau), gain=gain, sharpness=sharpness)
    gap = (gated(z, z.relu(), soft) - gated(z, z.relu(), replace(soft, form="hard"))).abs()
    assert gap.max() <= 1.7 * (tau / 2 + 0.2785 / sharpness)
    away = (z - tau).abs() > 0.1
    bound = 1.7 * z.abs() * torch.exp(torch.tensor(-sharpness * 0.1, dtype=torch.float64))
    assert (gap[away] <= bound[away] + 1e-12).all()
    if tau:  # however sharp the gate is, half of the step is missing at the threshold
        assert gap.max() >= 1.7 * tau / 2 * 0.95


def test_the_gate_reads_z_and_not_what_the_activation_made_of_it():
    z = torch.tensor([[-1.0]])
    shut = Numbers(tau=torch.tensor([-0.5]), form="hard")
    assert functional.gelu(z).item() > -0.5
    assert gated(z, functional.gelu(z), shut).item() == 0


def test_straight_through_has_the_value_of_hard_and_the_gradient_of_soft():
    torch.manual_seed(1)
    z, weights = torch.randn(7, 4).double(), torch.randn(7, 4).double()
    tau, gain = (torch.randn(4).double() for _ in range(2))

    def loss(form: str, tau: Tensor, gain: Tensor, z: Tensor = z) -> Tensor:
        numbers = Numbers(tau=tau, gain=gain, sharpness=3.0, form=form)
        return (weights * gated(z, torch.tanh(z), numbers)).sum()

    given = [one.clone().requires_grad_() for one in (tau, gain, z)]
    value = loss("straight-through", *given)
    assert torch.equal(value, loss("hard", tau, gain))
    soft = torch.autograd.grad(loss("soft", *given), given)
    for found, wanted in zip(torch.autograd.grad(value, given), soft, strict=True):
        torch.testing.assert_close(found, wanted)
    step = 1e-6
    for unit in range(4):
        moved = tau.clone()
        moved[unit] += step
        slope = (loss("soft", moved, gain) - loss("soft", tau, gain)) / step
        torch.testing.assert_close(slope, soft[0][unit], atol=1e-4, rtol=1e-4)
        assert loss("hard", moved, gain) == loss("hard", tau, gain)


def test_a_unit_of_no_gain_is_a_network_without_its_row_and_column():
    model, unit = net(), 3
    sites = sites_of(model)
    gains = {s.name: Numbers(gain=torch.ones(s.width)) for s in sites}
    gains["1"].gain[unit] = 0
    left = [at for at in range(8) if at != unit]
    cut = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), *copy.deepcopy(model)[3:])
    with torch.no_grad():
        cut[0].weight.copy_(model[0].weight[left])
        cut[0].bias.copy_(model[0].bias[left])
        cut[2].weight.copy_(model[2].weight[:, left])
        cut[2].bias.copy_(model[2].bias)
    with TauGate("cut", sites, gains).on(model):
        torch.testing.assert_close(model(X), cut(X), atol=1e-6, rtol=1e-6)


def test_thresholds_that_depend_on_the_input_are_tau_plus_u_tanh_v_z():
    torch.manual_seed(0)
    z, tau, down, up = torch.randn(3, 5, 4), torch.randn(4), torch.randn(2, 4), torch.randn(4, 2)
    numbers = Numbers(tau=tau, down=down, up=up, form="hard")
    wanted = (z > tau + torch.tanh(z @ down.T) @ up.T) * z.sin()
    assert torch.equal(gated(z, z.sin(), numbers), wanted)
    pictures = torch.randn(2, 4, 3, 3)
    moved = torch.tanh(pictures.mean((2, 3)) @ down.T) @ up.T
    wanted = (pictures - tau.view(4, 1, 1) - moved[..., None, None] > 0) * pictures.sin()
    assert torch.equal(gated(pictures, pictures.sin(), numbers, 1), wanted)


# ---- where it stands


class Calls(nn.Module):
    """Activations that are calls, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(functional.silu(self.a(x)) * self.b(x))


class Again(nn.Module):
    """One activation, in place, for two layers."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.relu(self.b(self.relu(self.a(x)))))


def test_function_calls_are_gated_between_two_named_layers():
    torch.manual_seed(0)
    model = Calls().eval()
    mode = random_mode(model, layers=["a>c"])
    (one,) = mode.numbers.values()
    assert mode.sites["a>c"].into == ("c",) and mode.sites["a>c"].out_of == ("a", "b")
    z = model.a(X)
    gate = torch.sigmoid(10 * (z - one.tau)) * one.gain
    wanted = model.c(functional.silu(z) * model.b(X) * gate)
    with mode.on(model):
        torch.testing.assert_close(model(X), wanted, atol=1e-6, rtol=1e-6)


class Chunked(nn.Module):
    """Two layers of one input, in one call or in two."""

    def __init__(self, *, together: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(5, 6), nn.Linear(14, 3)
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        parts = self.a(x), self.b(x)
        if self.together:
            return self.c(torch.tanh(torch.cat(parts, -1)))
        return self.c(torch.cat([part.tanh() for part in parts], -1))


def test_calls_of_a_function_are_gated_however_many_they_are():
    torch.manual_seed(0)
    model = Chunked(together=False).eval()
    mode = random_mode(model, roles=("tau", "gain", "bias"))
    assert {name: site.width for name, site in mode.sites.items()} == {"tanh()": 14}
    one, z = mode.numbers["tanh()"], torch.cat([model.a(X), model.b(X)], -1)
    z = z + one.bias
    wanted = model.c(z.tanh() * torch.sigmoid(10 * (z - one.tau)) * one.gain)
    base = model(X)
    for together in (False, True):
        model.together = together
        with mode.on(model):
            torch.testing.assert_close(model(X), wanted, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(copy.deepcopy(model)(X), wanted, atol=1e-6, rtol=1e-6)
            with pytest.raises(RuntimeError):
                model(X[:, :2])  # an error within leaves no function seen
            assert torch.equal(torch.tanh(X), X.tanh())
        torch.testing.assert_close(model(X), base)
        assert not model._forward_hooks and not model._forward_hooks_always_called
    model.b = nn.Linear(5, 7)
    with mode.on(model, check=False), pytest.raises(ModelError, match="expects 14 units in all"):
        model(X)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_module_that_is_used_twice_has_a_gate_for_each_use(inplace):
    torch.manual_seed(0)
    model = Again(inplace).eval()
    mode = random_mode(model)
    assert {name: site.width for name, site in mode.sites.items()} == {"relu#0": 8, "relu#1": 6}

    def by_hand(x: Tensor) -> Tensor:
        for layer, name in ((model.a, "relu#0"), (model.b, "relu#1")):
            one, z = mode.numbers[name], layer(x)
            x = z.relu() * torch.sigmoid(10 * (z - one.tau)) * one.gain
        return model.c(x)

    wanted = by_hand(X)
    with mode.on(model):
        for _ in range(2):
            torch.testing.assert_close(model(X), wanted, atol=1e-6, rtol=1e-6)
        with pytest.raises(RuntimeError):
            model(X[:, :2])
        torch.testing.assert_close(model(X), wanted, atol=1e-6, rtol=1e-6)


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(24, 3),
    ).eval()  # fmt: skip


PICTURES = torch.linspace(-1, 1, 4 * 64).view(4, 1, 8, 8).sin()


def test_convolutions_have_a_gate_a_channel_and_pooling_lets_positive_gains_through():
    model = convolutions()
    first, second = sites_of(model, PICTURES)
    assert (first.width, first.axis, first.into, first.signed) == (4, 1, ("4",), False)
    assert (second.width, second.axis, second.into, second.signed) == (6, 1, ("7",), True)
    assert first.out_of == ("1", "0") and second.out_of == ("4",)
    mode = random_mode(model, roles=("gain",), x=PICTURES)
    mode.numbers["2"].gain.abs_()
    with mode.on(model):
        said = model(PICTURES)
    with mode.merged(model):
        torch.testing.assert_close(model(PICTURES), said, atol=1e-6, rtol=1e-5)
    mode.numbers["2"].gain[0] *= -1
    with pytest.raises(ModelError, match="go through a maximum"):
        mode.merge(model)


def test_what_is_read_elsewhere_too_is_known_to_be_so():
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.a(x))
            return h + self.b(h)

    (site,) = sites_of(Beside().eval())
    assert site.into == ()
    shared = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    shared[4].weight = shared[2].weight
    assert [one.into for one in sites_of(shared.eval())] == [(), ()]


def test_of_a_language_model_the_mlps_are_taken_and_of_an_encoder_no_pooler():
    for family, count in {"llama": 2, "gpt2": 2, "bert": 2, "vit": 2, "t5": 4}.items():
        model, inputs = model_of(family), FAMILIES[family][1]
        sites = find_sites(model, lambda m=model, i=inputs: m(**i).logits.sum())
        assert len(sites) == count
        assert all(len(site.into) == 1 and site.out_of for site in sites)
    llama = model_of("llama")
    (site, *_) = find_sites(llama, lambda: output(llama, "llama").sum())
    assert site.out_of[0].endswith("gate_proj") and site.out_of[1].endswith("up_proj")


# ---- learning


def test_learning_leaves_the_base_and_learns_two_numbers_a_unit():
    model = net().train()
    model[0].weight.requires_grad_(False)
    before = state(model)
    mode = learned(model)
    assert same_bits(state(model), before) and model.training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert mode.count == 2 * (8 + 6) and mode.base == base_hash(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_what_is_learned_lowers_the_loss_and_only_while_it_is_on():
    model = net()
    with random_mode(model, 3).on(model), torch.no_grad():
        wanted = model(X).argmax(1)
    before = functional.cross_entropy(model(X), wanted)
    mode = learned(model, (X, wanted), epochs=60, lr=0.1)
    with mode.on(model):
        assert functional.cross_entropy(model(X), wanted) < 0.9 * before
    assert functional.cross_entropy(model(X), wanted) == before


@pytest.mark.parametrize("learn", [["tau"], ["gain"], ["bias"], ["tau", "gain", "bias"]])
def test_each_part_may_be_learned_alone(learn):
    mode = learned(net(), learn=learn)
    assert {key.rpartition("/")[2] for key in mode.tensors()} == set(learn)
    assert mode.count == len(learn) * 14 and mode.gated == ("tau" in learn)


def test_layers_are_chosen_by_name_or_pattern():
    assert list(learned(net(), layers=["3"]).sites) == ["3"]
    assert list(learned(net(), layers=["[13]"]).sites) == ["1", "3"]


def test_gates_begin_where_they_are_told():
    model = net(nn.GELU())
    z = model[0](X)
    given = {"lr": 1e-9, "epochs": 1}
    assert learned(model, init="zero", **given).numbers["1"].tau.abs().max() < 1e-6
    torch.testing.assert_close(
        learned(model, init=0.25, **given).numbers["1"].tau, z.quantile(0.25, dim=0)
    )
    torch.testing.assert_close(learned(model, **given).numbers["1"].tau, z.quantile(0.02, dim=0))
    assert learned(net(), **given).numbers["1"].tau.abs().max() < 1e-6  # a ReLU
    tau = learned(model, init="open", **given).numbers["1"].tau
    assert (torch.sigmoid(10 * (z - tau)) > 1 - 1.1e-6).all()


def test_decay_pulls_to_the_base_and_not_to_zero():
    far, near = (learned(net(), epochs=20, weight_decay=decay) for decay in (0.0, 50.0))
    moved = [(mode.numbers["1"].gain - 1).abs().mean() for mode in (far, near)]
    assert moved[1] < 0.3 * moved[0]


@pytest.mark.parametrize("gain", ["softplus", "exp"])
def test_a_gain_may_be_kept_above_zero_and_begins_at_one(gain):
    torch.testing.assert_close(FACTORS[gain](torch.zeros(2)), torch.ones(2))
    mode = learned(net(), gain=gain, lr=0.5, epochs=20)
    assert all((one.gain > 0).all() for one in mode.numbers.values())


def test_a_sparsity_term_shuts_gates():
    model = net()
    shares = []
    for weight in (0.0, 3.0):
        mode = learned(model, sparsity=weight, epochs=20, lr=6e-2)
        found = attribute(model, (X, Y), modes=[mode], loss=functional.cross_entropy)
        shares.append(found.summary["strongly active in mode"])
    assert shares[1] < 0.7 * shares[0]


def test_a_rising_sharpness_ends_where_it_should():
    mode = learned(net(), sharpness=20.0, anneal_from=2.0)
    assert mode.sharpness == 20.0 and all(n.sharpness == 20.0 for n in mode.numbers.values())


def test_thresholds_that_depend_on_the_input_are_learned_and_kept(tmp_path):
    mode = learned(net(), context=2)
    assert mode.numbers["1"].down.shape == (2, 8) and mode.numbers["1"].up.abs().max() > 0
    mode.save(tmp_path)
    assert TauGate.load(tmp_path) == mode


def test_a_stopped_fit_goes_on_bit_for_bit_and_its_checkpoint_is_small(tmp_path):
    plain = learned(net(), epochs=6, batch_size=4)

    def stop(event):
        if event["epoch"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        learned(net(), epochs=6, batch_size=4)
    with safe_open(tmp_path / "checkpoint" / "0.safetensors", framework="pt") as kept:
        weights = {name for name in kept.keys() if name.startswith("model/")}  # noqa: SIM118
    roles = {name.removeprefix("model/").rpartition("_")[0] for name in weights}
    assert roles == {"tau", "gain", "start"}  # and no weight of the base
    with session(folder=tmp_path, resume=True):
        assert learned(net(), epochs=6, batch_size=4) == plain


# ---- hard and soft, merged, cut


def test_hard_and_soft_are_two_forms_of_one_mode():
    model = net()
    mode = random_mode(model)
    assert mode.hardened().softened() == mode and mode.hardened() != mode
    with pytest.raises(ModelError, match="nothing to harden"):
        random_mode(model, roles=("gain",)).hardened()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("role", ["gain", "bias"])
def test_gains_and_biases_are_merged_exactly_and_thresholds_are_refused(family, role):
    model = model_of(family)
    loss = {"loss": functional.cross_entropy} if family == "plain" else {}
    if role == "bias" and family in ("llama", "t5"):
        with pytest.raises(ModelError, match="has no bias to which its own could be added"):
            dopamine(model, learned_from(family), learn=[role], epochs=1).merge(model)
        return
    mode = dopamine(model, learned_from(family), learn=[role], epochs=2, lr=0.1, **loss)
    with mode.on(model):
        said = output(model, family)
    assert not torch.allclose(said, output(model, family), atol=1e-4)
    mode.merge(model)
    torch.testing.assert_close(output(model, family), said, atol=1e-5, rtol=1e-4)
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(ModelError, match="its thresholds depend on what comes in"):
        dopamine(model, learned_from(family), epochs=1, **loss).merge(model)


def test_sums_and_multiples_of_gains_are_those_of_their_changes_of_weights():
    model = net()
    one, two = (random_mode(model, seed, f"m{seed}", ("gain", "bias")) for seed in (1, 2))
    weights = state(model)
    with one.merged(model):
        ones = state(model)
    with two.merged(model):
        twos = state(model)
    with (one + 0.5 * two).merged(model):
        for name, value in state(model).items():
            wanted = ones[name] + 0.5 * (twos[name] - weights[name])
            torch.testing.assert_close(value, wanted, atol=1e-6, rtol=1e-5)
    with pytest.raises(ModelError, match="a sum of mode 'a' means nothing"):
        random_mode(model) + random_mode(model)


def test_a_mode_that_stands_beside_changed_weights_is_merged_after_them():
    from stackwise.adapt import Dense, WeightDelta, settle_all

    model = net()
    gains = random_mode(model, roles=("gain",))
    weights = WeightDelta({"2.weight": Dense(torch.randn(6, 8))}, base=base_hash(model))
    gains.put(model)
    weights.put(model)
    said, before = model(X), state(model)
    with pytest.raises(ModelError, match="merge those first"):
        gains.merge(model)
    assert same_bits(state(model), before) and torch.equal(model(X), said)
    settle_all(model)
    torch.testing.assert_close(model(X), said, atol=1e-6, rtol=1e-5)


def test_a_mode_is_stale_once_an_adapter_is_merged():
    model = model_of("gpt2")
    mode = dopamine(model, learned_from("gpt2"), epochs=1)
    from delta_families import lora_of

    adapter, _ = lora_of(model, 1)
    assert isinstance(adapter, LoraDelta)
    with adapter.on(model), mode.on(model):
        pass  # both stand beside the base
    adapter.merge(model)
    with pytest.raises(ModelError, match="was made for a base with the hash"):
        mode.put(model)


# ---- several modes


def test_rows_in_their_own_modes_are_what_each_mode_says_alone():
    model = net()
    base = model(X[:4])
    modes = Modes(model, [random_mode(model, 1, "a"), random_mode(model, 2, "b", ("tau",))])
    assert modes.names == ["a", "b"] and torch.equal(model(X[:4]), base)
    alone = {}
    for name in modes.names:
        with modes.on(name):
            alone[name] = model(X[:4])
    with modes.on(["a", None, "b", "a"]):
        mixed = model(X[:4])
    assert torch.equal(mixed[1], base[1])
    for row, name in ((0, "a"), (2, "b"), (3, "a")):
        torch.testing.assert_close(mixed[row], alone[name][row], atol=1e-6, rtol=1e-6)
    with modes.on(None):
        assert torch.equal(model(X[:4]), base)
    with pytest.raises(ModelError, match="2 rows have a mode, and 1 sees 4"), modes.on(["a", "b"]):
        model(X[:4])
    with pytest.raises(ModelError, match="there is no mode 'c'; the bank has a, b"), modes.on("c"):
        pass
    modes.close()
    assert not any(m._forward_hooks for m in model.modules())


def test_rows_of_pictures_and_of_texts_have_modes_too():
    model = convolutions()
    modes = Modes(model, [random_mode(model, s, n, x=PICTURES) for s, n in ((1, "a"), (2, "b"))])
    with modes.on("b"):
        alone = model(PICTURES)
    with modes.on(["a", "b", None, "b"]):
        torch.testing.assert_close(model(PICTURES)[[1, 3]], alone[[1, 3]], atol=1e-6, rtol=1e-6)


def test_modes_of_two_forms_are_not_rows_of_one_batch():
    model = net()
    modes = Modes(model, [random_mode(model, 1, "a"), random_mode(model, 2, "b").hardened()])
    with pytest.raises(ModelError, match="have one form"), modes.on(["a", "b"]):
        pass


def test_what_is_on_in_one_thread_is_not_on_in_another():
    model = net()
    base = model(X)
    modes = Modes(model, [random_mode(model)])
    said = []
    with modes.on("a"):
        other = threading.Thread(target=lambda: said.append(model(X)))
        other.start()
        other.join()
        assert not torch.equal(model(X), base)
    assert torch.equal(said[0], base)


def test_the_order_of_rows_and_padding_change_nothing():
    model = model_of("llama")
    mode = dopamine(model, learned_from("llama"), epochs=1)
    ids = torch.randint(1, 20, (3, 6))
    padded = torch.cat([ids, torch.zeros(3, 2, dtype=torch.int64)], 1)
    mask = torch.cat([torch.ones(3, 6), torch.zeros(3, 2)], 1)
    with mode.on(model), torch.no_grad():
        said = model(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids.flip(0)).logits.flip(0), said)
        longer = model(input_ids=padded, attention_mask=mask).logits[:, :6]
    torch.testing.assert_close(longer, said)


# ---- peers


def test_gains_alone_are_ia3_on_the_layer_that_reads_the_units():
    import peft

    model = model_of("llama")
    config = peft.IA3Config(target_modules=["down_proj"], feedforward_modules=["down_proj"])
    ia3 = peft.get_peft_model(copy.deepcopy(model), config).eval()
    sites = find_sites(model, lambda: output(model, "llama").sum())
    torch.manual_seed(0)
    numbers = {}
    for place, site in enumerate(sites):
        layer = ia3.base_model.model.model.layers[place].mlp.down_proj
        factors = torch.randn(site.width)
        with torch.no_grad():
            layer.ia3_l["default"].copy_(factors.view_as(layer.ia3_l["default"]))
        numbers[site.name] = Numbers(gain=factors)
    mode = TauGate("gains", sites, numbers, base=base_hash(model))
    assert mode.count == sum(p.numel() for n, p in ia3.named_parameters() if "ia3_l" in n)
    with mode.on(model):
        torch.testing.assert_close(
            output(model, "llama"), output(ia3, "llama"), atol=1e-6, rtol=1e-6
        )
    ia3 = ia3.merge_and_unload()
    mode.merge(model)
    for name, value in state(model).items():
        torch.testing.assert_close(value, ia3.state_dict()[name], atol=1e-6, rtol=1e-6)


# ---- what makes no sense


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"learn": ["taus"]}, "learn has taus; it takes some of tau, gain, bias"),
        ({"learn": ["gain"], "sparsity": 0.3}, "sparsity is about thresholds"),
        ({"learn": ["gain"], "form": "hard"}, "form=hard is about thresholds"),
        ({"learn": ["bias"], "context": 2}, "context is about thresholds"),
        ({"sharpness": 0.0}, "sharpness"),
        ({"init": 1.5}, "init"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_knobs_that_mean_nothing_are_refused(knobs, words):
    with pytest.raises(KnobError, match=words):
        learned(net(), **knobs)


def test_what_cannot_be_is_one_sentence():
    model = net()
    mode = random_mode(model)
    wider = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3))
    plain = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3))
    for make, words in [
        (lambda: mode.put(wider, check=False), "expects 8 units at layer 1, and this .* has 9"),
        (lambda: mode.put(nn.Sequential(nn.Linear(5, 3)), check=False), "has no such layer"),
        (lambda: learned(plain), r"has no activation.*layers=\['before>after'\]; seen: 0, 1"),
        (lambda: learned(model, layers=["act9"]), "there is no 'act9'; seen: 1, 3"),
        (lambda: learned(mode.put(model)), "take it off"),
        (lambda: Modes(net(), [mode, mode]), "two modes are called 'a'"),
        (lambda: TauGate("x", list(mode.sites.values()), mode.numbers, sharpness=-1.0), "above 0"),
        (lambda: TauGate("x", sites_of(net()), {n: Numbers(gain=torch.ones(3)) for n in "13"}),
         r"gain of 1 is torch.float32 of shape \(3,\)"),
    ]:  # fmt: skip
        with pytest.raises((ModelError, KnobError), match=words) as caught:
            make()
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        dopamine(model, None)
    narrow = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    loose = TauGate("x", [replace(s, into=(), out_of=()) for s in sites_of(net())][:1],
                    {"1": Numbers(gain=torch.ones(8))})  # fmt: skip
    with loose.on(narrow), pytest.raises(ModelError, match="mode 'x' expects 8 units at layer 1"):
        narrow(X)
