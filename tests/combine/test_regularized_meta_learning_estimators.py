"""Regularised meta-learning as scikit-learn estimators, over any base models."""

import time

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackwise
from stackwise import (
    RegularizedStackingClassifier,
    RegularizedStackingRegressor,
    TabMRegressor,
    stack_predictions,
)
from stackwise.combine.regularized_meta_learning import StackedPredictions
from stackwise.combine.regularized_meta_learning.stages.log_odds import log_loss
from stackwise.combine.regularized_meta_learning.stages.meta_models import STRENGTHS
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.runs import fit_run
from stackwise.tasks.table.baselines import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    LinearRegressor,
)
from stackwise.tasks.table.task import TableTask
from stackwise.training.session import current_session, session

NUMBERS = load_diabetes(return_X_y=True)
CLASSES = load_breast_cancer(return_X_y=True)


def numbers(rows: int = 150):
    return NUMBERS[0][:rows], NUMBERS[1][:rows]


def classes(rows: int = 120, levels: int = 2):
    X, y = CLASSES[0][:rows, :4], CLASSES[1][:rows]
    if levels == 2:
        return X, np.where(y == 1, "fine", "ill")
    return X, np.digitize(X[:, 0] + X[:, 1] / 5, [17, 20])


def regressors():
    return [
        ("ridge", Ridge(0.1)),
        ("near", KNeighborsRegressor(10)),
        ("tree", DecisionTreeRegressor(max_depth=3, random_state=0)),
    ]


def classifiers():
    return [
        ("logistic", make_pipeline(StandardScaler(), LogisticRegression())),
        ("near", KNeighborsClassifier(10)),
        ("bayes", GaussianNB()),
    ]


def stacked(**knobs):
    return RegularizedStackingRegressor(
        regressors(), **{"meta": ["ridge"], "meta_cv": 3, "cv": 3} | knobs
    )


def classed(**knobs):
    return RegularizedStackingClassifier(
        classifiers(), **{"meta": ["ridge"], "meta_cv": 3, "cv": 3} | knobs
    )


class TestOutOfFold:
    def test_no_column_sees_the_target_of_the_row_that_it_predicts(self):
        X, y = numbers(60)
        before = stacked(cv=KFold(3), meta_cv=2).fit(X, y).oof_
        y = y.copy()
        y[7] += 100.0
        after = stacked(cv=KFold(3), meta_cv=2).fit(X, y).oof_
        assert np.array_equal(before[7], after[7])
        assert (before != after).any(0).all()

    def test_a_model_that_memorises_earns_what_it_is_worth_out_of_fold(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 5))
        y = X[:, 0] + rng.normal(size=400)
        bases = [("ridge", Ridge()), ("memory", DecisionTreeRegressor(random_state=0))]
        train, test = slice(0, 200), slice(200, 400)
        fitted = RegularizedStackingRegressor(bases, meta_cv=3).fit(X[train], y[train])
        alone = Ridge().fit(X[train], y[train])
        error = np.sqrt(np.square(fitted.predict(X[test]) - y[test]).mean())
        assert error < 1.03 * np.sqrt(np.square(alone.predict(X[test]) - y[test]).mean())
        tree = fitted.named_estimators_["memory"]
        assert np.abs(tree.predict(X[train]) - y[train]).max() < 1e-12
        own = np.sqrt(np.square(fitted.oof_[:, 1] - y[train]).mean())
        assert own > 1.2 * np.sqrt(np.square(fitted.oof_[:, 0] - y[train]).mean())
        # and seen on its own rows it is refused
        seen = [(name, clone(model).fit(X[train], y[train])) for name, model in bases]
        with pytest.raises(DataError, match="'memory' predicts its own training rows"):
            RegularizedStackingRegressor(seen, cv="prefit").fit(X[train], y[train])

    def test_the_matrix_alone_gives_what_the_estimator_gives(self):
        X, y = numbers()
        fitted = stacked(meta=["ridge", "lasso"]).fit(X, y)
        new = NUMBERS[0][150:200]
        found = stack_predictions(
            fitted.oof_, y, fitted.base_predictions(new), meta=["ridge", "lasso"], meta_cv=3
        )
        assert np.array_equal(found.prediction, fitted.predict(new))
        assert found.score == fitted.score_oof_

    def test_side_by_side_is_the_same(self):
        X, y = numbers(80)
        with parallel_config(backend="threading"):
            one, two = (stacked(n_jobs=jobs).fit(X, y) for jobs in (1, 2))
        assert np.array_equal(one.oof_, two.oof_)
        assert np.array_equal(one.predict(X), two.predict(X))

    def test_rows_that_no_fold_holds_out_are_left_out_with_a_count(self):
        X, y = numbers(80)
        fitted = stacked(cv=TimeSeriesSplit(3)).fit(X, y)
        assert np.isnan(fitted.oof_[:20]).all() and np.isfinite(fitted.oof_[20:]).all()
        assert any("20 rows that no fold holds out" in note for note in fitted.notes_)
        assert np.isfinite(fitted.predict(X)).all()

    def test_a_row_that_is_held_out_twice_is_refused(self):
        X, y = numbers(40)
        folds = [(np.arange(20, 40), np.arange(20)), (np.arange(20), np.arange(15, 40))]
        with pytest.raises(DataError, match="holds row 15 out 2 times"):
            stacked(cv=folds).fit(X, y)

    def test_groups_stay_together_in_every_fold(self):
        X, y = numbers(90)
        groups = np.repeat(np.arange(30), 3)
        before = stacked().fit(X, y, groups=groups).oof_
        y = y.copy()
        y[groups == 4] += 50.0
        after = stacked().fit(X, y, groups=groups).oof_
        assert np.array_equal(before[groups == 4], after[groups == 4])


class TestWhatGoesIn:
    def test_swapping_the_class_name_of_scikit_learn_runs(self):
        X, y = numbers(80)
        for cls in (StackingRegressor, RegularizedStackingRegressor):
            made = cls(regressors(), final_estimator=Ridge(), cv=3, n_jobs=1, passthrough=True)
            assert 0.3 < made.fit(X, y).score(X, y) < 1
            # the predictions of three models (and here their six statistics), then the columns of X
            assert made.transform(X).shape == (80, (3 if cls is StackingRegressor else 9) + 10)
            assert np.array_equal(made.transform(X)[:, -10:], X)
            assert set(made.named_estimators_) == {"ridge", "near", "tree"}
        X, y = classes()
        for cls in (StackingClassifier, RegularizedStackingClassifier):
            made = cls(
                estimators=classifiers(), final_estimator=LogisticRegression(C=0.1),
                stack_method="predict_proba", verbose=0,
            )  # fmt: skip
            assert set(made.fit(X, y).predict(X)) == {"fine", "ill"}

    def test_a_meta_model_of_ones_own_is_fitted_on_the_meta_features(self):
        X, y = numbers()
        forest = RandomForestRegressor(20, random_state=0)
        fitted = stacked(meta=["ridge", forest]).fit(X, y)
        assert set(fitted.weights_) == {"ridge", "randomforestregressor"}
        X, y = classes()
        own = classed(meta=[RandomForestClassifier(20, random_state=0)]).fit(X, y)
        assert own.score(X, y) > 0.85

    def test_knobs_of_base_models_are_searched_by_their_names(self):
        X, y = numbers(80)
        search = GridSearchCV(stacked(), {"ridge__alpha": [0.1, 10.0], "tree": ["drop"]}, cv=2)
        best = search.fit(X, y).best_estimator_
        assert best.named_estimators_["ridge"].alpha in (0.1, 10.0)
        assert "tree" not in best.named_estimators_
        named = RegularizedStackingRegressor(["linear", "gradient-boosting"]).set_params(cv=2)
        assert named.cv == 2 and clone(named).estimators == ["linear", "gradient-boosting"]

    def test_texts_and_sparse_rows_go_through_untouched(self):
        texts = [["cheap good", "bad"][i % 2] + f" w{i % 7}" for i in range(60)]
        target = [i % 2 for i in range(60)]
        made = RegularizedStackingClassifier(
            [("a", make_pipeline(CountVectorizer(), LogisticRegression())),
             ("b", make_pipeline(CountVectorizer(binary=True), LogisticRegression(C=0.01)))],
            meta=["ridge"], cv=3, projection=False,
        )  # fmt: skip
        assert made.fit(texts, target).score(texts, target) == 1
        X, y = numbers(60)
        bases = [("a", Ridge()), ("b", Ridge(100))]
        sparse = RegularizedStackingRegressor(bases, meta=["ridge"], projection=False)
        assert sparse.fit(csr_array(X), y).predict(csr_array(X)).shape == (60,)

    def test_frames_with_categories_and_gaps_need_no_preparing(self, sales: pd.DataFrame):
        X, y = sales.drop(columns="price"), sales["price"]
        made = RegularizedStackingRegressor(["linear", "gradient-boosting"], cv=3, meta_cv=3)
        assert made.fit(X[:240], y[:240]).score(X[240:], y[240:]) > 0.7
        assert set(made.kept_) <= {"linear", "gradient-boosting"}
        assert np.array_equal(made.predict(sales), made.predict(X))
        with pytest.raises(DataError, match="seen at fit time, yet now missing"):
            made.predict(X.drop(columns="size"))

    def test_learners_of_this_library_are_base_models_too(self):
        X, y = numbers(80)
        own = LinearRegressor()
        made = RegularizedStackingRegressor([("own", own), ("near", KNeighborsRegressor(9))], cv=2,
                                            meta=["ridge"], meta_cv=2)  # fmt: skip
        assert made.fit(X, y).predict(X).shape == (80,)
        assert not hasattr(own, "estimator_")

    def test_only_kept_models_are_fitted_on_all_rows(self):
        X, y = numbers()
        bases = [*regressors(), ("again", Ridge(0.1))]
        fitted = RegularizedStackingRegressor(bases, meta=["ridge"], cv=3).fit(X, y)
        assert fitted.kept_ == ["ridge", "near", "tree"]
        assert fitted.dropped_["again"][0] == "ridge"
        assert list(fitted.named_estimators_) == fitted.kept_
        assert fitted.condition_[0] > 1e6 > fitted.condition_[1]
        assert fitted.transform(X).shape == (150, 3 + 6)
        assert list(fitted.get_feature_names_out())[2:5] == ["tree", "mean", "std"]

    def test_without_refit_the_models_of_the_folds_are_averaged(self):
        X, y = numbers(90)
        fitted = stacked(refit=False).fit(X, y)
        assert [len(models) for models in fitted.estimators_] == [3, 3, 3]
        mean = np.mean([model.predict(X) for model in fitted.named_estimators_["ridge"]], axis=0)
        assert fitted.base_predictions(X)[:, 0] == pytest.approx(mean)

    def test_prefit_models_are_left_as_they_are(self):
        X, y = numbers(150)
        bases = [(name, model.fit(X[:75], y[:75])) for name, model in regressors()]
        fitted = RegularizedStackingRegressor(bases, cv="prefit", meta=["ridge"])
        fitted.fit(X[75:], y[75:])
        assert all(fitted.named_estimators_[name] is model for name, model in bases)
        X, y = classes()
        bases = [(name, model.fit(X[:60], y[:60])) for name, model in classifiers()]
        fitted = RegularizedStackingClassifier(bases, cv="prefit", meta=["ridge"])
        assert fitted.fit(X[60:], y[60:]).score(X, y) > 0.8


class TestClasses:
    def test_two_classes_have_one_log_odds_a_model_and_probabilities_sum_to_one(self):
        X, y = classes()
        fitted = classed(statistics=False, interactions=False).fit(X, y)
        assert fitted.transform(X).shape == (120, len(fitted.kept_))
        found = fitted.predict_proba(X)
        assert (found >= 0).all() and (found <= 1).all()
        assert found.sum(1) == pytest.approx(np.ones(120))

    def test_exchanging_the_labels_exchanges_the_probabilities(self):
        X, y = classes()
        other = np.where(y == "fine", "ill", "fine")
        knobs = {"meta": ["ridge", "lasso"], "meta_cv": 2}
        one, two = classed(**knobs).fit(X, y), classed(**knobs).fit(X, other)
        assert two.predict_proba(X) == pytest.approx(one.predict_proba(X)[:, ::-1], abs=1e-6)

    @pytest.mark.parametrize("tied", [True, False])
    def test_other_names_of_classes_permute_the_columns(self, tied: bool):
        X, y = classes(levels=3)
        renamed = np.array(["c", "a", "b"])[y]
        one, two = classed(tied=tied).fit(X, y), classed(tied=tied).fit(X, renamed)
        assert two.predict_proba(X) == pytest.approx(one.predict_proba(X)[:, [1, 2, 0]], abs=1e-5)
        assert one.pipeline_.tied_ == tied

    def test_the_blend_is_never_worse_than_the_weighted_log_losses(self):
        X, y = classes(levels=3)
        fitted = classed(meta=["ridge", "lasso"], drop_worse=None).fit(X, y)
        bound = sum(fitted.weights_[name] * fitted.errors_[name] for name in fitted.weights_)
        assert fitted.score_oof_ <= bound + 1e-12
        assert fitted.score_oof_ == pytest.approx(log_loss(fitted.pipeline_.oof_, y))
        assert set(fitted.pipeline_.report_) == {"log_loss", "brier", "calibration_error"}

    def test_weights_are_tied_above_five_classes_or_with_few_rows(self):
        rng = np.random.default_rng(0)
        few = rng.dirichlet(np.ones(3), size=(60, 2))
        codes = np.arange(60) % 3
        assert stack_predictions(few, codes, meta=["ridge"]).stack.pipeline_.tied_
        many = rng.dirichlet(np.ones(3), size=(900, 2))
        codes = np.arange(900) % 3
        knobs = {"meta": ["ridge"], "projection": False, "meta_cv": 2}
        assert not stack_predictions(many, codes, **knobs).stack.pipeline_.tied_

    def test_decisions_and_labels_are_read_as_probabilities(self):
        X, y = classes()
        bases = [*classifiers(), ("svm", make_pipeline(StandardScaler(), LinearSVC())),
                 ("ridge", RidgeClassifier())]  # fmt: skip
        fitted = RegularizedStackingClassifier(bases, meta=["ridge"], cv=3).fit(X, y)
        assert fitted.readers_["svm"].method == "decision_function"
        assert fitted.readers_["svm"].scale > 0 and fitted.score(X, y) > 0.85
        with pytest.warns(UserWarning, match="logistic, near, bayes give labels alone"):
            hard = classed(stack_method="predict").fit(X, y)
        assert set(np.unique(hard.oof_.round(6))) == {0.01, 0.99}

    def test_a_class_that_a_fold_lacks_is_named(self):
        X, y = classes()
        y = y.astype("<U6")
        y[5] = "rare"
        with pytest.raises(DataError, match="the class 'rare' has no row in the training part"):
            classed(cv=KFold(3)).fit(X, y)

    def test_a_class_of_one_row_is_learned_from_and_never_held_out(self):
        X, y = classes()
        y = y.astype("<U6")
        y[5] = "rare"
        fitted = classed().fit(X, y)
        assert np.isnan(fitted.oof_[5]).all() and np.isfinite(np.delete(fitted.oof_, 5, 0)).all()
        assert any("1 rows that no fold holds out" in note for note in fitted.notes_)
        assert fitted.predict_proba(X).shape == (120, 3) and fitted.score(X, y) > 0.85

    def test_probability_space_sees_probabilities(self):
        X, y = classes()
        fitted = classed(space="probability", statistics=False, interactions=False).fit(X, y)
        features = fitted.transform(X)
        assert features.min() >= 0 and features.max() <= 1


class Homemade(RegressorMixin, BaseEstimator):
    """An estimator that is no data."""

    def fit(self, X, y):
        self.mean_ = lambda: 1.0
        return self

    def predict(self, X):
        raise AssertionError("nothing was to be trained")


class TestKept:
    def test_a_stack_is_kept_as_data_to_the_bit(self, tmp_path):
        X, y = numbers(90)
        bases = [*regressors(), ("tabm", TabMRegressor(k=2, width=8, max_epochs=1, validation=0))]
        knobs = {"cv": 2, "meta_cv": 2, "meta": ["ridge", "lasso", Ridge(3.0)], "refit": False}
        fitted = RegularizedStackingRegressor(bases, **knobs).fit(X, y)
        assert set(fitted.meta_) == {"ridge", "lasso", "ridge-2"}
        fitted.save(tmp_path / "model")
        again = RegularizedStackingRegressor.load(tmp_path / "model")
        assert np.array_equal(again.predict(X), fitted.predict(X))
        assert again.dropped_ == fitted.dropped_ and again.weights_ == fitted.weights_
        assert again.meta[:2] == ["ridge", "lasso"] and again.meta[2].alpha == 3.0
        again.fit(X, y)
        X, y = classes(levels=3)
        fitted = classed(meta=["ridge", "lasso"]).fit(X, y)
        fitted.save(tmp_path / "classes")
        again = RegularizedStackingClassifier.load(tmp_path / "classes")
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
        kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
        assert kinds == {".json", ".skops", ".safetensors"}

    def test_a_run_keeps_the_stack_and_refuses_what_cannot_be_kept_before_training(
        self, sales: pd.DataFrame, tmp_path
    ):
        task = TableTask.load(sales, target="price")
        small = {"estimators": ["linear", "gradient-boosting"], "cv": 2, "meta_cv": 2}
        run = fit_run("regularized-meta-learning", task, out=tmp_path / "run", knobs=small)
        X, _ = task.part("test")
        loaded = stackwise.load(run.folder)
        assert np.array_equal(loaded.predict(X), run.predictions["prediction"])
        bases = [("own", Homemade()), ("ridge", Ridge())]
        with pytest.raises(ModelError, match="base model 'own' .Homemade. cannot be kept"):
            fit_run("regularized-meta-learning", task, out=tmp_path / "own",
                    knobs=small | {"estimators": bases})  # fmt: skip


class TestErrors:
    @pytest.mark.parametrize(
        ("knobs", "sentence"),
        [
            ({"estimators": []}, "must be a list of .name, estimator. pairs or names"),
            ({"estimators": [("a", Ridge()), ("a", Ridge())]}, "two estimators are called 'a'"),
            ({"estimators": ["linea"]}, "no base model 'linea'. Did you mean 'linear'"),
            ({"estimators": [("a", "drop")]}, "all estimators are dropped"),
            ({"estimators": [("a", 3)]}, "'a' is 3, which does not predict"),
            ({"estimators": [Ridge()]}, "which is no .name, estimator. pair"),
            ({"cv": "never"}, "a number, a splitter or 'prefit', not 'never'"),
            ({"meta": ["ridg"]}, "no meta-model 'ridg'. Did you mean 'ridge'"),
        ],
    )
    def test_what_cannot_be_stacked_is_named(self, knobs: dict, sentence: str):
        X, y = numbers(40)
        with pytest.raises(KnobError, match=sentence):
            RegularizedStackingRegressor(**{"estimators": regressors()} | knobs).fit(X, y)

    def test_weights_are_refused_where_a_model_takes_none(self):
        X, y = numbers(60)
        with pytest.raises(DataError, match="estimator 'near' takes no sample_weight"):
            stacked().fit(X, y, sample_weight=np.ones(60))

    def test_too_many_or_repeated_arguments_are_errors(self):
        with pytest.raises(TypeError, match="by name"):
            RegularizedStackingRegressor(regressors(), None, 3)
        with pytest.raises(TypeError, match="'estimators' twice"):
            RegularizedStackingRegressor(regressors(), estimators=regressors())


@parametrize_with_checks(
    [
        RegularizedStackingRegressor(
            estimators=[("ridge", Ridge()), ("tree", DecisionTreeRegressor(random_state=0))],
            meta=["ridge"], cv=2, meta_cv=2, inner_cv=2, projection=False,
        ),
        RegularizedStackingClassifier(
            estimators=[("logistic", LogisticRegression()),
                        ("tree", DecisionTreeClassifier(random_state=0))],
            meta=[LogisticRegression()], cv=2, meta_cv=2, inner_cv=2, projection=False,
        ),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "weights do not change the folds",
        "check_sample_weight_equivalence_on_sparse_data": "weights do not change the folds",
    },
)  # fmt: skip
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        RegularizedStackingRegressor(
            estimators=["linear", ("trees", GradientBoostingRegressor(max_trees=5))],
            meta=["ridge"], cv=2, meta_cv=2, inner_cv=2, projection=False,
        ),
        RegularizedStackingClassifier(
            estimators=["linear", ("trees", GradientBoostingClassifier(max_trees=5))],
            meta=["ridge"], cv=2, meta_cv=2, inner_cv=2,
            projection=False,
        ),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "weights do not change the folds",
    },
)  # fmt: skip
def test_named_base_models_keep_the_contract_too(estimator, check):
    check(estimator)


class Waiting(Ridge):
    """Notes the seconds that it may take, and takes some."""

    def __init__(self, alpha=1.0, said=None):
        super().__init__(alpha=alpha)
        self.said = said

    def fit(self, X, y, sample_weight=None):
        self.said.append(current_session().seconds_left())
        time.sleep(0.01)
        return super().fit(X, y)


class Shared(list):
    """A list that a clone shares."""

    def __deepcopy__(self, memo):
        return self


def test_base_models_share_a_time_limit_and_leave_some_for_what_joins_them():
    X, y = numbers()
    said = Shared()
    stack = RegularizedStackingRegressor(
        estimators=[(name, Waiting(alpha, said)) for name, alpha in zip("ab", (0.1, 10))], cv=2
    )
    with session(time_limit=80.0) as own:
        stack.fit(X, y)
        assert own.time_limit == 80.0
    # of eight parts: four fits, two for joining, two for fitting again; what is left is shared on
    assert said[:4] == pytest.approx([80 / parts for parts in (8, 7, 6, 5)], abs=1.5)
    assert all(left > 70 for left in said[4:])
    with session():
        said.clear()
        stack.fit(X, y)
    assert set(said) == {None}


def test_meta_models_without_time_take_the_strongest_penalty_and_are_all_there():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, 200)
    chance = rng.dirichlet(np.ones(4), (200, 3)) + 0.7 * np.eye(4)[target][:, None]
    oof = chance / chance.sum(2, keepdims=True)
    with_time, without = (
        StackedPredictions(classes=list(range(4)), problem="classification").fit(
            oof, target, seconds=seconds
        )
        for seconds in (None, 0.0)
    )
    members = without.pipeline_.members_
    assert members.keys() == with_time.pipeline_.members_.keys()
    assert {member.penalty for member in members.values()} == {STRENGTHS[0]}
    assert any(m.penalty > STRENGTHS[0] for m in with_time.pipeline_.members_.values())
    assert np.allclose(without.predict_proba(oof).sum(1), 1)


def test_a_time_limit_leaves_base_models_out_and_says_which():
    X, y = numbers()
    stack = RegularizedStackingRegressor(
        estimators=[(name, Ridge(alpha)) for name, alpha in zip("abcd", (0.1, 1, 10, 100))], cv=2
    )
    with session(time_limit=0.0):
        stack.fit(X, y)
    assert set(stack.readers_) == {"a", "b"}
    assert any("left out 2 of 4 base models: c, d" in note for note in stack.notes_)
    assert np.isfinite(stack.predict(X)).all()
