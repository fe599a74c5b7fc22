"""Brainstacks: what holds exactly of experts, stacks, the null space, rounds and the router."""

import copy
import itertools

import pytest
import torch
from delta_families import FAMILIES, IDS, model_of, output, same_bits, state
from torch import nn
from torch.nn import functional

from stackwise import brainstacks, runs
from stackwise.adapt import Delta, base_hash, deltas_on
from stackwise.adapt.brainstacks import (
    Brainstacks,
    Domain,
    ExpertDelta,
    ExpertStack,
    LearnedOverOthers,
    RouterDelta,
    Switch,
    adapted_layers,
    discover,
    dpo_loss,
    forgetting,
    gates,
    load_balance,
    mixture,
)
from stackwise.adapt.brainstacks.combinations import row_losses
from stackwise.adapt.brainstacks.null_space import directions, leading
from stackwise.adapt.brainstacks.rounds import StackRule
from stackwise.adapt.brainstacks.router import base_states
from stackwise.adapt.brainstacks.switch import ACTIVE
from stackwise.errors import Interrupted, KnobError, ModelError, TrainingError
from stackwise.learning.trainable import trainable
from stackwise.training.batches import ArrayBatches, StepBatches
from stackwise.training.session import session

every = pytest.mark.parametrize("family", FAMILIES)
SMALL = {"rank": 2, "alpha": 2.0, "steps": 6, "evaluate_every": 3, "lr": 1e-2,
         "precision_frozen": "float32"}  # fmt: skip
CROSS = functional.cross_entropy


def batches_of(family: str, shift: int = 0, count: int = 4):
    """Batches with a loss, and the loss for those that have none."""
    inputs = FAMILIES[family][1]
    if family == "plain":
        x = torch.randn(24, 5, generator=torch.Generator().manual_seed(shift))
        return (x, ((x[:, 0] + shift * x[:, 1]) > 0).long()), {"loss": CROSS}
    given = {name: value for name, value in inputs.items() if not name.startswith("decoder")}
    labels = torch.tensor([shift % 2]) if family in ("bert", "vit") else (IDS + shift) % 20
    return [given | {"labels": labels}] * count, {}


def learned(model: nn.Module, family: str, name: str = "one", shift: int = 0, **knobs) -> Delta:
    data, more = batches_of(family, shift)
    return brainstacks(model, data, name=name, **SMALL | {"rounds": 1} | more | knobs)


def experts(seed: int = 0, n: int = 4, d_in: int = 5, d_out: int = 6, rank: int = 3):
    torch.manual_seed(seed)
    return torch.randn(n, rank, d_in), torch.randn(n, d_out, rank), torch.randn(n, d_in)


# --------------------------------------------------------------------------- one stack


def test_k_gates_are_not_zero_and_sum_to_one():
    logits = torch.randn(7, 4)
    for k in range(1, 5):
        gate = gates(logits, k)
        assert ((gate > 0).sum(1) == k).all()
        torch.testing.assert_close(gate.sum(1), torch.ones(7))
        assert (gate.argmax(1) == logits.argmax(1)).all()


def test_all_experts_at_equal_logits_are_their_mean_and_the_batched_form_is_the_loop():
    a, b, router = experts()
    x = torch.randn(2, 7, 5)
    mean = sum(x @ a[e].T @ b[e].T for e in range(4)) / 4 * 1.5
    even = mixture(x, gates(torch.zeros(2, 7, 4), 4), a, b, 1.5)
    torch.testing.assert_close(even, mean, atol=1e-5, rtol=1e-5)
    gate = gates(x @ router.T, 2)
    loop = sum(gate[..., e, None] * (x @ a[e].T @ b[e].T) for e in range(4)) * 1.5
    torch.testing.assert_close(mixture(x, gate, a, b, 1.5), loop, atol=1e-6, rtol=1e-5)


def test_one_expert_is_lora_of_the_rs_scale_in_peft_too():
    import peft

    model = model_of("plain")
    delta = learned(model, "plain", experts=1, top_k=1, rank=4, alpha=3.0)
    (layer, found), *_ = delta.domains["one"].rounds[0].items()
    x = torch.randn(9, found.a.shape[2])
    by_hand = 3.0 / 4**0.5 * x @ found.a[0].T @ found.b[0].T
    ours = mixture(x, torch.ones(9, 1), found.a, found.b, delta.domains["one"].scale)
    torch.testing.assert_close(ours, by_hand, atol=1e-6, rtol=1e-5)
    adapted = peft.get_peft_model(
        copy.deepcopy(model),
        peft.LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=[layer]),
    )
    place = adapted.base_model.model.get_submodule(layer)
    with torch.no_grad():
        place.lora_A["default"].weight.copy_(found.a[0])
        place.lora_B["default"].weight.copy_(found.b[0])
        torch.testing.assert_close(place(x), place.base_layer(x) + by_hand, atol=1e-6, rtol=1e-5)
    assert delta.not_mergeable() is None
    with delta.on(model):
        put = output(model, "plain")
    merged = delta.merge(copy.deepcopy(model))
    assert deltas_on(merged) == () and vars(merged).keys() == vars(model).keys()
    torch.testing.assert_close(output(merged, "plain"), put, atol=1e-6, rtol=1e-5)


@every
def test_a_fresh_stack_changes_no_bit(family):
    model = model_of(family)
    said = output(model, family)
    data, more = batches_of(family)
    still = brainstacks(model, data, **SMALL | {"lr": 1e-30, "rounds": 1} | more)
    with torch.no_grad():
        for experts_ in still.domains["domain"].rounds[0].values():
            experts_.b.zero_()
    with still.on(model):
        assert torch.equal(output(model, family), said)


def test_balance_pushes_towards_equal_use_and_is_k_where_all_are_used_alike():
    even = torch.zeros(8, 4)
    turns = torch.stack([torch.roll(torch.tensor([1.0, 1.0, 0.0, 0.0]), n) for n in range(8)])
    assert float(load_balance(even, turns)) == pytest.approx(2.0)
    stack = ExpertStack(5, 6, rank=2).train()
    x = torch.randn(32, 5) + 2  # one side: some experts are liked by all
    with torch.no_grad():
        stack.router[0] += 1
    before = None
    optimizer = torch.optim.SGD([stack.router], lr=0.5)
    for _ in range(60):
        logits = x @ stack.router.T
        loss = load_balance(logits, gates(logits, 2))
        before = loss.item() if before is None else before
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < before


# --------------------------------------------------------------------------- beside a model


@every
def test_the_contract_of_deltas_holds(family, tmp_path):
    model = model_of(family)
    before, said, known = state(model), output(model, family), base_hash(model)
    one = learned(model, family, "one")
    assert same_bits(state(model), before) and base_hash(model) == known == one.base
    one.save(tmp_path / "one")
    again = Delta.load(tmp_path / "one")
    assert again == one and isinstance(again, ExpertDelta)
    with one.on(model):
        changed = output(model, family)
        two = learned(model, family, "two", shift=1)
        with two.on(model):
            both = output(model, family)
        assert torch.equal(output(model, family), changed)
    assert not torch.equal(changed, said) and not torch.equal(both, changed)
    with again.on(model):
        assert torch.equal(output(model, family), changed)
    with pytest.warns(LearnedOverOthers, match="two was learned with one on"), two.on(model):
        with one.on(model):  # the other order: the same bits
            assert torch.equal(output(model, family), both)
        assert not torch.equal(output(model, family), both)
    with (one + two).on(model):
        assert torch.equal(output(model, family), both)
    with (0.0 * one).on(model):
        assert torch.equal(output(model, family), said)
    assert same_bits(state(model), before) and vars(model).keys() == vars(model_of(family)).keys()
    other = model_of(family, seed=5)
    with pytest.raises(ModelError, match="was made for a base with the hash"):
        one.put(other)
    with torch.no_grad():
        weight = next(model.parameters())
        weight.view(-1)[0].view(torch.int32).bitwise_xor_(1)  # one bit
    with pytest.raises(ModelError, match="was made for a base"):
        one.put(model)


def test_a_copy_of_a_model_has_its_own_stacks():
    model = model_of("llama")
    said, delta = output(model, "llama"), learned(model, "llama")
    delta.put(model)
    twin = copy.deepcopy(model)
    delta.take_off(twin)
    assert torch.equal(output(twin, "llama"), said)
    assert not torch.equal(output(model, "llama"), said)


def test_several_experts_cannot_be_merged_and_the_sentence_says_what_can():
    model = model_of("plain")
    with pytest.raises(ModelError, match="other experts of it; learn it with experts=1"):
        learned(model, "plain").merge(model)


def test_layers_are_those_of_the_blocks_and_a_target_that_matches_none_lists_what_there_is():
    names = {name.rpartition(".")[2] for name in adapted_layers(model_of("llama"))}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {n.rpartition(".")[2] for n in adapted_layers(model_of("gpt2"))} == {
        "c_attn", "c_proj", "c_fc",
    }  # fmt: skip
    assert list(adapted_layers(model_of("llama"), ["q_proj"])) == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
    ]  # fmt: skip
    with pytest.raises(ModelError, match="ends in 'query'; there is q_proj, k_proj"):
        adapted_layers(model_of("llama"), ["query"])
    with pytest.raises(ModelError, match="has no linear layer"):
        adapted_layers(nn.Sequential(nn.ReLU()))


def test_a_layer_whose_weights_are_used_and_that_is_never_called_gets_no_stack():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.called, self.used, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.called(x) @ self.used.weight)

    delta = brainstacks(Fused(), batches_of("plain")[0], loss=CROSS, **SMALL | {"rounds": 1})
    assert delta.domains["domain"].layers == ["called"]


def test_adapters_of_peft_must_be_merged_before():
    import peft

    model = peft.get_peft_model(model_of("llama"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="merge them first"):
        adapted_layers(model)


# --------------------------------------------------------------------------- learning


def test_only_the_fresh_stack_learns_and_what_is_frozen_passes_gradients_on():
    """Two layers in a row: the gradient of the first one's stack is a finite difference while the
    second holds a frozen stack. With that run under no_grad it would be another.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)).double()
    a, b, router = (one.double() for one in experts(1, d_out=5))
    from stackwise.adapt.brainstacks import Experts

    later = ExpertDelta({"later": Domain([{"2": Experts(a, b, router)}], top_k=4, scale=1.0)})
    model.requires_grad_(False)
    stack = ExpertStack(5, 5, rank=2, scale=1.0, top_k=4, noisy=False).double()
    with torch.no_grad():
        stack.b.normal_()
    x = torch.randn(7, 5, dtype=torch.float64)
    with later.on(model):
        Switch.of(model).beside(model, "0")
        model[0].add_module(ACTIVE, stack)
        model.train()
        loss = model(x).square().mean()
        assert torch.equal(model(x), model(x))  # frozen stacks are not noisy in training
        loss.backward()
        with torch.no_grad():
            stack.a[1, 0, 2] += 1e-6
            above = model(x).square().mean()
            stack.a[1, 0, 2] -= 2e-6
            below = model(x).square().mean()
    assert stack.a.grad[1, 0, 2].item() == pytest.approx((above - below).item() / 2e-6, rel=1e-5)
    learned_ = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned_ and all(ACTIVE in name for name in learned_)


@pytest.fixture(scope="module")
def two_domains():
    """A small net on which two domains were learned, with held-out data, and their losses."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 12)
    )
    x = torch.randn(160, 6)
    targets = {
        "a": (x[:, :2] > 0).long() @ torch.tensor([1, 2]),
        "b": (x[:, 2:4] > 0).long().sum(1),
    }
    knobs = SMALL | {"steps": 60, "evaluate_every": 20, "rounds": 2, "loss": CROSS, "lr": 3e-3,
                     "targets": ["0", "2"], "null_dirs": 4, "spike": None}  # fmt: skip
    parts = {n: ((x[:120], y[:120]), (x[120:], y[120:])) for n, y in targets.items()}
    made = {}
    for name, (train, held) in parts.items():
        made[name] = brainstacks(model, train, validation=held, name=name, **knobs)
        made[name].put(model)
    for name in reversed(made):
        made[name].take_off(model)
    return model, made, parts, knobs


def held_loss(model, held) -> float:
    """In the batches, and the order of their rows, in which data that are held out are looked at:
    a sum in another order may differ in its last bit.
    """
    looked_at = trainable(model, held, loss=CROSS, seed=0)
    with torch.no_grad():
        model.eval()
        (batch,) = looked_at.batches.epoch(0)
        return float(looked_at.loss(model, batch))


def test_a_prefix_gives_the_recorded_loss_to_the_bit_and_a_later_domain_alone_does_not(
    two_domains,
):
    model, made, parts, _ = two_domains
    losses = {name: delta.domains[name].losses for name, delta in made.items()}
    assert losses["a"][0] == held_loss(model, parts["a"][1])
    with made["a"].on(model):
        assert losses["a"][-1] == held_loss(model, parts["a"][1])
        assert losses["b"][0] == held_loss(model, parts["b"][1])
        with made["b"].on(model):
            assert losses["b"][-1] == held_loss(model, parts["b"][1])
        assert losses["a"][-1] == held_loss(model, parts["a"][1])  # the later one is gone
    with pytest.warns(LearnedOverOthers), made["b"].on(model):
        assert losses["b"][-1] != held_loss(model, parts["b"][1])


def test_every_round_that_stays_made_the_loss_smaller(two_domains):
    for name, delta in two_domains[1].items():
        losses = delta.domains[name].losses
        assert len(losses) == len(delta.domains[name].rounds) + 1
        assert all(after < before for before, after in itertools.pairwise(losses))


def closed(model, delta, layer, count):
    sizes = {layer: 16}
    return directions([delta.domains["a"].directions], sizes, count)[layer]


def test_a_folded_domain_leaves_closed_directions_alone_and_an_unfolded_one_does_not(
    two_domains,
):
    model, made, parts, knobs = two_domains
    v = closed(model, made["a"], "0", 4)
    torch.testing.assert_close(v.T @ v, torch.eye(4))

    def share(delta) -> float:
        """Of what it adds, how much lies in the closed directions."""
        (experts_, *_), scale = [one["0"] for one in delta.domains["b"].rounds], 1.0
        x = parts["b"][0][0]
        added = mixture(x, gates(x @ experts_.router.T, 2), experts_.a, experts_.b, scale)
        return float((added @ v).norm() / added.norm())

    assert share(made["b"]) < 1e-5
    with made["a"].on(model):
        loose = brainstacks(
            model, parts["b"][0], validation=parts["b"][1], name="b",
            **knobs | {"null_space": "train-only", "rounds": 1},
        )  # fmt: skip
    assert share(loose) > 0.02


def test_a_stack_that_is_folded_gives_what_it_gave_projected():
    torch.manual_seed(0)
    v = torch.linalg.qr(torch.randn(6, 2)).Q
    stack = ExpertStack(5, 6, rank=3, directions=v, noisy=False)
    with torch.no_grad():
        stack.b.normal_()
    x = torch.randn(9, 5)
    projected = stack.train()(x)
    done = stack.done(torch.float32, fold=True)
    folded = mixture(x, gates(x @ done.router.T, 2), done.a, done.b, stack.scale)
    torch.testing.assert_close(folded, projected, atol=1e-5, rtol=1e-5)
    assert float((folded @ v).abs().max()) < 1e-5


def test_the_closed_directions_come_from_the_earlier_domain_unless_the_releases_way_is_asked_for(
    two_domains,
):
    model, made, parts, knobs = two_domains
    (x, y), held = parts["b"]
    short = knobs | {"steps": 3, "evaluate_every": 3, "rounds": 1, "lr": 1e-2}
    found = {}
    for source, flip in itertools.product(("previous", "new"), (1, -3)):
        data = (flip * x, torch.zeros_like(y))
        with made["a"].on(model):
            delta = brainstacks(model, data, name="b", null_from=source, **short)
        b = delta.domains["b"].rounds[0]["2"].b.flatten(1)
        found[source, flip] = float((closed(model, made["a"], "2", 4).T @ b.view(4, 16, -1)).norm())
    assert found["previous", 1] < 1e-5 and found["previous", -3] < 1e-5
    assert found["new", -3] > 1e-4  # other samples, other directions: these stay open


def test_leading_directions_of_many_rows_are_those_of_the_exact_decomposition():
    torch.manual_seed(0)
    rows = torch.randn(300, 3) @ torch.diag(torch.tensor([9.0, 5.0, 3.0])) @ torch.randn(3, 40)
    sketched, (_, values, right) = leading(rows, 3), torch.linalg.svd(rows, full_matrices=False)
    torch.testing.assert_close(sketched.norm(dim=1), values[:3], rtol=1e-4, atol=1e-3)
    projector = right[:3].T @ right[:3]
    v = functional.normalize(sketched).T
    torch.testing.assert_close(v @ v.T, projector, atol=1e-4, rtol=1e-4)


def test_directions_that_would_leave_none_or_are_not_used_are_told():
    rows = {"0": torch.randn(3, 8)}
    with pytest.raises(ModelError, match="no direction would be left for 0, which gives 8"):
        directions([rows], {"0": 8}, 8)
    with pytest.warns(UserWarning, match="use fewer than the 5 directions asked for"):
        assert directions([rows], {"0": 8}, 5)["0"].shape == (8, 3)
    assert directions([rows], {"0": 8}, None)["0"].shape == (8, 2)  # a quarter
    assert directions([], {"0": 8}, 5) == {}


def test_a_round_that_helps_nobody_is_dropped_and_said():
    model = model_of("plain")
    (x, y), more = batches_of("plain")
    with pytest.raises(TrainingError, match=r"nothing was learned for one: .* is discarded"):
        brainstacks(
            model, (x, y), validation=(x, 1 - y), name="one",
            **SMALL | {"steps": 40, "lr": 0.05, "rounds": 1} | more,
        )  # fmt: skip
    assert vars(model).keys() == vars(model_of("plain")).keys()


def test_a_loss_that_jumps_ends_the_round():
    scores = iter([1.0, 0.9, 1.2, 0.1, 0.1])

    class Jumps(StackRule):
        def validate(self, model):
            return {"loss": next(scores)}

    from stackwise.training.loop import train_phases
    from stackwise.training.phases import Phase

    model = nn.Linear(2, 2)
    batches = ArrayBatches({"x": torch.randn(8, 2)}, 4)
    rule = Jumps(
        lambda m, b: m(b["x"]).square().mean(), balance=0.0, validate=lambda m: {}, lr=1e-3
    )
    phase = Phase("jump", rule, StepBatches(batches, 3), 5, slack=0.25)
    trained = train_phases(model, [phase])
    assert (trained.stopped, trained.best_epoch, len(trained.history)) == ("slack", 2, 3)
    assert trained.steps == 9


def test_epochs_of_steps_go_through_all_batches_in_their_order():
    batches = ArrayBatches({"x": torch.arange(10)}, 2, seed=3)
    whole = [b["x"].tolist() for epoch in range(4) for b in batches.epoch(epoch)]
    parts = StepBatches(batches, 3)
    again = [b["x"].tolist() for epoch in range(6) for b in parts.epoch(epoch)]
    assert again == whole[:18] and len(parts) == 3
    assert [b["x"].tolist() for b in parts.epoch(2, start=1)] == whole[7:9]


def test_a_stopped_fit_goes_on_bit_for_bit(tmp_path):
    model = model_of("plain")
    (x, y), more = batches_of("plain")
    knobs = SMALL | {"rounds": 3, "steps": 9, "name": "one", "min_gain": 0.0} | more
    held = {"validation": (x, y)}
    whole = brainstacks(model, (x, y), **knobs, **held)
    assert len(whole.domains["one"].rounds) > 1
    count = 0

    def stop(event):
        nonlocal count
        count += "metrics" in event
        if count == 4:  # in the second round
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        brainstacks(model, (x, y), **knobs, **held)
    with session(folder=tmp_path, resume=True):
        again = brainstacks(model, (x, y), **knobs, **held)
    assert again == whole


def test_knobs_that_do_not_go_together_are_refused():
    model = model_of("plain")
    (x, y), more = batches_of("plain")
    with pytest.raises(KnobError, match=r"top_k \(5\) must not exceed experts \(4\)"):
        brainstacks(model, (x, y), top_k=5, **SMALL | more)
    with pytest.raises(KnobError, match="a domain's name is letters"):
        brainstacks(model, (x, y), name="../b", **SMALL | more)
    with pytest.raises(ModelError, match="a router switches the stacks that are on a model"):
        brainstacks(model, (x, y), learn="router", **SMALL | more)
    one = learned(model, "plain", "one")
    with one.on(model):
        with pytest.raises(KnobError, match="a domain 'one' is on the model already"):
            learned(model, "plain", "one")
        with pytest.raises(KnobError, match="floor names 'chat', which is not on"):
            brainstacks(model, (x, y), learn="router", floor={"chat": 0.2}, **SMALL | more)


# --------------------------------------------------------------------------- the router


def test_the_combination_that_is_found_is_the_one_that_helps():
    """A loss that falls by 1 where both b and c are on, by 0.3 for b alone; a costs 0.2."""
    asked = []

    def losses(weights):
        count = 3
        on = {k: weights.get(k, torch.zeros(count)) for k in "abc"}
        asked.append(1)
        row = torch.tensor([0.0, 1.0, 0.0])  # the second sample needs nothing
        help_ = 0.3 * on["b"] + 0.7 * on["b"] * on["c"] - 0.2 * on["a"]
        return 2.0 - torch.where(row > 0, -on["a"] - on["b"] - on["c"], help_)

    found = discover(losses, ["a", "b", "c"])
    assert found.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 1]]
    assert len(asked) <= 1 + 3 + 3 + 2  # batched over samples
    floored = discover(losses, ["a", "b", "c"], floor={"a": 0.2})
    torch.testing.assert_close(floored[:, 0], torch.full((3,), 0.2))


def test_a_domain_that_helps_a_little_may_count_half():
    def losses(weights):
        on = {k: weights.get(k, torch.zeros(1)) for k in "ab"}
        return 1.0 - 0.5 * on["a"] - 0.005 * on["b"]  # within the margin

    assert discover(losses, ["a", "b"]).tolist() == [[1, 0]]
    assert discover(losses, ["a", "b"], half=["b"]).tolist() == [[1, 0.5]]


@pytest.mark.parametrize("family", ["llama", "bert", "plain"])
def test_the_loss_of_each_row_is_that_of_the_row_alone(family):
    model = model_of(family)
    torch.manual_seed(0)
    if family == "llama":
        labels = torch.randint(20, (3, 6))
        labels[0, :4] = -100
        batch = {"input_ids": torch.randint(20, (3, 6)), "labels": labels}
    elif family == "bert":
        batch = {"input_ids": torch.randint(20, (3, 6)), "labels": torch.tensor([0, 1, 1])}
    else:
        batch = {"x": torch.randn(3, 5), "labels": torch.tensor([0, 1, 0])}

    def loss(module, given):
        if family == "plain":
            return CROSS(module(given["x"]), given["labels"])
        return module(**given).loss

    one = learned(model, family)
    with one.on(model), torch.no_grad():
        weights = {"one": torch.tensor([0.0, 0.5, 1.0])}
        with Switch.of(model).only(weights):
            found = row_losses(loss, model, batch)
        for row in range(3):
            alone = {name: value[row : row + 1] for name, value in batch.items()}
            with Switch.of(model).only({"one": float(weights["one"][row])}):
                assert float(found[row]) == pytest.approx(float(loss(model, alone)), abs=1e-5)


@pytest.fixture(scope="module")
def routed():
    """A decoder with two domains and a router."""
    model = model_of("llama")
    one = learned(model, "llama", "one").put(model) and deltas_on(model)[0]
    two = learned(model, "llama", "two", shift=1)
    two.put(model)
    data = {name: batches_of("llama", place, 8)[0] for place, name in enumerate(("one", "two"))}
    router = brainstacks(
        model, data, learn="router", samples=10, hidden=8, router_epochs=2, random_state=1
    )
    for delta in (two, one):
        delta.take_off(model)
    return model, one, two, router


def test_the_router_reads_the_base_alone(routed):
    model, one, two, _ = routed
    inputs = {"input_ids": IDS}
    with one.on(model), two.on(model):
        with_stacks = base_states(model, (), inputs, 4)
    with (0.0 * one).on(model):
        bare = base_states(model, (), inputs, 4)
    assert torch.equal(with_stacks[0], bare[0]) and with_stacks[0].shape == (1, 4, 8)


def test_a_router_switches_row_by_row_and_once_a_prompt(routed, tmp_path):
    model, one, two, router = routed
    assert isinstance(router, RouterDelta) and router.domains == ["one", "two"]
    router.save(tmp_path)
    again = Delta.load(tmp_path)
    assert again == router
    ids = torch.cat([IDS, IDS.flip(1)])
    with one.on(model), two.on(model):
        plain = output(model, "llama")
        with again.on(model):
            weights = router.weights_of(model, input_ids=ids)
            with torch.no_grad():
                routed_ = model(input_ids=ids).logits
            made = model.generate(
                IDS,
                attention_mask=torch.ones_like(IDS),
                max_new_tokens=4,
                do_sample=False,
                pad_token_id=0,
            )
            kept = Switch.of(model).weights
            prompt = router.weights_of(model, input_ids=IDS)
            for name, weight in prompt.items():  # of the prompt, and not of its last token
                torch.testing.assert_close(kept[name], weight, atol=1e-6, rtol=1e-6)
            assert made.shape == (1, 10)
        assert torch.equal(output(model, "llama"), plain)
        for row in range(2):
            alone = {name: float(weight[row]) for name, weight in weights.items()}
            with Switch.of(model).only(alone), torch.no_grad():
                by_hand = model(input_ids=ids[row : row + 1]).logits
            torch.testing.assert_close(routed_[row], by_hand[0], atol=1e-5, rtol=1e-4)


def test_a_router_tells_domains_apart_where_the_stream_has_no_tokens():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2)
    )
    x, _ = batches_of("plain")[0]
    with (0.0 * learned(model, "plain", "a", targets=["2"])).on(model):
        states, mask = base_states(model, (x,), {}, 256)
    assert states.shape == (24, 5, 8) and mask.all()
    from stackwise.adapt.brainstacks import MetaRouter

    said = MetaRouter(width=8, domains=2, hidden=16, dropout=0.0)(states, mask)
    assert not torch.allclose(said[:, 0], said[:, 1], atol=1e-6)


def test_a_router_wants_its_own_domains(routed):
    model, one, two, router = routed
    with pytest.raises(ModelError, match="and no stack is on: put its own on before it"):
        router.put(model)
    strange = ExpertDelta({"strange": one.domains["one"]}, base=one.base)
    with strange.on(model), pytest.raises(ModelError, match="and 'strange' is on"):
        router.put(model)
    with one.on(model), router.on(model):  # one of its domains is enough
        output(model, "llama")


# --------------------------------------------------------------------------- many domains


def test_a_collection_learns_keeps_loads_routes_and_forgets(tmp_path):
    model = model_of("llama")
    said = output(model, "llama")
    data = {name: batches_of("llama", place, 8)[0] for place, name in enumerate(("one", "two"))}
    stacks = Brainstacks(model, tmp_path, **SMALL | {"rounds": 1})
    for name, batches in data.items():
        stacks.learn(name, batches)
    with pytest.raises(KnobError, match="there is a domain 'one' already"):
        stacks.learn("one", data["one"])
    with stacks.only():
        assert torch.equal(output(model, "llama"), said)
    with stacks.only("one"):
        prefix = output(model, "llama")
        assert Switch.on(model).domains == ["one"]
    stacks.fit_router(data, samples=10, hidden=8, router_epochs=1)
    weights = stacks.route(input_ids=IDS)
    assert set(weights) == {"one", "two"}
    table = stacks.forgetting_matrix(data)
    assert list(table.index) == ["base", "+one", "+one +two", "only two"]
    again = Brainstacks(copy.deepcopy(model_of("llama")), tmp_path)
    assert again.order == ["one", "two"]
    again.use("two", "one")
    with again.only("one"):
        assert torch.equal(output(again.model, "llama"), prefix)
    again.remove("two")
    again.use("one")
    assert torch.equal(output(again.model, "llama"), prefix)
    with pytest.raises(KnobError, match="there is no domain 'two'; there is one"):
        again.use("two")


def test_the_probe_says_what_stacks_do_to_data_and_which_experts_are_taken(two_domains):
    model, made, parts, _ = two_domains
    with made["a"].on(model), made["b"].on(model):
        found = forgetting(model, {n: train for n, (train, _) in parts.items()}, loss=CROSS)
    table = found.tables["loss"]
    assert list(table.index) == ["base", "+a", "+a +b", "only b"]
    assert table.loc["+a", "a"] < table.loc["base", "a"]
    assert found.tables["use"].sum(axis=1).tolist() == pytest.approx([2.0, 2.0])
    bare = forgetting(model, parts["a"][0], loss=CROSS)
    assert list(bare.tables["loss"].index) == ["base"]


def test_a_preference_is_learned_against_the_model_without_the_stack():
    model = model_of("plain")
    torch.manual_seed(0)
    x = torch.randn(32, 5)

    def likelihood(module, answers):
        return module(answers["x"]).log_softmax(-1)[torch.arange(len(answers["x"])), answers["y"]]

    pairs = [{"chosen": {"x": x, "y": torch.ones(32, dtype=torch.long)},
              "rejected": {"x": x, "y": torch.zeros(32, dtype=torch.long)}}]  # fmt: skip
    loss = dpo_loss(likelihood, beta=0.5)
    assert loss(model, pairs[0]).item() == pytest.approx(0.6931, abs=1e-4)  # nothing learned: ln 2
    before = likelihood(model, pairs[0]["chosen"]).mean()
    delta = brainstacks(
        model, pairs, validation=pairs, name="chat", loss=loss,
        **SMALL | {"steps": 40, "rounds": 2},
    )  # fmt: skip
    losses = delta.domains["chat"].losses  # against the model without the domain, all rounds off
    assert losses[0] == pytest.approx(0.6931, abs=1e-4) and losses[-1] < losses[0] - 0.02
    with delta.on(model):
        assert likelihood(model, pairs[0]["chosen"]).mean() > before + 0.1


# --------------------------------------------------------------------------- files of strangers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("one/0/0/router"), "router"),
        (lambda tensors: tensors.update({"x/y": torch.ones(2)}), "belongs to no domain"),
        (lambda tensors: tensors.update({"one/0/0/a": torch.ones(4, 2, 9)}), "has shapes"),
        (lambda tensors: tensors["one/0/0/b"].fill_(torch.nan), "not finite"),
    ],
)
def test_a_damaged_delta_is_refused(change, words):
    delta = learned(model_of("plain"), "plain")
    tensors = {name: tensor.clone() for name, tensor in delta.tensors().items()}
    change(tensors)
    with pytest.raises((ModelError, KeyError), match=words):
        ExpertDelta.made_of(tensors, delta.settings())


# --------------------------------------------------------------------------- runs and commands


@pytest.mark.slow
def test_runs_of_two_domains_and_a_router_generate(tmp_path, command):
    from stackwise.conformance import small_language_model

    model = small_language_model()
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(
        f'{{"prompt": "say {a} {b}", "response": "{a} {b}"}}\n'
        for a in ("red", "green", "blue", "small") for b in ("red", "green", "blue", "large")
    ))  # fmt: skip
    code, math, router = (tmp_path / name for name in ("code", "math", "router"))
    quick = ["--preset", "quick", "--data", chats]
    for knob in ("steps=8", "evaluate_every=4", "lr=0.01", "samples=10"):
        quick += ["--set", knob]
    both = f"{model}+{code}+{math}"
    for words in (
        ["apply", "brainstacks", model, *quick, "--set", "name=code", "--out", code],
        ["apply", "brainstacks", f"{model}+{code}", *quick, "--set", "name=math", "--out", math],
        ["apply", "brainstacks", both, *quick, "--set", "learn=router", "--out", router],
        ["generate", f"{both}+{router}", "say red"],
        ["probe", "brainstacks", both, "--data", chats, "--out", tmp_path / "seen"],
    ):
        ended, _, error = command(*words)
        assert ended == 0, error
    record = runs.Run(tmp_path / "code").record
    assert record["delta"]["kind"] == "expert-stacks" and record["before"]["scores"]
    with pytest.raises(ModelError, match="holds a delta, a small change beside a base"):
        runs.open_reference(code)
