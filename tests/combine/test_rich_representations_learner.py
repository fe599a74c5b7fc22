"""The estimator: members by seeds, apart or as one, snapshots, transfer, and what is kept."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise import RichRepresentation, load, rich_representations
from stackwise.combine.rich_representations import report
from stackwise.combine.rich_representations.snapshots import SnapshotRun
from stackwise.errors import DataError, Interrupted, KnobError, ModelError, RunError
from stackwise.runs import derive_run, fit_run
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNNClassifier
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.task import ImagesTask
from stackwise.tasks.table.baselines.mlp import MLPClassifier
from stackwise.training import session

PICTURES = ResidualCNNClassifier(
    width=2, n_blocks=1, max_epochs=2, augment="none", threads=1, batch_size=32
)
TABLE = MLPClassifier(
    width=8, n_blocks=2, dropout=0.0, max_epochs=4, patience=2, threads=1, batch_size=16
)
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
}


def table(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[np.arange(count) % 3]
    return generator.normal(size=(count, 4)) + 2 * (np.arange(count) % 3)[:, None], y


def same(one, other) -> bool:
    left, right = one.network_.state_dict(), other.network_.state_dict()
    return list(left) == list(right) and all(torch.equal(t, right[k]) for k, t in left.items())


def pictured(**knobs) -> RichRepresentation:
    return RichRepresentation(**{"base": PICTURES, "n": 2} | knobs).fit(*small_pictures(60))


def tabled(**knobs) -> RichRepresentation:
    return RichRepresentation(**{"base": TABLE, "n": 3} | knobs).fit(*table())


@parametrize_with_checks(
    [
        RichRepresentation(
            n=1, member={"width": 16, "n_blocks": 1, "lr": 0.02, "batch_size": 32, "dropout": 0.0},
            member_epochs=12, C=1.0, threads=1,
        )
    ],
    expected_failed_checks=lambda _: WEIGHTS,
)  # fmt: skip
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def cat() -> RichRepresentation:
    return pictured()


def test_seeds_make_members_again_and_other_seeds_make_others(cat):
    again, other = pictured(), pictured(seeds=[5, 6])
    assert same(cat, again) and not same(cat, other)
    first, second = (member.network_ for member in cat.members_)
    assert not torch.equal(first.head.weight, second.head.weight)


def test_a_member_is_what_its_seed_gives_alone():
    rich = tabled(seeds=[4, 9], n=2, together=False, weight_decay=TABLE.weight_decay)
    X, y = table()
    train, held = rich.parts_of((X, y))
    assert held is not None
    alone = MLPClassifier(**TABLE.get_params() | {"random_state": 9}).fit(
        train.samples, rich.classes_[train.target],
        validation=(held.samples, rich.classes_[held.target]),
    )  # fmt: skip
    assert same(rich.members_[1], alone)


def test_transform_is_the_features_of_all_members(cat):
    X, _ = small_pictures(60)
    found = cat.transform(X)
    assert found.shape == (60, 16) and list(cat.get_feature_names_out()[:1]) == ["member0_0"]
    alone = RichRepresentation.of_members(cat.members_[1:], cat.classes_)
    assert np.array_equal(found[:, 8:], alone.transform(X))
    assert np.array_equal(found[11:12], cat.transform(X[11:12]))


def test_it_stands_in_a_pipeline_before_another_classifier():
    X, y = table()
    model = make_pipeline(RichRepresentation(TABLE, 2), LogisticRegression(max_iter=500))
    assert model.fit(X, y).score(X, y) > 0.6


@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_members_trained_as_one_network_are_those_trained_apart(dropped):
    base = MLPClassifier(**TABLE.get_params() | {"dropout": dropped, "max_epochs": 6})
    apart, together = (tabled(base=base, together=way) for way in (False, True))
    X, _ = table()
    for one, other in zip(apart.members_, together.members_, strict=True):
        found = one.predict_proba(X), other.predict_proba(X)
        if dropped:  # the draws are others
            assert not np.allclose(*found, atol=1e-5)
        else:
            assert np.allclose(*found, atol=1e-5)
            assert one.best_epoch_ == other.best_epoch_


def test_convolutions_and_batch_norm_as_one_network_are_those_apart(cat):
    together = pictured(together=True)
    X, _ = small_pictures(60)
    assert np.allclose(cat.transform(X), together.transform(X), atol=1e-3)


def test_auto_takes_one_network_for_linear_layers_alone():
    assert tabled().history_[0]["phase"] == "3 members"
    assert pictured(member={"max_epochs": 1}).history_[0]["phase"] != "2 members"


@pytest.mark.slow
def test_members_trained_on_a_pool_are_those_trained_in_turn(cat):
    assert same(cat, pictured(workers=2))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_members_trained_on_ray_are_those_trained_in_turn(cat, small_cluster):
    assert same(cat, pictured(on="ray"))


@pytest.mark.parametrize(
    ("knobs", "where"),
    [
        ({"together": False}, "member 2 of 3"),
        ({"together": True}, "3 members"),
        ({"mode": "snapshots"}, "snapshot 2"),
        ({"mode": "distill", "together": False}, "train"),
    ],
)
def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(knobs, where, tmp_path):
    sent = []

    def stop(event: dict) -> None:
        if not sent and event.get("phase") == where and event.get("metrics"):
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        tabled(**knobs)
    with session(folder=tmp_path, resume=True):
        resumed = tabled(**knobs)
    assert same(resumed, tabled(**knobs))
    epochs = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    with session(folder=tmp_path / "whole"):
        tabled(**knobs)
    assert epochs == len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())


def test_a_time_limit_ends_every_member():
    model = tabled(member_epochs=100_000, member={"patience": None}, time_limit=1.0)
    assert any("time limit" in note for note in model.notes_)
    assert model.transform(table()[0]).shape == (80, 24)


def test_snapshots_are_of_different_moments_and_no_aliases():
    model = pictured(n=3, mode="snapshots", member={"max_epochs": 4})
    states = [member.network_.head.weight for member in model.members_]
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    assert [line["phase"] for line in model.members_[0].history_] == [
        "snapshot 1", "snapshot 1", "snapshot 2", "snapshot 3",
    ]  # fmt: skip
    run = SnapshotRun(torch.nn.Linear(2, 2)).take()
    before = run.snapshots[0].weight.clone()
    with torch.no_grad():
        run.network.weight.add_(1)
    assert torch.equal(run.snapshots[0].weight, before)


@pytest.mark.parametrize(
    ("mode", "head"),
    [("cat", "cat"), ("cat", "sub"), ("snapshots", "cat"), ("distill-snapshots", "cat")],
)
def test_every_mode_is_kept_and_read_back(mode, head, tmp_path):
    model = tabled(mode=mode, head=head)
    X, y = table()
    found = model.predict_proba(X)
    assert model.score(X, y) > 0.5
    model.save(tmp_path)
    again = RichRepresentation.load(tmp_path)
    assert np.array_equal(again.predict_proba(X), found)
    assert np.array_equal(again.transform(X), model.transform(X))
    assert len(model.members_) == (1 if "distill" in mode else 3)


def test_a_run_knows_the_members_that_it_was_made_of(tmp_path):
    task = ImagesTask.small()
    quick = {"width": 2, "n_blocks": 1, "max_epochs": 1, "min_steps": 0, "threads": 1}
    runs = [
        str(fit_run("residual-cnn", task, out=tmp_path / name, knobs=quick, seed=seed).folder)
        for seed, name in enumerate("abc")
    ]
    made = derive_run(
        "transform", "rich-representations", runs[0], out=tmp_path / "joined", data=task,
        knobs={"members": ",".join(runs[1:]), "epochs": 1},
    )  # fmt: skip
    record = json.loads((made.folder / "run.json").read_text())
    assert len(set(record["models"]["members"])) == 2 and record["status"] == "finished"
    assert len(load(made.folder).members_) == 3


def test_a_changed_weight_of_a_member_is_noticed(tmp_path):
    tabled(n=1).save(tmp_path)
    path = tmp_path / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunError):
        RichRepresentation.load(tmp_path)


def test_pictures_as_rows_of_numbers_are_read_back_as_such(tmp_path):
    X, y = small_pictures(60)
    flat = X.reshape(60, -1)
    base = ResidualCNNClassifier(**PICTURES.get_params() | {"image_shape": [12, 12]})
    model = RichRepresentation(base, 2).fit(flat, y)
    model.save(tmp_path)
    assert np.array_equal(RichRepresentation.load(tmp_path).predict(flat), model.predict(flat))


def test_augmented_pictures_are_distilled_as_they_vary():
    model = pictured(mode="distill", base=PICTURES, member={"augment": "shift"})
    assert model.transform(small_pictures(60)[0]).shape == (60, 8)


@pytest.mark.parametrize("targets", ["labels", "features"])
def test_other_targets_of_distillation_give_one_network(targets):
    model = pictured(mode="distill", targets=targets)
    X, _ = small_pictures(60)
    (student,) = model.members_
    assert model.transform(X).shape == (60, 8)
    if targets == "features":  # its own head is then the probe
        assert np.allclose(student.predict_proba(X), model.predict_proba(X), atol=1e-4)


def test_new_classes_are_probed_and_the_old_ones_stay(cat):
    X, y = small_pictures(60)
    other = np.where(y == "square", "square", "bar")
    probed = cat.probed(X, other)
    assert list(probed.classes_) == ["bar", "square"] and len(cat.classes_) == 3
    assert probed.members_ is cat.members_
    groups = np.arange(60) % 2
    under = cat.probed(X, y, C=0.1, environments=groups, beta=1.0)
    assert under.predict(X).shape == (60,)
    with pytest.raises(KnobError, match="needs C"):
        cat.probed(X, y, environments=groups)


@pytest.mark.parametrize("how", ["two-stage", "probe", "sub", "initial"])
def test_members_are_joined_on_new_classes(cat, how, tmp_path):
    X, y = small_pictures(60)
    other = np.array([f"{label}{i % 2}" for i, label in enumerate(y)])
    before = cat.predict_proba(X)
    made = rich_representations(cat, (X, other), how=how, epochs=1)
    assert len(made.classes_) == 6 and made.predict_proba(X).shape == (60, 6)
    assert np.array_equal(cat.predict_proba(X), before)
    made.save(tmp_path)
    assert np.array_equal(RichRepresentation.load(tmp_path).predict_proba(X), made.predict_proba(X))


def test_the_second_stage_begins_as_the_mean_of_the_tuned_members(cat):
    X, y = small_pictures(60)
    made = rich_representations(cat, (X, y), epochs=1, head_epochs=0)
    logits = []
    for member in made.members_:
        with torch.no_grad():
            logits.append(member.network_(member.pixels(X[:, None])[slice(None)]))
    mean = torch.stack(logits).mean(0).double().softmax(-1).numpy()
    assert np.allclose(made.predict_proba(X), mean, atol=1e-5)


def test_members_are_distilled_on_the_classes_that_they_know(cat):
    X, y = small_pictures(60)
    made = rich_representations(cat, (X, y), how="distill", epochs=1)
    assert len(made.members_) == 1
    with pytest.raises(DataError, match="distilled on the classes that they know"):
        rich_representations(cat, (X, np.arange(60) % 2), how="distill", epochs=1)


@pytest.mark.slow
def test_members_tuned_on_a_pool_are_those_tuned_in_turn(cat):
    data = small_pictures(60)
    one, two = (rich_representations(cat, data, epochs=1, workers=w, threads=1) for w in (1, 2))
    assert same(one, two)


def test_a_report_shows_each_member_and_how_alike_they_are(cat):
    found = report(cat, *small_pictures(60))
    assert list(found.tables["members"].columns) == ["accuracy", "weight"]
    alike = found.tables["cka"].to_numpy()
    assert np.allclose(np.diag(alike), 1) and alike[0, 1] < 1
    assert found.summary["features"] == 16
    with pytest.raises(ModelError, match="one head on all features"):
        report(tabled(head="sub"), *table())


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"seeds": [1, 1, 2]}, "seeds has 1 twice"),
        ({"seeds": [1, 2]}, "seeds has 2 numbers and n is 3"),
        ({"base": "residual-cn"}, "no classifier of table"),
        ({"base": LogisticRegression()}, "base is a LogisticRegression"),
        ({"member": {"wdth": 3}}, "has no knob 'wdth'"),
        ({"together": True, "workers": 2}, "leave out workers and on"),
        ({"mode": "snapshots", "seeds": [1, 2, 3]}, "one run and has one seed"),
    ],
)
def test_knobs_that_make_no_members_are_refused(knobs, words):
    with pytest.raises(KnobError, match=words):
        tabled(**knobs)


def test_members_of_other_forms_are_refused(cat):
    rich = tabled(n=1)
    with pytest.raises(DataError, match="members must take the same samples"):
        rich_representations(rich, table(), members=[cat.members_[0]], how="probe")
    with pytest.raises(ModelError, match="members 1 and 3 are bit-identical"):
        rich_representations(cat, small_pictures(60), members=[cat.members_[0]])
    with pytest.raises(ModelError, match="not some of both"):
        rich_representations(cat, small_pictures(60), members=[torch.nn.Linear(2, 2)])
    with pytest.raises(DataError, match="give it data"):
        rich_representations(cat)
