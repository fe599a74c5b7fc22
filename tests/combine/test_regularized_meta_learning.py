"""Regularised meta-learning: what each stage promises exactly."""

import numpy as np
import pytest

from stackwise.combine.regularized_meta_learning.hill_climbing import hill_climb
from stackwise.combine.regularized_meta_learning.stacked_predictions import (
    StackedPredictions,
    stack_predictions,
)
from stackwise.combine.regularized_meta_learning.stages.blending import (
    inverse_error_weights,
    near_the_best,
)
from stackwise.combine.regularized_meta_learning.stages.meta_features import augment
from stackwise.combine.regularized_meta_learning.stages.penalised import Logistic
from stackwise.combine.regularized_meta_learning.stages.projection import condition_number, project
from stackwise.errors import DataError, KnobError, RunError


def matrix(rows: int = 200, models: int = 6, seed: int = 0, noise: float = 0.5):
    """Predictions with shared and own errors, no two models alike; and the target."""
    rng = np.random.default_rng(seed)
    y = 3 * rng.normal(size=rows) + 10
    shared = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, models))
    own = rng.normal(size=(rows, models)) * np.linspace(1, 2, models)
    return y[:, None] + noise * (shared + own), y


def quick(**knobs):
    return {"meta": ["ridge"], "meta_cv": 3} | knobs


def sparse(**knobs):
    return {"meta": ["ridge", "lasso"], "meta_cv": 2, "tol": 1e-9} | knobs


class TestProjection:
    def columns(self):
        P, y = matrix(models=5)
        rng = np.random.default_rng(1)
        near = P + 0.1 * rng.normal(size=P.shape)
        P = np.hstack([P, near, near[:, :2] + 0.05 * rng.normal(size=(len(P), 2))])
        return P, np.sqrt(np.square(P - y[:, None]).mean(0)), y

    def found(self, P, risks, y, **more):
        options = {"tau_corr": 0.95, "nearness": np.full(P.shape[1], 0.02 * y.var()),
                   "least_variance": 1e-4 * y.var()} | more  # fmt: skip
        return project(P, risks, **options)

    def test_no_two_kept_columns_are_near_copies(self):
        P, risks, y = self.columns()
        kept = self.found(P, risks, y).kept
        assert 2 <= len(kept) < P.shape[1]
        for i in kept:
            for j in kept:
                alike = np.corrcoef(P[:, i], P[:, j])[0, 1] >= 0.95
                near = np.square(P[:, i] - P[:, j]).mean() <= 0.02 * y.var()
                assert i == j or not (alike and near)

    def test_each_dropped_column_has_a_kept_twin_that_is_better(self):
        P, risks, y = self.columns()
        found = self.found(P, risks, y)
        assert sorted([*found.kept, *found.copies]) == list(range(P.shape[1]))
        for j, (k, correlation, distance) in found.copies.items():
            assert k in found.kept and risks[k] < risks[j]
            assert correlation == pytest.approx(np.corrcoef(P[:, j], P[:, k])[0, 1])
            assert distance == pytest.approx(np.square(P[:, j] - P[:, k]).mean())
            assert correlation >= 0.95 and distance <= 0.02 * y.var()

    def test_deleting_columns_raises_the_least_singular_value_and_the_condition_falls(self):
        P, risks, y = self.columns()
        kept = self.found(P, risks, y).kept
        standard = (P - P.mean(0)) / P.std(0)
        least = np.linalg.svd(standard, compute_uv=False)[-1]
        assert np.linalg.svd(standard[:, kept], compute_uv=False)[-1] >= least
        assert condition_number(P[:, kept]) <= condition_number(P)
        assert condition_number(P) == pytest.approx(np.linalg.cond(np.corrcoef(P.T)), rel=1e-6)
        assert condition_number(P) == pytest.approx(np.linalg.cond(standard) ** 2, rel=1e-6)

    def test_of_equal_risks_the_first_column_stays(self):
        P, y = matrix(models=3)
        P = np.hstack([P, P])
        found = self.found(P, np.ones(6), y)
        assert found.kept == [0, 1, 2]
        assert {j: twin[0] for j, twin in found.copies.items()} == {3: 0, 4: 1, 5: 2}

    def test_both_likeness_and_nearness_are_needed(self):
        P, risks, y = self.columns()
        assert len(self.found(P, risks, y, nearness=np.zeros(12)).copies) == 0
        shifted = np.hstack([P[:, :1], P[:, :1] + 100])
        assert len(self.found(shifted, np.arange(2.0), y, nearness=np.ones(2)).kept) == 2

    def test_a_constant_column_goes_whatever_the_threshold(self):
        P, risks, y = self.columns()
        P[:, 1] = 4.2
        found = self.found(P, risks, y, least_variance=0.0)
        assert 1 in found.flat and 1 not in found.kept

    def test_variance_pruning_comes_after_and_strictly_below(self):
        P, risks, y = self.columns()
        variances = P[:, self.found(P, risks, y).kept].var(0)
        cut = float(np.sort(variances)[1])
        assert self.found(P, risks, y, least_variance=cut * (1 + 1e-9)).flat
        assert len(self.found(P, risks, y, least_variance=cut * (1 - 1e-9)).flat) == 1


def test_meta_features_are_what_their_names_say():
    Z = np.random.default_rng(0).normal(size=(7, 5))
    A = augment(Z)
    assert A.shape == (7, 11) and np.array_equal(A[:, :5], Z)
    mean, deviation, median, reach = A[:, 5:9].T
    assert np.allclose(mean, Z.mean(1)) and np.allclose(deviation, Z.std(1))
    assert np.allclose(median, np.median(Z, 1)) and np.allclose(reach, Z.max(1) - Z.min(1))
    assert np.allclose(A[:, 9], mean * deviation) and np.allclose(A[:, 10], reach * deviation)
    assert augment(Z, statistics=False, interactions=False).shape == (7, 5)
    assert augment(Z, interactions=False).shape == (7, 9)
    assert np.linalg.matrix_rank(A[:, :6]) == 5


def test_a_shift_keeps_the_span_of_the_meta_features():
    Z = np.random.default_rng(0).normal(size=(60, 4))
    ones = np.ones((60, 1))
    before, after = (np.hstack([augment(z), ones]) for z in (Z, Z + 5))
    both = np.linalg.matrix_rank(np.hstack([before, after]))
    assert both == np.linalg.matrix_rank(before) == np.linalg.matrix_rank(after)


class TestBlend:
    def test_weights_are_positive_sum_to_1_and_fall_with_the_error(self):
        weights = inverse_error_weights(np.array([0.5, 1.0, 2.0]))
        assert (weights > 0).all() and weights.sum() == pytest.approx(1)
        assert weights == pytest.approx(np.array([4, 2, 1]) / 7)

    def test_equal_errors_and_no_sharpness_give_the_mean(self):
        assert inverse_error_weights(np.full(3, 0.7)) == pytest.approx(np.full(3, 1 / 3))
        assert inverse_error_weights(np.array([1.0, 9.0]), sharpness=0) == pytest.approx([0.5, 0.5])
        assert inverse_error_weights(np.array([1.0, 1.01]), sharpness=5000)[0] > 0.999

    def test_an_error_of_zero_takes_all_without_dividing_by_it(self):
        weights = inverse_error_weights(np.array([0.0, 1.0]))
        assert np.isfinite(weights).all() and weights[0] == pytest.approx(1)
        assert inverse_error_weights(np.zeros(2)) == pytest.approx([0.5, 0.5])

    def test_a_member_is_left_out_above_the_margin_alone(self):
        assert near_the_best(np.array([1.0, 1.019, 1.021]), 0.02).tolist() == [True, True, False]
        assert near_the_best(np.array([1.0, 50.0]), None).all()

    def test_the_blend_is_never_worse_than_the_weighted_errors(self):
        P, y = matrix(rows=120)
        found = stack_predictions(P, y, meta_cv=3, drop_worse=None).stack.pipeline_
        assert set(found.weights_) == {"ridge", "lasso", "elasticnet"}
        bound = sum(found.weights_[name] * found.errors_[name] for name in found.weights_)
        assert found.score_ <= bound + 1e-12
        assert found.score_ == pytest.approx(np.sqrt(np.square(found.oof_ - y).mean()))


class TestInvariance:
    def test_a_duplicated_model_changes_nothing(self):
        P, y = matrix()
        twice = np.hstack([P, P[:, [2]]])
        new, _ = matrix(seed=1)
        plain = stack_predictions(P, y, new, **quick())
        other = stack_predictions(twice, y, np.hstack([new, new[:, [2]]]), **quick())
        assert other.stack.kept_ == plain.stack.kept_
        assert other.prediction == pytest.approx(plain.prediction, abs=1e-8)
        assert other.oof == pytest.approx(plain.oof, abs=1e-8)

    def test_the_order_of_models_changes_nothing(self):
        P, y = matrix()
        new, _ = matrix(seed=1)
        order = [3, 0, 5, 1, 4, 2]
        plain = stack_predictions(P, y, new, **sparse())
        turned = stack_predictions(P[:, order], y, new[:, order], **sparse())
        assert turned.prediction == pytest.approx(plain.prediction, rel=1e-6)

    @pytest.mark.parametrize("factor", [1000.0, -0.001])
    def test_another_unit_of_the_target_changes_nothing_else(self, factor: float):
        P, y = matrix()
        new, _ = matrix(seed=1)
        plain = stack_predictions(P, y, new, **sparse())
        scaled = stack_predictions(factor * P, factor * y, factor * new, **sparse())
        assert scaled.stack.kept_ == plain.stack.kept_
        assert scaled.prediction == pytest.approx(factor * plain.prediction, rel=1e-6)

    def test_a_shift_is_followed_exactly_without_interactions(self):
        P, y = matrix()
        new, _ = matrix(seed=1)
        knobs = quick(interactions=False)
        plain = stack_predictions(P, y, new, **knobs)
        shifted = stack_predictions(P + 50, y + 50, new + 50, **knobs)
        assert shifted.prediction == pytest.approx(plain.prediction + 50, rel=1e-6)

    def test_equal_weights_change_nothing(self):
        P, y = matrix(rows=90)
        single = stack_predictions(P, y, P, sample_weight=np.full(90, 7.0), **quick())
        assert single.prediction == pytest.approx(stack_predictions(P, y, P, **quick()).prediction)


class TestHonesty:
    def test_the_error_of_pure_noise_stays_at_the_noise_level(self):
        rng = np.random.default_rng(0)
        y = rng.normal(size=300)
        P = rng.normal(size=(300, 40))
        found = stack_predictions(P, y, **quick(projection=False))
        assert found.score > 0.97 * y.std()

    def test_a_row_is_judged_by_meta_models_that_never_saw_its_target(self):
        P, y = matrix()
        before = stack_predictions(P, y, projection=False, **quick()).oof
        y[17] += 1.0
        moved = stack_predictions(P, y, projection=False, **quick()).oof
        # the row's own fold learned from other rows, whose weights did not change
        assert moved[17] == before[17]
        assert (moved != before).any()

    def test_an_honest_projection_does_not_see_the_target_of_the_rows_that_it_judges(self):
        P, y = matrix(models=4)
        # two copies, of which the target of a single row decides which one is better
        P = np.hstack([P, P[:, [0]]])
        P[17, 0] += 0.01
        P[17, 4] -= 0.01
        turned = y.copy()
        turned[17] = 2 * P[17, [0, 4]].mean() - y[17]
        for honest, same in ((True, True), (False, False)):
            one = stack_predictions(P, y, honest=honest, **quick())
            other = stack_predictions(P, turned, honest=honest, **quick())
            assert one.stack.kept_ != other.stack.kept_
            assert (one.oof[17] == other.oof[17]) == same

    def test_groups_are_never_parted(self):
        P, y = matrix(rows=90)
        groups = np.repeat(np.arange(30), 3)
        before = stack_predictions(P, y, groups=groups, projection=False, **quick()).oof
        y[groups == 5] += np.array([3.0, -1.0, 2.0])
        after = stack_predictions(P, y, groups=groups, projection=False, **quick()).oof
        assert np.array_equal(before[groups == 5], after[groups == 5])
        assert not np.array_equal(before, after)
        with pytest.raises(DataError, match="at least 2 groups"):
            stack_predictions(P, y, groups=np.zeros(90), **quick())

    def test_in_time_order_a_row_is_predicted_from_earlier_ones(self):
        P, y = matrix(rows=90)
        before = stack_predictions(P, y, ordered=True, projection=False, **quick())
        assert np.isnan(before.oof[:20]).all() and np.isfinite(before.oof[-20:]).all()
        later = y.copy()
        later[-1] += 5
        after = stack_predictions(P, later, ordered=True, projection=False, **quick())
        assert np.array_equal(before.oof, after.oof, equal_nan=True)


class TestSwitches:
    def test_each_stage_can_be_switched_off(self):
        P, y = matrix()
        P = np.hstack([P, P[:, [0]]])
        off = stack_predictions(P, y, projection=False, **quick()).stack
        assert len(off.kept_) == 7
        bare = stack_predictions(P, y, statistics=False, interactions=False, **quick()).stack
        assert bare.pipeline_.feature_names() == bare.kept_
        alone = stack_predictions(P, y, blend=False, meta_cv=3).stack.pipeline_
        best = min(alone.errors_, key=alone.errors_.get)
        assert alone.weights_[best] == 1 and sum(alone.weights_.values()) == 1

    def test_without_meta_models_the_base_models_are_averaged_by_their_errors(self):
        P, y = matrix()
        found = stack_predictions(P, y, P, meta=[])
        errors = np.sqrt(np.square(P - y[:, None]).mean(0))
        weights = (1 / errors) / (1 / errors).sum()
        assert found.prediction == pytest.approx(P @ weights)

    def test_one_standard_error_takes_a_stronger_penalty(self):
        P, y = matrix()
        plain = stack_predictions(P, y, **quick()).stack.pipeline_.members_["ridge"]
        strong = stack_predictions(P, y, one_se=True, **quick()).stack.pipeline_.members_["ridge"]
        assert strong.penalty > plain.penalty


class TestNames:
    def test_models_are_known_by_name_and_dropped_ones_are_not_needed(self):
        P, y = matrix(models=3)
        named = {"a": P[:, 0], "b": P[:, 1], "copy of a": P[:, 0] + 1e-3, "c": P[:, 2]}
        stack = StackedPredictions(**quick()).fit(named, y)
        assert stack.kept_ == ["a", "b", "c"]
        twin, correlation, distance = stack.pipeline_.dropped_["copy of a"]
        assert twin == "a" and correlation > 0.999 and distance < 1e-5
        turned = {"c": P[:, 2], "b": P[:, 1], "a": P[:, 0]}
        assert np.array_equal(stack.predict(turned), stack.predict(named))
        with pytest.raises(DataError, match="predictions of 'b' are missing"):
            stack.predict({"a": P[:, 0], "c": P[:, 2]})
        with pytest.raises(DataError, match="was not fitted on 'bb'. Did you mean 'b'"):
            stack.predict(turned | {"bb": P[:, 1]})

    def test_a_stack_is_kept_as_json_to_the_bit(self, tmp_path):
        P, y = matrix()
        stack = StackedPredictions(meta_cv=3).fit(P, y)
        stack.save(tmp_path / "stack.json")
        again = StackedPredictions.load(tmp_path / "stack.json")
        assert np.array_equal(again.predict(P), stack.predict(P))
        assert again.as_dict() == stack.as_dict()
        (tmp_path / "other.json").write_text("[]")
        with pytest.raises(RunError, match="holds no stack"):
            StackedPredictions.load(tmp_path / "other.json")

    def test_a_prediction_does_not_depend_on_the_rows_beside_it(self):
        P, y = matrix()
        stack = StackedPredictions(meta_cv=3).fit(P, y)
        whole = stack.predict(P)
        assert all(stack.predict(P[[i]])[0] == whole[i] for i in range(0, 200, 7))


class TestErrors:
    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda P, y: (P[:-1], y), "have 199 rows and y has 200"),
            (lambda P, y: (np.where(P[3, 2] == P, np.nan, P), y), "'model 2' hold NaN"),
            (lambda P, y: (P, np.where(y == y[0], np.inf, y)), "y holds NaN or infinity"),
            (
                lambda P, y: (np.hstack([P, y[:, None] + 1e-6]), y),
                "column 'model 6' predicts its own training rows: not out-of-fold",
            ),
            (
                lambda P, y: (P[:, [0]] + np.linspace(0, 1e-3, 12), y),
                "all 12 base models are near-copies of 'model",
            ),
            (lambda P, y: (np.ones((200, 3)), y), "none of the 3 base models varies"),
        ],
    )
    def test_what_cannot_be_joined_is_named(self, spoil, sentence: str):
        with pytest.raises(DataError, match=sentence):
            stack_predictions(*spoil(*matrix()), **quick())

    def test_wrong_knobs_are_refused(self):
        P, y = matrix()
        with pytest.raises(KnobError, match="there is no meta-model 'ridgee'. Did you mean"):
            stack_predictions(P, y, meta=["ridgee"])
        with pytest.raises(KnobError, match="has no knob 'tau_cor'"):
            stack_predictions(P, y, tau_cor=0.9)
        with pytest.raises(KnobError, match="tau_mse must be at least 0"):
            stack_predictions(P, y, tau_mse=-1.0)


def test_a_comparison_of_copies_can_go_on_with_one():
    P, y = matrix()
    copies = {"one": P[:, 0], "two": P[:, 0] + 1e-3}
    stack = StackedPredictions(**quick()).fit(copies, y, few_is_fine=True)
    assert len(stack.kept_) == 1 and "near-copies of" in stack.pipeline_.notes_[-1]
    assert np.isfinite(stack.predict(copies)).all()


class TestHillClimbing:
    def test_the_first_is_the_best_and_no_step_is_worse_than_the_start(self):
        P, y = matrix()
        found = hill_climb(P, y)
        single = np.sqrt(np.square(P - y[:, None]).mean(0))
        assert found.order[0] == single.argmin() and found.errors[0] == pytest.approx(single.min())
        assert found.errors[-1] == min(found.errors)
        assert found.weights.sum() == pytest.approx(1) and (found.weights >= 0).all()
        own = np.sqrt(np.square(found.predict(P) - y).mean())
        assert own == pytest.approx(found.errors[-1])

    def test_each_step_takes_the_best_of_all(self):
        P, y = matrix(rows=50, models=4)
        found = hill_climb(P, y, rounds=3)
        total = np.zeros(50)
        for step, model in enumerate(found.order, 1):
            errors = [np.square((total + P[:, j]) / step - y).mean() for j in range(4)]
            assert model == int(np.argmin(errors))
            total += P[:, model]


def test_rows_that_part_the_classes_without_error_have_finite_weights():
    columns = np.array([[1e4], [-1e4], [1e4], [-1e4]])
    solver = Logistic(columns, np.array([1, 0, 1, 0]), np.ones(4), classes=2, rounds=1000)
    fits = solver.path(np.array([1e-2, 1e6]), 1.0)  # every probability becomes 0 or 1
    assert all(np.isfinite(coef).all() and np.isfinite(bias).all() for coef, bias in fits)
    assert solver.losses(fits)[1] < 1e-3
