"""Scorers of scikit-learn as the deciding metric."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.dummy import DummyClassifier

from stackwise.errors import DataError
from stackwise.learning.metrics import metric_for, score
from stackwise.learning.scorers import scorer_names
from stackwise.tasks.table.task import TableTask

RNG = np.random.default_rng(0)
TRUTH = np.array(["a", "b", "c"])[RNG.integers(0, 3, 90)]
PROBABILITY = RNG.dirichlet(np.ones(3), 90)
PREDICTION = np.array(["a", "b", "c"])[PROBABILITY.argmax(1)]


class Made(DummyClassifier):
    """Answers what it is given, so that scikit-learn's own scorer judges the same answers."""

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return self.classes_[X.argmax(1)]


@pytest.mark.parametrize(
    "name", ["f1_weighted", "jaccard_macro", "roc_auc_ovo", "top_k_accuracy", "d2_log_loss_score"]
)
def test_a_scorer_gives_the_number_that_scikit_learn_gives(name):
    judge = Made().fit(PROBABILITY, TRUTH)
    mine = score("multiclass", TRUTH, PREDICTION, PROBABILITY, name)
    assert next(iter(mine)) == name
    assert mine[name] == pytest.approx(metrics.get_scorer(name)(judge, PROBABILITY, TRUTH))


def test_a_scorer_with_a_sign_is_a_metric_of_which_less_is_better():
    metric = metric_for("regression", "neg_mean_poisson_deviance")
    assert (metric.name, metric.mode) == ("mean_poisson_deviance", "min")
    truth, answer = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 2.5])
    assert metric.function(truth, answer) == metrics.mean_poisson_deviance(truth, answer)
    with pytest.raises(DataError, match="there is no neg_mean_poisson_deviance of these rows"):
        metric.function(-truth, answer)


def test_of_two_classes_the_second_is_the_positive_one():
    truth, answer = np.array(["no", "yes", "yes"]), np.array(["no", "yes", "no"])
    assert metric_for("binary", "jaccard").function(truth, answer) == 0.5


@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
def test_every_scorer_is_taken_or_refused_in_one_sentence(problem):
    taken = set()
    for name in scorer_names(problem != "regression"):
        try:
            taken.add(metric_for(problem, name).name)
        except DataError as error:
            assert "there is no" in str(error) and "\n" not in str(error)
    assert len(taken) >= 12


def test_a_scorer_of_the_other_problem_is_refused():
    for problem, name in (("regression", "f1_macro"), ("binary", "explained_variance")):
        with pytest.raises(DataError, match="there is no metric"):
            metric_for(problem, name)
    with pytest.raises(DataError, match="there is no jaccard of these rows"):
        metric_for("multiclass", "jaccard")


def test_a_table_is_judged_by_it():
    frame = pd.DataFrame({"x": np.arange(60.0), "y": np.tile(["p", "q", "q"], 20)})
    task = TableTask.load(frame, target="y", metric="f1_weighted")
    assert task.metric.name == "f1_weighted" and task.metrics[0] == "f1_weighted"


def test_weights_are_given_by_the_names_of_the_classes_and_a_strange_name_is_refused():
    from stackwise.tasks.table.baselines import LinearClassifier

    x = np.linspace(-1, 1, 80)[:, None]
    y = (x[:, 0] + np.tile([0.5, -0.5], 40) > 0).astype(int)
    plain, named = (
        LinearClassifier(class_weight=w, folds=2).fit(x, y).predict_proba(x)[:, 1].mean()
        for w in (None, {"1": 20.0})
    )
    assert named > plain + 0.1
    with pytest.raises(DataError, match="class_weight names '2', which is no class"):
        LinearClassifier(class_weight={"2": 3.0}).fit(x, y)
