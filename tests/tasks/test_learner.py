import json
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from stackwise.catalog import Knob, learner
from stackwise.errors import DataError, KnobError, RunError, TrainingError
from stackwise.layers.arguments import keeps_arguments
from stackwise.learning.metrics import Metric, metric_for
from stackwise.learning.outputs import batch_loss, mean_values, row_losses, through_network
from stackwise.learning.trainable import trainable
from stackwise.tasks.table.baselines.mlp import MLP, MLPClassifier, MLPRegressor
from stackwise.tasks.table.estimators.learner import TableClassifier, TableRegressor


@keeps_arguments
class Members(nn.Module):
    """k small networks side by side: (B, k, C)."""

    def __init__(self, *, k: int, n_numeric: int, cardinalities: list[int], n_outputs: int):
        super().__init__()
        one = {"n_numeric": n_numeric, "cardinalities": cardinalities, "n_outputs": n_outputs}
        self.members = nn.ModuleList(MLP(**one, width=48, n_blocks=2) for _ in range(k))

    def forward(self, numeric, categorical):
        return torch.stack([member(numeric, categorical) for member in self.members], 1)


def _members(self, rows):
    return Members(
        k=self.k,
        n_numeric=rows.n_numeric,
        cardinalities=rows.cardinalities,
        n_outputs=rows.n_outputs,
    )


@learner("toy-members", title="Toy", verb="build", problem="regression")
class MembersRegressor(TableRegressor):
    """A toy ensemble for a number."""

    def __init__(self, *, k: Annotated[int, Knob("members", ge=1)] = 8) -> None:
        """A toy."""

    build_network = _members


@learner("toy-members", title="Toy", verb="build", problem="classification")
class MembersClassifier(TableClassifier):
    """A toy ensemble for a class."""

    def __init__(self, *, k: Annotated[int, Knob("members", ge=1)] = 8) -> None:
        """A toy."""

    build_network = _members


def table(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=rows),
            "price": rng.exponential(size=rows) * 1000,
            "colour": rng.choice(["red", "green", "blue"], rows),
            "left": rng.normal(size=rows),
        }
    )
    frame.loc[rng.random(rows) < 0.1, "left"] = np.nan
    value = 50 + 7 * (frame["size"] + (frame["colour"] == "red") + np.log(frame["price"]) / 4)
    return frame, value.to_numpy()


def words(value):
    return np.where(value > 65, "high", np.where(value > 58, "middle", "low"))


@parametrize_with_checks(
    [MLPClassifier(width=64), MLPRegressor(width=64)],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out"
    },
)
def test_the_mlp_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier, MembersRegressor, MembersClassifier])
def test_a_prediction_does_not_depend_on_the_rows_beside_it(kind):
    frame, y = table(400)
    y = y if "Regressor" in kind.__name__ else words(y)
    fitted = kind(max_epochs=2).fit(frame, y)
    predict = getattr(fitted, "predict_proba", fitted.predict)
    whole = predict(frame)
    order = np.random.default_rng(1).permutation(len(frame))
    assert (predict(frame.iloc[order]) == whole[order]).all()
    for first, last in ((0, 1), (1, 2), (63, 65), (7, 140), (130, 400)):
        assert (predict(frame.iloc[first:last]) == whole[first:last]).all()


@pytest.mark.parametrize("width", [16, 100, 512])
@pytest.mark.parametrize("outputs", [1, 3, 17])
def test_rows_put_through_a_network_alone_or_together_are_the_same_to_the_bit(width, outputs):
    torch.manual_seed(0)
    network = MLP(n_numeric=7, cardinalities=[3], n_outputs=outputs, width=width)
    numeric = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)
    codes = np.random.default_rng(0).integers(0, 4, (150, 1))
    reduce = lambda out: mean_values(out, classes=outputs > 1)  # noqa: E731
    whole = through_network(network, {"numeric": numeric, "categorical": codes}, reduce)
    for row in range(0, 150, 11):
        alone = through_network(
            network, {"numeric": numeric[[row]], "categorical": codes[[row]]}, reduce
        )
        assert (alone == whole[[row]]).all()


@pytest.mark.parametrize("kind", [MLPRegressor, MembersRegressor])
def test_saving_and_loading_keeps_predictions_to_the_bit(kind, tmp_path):
    frame, y = table()
    fitted = kind(max_epochs=2).fit(frame, y)
    fitted.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert (loaded.predict(frame) == fitted.predict(frame)).all()
    assert loaded.get_params() == fitted.get_params()
    assert loaded.history_ == fitted.history_
    assert list(loaded.feature_names_in_) == list(frame.columns)
    assert not list(tmp_path.glob("*.pkl")) and json.loads((tmp_path / "model.json").read_text())


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "c"], [3, 1, 2], [True, False, True], [0.0, 1.0, 2.0], ["x", "yy", "zzz"]],
)
def test_classes_come_back_with_their_type(labels, tmp_path):
    frame, _ = table(60)
    y = np.array(labels)[np.arange(60) % 3]
    fitted = MLPClassifier(max_epochs=1, width=8, class_weight=dict.fromkeys(set(labels), 2.0))
    fitted.fit(frame, y).save(tmp_path)
    loaded = MLPClassifier.load(tmp_path)
    assert loaded.classes_.dtype == fitted.classes_.dtype == y.dtype
    assert loaded.predict(frame).tolist() == fitted.predict(frame).tolist()
    assert (loaded.predict_proba(frame) == fitted.predict_proba(frame)).all()
    assert loaded.class_weight == fitted.class_weight


def test_a_folder_of_another_estimator_or_a_damaged_one_is_refused(tmp_path):
    frame, y = table(60)
    MLPRegressor(max_epochs=1, width=8).fit(frame, y).save(tmp_path)
    with pytest.raises(RunError, match="holds a MLPRegressor"):
        MLPClassifier.load(tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    record["network"]["class"] = "os.path:join"
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="outside"):
        MLPRegressor.load(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        MLPRegressor.load(tmp_path)


def test_the_loss_is_the_mean_of_the_members_own_losses():
    output = torch.randn(5, 4, 3)
    target = torch.tensor([0, 1, 2, 0, 1])
    own = [nn.functional.cross_entropy(output[:, i], target, reduction="none") for i in range(4)]
    assert torch.allclose(row_losses(output, target), torch.stack(own).mean(0))
    values, numbers = torch.randn(5, 4, 1), torch.randn(5)
    expected = ((values[..., 0] - numbers[:, None]) ** 2).mean(1)
    assert torch.allclose(row_losses(values, numbers), expected)
    each = numbers[:, None].expand(5, 4)
    assert torch.equal(row_losses(values, each), row_losses(values, numbers))


def test_probabilities_are_averaged_and_not_logits():
    logits = torch.tensor([[[8.0, 0.0], [0.0, 2.0]]])
    mean = mean_values(logits, classes=True)
    assert np.allclose(mean, logits.softmax(-1).mean(1).numpy())
    assert not np.allclose(mean, logits.mean(1).softmax(-1).numpy(), atol=0.05)


def test_the_members_average_is_the_prediction():
    frame, y = table(100)
    fitted = MembersRegressor(max_epochs=2).fit(frame, y)
    members = fitted.predict_members(frame)
    assert members.shape == (100, 8, 1)
    assert np.allclose(members.mean(1)[:, 0], fitted.predict(frame))
    assert members.std(1).min() > 0


def test_a_weight_of_two_is_a_loss_of_two():
    network = MLP(n_numeric=1, cardinalities=[], n_outputs=1, width=4).eval()
    batch = {
        "numeric": torch.randn(3, 1),
        "categorical": torch.zeros((3, 0), dtype=torch.int64),
        "target": torch.randn(3),
        "weight": torch.ones(3),
    }
    once = batch_loss(network, batch)
    assert torch.allclose(batch_loss(network, batch | {"weight": torch.full((3,), 2.0)}), 2 * once)


def test_the_target_and_the_features_are_scaled_by_training_rows_alone():
    frame, y = table(200)
    validation = (frame[100:], y[100:] + 1000)
    fitted = MLPRegressor(max_epochs=1).fit(frame[:100], y[:100], validation=validation)
    assert fitted.target_mean_ == pytest.approx(y[:100].mean())
    assert fitted.target_scale_ == pytest.approx(y[:100].std())
    other = MLPRegressor(max_epochs=1, validation=0).fit(frame[:100], y[:100])
    first, second = (m.contract_.to_json()[1]["quantiles"] for m in (fitted, other))
    assert torch.equal(first, second)


def test_the_best_epoch_is_restored():
    frame, y = table(200)
    fitted = MLPRegressor(max_epochs=30, lr=0.05, patience=30).fit(
        frame[:150], y[:150], validation=(frame[150:], y[150:])
    )
    scores = [line["metrics"]["validation_rmse"] for line in fitted.history_]
    rmse = np.sqrt(np.mean((fitted.predict(frame[150:]) - y[150:]) ** 2))
    assert rmse == pytest.approx(min(scores), rel=1e-6)
    assert fitted.best_epoch_ == int(np.argmin(scores)) + 1


def test_early_stopping_watches_the_metric_that_is_asked_for():
    frame, y = table(240)
    labels = words(y)
    held = frame[160:], labels[160:]
    given = {"lr": 0.02, "max_epochs": 25, "patience": 25}
    metric = metric_for("multiclass", "accuracy")
    fitted = MLPClassifier(**given).fit(frame[:160], labels[:160], validation=held, metric=metric)
    scores = [line["metrics"]["validation_accuracy"] for line in fitted.history_]
    assert fitted.best_epoch_ == int(np.argmax(scores)) + 1
    assert (fitted.predict(held[0]) == held[1]).mean() == pytest.approx(max(scores))
    by_loss = MLPClassifier(**given).fit(frame[:160], labels[:160], validation=held)
    losses = [line["metrics"]["validation_log_loss"] for line in by_loss.history_]
    assert by_loss.best_epoch_ == int(np.argmin(losses)) + 1


def test_an_own_metric_sees_the_target_in_its_unit():
    frame, y = table(200)
    seen = []

    def median_gap(truth, prediction):
        seen.append(truth)
        return float(np.median(np.abs(truth - prediction)))

    held = frame[150:], y[150:]
    fitted = MLPRegressor(max_epochs=12, lr=0.02, patience=12).fit(
        frame[:150], y[:150], validation=held, metric=Metric("gap", "min", function=median_gap)
    )
    assert np.allclose(seen[0], y[150:])
    gaps = [line["metrics"]["validation_gap"] for line in fitted.history_]
    assert median_gap(y[150:], fitted.predict(frame[150:])) == pytest.approx(min(gaps))


def test_a_fit_that_its_time_ended_says_so():
    frame, y = table(200)
    fitted = MLPRegressor(max_epochs=100_000, patience=None, time_limit=0.3).fit(frame, y)
    assert fitted.notes_[0].startswith("the time limit ended training after")


def test_a_seed_fixes_the_fit_and_another_changes_it():
    frame, y = table(120)
    first, again, other = (
        MLPRegressor(max_epochs=3, random_state=seed).fit(frame, y).predict(frame)
        for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_frames_of_pandas_and_polars_and_other_column_orders_predict_alike():
    frame, y = table(120)
    fitted = MLPRegressor(max_epochs=2).fit(pl.from_pandas(frame), pl.Series(y))
    expected = fitted.predict(frame)
    assert (fitted.predict(pl.from_pandas(frame)) == expected).all()
    assert (fitted.predict(frame[frame.columns[::-1]]) == expected).all()
    with pytest.raises(DataError, match="colour"):
        fitted.predict(frame.drop(columns="colour"))


def test_it_works_in_pipelines_searches_and_cross_validation():
    frame, y = table(90)
    small = MLPRegressor(max_epochs=2, width=8)
    pipeline = make_pipeline(FunctionTransformer(lambda f: f.assign(twice=f["size"] ** 2)), small)
    assert cross_val_score(pipeline, frame, y, cv=2).shape == (2,)
    search = GridSearchCV(small, {"width": [4, 8]}, cv=2).fit(frame, y)
    assert search.best_params_["width"] in (4, 8)
    assert clone(small).get_params() == small.get_params()


def test_rows_of_weight_zero_teach_nothing():
    frame, y = table(100)
    weight = (np.arange(100) < 60).astype(float)
    spoiled = np.where(weight > 0, y, 1e6)
    fitted = MLPRegressor(max_epochs=3).fit(frame, spoiled, sample_weight=weight)
    kept = MLPRegressor(max_epochs=3).fit(frame[:60], y[:60])
    assert (fitted.predict(frame) == kept.predict(frame)).all()


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (np.full(40, np.nan), "NaN"),
        (np.r_[np.ones(39), np.inf], "infinity"),
        (np.ones(39), "40 rows and y has 39"),
        (None, "requires y"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(y, sentence):
    with pytest.raises(DataError, match=sentence):
        MLPRegressor(max_epochs=1).fit(table(40)[0], y)


def test_bad_classes_knobs_and_weights_are_refused():
    frame, y = table(40)
    with pytest.raises(DataError, match="one class"):
        MLPClassifier().fit(frame, np.zeros(40, int))
    with pytest.raises(DataError, match="missing"):
        MLPClassifier().fit(frame, np.array(["a", None] * 20, dtype=object))
    with pytest.raises(KnobError, match="dropout must be at least 0 and below 1"):
        MLPRegressor(dropout=2.0).fit(frame, y)
    with pytest.raises(DataError, match="weight"):
        MLPRegressor().fit(frame, y, sample_weight=-np.ones(40))
    with pytest.raises(TrainingError, match="epoch 1"):
        MLPRegressor(lr=1e30, grad_clip=None).fit(frame, y)


def test_a_class_that_only_validation_has_is_left_out_and_told():
    frame, y = table(60)
    labels = words(y)
    labels[labels == "middle"] = "low"
    later = labels[40:].copy()
    later[0] = "never"
    fitted = MLPClassifier(max_epochs=1).fit(
        frame[:40], labels[:40], validation=(frame[40:], later)
    )
    assert fitted.notes_ == ["1 validation rows of a class that training lacks were left out"]


def test_a_fitted_learner_hands_itself_to_a_transform():
    frame, y = table(200)
    fitted = MLPRegressor(max_epochs=3).fit(frame, y)
    before = fitted.predict(frame)
    joined = trainable(fitted, (frame, y))
    score = joined.validate(joined.model)[joined.monitor]
    assert score == pytest.approx(
        fitted.history_[fitted.best_epoch_ - 1]["metrics"]["validation_rmse"]
    )
    batch = next(joined.batches.epoch(0))
    joined.loss(joined.model, batch).backward()
    with torch.no_grad():
        joined.model.head.weight.zero_()
        joined.model.head.bias.zero_()
    changed = joined.finish(joined.model)
    assert np.allclose(changed.predict(frame), fitted.target_mean_)
    assert (fitted.predict(frame) == before).all()
    with pytest.raises(DataError, match="trains on"):
        trainable(fitted, "words")


def test_a_network_that_saw_an_unknown_category_takes_it_as_all_zeros():
    network = MLP(n_numeric=0, cardinalities=[2, 3], n_outputs=1, width=4).eval()
    seen = []
    network.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(torch.zeros(2, 0), torch.tensor([[2, 3], [1, 0]]))
    assert seen[0].tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0]]
