"""Gradual pruning: exact counts, exact schedules, and what masks do to gradients and weights."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

from stackwise import gradual_pruning
from stackwise.catalog import card
from stackwise.errors import Interrupted
from stackwise.runs.request import chosen_knobs
from stackwise.shrink.gradual_pruning import (
    GradualRule,
    Schedule,
    attach,
    cubic_sparsity,
    detach,
    global_masks,
    kept_count,
    magnitude_mask,
    pattern_mask,
    prunable,
    small_dense,
    sparsity,
)
from stackwise.sparse_files import encoded_bytes, load_sparse, save_sparse
from stackwise.training import ArrayBatches, session, train


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 3))


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 8, generator=generator)
    return x, x[:, :3].argmax(1)


def pruned(model: nn.Module, **knobs):
    x, y = rows()
    options = {"sparsity": 0.8, "epochs": 6, "every": 2, "batch_size": 16} | knobs
    return gradual_pruning(model, (x, y), loss=functional.cross_entropy, **options)


def test_the_curve_begins_and_ends_exactly_and_never_rises_back():
    curve = [cubic_sparsity(t, start=10, end=40, initial=0.1, final=0.9) for t in range(60)]
    assert curve[10] == pytest.approx(0.1)
    assert curve[40] == 0.9
    assert all(a <= b for a, b in itertools.pairwise(curve))
    assert curve[25] == pytest.approx(0.9 - 0.8 * 0.5**3)
    straight = cubic_sparsity(25, start=10, end=40, final=0.8, exponent=1)
    assert straight == pytest.approx(0.4)


def test_the_curve_equals_that_of_torch():
    scheduler = pytest.importorskip("torch.ao.pruning").CubicSL
    for t in range(5, 35, 5):
        theirs = scheduler.sparsity_compute_fn(
            s_0=0.0, s_f=0.9, t=t, t_0=5, dt=5, n=6, initially_zero=False
        )
        assert cubic_sparsity(t, start=5, end=35, final=0.9) == pytest.approx(theirs)


def test_the_last_update_is_the_end_also_where_the_span_is_no_multiple():
    plan = Schedule.within(100, start=0.1, end=0.75, every=20, exponent=3, kind="gradual")
    assert plan.updates == [10, 30, 50, 70, 75]
    assert plan.sparsity(75, initial=0, final=0.9) == 0.9


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"start": 0.8, "end": 0.5}, r"start \(0\.8\) must come before end \(0\.5\)"),
        ({"start": 100.0, "end": 200.0}, r"the run has 36 steps, pruning starts at 100"),
        ({"sparsity": 1.0}, r"sparsity must be at least 0 and below 1, got 1\.0"),
        ({"initial": 0.95}, r"initial \(0\.95\) must not exceed sparsity \(0\.8\)"),
        ({"include": ["conv"]}, r"no weight matched .*prunable weights are: 0\.weight, 3\.weight"),
        ({"per_layer": {"0": 0.5, "weight": 0.6}}, r"0\.weight matches two patterns"),
        ({"pattern": "3:5"}, r"needs the last dimension divisible by 5, the weight has 8"),
        ({"pattern": "4:2"}, r"pattern must be kept:group"),
        ({"block": [3, 3]}, r"blocks of 3 x 3 do not fill"),
        ({"scope": "global", "block": [2, 2]}, r"scope global ranks single weights"),
    ],
)
def test_bad_settings_get_one_sentence(knobs, words):
    with pytest.raises(ValueError, match=words):
        pruned(net(), **knobs)


def test_few_rows_take_the_steps_that_pruning_needs_unless_the_user_says_how_many_epochs():
    of = card("gradual-pruning")
    (entry,) = of.entries
    for preset in ("quick", None):
        assert chosen_knobs(of, entry, preset, {})["min_steps"] == 500
        assert "min_steps" not in chosen_knobs(of, entry, preset, {"epochs": 2})
    told = []
    with session(on_event=told.append):
        pruned(net(), epochs=1, min_steps=50)  # six steps a pass
    assert told[-1]["max_epochs"] == 9
    with session(on_event=told.append):
        pruned(net(), epochs=3, min_steps=5)
    assert told[-1]["max_epochs"] == 3


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("weight", [torch.randn(7, 9), torch.ones(4, 5), torch.randn(1, 1)])
def test_a_mask_keeps_exactly_the_largest(weight: Tensor, share: float):
    mask = magnitude_mask(weight, share)
    assert int(mask.sum()) == kept_count(weight.numel(), share)
    if not mask.all():
        assert weight[mask].abs().min() >= weight[~mask].abs().max()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_masks_equal_those_of_torch(share: float):
    layer = nn.Linear(12, 10)
    ours = magnitude_mask(layer.weight, share)
    count = layer.weight.numel() - kept_count(layer.weight.numel(), share)
    torch_prune.l1_unstructured(layer, "weight", amount=count)
    assert torch.equal(ours, layer.weight_mask.bool())


def test_global_masks_equal_those_of_torch():
    model = net()
    weights = {name: place.parameter for name, place in prunable(model).items()}
    ours = global_masks(weights, 0.7)
    total = sum(w.numel() for w in weights.values())
    torch_prune.global_unstructured(
        [(model[0], "weight"), (model[3], "weight")],
        pruning_method=torch_prune.L1Unstructured,
        amount=total - kept_count(total, 0.7),
    )
    assert torch.equal(ours["0.weight"], model[0].weight_mask.bool())
    assert torch.equal(ours["3.weight"], model[3].weight_mask.bool())


def test_two_of_four_has_two_zeros_in_each_group_and_blocks_go_together():
    weight = torch.randn(6, 8)
    mask = pattern_mask(weight, 2, 4)
    assert (mask.unflatten(-1, (-1, 4)).sum(-1) == 2).all()
    blocks = magnitude_mask(weight, 0.5, (3, 2)).unfold(0, 3, 3).unfold(1, 2, 2)
    assert set(blocks.flatten(2).sum(-1).flatten().tolist()) == {0, 6}


def test_masked_weights_get_no_gradient_and_do_not_move():
    model = net()
    places = prunable(model)
    masks = attach(places)
    x, y = rows()
    plan = Schedule(start=0, end=4, every=2)
    rule = GradualRule(
        lambda m, b: functional.cross_entropy(m(b["x"]), b["y"]),
        masks=masks, places=places, targets=dict.fromkeys(places, 0.5), schedule=plan,
        initial=0.5, lr=0.1, weight_decay=0.5,
    )  # fmt: skip
    before = {name: place.parameter.detach().clone() for name, place in places.items()}
    train(model, rule, ArrayBatches({"x": x, "y": y}, 48), max_epochs=1)  # one update of the masks
    for name, place in places.items():
        mask = masks[name].mask
        assert torch.equal(place.parameter[~mask], before[name][~mask])
        assert not torch.equal(place.parameter[mask], before[name][mask])
    rule.loss(model, {"x": x, "y": y}).backward()
    for name, place in places.items():
        assert (place.parameter.grad[~masks[name].mask] == 0).all()


def test_without_regrowth_a_masked_weight_is_zero_for_good():
    model = net()
    places = prunable(model)
    masks = attach(places)
    seen: list[Tensor] = []

    class Watching(GradualRule):
        def prune(self, step: int) -> None:
            super().prune(step)
            seen.append(self.masks["0.weight"].mask.clone())

    x, y = rows()
    rule = Watching(
        lambda m, b: functional.cross_entropy(m(b["x"]), b["y"]),
        masks=masks, places=places, targets=dict.fromkeys(places, 0.8),
        schedule=Schedule(0, 20, 2), regrow=False, lr=0.05,
    )  # fmt: skip
    train(model, rule, ArrayBatches({"x": x, "y": y}, 16), max_epochs=5)
    assert len(seen) == 11
    for earlier, later in itertools.pairwise(seen):
        assert not (later & ~earlier).any()
    assert (places["0.weight"].parameter[~seen[-1]] == 0).all()


def test_baking_the_masks_in_changes_no_output_and_no_name():
    model = net()
    names = list(model.state_dict())
    places = prunable(model)
    masks = attach(places)
    for name, place in places.items():
        masks[name].set(magnitude_mask(place.parameter, 0.7))
    x, _ = rows()
    masked = model(x)
    detach(places)
    assert torch.equal(model(x), masked)
    assert list(model.state_dict()) == names


def test_the_result_has_exactly_the_asked_zeros_and_the_input_is_unchanged():
    model = net()
    before = copy.deepcopy(model.state_dict())
    result = pruned(model, per_layer={"^3": 0.5})
    report = sparsity(result)
    assert report["0.weight"][1] == kept_count(128, 0.8)
    assert report["3.weight"][1] == kept_count(48, 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert list(result.state_dict()) == list(before)


@pytest.mark.parametrize("schedule", ["one-shot", "constant"])
def test_every_schedule_ends_on_the_target(schedule: str):
    assert sparsity(pruned(net(), schedule=schedule))["total"][1] == 26 + 10


def test_global_scope_counts_over_all_weights():
    assert sparsity(pruned(net(), scope="global"))["total"][1] == kept_count(176, 0.8)


def test_pruning_at_once_needs_no_data():
    result = gradual_pruning(net(), sparsity=0.75, epochs=0)
    assert sparsity(result)["0.weight"][2] == 0.75


def test_a_fit_stopped_in_mid_schedule_ends_with_the_same_masks(tmp_path):
    plain = pruned(net(), epochs=10)

    def stop(event):
        if event["epoch"] == 4:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        pruned(net(), epochs=10)
    with session(folder=tmp_path, resume=True):
        again = pruned(net(), epochs=10)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_finished_fit_that_is_resumed_keeps_its_masks(tmp_path):
    knobs = {"epochs": 10, "weight_decay": 0.5, "lr": 0.05, "every": 1, "end": 0.5}
    plain = pruned(net(), **knobs)
    for resume in (False, True):
        with session(folder=tmp_path, resume=resume):
            again = pruned(net(), **knobs)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0]).transpose(1, 2)


def test_tied_and_recurrent_weights_are_pruned_once_and_stay_tied():
    model = Tied()
    tokens = torch.randint(0, 20, (32, 6))
    result = gradual_pruning(
        model, (tokens, tokens), loss=functional.cross_entropy, sparsity=0.5, epochs=4, every=1,
        batch_size=8,
    )  # fmt: skip
    report = sparsity(result)
    assert [name for name in report if name.startswith(("embed", "head"))] == ["embed.weight"]
    assert all(report[name][2] == 0.5 for name in report)
    assert result.head.weight is result.embed.weight
    again = Tied()
    again.load_state_dict(result.state_dict())
    assert torch.allclose(again(tokens), result(tokens), atol=1e-6)


def test_masks_of_recurrent_layers_act_in_the_forward_pass():
    lstm = nn.LSTM(4, 4)
    x = torch.randn(3, 2, 4)
    places = prunable(lstm)
    masks = attach(places)
    for mask in masks.values():
        mask.kept.zero_()
    masked, _ = lstm(x)
    detach(places)
    assert torch.equal(lstm(x)[0], masked)
    assert all((weight == 0).all() for name, weight in lstm.named_parameters() if "weight" in name)


@pytest.mark.parametrize("share", [0.0, 0.6, 0.9, 0.995, 1.0])
def test_a_sparse_file_comes_back_bit_for_bit(tmp_path, share: float):
    weight = torch.randn(300, 700)
    weight[torch.rand(weight.shape) < share] = 0
    tensors = {"w": weight, "b": torch.randn(5), "n": torch.arange(4), "h": weight.bfloat16()}
    size = save_sparse(tensors, tmp_path / "w.safetensors")
    back = load_sparse(tmp_path / "w.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    if share >= 0.9:
        assert size < 0.2 * sum(t.numel() * t.element_size() for t in tensors.values())


def test_bytes_under_the_papers_encodings():
    weight = torch.zeros(80)
    weight[:8] = 1
    assert encoded_bytes({"w": weight}) == {"dense": 320, "mask": 10 + 32, "offsets": 5 + 32}


def test_small_dense_is_the_widest_that_fits():
    def build(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(10, width), nn.Linear(width, 2))

    width = small_dense(build, 500)
    assert sum(p.numel() for p in build(width).parameters()) <= 500
    assert sum(p.numel() for p in build(width + 1).parameters()) > 500


def test_a_fitted_learner_becomes_a_sparse_learner(tmp_path):
    from stackwise import TabMRegressor

    generator = np.random.default_rng(0)
    X = generator.normal(size=(200, 4))
    y = X[:, 0] * 2 + generator.normal(size=200) * 0.1
    fitted = TabMRegressor(k=2, width=16, max_epochs=3).fit(X, y)
    before = fitted.predict(X)
    sparse = gradual_pruning(fitted, (X, y), sparsity=0.8, epochs=4, every=1)
    assert type(sparse) is type(fitted)
    assert sparsity(sparse.network_)["total"][2] == pytest.approx(0.8, abs=0.02)
    assert np.array_equal(fitted.predict(X), before)
    sparse.save(tmp_path / "sparse")
    assert np.array_equal(TabMRegressor.load(tmp_path / "sparse").predict(X), sparse.predict(X))


def test_a_pruned_learner_takes_less_room_on_the_disk(tmp_path):
    from stackwise import MLPRegressor

    X = np.random.default_rng(0).normal(size=(100, 4))
    fitted = MLPRegressor(width=128, max_epochs=1).fit(X, X[:, 0])
    sparse = gradual_pruning(fitted, sparsity=0.95, epochs=0)
    sizes = []
    for name, model in (("dense", fitted), ("sparse", sparse)):
        model.save(tmp_path / name)
        sizes.append((tmp_path / name / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.15 * sizes[0]
    assert np.array_equal(MLPRegressor.load(tmp_path / "sparse").predict(X), sparse.predict(X))
