import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise import HopularClassifier, HopularRegressor
from stackwise.build.hopular import Hopular
from stackwise.build.hopular.masking import Masking, annealed, attribute_losses, target_loss
from stackwise.build.hopular.rule import Followed
from stackwise.errors import DataError, KnobError, ModelError

SMALL = {"feature_dim": 8, "heads": 2, "blocks": 1, "max_epochs": 3}


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def network(rows=12, by_class=True, **more):
    made = Hopular(
        n_numeric=3, cardinalities=[4, 5], n_outputs=3 if by_class else 1, by_class=by_class,
        memory_rows=rows, feature_dim=8, heads=2, blocks=2, **more,
    ).eval()  # fmt: skip
    x, c = inputs(rows)
    y = torch.randint(0, 3, (rows,)) if by_class else torch.randn(rows)
    return made.remember(x, c, y)


def inputs(rows=6):
    return torch.randn(rows, 3), torch.stack([torch.randint(0, n, (rows,)) for n in (4, 5)], 1)


@pytest.mark.parametrize("by_class", [True, False])
def test_the_order_of_the_stored_rows_does_not_matter(by_class):
    made = network(by_class=by_class)
    x, c = inputs()
    with torch.no_grad():
        before = made(x, c)
        order = torch.randperm(12)
        made.remember(*(m[order].clone() for m in (
            made.memory_numeric, made.memory_categorical, made.memory_target)))  # fmt: skip
        assert torch.allclose(made(x, c), before, atol=1e-6)


def test_the_order_of_the_asking_rows_is_that_of_the_answers():
    made = network()
    x, c = inputs()
    order = torch.randperm(6)
    assert torch.allclose(made(x[order], c[order]), made(x, c)[order], atol=1e-6)


def test_storing_every_row_twice_changes_no_answer():
    made = network()
    x, c = inputs()
    twice = Hopular(**made.arguments | {"memory_rows": 24}).eval()
    state = made.state_dict()
    doubled = {n: torch.cat([t, t]) if n.startswith("memory_") else t for n, t in state.items()}
    twice.load_state_dict(doubled)
    assert torch.allclose(twice(x, c), made(x, c), atol=1e-5)


def test_a_row_in_training_does_not_see_its_own_target():
    made = network()
    rows = made.unknown(made.memory_numeric, made.memory_categorical)
    own = torch.arange(12)
    before = made.attribute_answers(rows, own=own)
    seen = made.attribute_answers(rows)
    made.memory_target[4] = (made.memory_target[4] + 1) % 3
    made._stored = None
    after = made.attribute_answers(rows, own=own)
    assert torch.allclose(after[4], before[4], atol=1e-6)
    assert not torch.allclose(after[5], before[5], atol=1e-6)  # the others do see it
    made._stored = None
    assert not torch.allclose(made.attribute_answers(rows)[4], seen[4], atol=1e-6)


def test_a_step_on_some_stored_rows_leaves_the_own_one_out_too():
    made = network()
    rows = made.unknown(made.memory_numeric, made.memory_categorical)
    subset = torch.tensor([7, 2, 9, 4])
    own = torch.full((12,), -1)
    own[subset] = torch.arange(4)
    before = made.attribute_answers(rows, own=own, subset=subset)
    made.memory_target[9] = (made.memory_target[9] + 1) % 3
    after = made.attribute_answers(rows, own=own, subset=subset)
    assert torch.allclose(after[9], before[9], atol=1e-6)
    assert not torch.allclose(after[0], before[0], atol=1e-6)


def test_a_kept_memory_answers_like_a_fresh_one():
    made = network()
    x, c = inputs()
    with torch.no_grad():
        made(x, c)  # keeps keys and values
        kept = made(x, c)
        made._stored = None
        assert torch.equal(made(x, c), kept)
        next(made.parameters()).add_(1.0)
    made.train()
    made.eval()
    assert not torch.allclose(made(x, c), kept)


@pytest.mark.parametrize("how", ["chunked", "nearest"])
def test_every_way_of_looking_up_gives_the_same_answer(how):
    made = network(memory=how, neighbours=12)
    plain = copy.deepcopy(made)
    plain.how = "full"
    x, c = inputs()
    assert torch.allclose(made(x, c), plain(x, c), atol=1e-5)


def test_the_value_of_a_missing_or_masked_cell_counts_for_nothing():
    made = network(by_class=False)
    x, c = inputs()
    x[0, 1] = torch.nan
    rows = made.unknown(x, c)
    before = made.attribute_answers(rows)
    rows.target += 5  # masked
    rows.masked[2, 0] = rows.masked[2, 5] = True
    masked = made.attribute_answers(rows)
    rows.numeric[2, 0], rows.categorical[2, 1] = 9.0, 3
    assert torch.allclose(made.attribute_answers(rows)[2], masked[2], atol=1e-6)
    assert torch.allclose(masked[0], before[0], atol=1e-6)
    unseen, cut = c.clone(), c.clone()
    unseen[:, 0], cut[:, 0] = 4, 99
    assert torch.equal(made(x, unseen), made(x, cut))


def test_masked_and_missing_are_told_apart():
    made = network()
    x, c = inputs()
    rows = made.unknown(x, c)
    rows.masked[:, 0] = True
    hidden = made.attribute_answers(rows)
    gone = made.attribute_answers(made.unknown(x.index_fill(1, torch.tensor([0]), torch.nan), c))
    assert not torch.allclose(hidden, gone)


def test_attributes_may_change_places_with_their_weights():
    made = network()
    other = copy.deepcopy(made)
    order = [2, 0, 1]  # of the numbers; categories and target stay
    places = torch.tensor([*order, 3, 4, 5])
    e, d = 8, 6 * 8
    within = torch.cat([torch.arange(p * e, p * e + e) for p in places.tolist()])
    with torch.no_grad():
        embedding = other.embedding
        embedding.values.copy_(embedding.values[order])
        for name in ("flag", "bias", "position", "scale", "shift"):
            getattr(embedding, name).copy_(getattr(embedding, name)[places])
        embedding.project.weight.copy_(embedding.project.weight[places])
        embedding.project.bias.copy_(embedding.project.bias[places])
        for block in other.blocks:
            for norm in (block.sample_norm, other.answer_norm):
                assert torch.equal(norm.weight, torch.ones(d))
            lookup = block.sample_lookup
            for layer in (lookup.query, lookup.key, lookup.value):
                layer.weight.copy_(layer.weight[:, within])
            lookup.out.weight.copy_(lookup.out.weight[within])
            lookup.out.bias.copy_(lookup.out.bias[within])
        other.answer.weight.copy_(other.answer.weight[:, within])
    other.remember(made.memory_numeric[:, order], made.memory_categorical, made.memory_target)
    x, c = inputs()
    assert torch.allclose(other(x[:, order], c), made(x, c), atol=1e-5)


def test_attributes_are_hidden_as_often_as_is_asked():
    made = network(rows=4)
    x, c = inputs(4000)
    y = torch.randint(0, 3, (4000,))
    rows, selected = Masking(0.5, 0.6, 0.3).hide(made, x, c, y)
    assert not selected[:, made.target_place].any()
    assert rows.masked[:, made.target_place].all()
    others = [0, 1, 2, 3, 4]
    assert selected[:, others].float().mean().item() == pytest.approx(0.5, abs=0.02)
    share = rows.masked[:, others].sum() / selected[:, others].sum()
    assert share.item() == pytest.approx(0.6, abs=0.02)
    changed = (rows.numeric != x) & selected[:, :3]
    assert changed.sum().item() / selected[:, :3].sum().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(rows.numeric[~selected[:, :3]], x[~selected[:, :3]])


def test_the_loss_is_the_mean_of_the_attributes_means():
    made = network()
    x, c = inputs(4)
    x[0, 0] = torch.nan
    answers = torch.randn(4, 3 + 4 + 5 + 3)
    selected = torch.zeros(4, 6, dtype=torch.bool)
    selected[[0, 1, 2], 0] = selected[[3], 2] = selected[[0, 2], 3] = True
    found = attribute_losses(made, answers, x, c, selected)
    expected = [
        (answers[[1, 2], 0] - x[[1, 2], 0]).square().mean(),
        (answers[3, 2] - x[3, 2]).square(),
        torch.nn.functional.cross_entropy(answers[[0, 2], 3:7], c[[0, 2], 0]),
    ]
    assert torch.allclose(found, torch.stack(expected))
    y, weight = torch.tensor([0, 1, 2, 1]), torch.tensor([1.0, 2.0, 0.0, 1.0])
    wanted = torch.nn.functional.cross_entropy(answers[:, 12:], y, reduction="none")
    assert torch.allclose(target_loss(made, answers, y, weight), (wanted * weight).mean())


def test_the_mix_goes_from_the_attributes_to_the_target():
    shares = [annealed(step, 11) for step in range(11)]
    assert shares[0] == 1 and shares[10] == pytest.approx(0) and shares[5] == pytest.approx(0.5)
    assert shares == sorted(shares, reverse=True)


def test_slow_weights_follow_and_answer():
    both = Followed(network())
    start = both.slow.answer.weight.clone()
    with torch.no_grad():
        both.fast.answer.weight += 1
    both.follow(0.25)
    both.follow(0.25)
    assert torch.allclose(both.slow.answer.weight, start + 1 - 0.75**2)
    x, c = inputs()
    assert torch.equal(both.eval()(x, c), both.slow(x, c))
    both.follow(0.5, pull_back=True)
    assert torch.equal(both.fast.answer.weight, both.slow.answer.weight)
    both.follow(1.0)
    assert torch.equal(both.fast.answer.weight, both.slow.answer.weight)


def table(rows=90):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=rows), "z": rng.normal(size=rows),
                          "town": rng.choice(["Ulm", "Bonn", None], rows)})  # fmt: skip
    frame.loc[::9, "z"] = np.nan
    return frame, 5 + frame["x"].to_numpy() + 2 * (frame["town"] == "Ulm").to_numpy()


def test_it_learns_a_table_with_missing_cells():
    frame, y = table(240)
    fitted = HopularRegressor(feature_dim=8, heads=2, blocks=1, max_epochs=200, lr=0.03).fit(
        frame[:180], y[:180]
    )
    assert fitted.score(frame[180:], y[180:]) > 0.8
    labels = np.where(y > 6, "high", "low")
    by_class = HopularClassifier(feature_dim=8, heads=2, blocks=1, max_epochs=80, lr=0.02)
    assert by_class.fit(frame[:180], labels[:180]).score(frame[180:], labels[180:]) > 0.85


def test_lookups_name_training_rows_with_weights_that_sum_to_one():
    frame, y = table()
    fitted = HopularRegressor(**SMALL, validation=0).fit(frame, y)
    found = fitted.lookups(frame[:5], top=90)
    assert found["rows"].shape == found["weights"].shape == (5, 1, 90)
    assert np.allclose(found["weights"].sum(-1), 1, atol=1e-5)
    assert sorted(found["rows"][0, 0]) == list(range(90))
    assert (np.diff(found["weights"], axis=-1) <= 0).all()


def test_a_kept_model_holds_the_training_rows_and_answers_to_the_bit(tmp_path):
    frame, y = table()
    fitted = HopularRegressor(**SMALL, validation=0).fit(frame, y)
    fitted.save(tmp_path)
    again = HopularRegressor.load(tmp_path)
    assert (again.predict(frame) == fitted.predict(frame)).all()
    assert len(again.network_.memory_target) == 90


def test_a_prediction_does_not_depend_on_the_rows_beside_it():
    frame, y = table()
    fitted = HopularRegressor(**SMALL).fit(frame, y)
    whole = fitted.predict(frame)
    assert all(fitted.predict(frame.iloc[[i]])[0] == whole[i] for i in (0, 13, 89))


def test_the_nearest_rows_tell_their_error(tmp_path):
    frame, y = table()
    fitted = HopularRegressor(**SMALL, memory="nearest", neighbours=20, validation=0).fit(frame, y)
    assert 0 < fitted.memory_error_ < 5
    assert "20 nearest rows differ by at most" in fitted.notes_[-1]
    fitted.save(tmp_path)
    assert HopularRegressor.load(tmp_path).memory_error_ == fitted.memory_error_


@pytest.mark.parametrize("size", [None, 20])
def test_a_fit_that_was_cut_off_ends_with_the_same_bits(size, tmp_path, monkeypatch):
    from stackwise.errors import Interrupted
    from stackwise.training.session import session

    frame, y = table(60)
    given = SMALL | {"max_epochs": 6, "batch_size": 20, "memory_size": size}

    def fit(folder, resume=False):
        with session(folder=folder, resume=resume):
            return HopularRegressor(**given).fit(frame, y)

    whole = fit(tmp_path / "a").network_.state_dict()
    steps = []
    step = torch.optim.Optimizer.zero_grad

    def stop(self, *given, **more):
        steps.append(1)
        if len(steps) == 8:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *given, **more)

    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", stop)
    with pytest.raises(Interrupted):
        fit(tmp_path / "b")
    again = fit(tmp_path / "b", resume=True).network_.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_what_would_not_fit_is_refused_beforehand_with_what_would():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(10_500, 2)), columns=["a", "b"])
    with pytest.raises(DataError, match=r"GiB in exact mode.*memory='chunked' \(same result"):
        HopularRegressor(max_epochs=1, validation=0).fit(frame, frame["a"])
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 300)))
    with pytest.raises(DataError, match="feature_dim=8 would fit"):
        HopularRegressor(max_epochs=1, memory_limit=1.0).fit(wide, wide[0])


def test_bad_knobs_and_transforms_are_refused():
    frame, y = table()
    with pytest.raises(KnobError, match="3 probabilities"):
        HopularRegressor(dropout=(0.1,)).fit(frame, y)
    with pytest.raises(KnobError, match="at most 1, got 1.5"):
        HopularRegressor(mask=0.9, replace=0.6).fit(frame, y)
    with pytest.raises(ModelError, match="left out of its memory"):
        HopularRegressor(**SMALL).fit(frame, y).trainable((frame, y))


def test_arguments_are_plain_json():
    made = network()
    again = Hopular(**json.loads(json.dumps(made.arguments)))
    again.load_state_dict(made.state_dict())
    x, c = inputs()
    assert torch.equal(again.eval()(x, c), made(x, c))


@parametrize_with_checks(
    [
        kind(**SMALL | {"max_epochs": 40, "lr": 0.03})
        for kind in (HopularRegressor, HopularClassifier)
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out"
    },
)
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
