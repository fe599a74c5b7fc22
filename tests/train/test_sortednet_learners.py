"""The estimators, the transform and the probe: one fit, cut to any size, kept and brought back."""

import json
import signal
import sys

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackwise
from stackwise import (
    SortedNetClassifier,
    SortedNetImageClassifier,
    SortedNetRegressor,
    cli,
    sorted_submodels,
    sortednet,
)
from stackwise.conformance.small_models import WithLoss, small_language_model
from stackwise.errors import DataError, Interrupted, KnobError, ModelError
from stackwise.learning.measuring import multiply_adds
from stackwise.models import open_model
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.table.task import TableTask
from stackwise.train.sortednet import extract
from stackwise.training import session

SMALL = {"width": 16, "depth": 1, "widths": [0.5, 1.0], "threads": 1}
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}
PICTURES = {
    "max_epochs": 2, "widths": [0.5, 1.0], "augment": "none", "batch_size": 30, "threads": 1,
    "min_steps": 0,
}  # fmt: skip
KINDS = {
    "cnn": {"width": 4}, "inverted": {"width": 4, "statistics": "running"}, "mlp": {"width": 8},
    "vit": {"width": 8, "depth": 2, "heads": 2, "head_dim": 4, "head_counts": [1, 2]},
}  # fmt: skip


@parametrize_with_checks(
    [
        SortedNetClassifier(**SMALL, batch_size=64, max_epochs=12, lr=0.03),
        SortedNetRegressor(**SMALL, batch_size=32, max_epochs=16, lr=0.03),
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)
def test_the_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> dict[str, SortedNetImageClassifier]:
    return {
        kind: SortedNetImageClassifier(network=kind, **PICTURES | knobs).fit(*small_pictures())
        for kind, knobs in KINDS.items()
    }


@pytest.fixture(scope="module")
def plain() -> ResidualCNNClassifier:
    """A learner of another method."""
    knobs = {"max_epochs": 1, "min_steps": 0, "threads": 1, "augment": "none"}
    return ResidualCNNClassifier(width=4, **knobs).fit(*small_pictures())


@pytest.mark.parametrize("kind", KINDS)
def test_every_sub_model_is_scored_as_the_plain_network_that_comes_out(fitted, kind, tmp_path):
    X, y = small_pictures()
    whole = fitted[kind]
    table = whole.submodels(X, y)
    assert len(table) == len(whole.space_) and table["parameters"].is_monotonic_increasing
    assert {"multiply_adds", "milliseconds", "score"} <= set(table.columns)
    small = whole.extract(width=0.5, depth=1)
    assert small.score(X, y) == table["score"][0]
    assert multiply_adds(small.network_, **whole.example_inputs()) == table["multiply_adds"][0]
    assert len(small.space_) == (1 if kind != "vit" else len(small.space_))
    for name, one in (("whole", whole), ("small", small)):
        one.save(tmp_path / name)
        again = stackwise.load(tmp_path / name)
        assert np.array_equal(again.predict_proba(X), one.predict_proba(X))
        assert again.space_ == one.space_
    again = stackwise.load(tmp_path / "whole").extract(width=0.5, depth=1)
    assert np.array_equal(again.predict_proba(X), small.predict_proba(X))


def test_a_cut_cnn_has_the_statistics_of_its_own_stream(fitted):
    X, _ = small_pictures()
    whole = fitted["cnn"]
    sizes = whole.space_.sizes[0]
    mixed = whole.with_network(extract(whole.network_, sizes))
    assert not np.allclose(mixed.predict_proba(X), whole.extract(**sizes).predict_proba(X))


def test_the_largest_within_a_budget_is_extracted(fitted):
    whole = fitted["mlp"]
    table = whole.submodels()
    middle = float(table["multiply_adds"].median())
    small = whole.extract(max_macs=middle)
    found = multiply_adds(small.network_, **whole.example_inputs())
    assert found == table["multiply_adds"][table["multiply_adds"] <= middle].max()
    assert sortednet(whole, max_macs=middle).network_.arguments == small.network_.arguments
    with pytest.raises(
        KnobError, match="no sub-model has at most 3 parameters; the smallest needs"
    ):
        whole.extract(max_params=3)
    with pytest.raises(KnobError, match="was not trained"):
        whole.extract(width=3)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"network": "cnn", "heads": 2}, "heads is for network=vit, not for cnn"),
        ({"network": "mlp", "norm": "group"}, "norm is for network=inverted"),
        ({"network": "mlp", "statistics": "running"}, "batch normalisation, which is not here"),
        ({"network": "mlp", "widths": [0.5]}, "end at the full size"),
        ({"network": "mlp", "scheme": "all"}, "leave full_probability at 0"),
        ({"network": "cnn", "spread": "even"}, "one stage"),
    ],
)
def test_knobs_that_do_not_go_together_are_refused_in_a_sentence(knobs, words):
    with pytest.raises((KnobError, ModelError), match=words):
        SortedNetImageClassifier(**PICTURES | knobs).fit(*small_pictures())


@pytest.mark.parametrize("scheme", ["all", "sandwich", "same-batch", "progressive", "truncate"])
def test_every_scheme_learns(scheme):
    X, y = small_pictures()
    one = SortedNetImageClassifier(
        network="mlp",
        scheme=scheme,
        full_probability=0.0,
        spread="even",
        **PICTURES | {"width": 16},
    )
    one.fit(X, y)
    assert one.history_[-1]["metrics"]["train_loss"] < one.history_[0]["metrics"]["train_loss"]
    assert one.submodels(X, y, latency=False)["score"].notna().all()


def test_a_stopped_fit_goes_on_to_the_same_weights(tmp_path):
    X, y = small_pictures()
    knobs = {"network": "cnn", "width": 4, "statistics": "running"} | PICTURES | {"max_epochs": 3}
    whole = SortedNetImageClassifier(**knobs).fit(X, y)

    def stop(event):
        if event["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        SortedNetImageClassifier(**knobs).fit(X, y)
    with session(folder=tmp_path, resume=True):
        again = SortedNetImageClassifier(**knobs).fit(X, y)
    for name, tensor in whole.network_.state_dict().items():
        assert torch.equal(tensor, again.network_.state_dict()[name]), name
    ours, theirs = whole.statistics_.tensors(), again.statistics_.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_transform_trains_any_stack_sorted_and_leaves_it_as_it_was():
    torch.manual_seed(0)
    model = WithLoss().eval()
    batches = [{"x": torch.randn(4, 8), "labels": torch.randint(0, 3, (4,))} for _ in range(4)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for draws in (1, 2):
        made = sortednet(model, batches, epochs=1, accumulate=draws)
        assert not torch.equal(made.head.weight, before["head.weight"])
    cut = sortednet(model, batches, epochs=1, take={"depth": 1}, adjust=1)
    assert len(cut.blocks) == 1
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    with pytest.raises(KnobError, match="say what to make"):
        sortednet(model)
    with pytest.raises(DataError, match="no validation part to choose a size by"):
        sortednet(model, batches)
    with pytest.raises(KnobError, match="not both"):
        sortednet(model, batches, take={"depth": 1}, max_params=5)
    with pytest.raises(KnobError, match="scheme is about sorted training"):
        sortednet(model, take={"depth": 1}, scheme="all")
    with pytest.raises(KnobError, match="leave it out"):
        sortednet(model, take={"depth": 1}, within=0.1)
    with pytest.raises(KnobError, match="adjust fits a model that was cut"):
        sortednet(model, batches, epochs=1, adjust=1)
    with pytest.raises(KnobError, match="give data"):
        sortednet(model, max_macs=5)


def test_without_a_budget_the_smallest_is_taken_that_is_nearly_as_good(fitted):
    whole, task = fitted["mlp"], ImagesTask.small()
    scores = [
        task.judge(whole.extract(**sizes), "validation").scores["accuracy"]
        for sizes in whole.space_.sizes
    ]
    found = sortednet(whole, task, within=0.5)
    near = [one >= 0.5 * scores[-1] for one in scores]
    sizes = whole.space_.sizes[near.index(True)]
    assert found.network_.arguments["width"] == sizes["width"]
    assert found.network_.arguments["depth"] == sizes["depth"]


def test_only_the_head_is_adjusted(fitted):
    X, y = small_pictures()
    whole = fitted["mlp"]
    cut = sortednet(whole, (X, y), take={"depth": 1, "width": 0.5})
    mended = sortednet(whole, (X, y), take={"depth": 1, "width": 0.5}, adjust=2, lr=0.01)
    changed = {
        name for name, tensor in mended.network_.state_dict().items()
        if not torch.equal(tensor, cut.network_.state_dict()[name])
    }  # fmt: skip
    assert changed and all(name.startswith(("norm.", "head.")) for name in changed)
    assert all(p.requires_grad for p in mended.network_.parameters())


def test_what_was_trained_whole_is_not_narrowed():
    whole = open_model(small_language_model())
    with pytest.raises(ModelError, match="the width of this model was never sorted"):
        sortednet(whole, take={"width": 0.5})


def test_a_residual_cnn_that_was_trained_whole_needs_data_to_be_cut(plain):
    X, y = small_pictures()
    with pytest.raises(DataError, match="no statistics for sub-models: give data"):
        sortednet(plain, take={"depth": 1})
    made = sortednet(plain, (X, y), widths=[0.5, 1.0], epochs=1, take={"width": 0.5})
    assert made.network_.arguments["width"] == 2 and made.score(X, y) >= 0


def test_the_probe_shows_every_sub_model_by_cost_and_score(plain, tmp_path):
    task = ImagesTask.small()
    whole = task.fit(SortedNetImageClassifier(network="mlp", **PICTURES | {"width": 8}))
    found = sorted_submodels(whole, task)
    table = found.tables["submodels"]
    assert len(table) == len(whole.space_) and table["best"].any()
    assert len(found.figures) == 1 and "smallest within 4 %" in found.summary
    found.save(tmp_path)
    assert (tmp_path / "figures" / "score-by-cost.png").is_file()
    with pytest.raises(DataError, match="judged on data: give a task"):
        sorted_submodels(whole)
    with pytest.raises(ModelError, match="was not trained sorted"):
        sorted_submodels(plain, task)


def test_a_run_of_a_table_is_cut_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = TableTask.small("regression")
    frame, y = task.part("train")
    frame.assign(price=y).to_csv("sales.csv", index=False)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["stackwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    fit = ("fit", "sortednet", "sales.csv", "--target", "price", "--preset", "quick")
    assert call(*fit, "--set", "max_epochs=2", "--set", "min_steps=0", "--out", "run") == 0
    assert call("apply", "sortednet", "run", "--set", "max_params=900", "--out", "small") == 0
    record = json.loads((tmp_path / "small" / "run.json").read_text())
    assert record["measured"]["after"]["bytes"] <= 4 * 900
    assert call("apply", "sortednet", "run", "--set", "max_params=2", "--out", "none") == 2
    assert "the smallest needs" in capsys.readouterr().err
