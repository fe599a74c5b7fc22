"""The learners of S-KAN: phases, choice, resume, and what a user is told."""

import os
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise import SKANClassifier, SKANRegressor, skan_edges
from stackwise.build.skan import SKAN, OutsideRange, edge_values
from stackwise.build.skan.layer import PrunedKANLayer
from stackwise.build.skan.selection import prune, scores
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.learning.outputs import batch_loss
from stackwise.progress.words import said
from stackwise.tasks.table.predictions import write_predictions
from stackwise.training.session import session

POOL = ("bspline", "cheby", "wavelet")
PHASES = ["full", "selective", "pruned"]


def table(rows: int = 160) -> tuple[pd.DataFrame, np.ndarray]:
    generator = np.random.default_rng(0)
    a, b = generator.uniform(-1, 1, (2, rows))
    kind = generator.choice(["x", "y"], rows)
    return pd.DataFrame({"a": a, "b": b, "kind": kind}), np.sin(5 * a) + b**2 + (kind == "x")


def small(cls=SKANRegressor, **knobs):
    given = {"hidden": (4,), "pool": POOL, "max_epochs": 10, "batch_size": 64, "threads": 1}
    return cls(**given | knobs)


def mixed() -> tuple[SKAN, dict[str, torch.Tensor]]:
    """A network whose gates differ, and rows for it."""
    torch.manual_seed(0)
    network = SKAN(n_numeric=2, hidden=(3,), pool=POOL)
    with torch.no_grad():
        for layer in network.layers:
            layer.gates.add_(torch.randn_like(layer.gates))
    rows = {"numeric": 2 * torch.rand(50, 2) - 1, "categorical": torch.zeros(50, 0).long()}
    return network, rows | {"target": torch.randn(50), "weight": torch.ones(50)}


@pytest.mark.parametrize("score", ["validation", "gate", "contribution", "taylor", "ablation"])
@pytest.mark.parametrize("select", ["straight", "gumbel", "anneal"])
def test_every_score_and_way_to_commit_leaves_one_family_a_node(score: str, select: str):
    fitted = small(select_by=score, select=select, keep=1, max_epochs=4, race=0.5).fit(*table())
    assert [line["phase"] for line in fitted.history_] == ["full"] * 2 + PHASES[1:]
    nodes = len(fitted.network_.arguments["choice"][0]) + 4
    assert len(fitted.choice_) == nodes
    assert fitted.choice_["gate"].between(0, 1).all()
    assert all(isinstance(layer, PrunedKANLayer) for layer in fitted.network_.layers)


@pytest.mark.parametrize("per", ["node", "edge", "output", "layer"])
@pytest.mark.parametrize("keep", [2, "all", "validation"])
def test_every_grain_fits_and_is_kept(per: str, keep, tmp_path):
    X, y = table()
    fitted = small(per=per, keep=keep, gate="raw", max_epochs=4, race=0.5).fit(X, y)
    fitted.save(tmp_path)
    again = SKANRegressor.load(tmp_path)
    assert np.array_equal(again.predict(X), fitted.predict(X))
    assert again.choice_.equals(fitted.choice_)


def test_it_learns():
    X, y = table(400)
    assert small(max_epochs=60).fit(X, y).score(X, y) > 0.95
    classes = np.where(y > np.median(y), "up", "down")
    assert small(SKANClassifier, max_epochs=40).fit(X, classes).score(X, classes) > 0.9


def test_the_race_keeps_the_smallest_loss_on_validation_rows():
    record = small().fit(*table()).network_.arguments["selection"]
    assert record["losses"][record["score"]] == min(record["losses"].values())
    assert {"gate", "contribution", "taylor", "all", "cheby everywhere"} <= set(record["losses"])


def test_the_race_is_told_candidate_by_candidate_and_the_rest_as_before():
    X, y = table()
    told: list[dict] = []
    with session(on_event=told.append):
        loud = small(race=1.0).fit(X, y)
    phases = list(dict.fromkeys(event["phase"] for event in told))
    count = len(loud.network_.arguments["selection"]["losses"])
    race = [phase for phase in phases if phase.startswith("candidate")]
    assert phases == ["full", "selective", "race", *race, "pruned"]
    assert race and all(phase.endswith(f" of {count}") for phase in race)
    epochs = [event["epoch"] for event in told if event["phase"] == race[0]]
    assert epochs[-1] == told[-1]["max_epochs"] and "train_loss" in said(told[-1] | {"note": None})
    assert all(event["seconds_left"] is None for event in told if event["phase"] in race)
    quiet = small(race=1.0).fit(X, y)
    assert np.array_equal(quiet.predict(X), loud.predict(X))


def test_without_validation_rows_the_contribution_decides():
    fitted = small(validation=0.0, keep=1).fit(*table())
    assert fitted.network_.arguments["selection"]["score"] == "contribution"


@pytest.mark.parametrize(
    ("phase", "epoch"),
    [("full", 2), ("full", 4), ("selective", 2), ("selective", 3), ("pruned", 2)],
)
@pytest.mark.parametrize("select", ["gumbel", "anneal"])
def test_a_fit_that_was_stopped_anywhere_ends_with_the_same_bits(tmp_path, phase, epoch, select):
    X, y = table()
    knobs = {"select": select, "race": 0.5, "keep": 1}
    plain = small(**knobs).fit(X, y)
    sent = []

    def stop(event: dict) -> None:
        if not sent and (event["phase"], event["epoch"]) == (phase, epoch) and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        small(**knobs).fit(X, y)
    with session(folder=tmp_path, resume=True):
        again = small(**knobs).fit(X, y)
    assert np.array_equal(again.predict(X), plain.predict(X))
    assert again.choice_.equals(plain.choice_)
    strip = [(line["phase"], line["epoch"], line["metrics"]) for line in again.history_]
    assert strip == [(line["phase"], line["epoch"], line["metrics"]) for line in plain.history_]


def test_ablation_is_the_change_of_the_loss_and_taylor_its_slope():
    network, rows = mixed()
    ablation = scores(network, "ablation", rows, batch_loss)
    network.eval()
    before = batch_loss(network, rows)
    layer = network.layers[0]
    without = layer.soft().detach().clone()
    without[1, 2] = 0
    layer.given = without
    assert torch.allclose(ablation[0][1, 2], batch_loss(network, rows) - before, atol=1e-6)
    step = 1e-3
    layer.given = layer.soft().detach().clone()
    layer.given[1, 2] += step
    slope = (batch_loss(network, rows) - before) / step
    layer.given = None
    taylor = scores(network, "taylor", rows, batch_loss)[0][1, 2]
    assert torch.allclose(taylor, (slope * layer.soft()[1, 2]).abs(), rtol=0.02, atol=1e-4)


def test_a_contribution_is_the_deviation_of_the_edge_functions():
    network, rows = mixed()
    layer = network.layers[0]
    x = network.features(rows["numeric"], rows["categorical"])
    values = layer.bases["cheby"](x)
    phi = torch.einsum("bik,jik->bji", values, layer.coefficients["cheby"])
    wanted = layer.soft()[:, 1] * phi.var(0, correction=0).mean(0).sqrt()
    assert torch.allclose(
        scores(network, "contribution", rows, batch_loss)[0][:, 1], wanted, atol=1e-5
    )


def test_pruning_keeps_the_mean_of_each_layers_output():
    network, rows = mixed()
    choice = [layer.gates.argmax(-1, keepdim=True) for layer in network.layers]
    masks = [torch.zeros_like(g.gates).scatter(-1, c, 1).bool()
             for g, c in zip(network.layers, choice, strict=True)]  # fmt: skip
    pruned = prune(network, masks, rows)
    x = network.features(rows["numeric"], rows["categorical"])
    before, after = network.layers[0](x), pruned.layers[0](x)
    assert torch.allclose(before.mean(0), after.mean(0), atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-3)


def test_edge_functions_add_up_to_the_layer():
    network, rows = mixed()
    x = network.features(rows["numeric"], rows["categorical"])
    masks = [torch.ones_like(layer.gates).bool() for layer in network.layers]
    for layer in (network.layers[0], prune(network, masks, rows).layers[0]):
        assert torch.allclose(edge_values(layer, x).sum(-1) + layer.bias, layer(x), atol=1e-5)


def test_numbers_outside_of_training_are_counted_and_still_move_the_prediction():
    X, y = table()
    fitted = small().fit(X, y)
    far = X.assign(a=np.where(np.arange(len(X)) < 3, 50.0 + np.arange(len(X)), X["a"]))
    with pytest.warns(OutsideRange, match="'a' in 3 rows") as caught:
        prediction = fitted.predict(far)
    assert len(caught) == 1
    assert len(np.unique(prediction[:3])) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(far.iloc[:0:-1].head(100))


def test_numbers_outside_of_training_are_said_once_where_a_file_is_predicted(tmp_path):
    X, y = table()
    fitted = small().fit(X, y)
    X.assign(a=X["a"] * 50).to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(OutsideRange, match="'a' in") as caught:
        write_predictions(tmp_path / "out.csv", fitted, tmp_path / "new.csv", rows=50)
    assert len(caught) == 1
    assert len(pd.read_csv(tmp_path / "out.csv")) == len(X)


def test_the_probe_shows_the_edges_and_refuses_other_models():
    X, y = table()
    fitted = small(keep=1).fit(X, y)
    findings = skan_edges(fitted, (X, y), edges=3)
    assert len(findings.tables["edges"]) == 4 * 4 + 4
    assert set(findings.figures) == {"layer0", "layer1"}
    assert findings.summary["used"].keys() <= set(POOL)
    assert fitted.plot_edge(1, 0, 0).axes
    with pytest.raises(ModelError, match="layer must be among"):
        fitted.plot_edge(5, 0, 0)
    with pytest.raises(ModelError, match="has no edge functions"):
        skan_edges(torch.nn.Linear(2, 2))


def test_wrong_knobs_are_named():
    with pytest.raises(KnobError, match=r"keep \(4\) exceeds the pool \(3\)"):
        small(keep=4).fit(*table())
    with pytest.raises(KnobError, match="three shares above 0"):
        small(phases=(0.5, 0.5)).fit(*table())
    with pytest.raises(ModelError, match="unknown family 'spline'"):
        small(pool=("spline",)).fit(*table())


@pytest.mark.parametrize("rows", [1, 7])
def test_a_prediction_does_not_depend_on_how_rows_are_batched(rows: int):
    X, y = table()
    fitted = small(max_epochs=4).fit(X, y)
    parts = [fitted.predict(X.iloc[at : at + rows]) for at in range(0, len(X), rows)]
    assert np.array_equal(np.concatenate(parts), fitted.predict(X))


@parametrize_with_checks(
    [
        SKANRegressor(
            hidden=(2,), pool=("cheby", "rbf"), max_epochs=20, lr=3e-2, select_by="gate", keep=1
        ),
        SKANClassifier(
            hidden=(2,), pool=("cheby", "rbf"), max_epochs=20, lr=3e-2, select_by="gate", keep=1
        ),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "batches are drawn by row, so that a "
        "weight of 2 and a repeated row take other steps",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_a_table_of_too_many_categories_is_refused_with_the_batches_that_would_fit():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 500, (1200, 120))
    frame = pd.DataFrame({f"c{i}": [f"v{code}" for code in codes[:, i]] for i in range(120)})
    with pytest.raises(DataError, match=r"batch_size=\d+ would fit"):
        SKANRegressor(max_epochs=3, batch_size=4096).fit(frame, rng.normal(size=1200))
