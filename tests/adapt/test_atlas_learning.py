"""How coefficients are learned: objectives, budgets, what is chosen, what goes on after a stop."""

import copy
import math

import numpy as np
import pytest
import torch
from delta_families import same_bits, state
from scaled_models import base_model, composition, donors_of, rows, set_to, tuned
from torch.nn import functional
from torch.testing import assert_close

from stackwise import atlas
from stackwise.adapt.atlas import allowed_donors, coefficients_of
from stackwise.adapt.atlas.batches import SideBySide
from stackwise.adapt.atlas.budget import gradient_at_zero
from stackwise.adapt.atlas.calls import call_of, entropies, features_of
from stackwise.adapt.atlas.objectives import SharpnessAware, of_contrast
from stackwise.adapt.atlas.ufm import FixMatch, Unlabelled, pseudo_labels
from stackwise.adapt.atlas.views import cut, strong_view, swapped
from stackwise.errors import DataError, Interrupted, ModelError
from stackwise.learning.trainable import trainable
from stackwise.training import ArrayBatches, session, train
from stackwise.training.rules import Backprop

BASE = base_model()
DONORS = donors_of(BASE)
X = rows(count=128)
Y = DONORS[0](X).argmax(1)
LEARN = {"donors": DONORS, "loss": functional.cross_entropy, "device": "cpu", "epochs": 8}


def accuracy(model: torch.nn.Module, y: torch.Tensor = Y) -> float:
    with torch.no_grad():
        return float((model(X).argmax(1) == y).double().mean())


def learned(data: object = (X, Y), **knobs: object) -> torch.nn.Module:
    return atlas(BASE, data, **LEARN | knobs)


def with_rows_held_out(x: torch.Tensor, y: torch.Tensor) -> object:
    """A joined model whose last rows are validation rows, as a learner's task gives it."""

    class Holds:
        network_ = BASE

        def trainable(self, data: object) -> object:
            joined = trainable(BASE, (data[0][:64], data[1][:64]), loss=functional.cross_entropy)
            joined.monitor, joined.mode = "accuracy", "max"
            joined.validate = lambda m: {
                "accuracy": float((m(data[0][64:]).argmax(1) == data[1][64:]).double().mean())
            }
            return joined

        def with_network(self, network: torch.nn.Module) -> object:
            made = copy.copy(self)
            made.network_ = network.eval()
            return made

    return Holds()


# ------------------------------------------------------------------------------- supervised


def test_the_mix_answers_better_and_the_base_and_the_donors_are_as_before():
    before = [state(one) for one in (BASE, *DONORS)]
    made = learned()
    assert accuracy(made) > accuracy(BASE)
    assert all(same_bits(state(o), b) for o, b in zip((BASE, *DONORS), before, strict=True))
    assert not made._backward_hooks and all(w.requires_grad for w in made.parameters())
    assert not any(w._post_accumulate_grad_hooks for w in made.parameters())
    found = coefficients_of(made)
    assert found.summary["loss after"] < found.summary["loss before"]
    assert found.summary["coefficients"] == 3 * 6 and found.summary["blocks"] == 6


@pytest.mark.parametrize("how", [{}, {"scaling": "weights"}, {"linearised": True}])
def test_what_is_chosen_is_never_worse_than_the_base_on_held_out_rows(how: dict):
    for seed in range(3):
        torch.manual_seed(seed)
        noise = torch.randint(0, 3, (128,))  # nothing can be learned
        model = with_rows_held_out(X, noise)
        made = atlas(model, (X, noise), donors=DONORS, device="cpu", epochs=2, lr=1.0, **how)
        summary = coefficients_of(made).summary
        assert summary["accuracy after"] >= summary["accuracy before"]
        if "note" in summary:
            assert same_bits(state(made.network_), state(BASE))


def test_keep_last_looks_at_no_held_out_rows():
    model = with_rows_held_out(X, Y)
    made = atlas(model, (X, Y), donors=DONORS, device="cpu", epochs=2, keep="last")
    summary = coefficients_of(made).summary
    assert not any("accuracy" in name for name in summary)


def test_the_head_is_learned_on_the_frozen_mix_and_comes_back_after_a_stop(tmp_path):
    mixed = state(learned(epochs=2))
    whole = learned(epochs=2, head_epochs=4, head_lr=0.05)
    for name, weight in state(whole).items():
        assert torch.equal(weight, mixed[name]) != name.startswith("head."), name
    assert accuracy(whole) > 0.5 and all(w.requires_grad for w in whole.parameters())

    def stop(event: dict) -> None:
        if event.get("phase") == "head" and event.get("epoch") == 2:
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        learned(epochs=2, head_epochs=4, head_lr=0.05)
    with session(folder=tmp_path, resume=True):
        again = learned(epochs=2, head_epochs=4, head_lr=0.05)
    assert same_bits(state(again), state(whole))


def test_a_head_that_gets_no_better_stays():
    model = with_rows_held_out(X, Y)
    more = {"donors": DONORS, "device": "cpu", "epochs": 1, "lr": 1e-6}
    mixed = atlas(model, (X, 2 - Y), **more)
    made = atlas(model, (X, 2 - Y), **more, head_epochs=1, head_lr=1e-9)
    assert same_bits(state(made.network_), state(mixed.network_))


def test_no_donor_that_helps_gives_the_base_back():
    made = atlas(BASE, (X, BASE(X).argmax(1)), **LEARN | {"lr": 30.0})
    assert same_bits(state(made), state(BASE))
    assert "no donor helped" in coefficients_of(made).summary["note"]


def test_further_data_are_learned_beside_the_data():
    other = DONORS[1](X).argmax(1)
    made = learned(control=[(X, other)])
    summary = coefficients_of(made).summary
    assert summary["relative after"] < summary["relative before"] == 1.0
    assert summary["loss_1 after"] < summary["loss_1 before"]


def test_penalties_are_the_mean_over_blocks_of_norms_over_donors():
    made = composition(BASE, DONORS)
    set_to(made, torch.randn(made.values.shape))
    values = made.values.detach()[:, :, 0]
    assert_close(made.penalty(0.5, 0.0), 0.5 * values.abs().sum(0).mean())
    assert_close(made.penalty(0.0, 0.5), 0.5 * values.norm(dim=0).mean(), rtol=1e-5, atol=1e-6)
    plain = coefficients_of(learned()).tables["coefficients"].iloc[:, 1:].abs().to_numpy()
    small = coefficients_of(learned(l1=0.5)).tables["coefficients"].iloc[:, 1:].abs().to_numpy()
    assert small.sum() < plain.sum()


def test_the_search_takes_the_best_of_21_and_0_among_them():
    made = learned(alpha="search", donors=DONORS[:1])
    alpha = coefficients_of(made).summary["alpha"]
    losses = {
        one / 20: float(functional.cross_entropy(
            atlas(BASE, donors=DONORS[:1], alpha=one / 20)(X), Y))
        for one in range(21)
    }  # fmt: skip
    assert alpha == pytest.approx(min(losses, key=losses.get))


# ------------------------------------------------------------------------------- negation


def test_negation_forgets_the_data_and_keeps_the_control():
    target, control = Y, BASE(X).argmax(1)
    model = with_rows_held_out(X, Y)
    made = atlas(model, (X, target), donors=DONORS[:1], objective="negate",
                 control=[(X, control)], device="cpu", epochs=8)  # fmt: skip
    summary = coefficients_of(made).summary
    assert summary["control_0 after"] >= 0.95 * summary["control_0 before"]
    assert summary["target after"] <= summary["target before"]


def test_a_control_that_is_lost_loses_to_one_that_is_kept():
    from stackwise.adapt.atlas.objectives import forgetting

    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy)
    control = trainable(BASE, (X, BASE(X).argmax(1)), loss=functional.cross_entropy)
    judge = forgetting(joined, [control], 0.95, BASE)
    kept, lost = judge(BASE), judge(tuned(BASE, 3, 5.0))
    assert kept["remembered"] == pytest.approx(kept["target"])
    assert lost["remembered"] > kept["remembered"]


# ------------------------------------------------------------------------------- without labels


def test_labels_are_not_looked_at():
    for objective in ("entropy", "ufm", "simclr"):
        one, other = (
            learned(data, objective=objective, epochs=2, lr=0.5) for data in ((X, Y), (X, 2 - Y))
        )
        assert same_bits(state(one), state(other)), objective


def test_a_call_is_read_off_a_loss_without_running_the_model():
    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy)
    batch = next(iter(joined.batches.epoch(0)))
    call = call_of(joined.loss, BASE, batch)
    assert torch.equal(call.answer(BASE), BASE(batch["x"]))
    features = features_of(BASE, call)
    assert torch.equal(BASE.head(features), call.answer(BASE))


def test_entropy_is_that_of_sure_answers_and_the_step_begins_where_it_was():
    output = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
    assert_close(entropies(output)[0], torch.tensor(math.log(2)))
    made = composition(BASE, DONORS)
    rule = SharpnessAware(
        trainable(BASE, (X, Y), loss=functional.cross_entropy).loss, 0.0, 0.0, lr=1e-3
    )
    sharp = copy.deepcopy(BASE)
    with torch.no_grad():
        sharp.head.weight.mul_(20)
    made = composition(sharp, [tuned(sharp, s) for s in (1, 2)])
    trained = train(made, rule, ArrayBatches({"x": X, "y": Y}, 64), max_epochs=1, device="cpu")
    values = trained.model.values.detach()
    assert 0 < float(values.abs().max()) <= 2.5e-3  # two steps of Adam at 1e-3, not rho


def test_the_first_of_each_class_are_trusted():
    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy)
    samples = Unlabelled(joined.batches, joined.loss, lambda: BASE, size=16)
    samples.estimate()
    sure = BASE(samples.rows["0"]).softmax(1)
    most = min(128 // 3, 100)
    for one in range(3):
        mine = samples.places[samples.labels == one]
        assert len(mine) <= most
        assert set(mine.tolist()) <= set(sure[:, one].topk(most).indices.tolist())
    batch = next(samples.epoch(0))
    assert len(batch["rows"]["0"]) == 16 and len(batch["trusted"]) == 4
    rows_of_trusted = {tuple(row.tolist()) for row in samples.rows["0"][samples.places]}
    assert {tuple(row.tolist()) for row in batch["rows"]["0"][:4]} <= rows_of_trusted


def test_pseudo_labels_flatten_as_printed_and_sharpen_above_one():
    plain = torch.tensor([[0.7, 0.2, 0.1]])
    assert_close(pseudo_labels(plain, 1.0), plain)
    flat, sharp = pseudo_labels(plain, 0.5), pseudo_labels(plain, 2.0)
    assert_close(flat.sum(1), torch.ones(1))
    assert flat.max() < plain.max() < sharp.max()


def test_ufm_asks_for_more_and_more_sureness():
    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy)
    made = composition(BASE, DONORS)
    samples = Unlabelled(joined.batches, joined.loss, made.composed, size=32)
    seen = []

    class Watched(FixMatch):
        def of_batch(self, network: torch.nn.Module, batch: dict) -> torch.Tensor:
            seen.append(self.threshold)
            return super().of_batch(network, batch)

    train(made, Watched(samples, 0.5, 0.0, 0.0), samples, max_epochs=3, device="cpu")
    assert seen[0] == 0.9 and seen == sorted(seen) and seen[-1] < 1.0


def test_a_number_a_sample_is_nothing_to_be_sure_of():
    base = base_model()
    base.head = torch.nn.Linear(8, 1)
    loss = lambda output, y: (output[:, 0] - y).square().mean()  # noqa: E731
    with pytest.raises(ModelError, match="1 number a sample"):
        atlas(base, (X, Y.float()), donors=donors_of(base), loss=loss, objective="entropy")


def test_contrast_is_small_where_two_views_are_nearest_each_other():
    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy)
    batch = {"x": X[:6], "y": Y[:6]}
    torch.manual_seed(0)
    found = of_contrast(joined.loss)(BASE, batch)
    torch.manual_seed(0)
    call = call_of(joined.loss, BASE, batch)
    views = [call.having(strong_view(call.tensors())) for _ in range(2)]
    z = functional.normalize(torch.cat([features_of(BASE, view) for view in views]), dim=1)
    total = 0.0
    for i in range(12):
        others = [math.exp(float(z[i] @ z[j]) / 0.1) for j in range(12) if j != i]
        total -= math.log(math.exp(float(z[i] @ z[(i + 6) % 12]) / 0.1) / sum(others))
    assert float(found.detach()) == pytest.approx(total / 12, rel=1e-4)


def test_views_keep_shapes_and_columns():
    torch.manual_seed(0)
    pictures = torch.rand(8, 1, 9, 7)
    assert cut(pictures).shape == pictures.shape and not torch.equal(cut(pictures), pictures)
    assert cut(torch.ones(2, 3, 5, 5)).allclose(torch.ones(2, 3, 5, 5), atol=1e-5)
    codes = torch.randint(0, 4, (40, 3)) + torch.tensor([0, 10, 20])
    other = swapped(codes)
    assert 0 < float((other != codes).double().mean()) < 0.25
    assert torch.equal(other // 10, codes // 10)  # each stays in its column
    mask = {"attention_mask": torch.ones(4, 5), "labels": torch.arange(4)}
    assert strong_view(mask)["attention_mask"] is mask["attention_mask"]


# ------------------------------------------------------------------------------- budgets


def test_a_budget_of_all_donors_leaves_none_out():
    gradient = torch.randn(3, 5)
    for how in ("grad-block", "grad", "random"):
        assert bool(allowed_donors(how, 3, (3, 5), gradient=gradient).all())


def test_blocks_take_the_donors_of_the_largest_gradients():
    gradient = torch.tensor([[3.0, 0.1, 2.0], [-4.0, 0.2, 0.0], [0.0, -5.0, 1.0]])
    blockwise = allowed_donors("grad-block", 1, (3, 3), gradient=gradient)
    assert blockwise.int().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    whole = allowed_donors("grad", 1, (3, 3), gradient=gradient)
    assert whole.int().tolist() == [[0] * 3, [0] * 3, [1] * 3]
    near = allowed_donors("features", 1, (3, 2), target=torch.tensor([1.0, 0.0]),
                          donors=[torch.tensor([0.0, 1.0]), torch.tensor([2.0, 0.1]),
                                  torch.tensor([-1.0, 0.0])])  # fmt: skip
    assert near[:, 0].tolist() == [False, True, False]
    drawn = [allowed_donors("random", 1, (3, 2), seed=s)[:, 0].tolist() for s in range(12)]
    assert len({tuple(one) for one in drawn}) > 1


def test_the_gradient_of_a_choice_is_that_of_the_loss_at_the_base():
    made = composition(BASE, DONORS)
    joined = trainable(BASE, (X, Y), loss=functional.cross_entropy, batch_size=128)
    found = gradient_at_zero(made, joined, joined.loss)
    step = 1e-3
    for donor, block in ((0, 0), (2, 4)):
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                made.values.zero_()
                made.values[donor, block] = sign * step
            losses.append(float(functional.cross_entropy(made.composed()(X), Y)))
        assert float(found[donor, block]) == pytest.approx(
            (losses[0] - losses[1]) / (2 * step), rel=0.05, abs=1e-3
        )


@pytest.mark.parametrize("select", ["grad-block", "grad", "random", "features"])
def test_within_a_budget_each_block_has_so_many_donors(select: str):
    more = {"donor_data": [(X, Y), (-X, Y), (2 * X, Y)]} if select == "features" else {}
    made = learned(budget=2, select=select, epochs=1, **more)
    table = coefficients_of(made).tables["coefficients"].iloc[:, 1:]
    assert (table.notna().sum(axis=1) == 2).all()
    with pytest.raises(DataError, match="names 1 sources for 3 donors"):
        learned(budget=1, select="features", donor_data=[(X, Y)])


# ------------------------------------------------------------------------------- steps and stops


def test_batches_side_by_side_go_on_from_any_step():
    first, other = (ArrayBatches({"x": torch.arange(n)}, 4, seed=n) for n in (20, 12))
    both = SideBySide(first, [other])
    assert len(both) == 5
    whole = [batch for epoch in range(3) for batch in both.epoch(epoch)]
    late = list(both.epoch(1, 2)) + list(both.epoch(2))
    for one, again in zip(whole[7:], late, strict=True):
        assert all(torch.equal(a["x"], b["x"]) for a, b in zip(one, again, strict=True))
    seen = torch.cat([pair[1]["x"] for pair in whole[:3]])
    assert sorted(seen.tolist()) == list(range(12))


def test_few_rows_take_more_passes():
    made = learned((X[:8], Y[:8]), epochs=1, min_steps=30)
    assert float(coefficients_of(made).tables["coefficients"].iloc[:, 1:].abs().max().max()) > 0.11


@pytest.mark.parametrize("objective", ["supervised", "ufm", "entropy", "negate"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(objective: str, tmp_path):
    more = {"objective": objective, "epochs": 4, "batch_size": 32, "lr": 0.3}
    if objective == "negate":
        more["control"] = [(X[:70], BASE(X[:70]).argmax(1))]
    whole = state(learned(**more))

    def stop(event: dict) -> None:
        if event.get("epoch") == 2:
            raise Interrupted("stop")

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        learned(**more)
    with session(folder=tmp_path, resume=True):
        assert same_bits(state(learned(**more)), whole)
    sizes = [path.stat().st_size for path in (tmp_path / "checkpoint").iterdir()]
    assert sum(sizes) < 40_000  # coefficients, and no weights
    assert (tmp_path / "coefficients.csv").is_file()
    assert (tmp_path / "figures" / "coefficients.png").is_file()


def test_the_time_limit_ends_learning():
    made = learned(time_limit=1e-3, epochs=10_000)
    assert np.isfinite(coefficients_of(made).tables["coefficients"].iloc[:, 1:].to_numpy()).all()


def test_a_rule_sees_coefficients_alone():
    made = composition(BASE, DONORS)
    rule = Backprop(lambda model, batch: model.written()(batch["x"]).mean(), weight_decay=0.1)
    rule.optimizers(made)
    assert [tuple(p.shape) for p in rule.parameters] == [(3, 8, 1)]
    assert list(made.state_dict()) == ["values"]
