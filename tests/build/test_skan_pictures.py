"""S-ConvKAN as an estimator: its phases and choice, files, stack, ONNX form, probe and command."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.estimator_checks import parametrize_with_checks

import stackwise
from stackwise import SConvKANClassifier, SKANRegressor, evidence, skan_edges
from stackwise.build.skan import PrunedKANConv2d, SConvKAN
from stackwise.catalog import card
from stackwise.catalog.registering import preset_values
from stackwise.errors import DataError, Interrupted, KnobError, ModelError, StackwiseError
from stackwise.evidence.claims import Claim
from stackwise.evidence.skan import PARTS
from stackwise.stack import Stack
from stackwise.tasks.images.estimators.export import export
from stackwise.tasks.images.small import small_pictures
from stackwise.training.session import session

POOL = ("rbf", "cheby")
QUICK = {"channels": (3, 4), "pool": POOL, "max_epochs": 4, "batch_size": 32, "threads": 1}


def small(**knobs) -> SConvKANClassifier:
    return SConvKANClassifier(**QUICK | knobs)


@pytest.fixture(scope="module")
def fitted() -> SConvKANClassifier:
    return small(keep=1).fit(*small_pictures(60))


@pytest.mark.parametrize(
    ("score", "select"),
    [
        ("validation", "straight"),
        ("gate", "anneal"),
        ("contribution", "gumbel"),
        ("taylor", "straight"),
        ("ablation", "gumbel"),
    ],
)
def test_every_score_and_way_to_commit_leaves_one_family_a_channel(score: str, select: str):
    made = small(select_by=score, select=select, keep=1, max_epochs=3).fit(*small_pictures(45))
    phases = [line["phase"] for line in made.history_]
    assert list(dict.fromkeys(phases)) == ["full", "selective", "pruned"]
    assert len(made.choice_) == 1 + 3  # channels that go into the two convolutions
    assert all(isinstance(of, PrunedKANConv2d) for of in made.network_.all_layers())


@pytest.mark.parametrize(
    ("per", "keep"), [("tap", 1), ("edge", "validation"), ("output", "all"), ("layer", 1)]
)
def test_every_grain_fits_and_is_kept(per: str, keep, tmp_path):
    X, y = small_pictures(45)
    made = small(per=per, keep=keep, gate="raw", pad="input", max_epochs=3).fit(X, y)
    made.save(tmp_path)
    again = stackwise.load(tmp_path)
    assert np.array_equal(again.predict_proba(X), made.predict_proba(X))
    assert again.choice_.equals(made.choice_)


def test_it_learns_and_the_selective_phase_is_judged_by_the_families_that_lead():
    X, y = small_pictures(200)
    made = small(channels=(4, 8), max_epochs=12, keep=1).fit(X, y)
    assert made.score(*small_pictures(90, seed=1)) > 0.9
    lines = [line["metrics"] for line in made.history_ if line["phase"] == "selective"]
    # with the statistics of drawn families it would be at chance, a third
    assert lines[-1]["validation_accuracy"] > 0.8


def test_the_race_keeps_the_smallest_loss_on_validation_pictures(fitted):
    record = fitted.network_.arguments["selection"]
    assert record["losses"][record["score"]] == min(record["losses"].values())
    assert {"gate", "contribution", "taylor", "cheby everywhere"} <= set(record["losses"])


def test_ranges_are_those_of_training_pictures(fitted):
    ((low, high),) = fitted.network_.arguments["ranges"]
    X, _ = small_pictures(60)
    pixels = fitted.pixels(X[:, None])[:]
    scaled = fitted.network_.first({"pixels": pixels})
    assert low < high and scaled.min() >= -1.1 and scaled.max() <= 1.1
    assert scaled.std() > 0.2


@pytest.mark.parametrize(("phase", "epoch"), [("full", 1), ("selective", 1), ("pruned", 1)])
def test_a_fit_that_was_stopped_anywhere_ends_with_the_same_bits(tmp_path, phase, epoch):
    X, y = small_pictures(45)
    plain = small(keep=1).fit(X, y)
    sent = []

    def stop(event: dict) -> None:
        if not sent and (event["phase"], event["epoch"]) == (phase, epoch) and "metrics" in event:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        small(keep=1).fit(X, y)
    with session(folder=tmp_path, resume=True):
        again = small(keep=1).fit(X, y)
    assert np.array_equal(again.predict_proba(X), plain.predict_proba(X))


def test_its_stack_is_the_list_of_its_blocks(fitted):
    stack = Stack.of(fitted)
    assert len(stack) == 2 and stack.names[0] == "blocks.0"
    pixels = fitted.pixels(small_pictures(6)[0][:, None])[:]
    with torch.no_grad(), stack.capture() as stream:
        whole = fitted.network_(pixels)
    assert torch.allclose(fitted.network_.head(stream.hidden[-1].mean((2, 3))), whole, atol=1e-6)


@pytest.mark.slow
def test_the_onnx_file_answers_alike(fitted, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    X, _ = small_pictures(5, seed=1)
    path, _ = export(fitted, tmp_path / "model.onnx")
    (found,) = runtime.InferenceSession(path).run(None, {"pixels": X[:, None].astype(np.float32)})
    assert np.allclose(found, fitted.predict_proba(X), atol=1e-5)


def test_the_probe_shows_the_function_of_every_tap(fitted):
    X, y = small_pictures(30)
    findings = skan_edges(fitted, (X, y), edges=3)
    edges = findings.tables["edges"]
    assert len(edges) == 9 * (1 * 3 + 3 * 4) and {"row", "column"} <= set(edges)
    assert set(findings.figures) == {"layer0", "layer1"}
    assert findings.summary["nodes"] == ["grey"]
    assert sum(findings.summary["used"].values()) == len(edges)
    assert fitted.plot_edge(1, 2, 0).axes[0].get_title().startswith("layer 1: 2 to 0, tap 1, 1")
    with pytest.raises(ModelError, match=r"window of \[3, 3\], and no tap \[3, 0\]"):
        fitted.plot_edge(1, 2, 0, (3, 0))


def test_pictures_of_one_row_and_of_one_pixel_are_taken():
    X, y = small_pictures(30)
    assert small(max_epochs=3).fit(X[:, 4].astype(float), y).image_shape_ == (1, 1, 12)
    assert small(max_epochs=3).fit(X[:, 4:5, 4:5], y).predict(X[:2, 4:5, 4:5]).shape == (2,)


def test_large_pictures_take_small_batches_and_a_batch_that_is_too_large_is_refused(tmp_path):
    X, y = small_pictures(30)
    made = small(max_epochs=1, keep="all", batch_size="auto").fit(X, y)
    made.save(tmp_path)
    again = stackwise.load(tmp_path)
    assert again._batch_size(30) == 128
    again.network_size_ = (2000, 3000)
    assert 1 <= again._batch_size(30) < 8
    with pytest.raises(DataError, match=r"basis maps of pictures of 12 x 12.*batch_size=\d+ would"):
        small(channels=(3, 4), batch_size=200_000).fit(X, y)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"channels": ()}, "channels are numbers of at least 1"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ({"keep": 3}, r"keep \(3\) exceeds the pool \(2\)"),
        ({"pool": ("spline",)}, "unknown family 'spline'"),
        ({"phases": (0.5, 0.5)}, "three shares above 0"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict, message: str):
    with pytest.raises((KnobError, ModelError), match=message):
        small(**knobs).fit(*small_pictures(30))


def test_the_entry_of_pictures_has_presets_of_its_own():
    of = card("skan")
    pictures = of.entry("learner", "classification", task="images")
    table = of.entry("learner", "classification", task="table")
    assert (pictures.name, table.name) == ("SConvKANClassifier", "SKANClassifier")
    assert preset_values(of, "quick", pictures)["channels"] == [8, 16, 32]
    assert preset_values(of, "quick", table)["max_epochs"] == 40
    assert of.own_defaults(pictures)["race"] == 0.5
    assert type(SKANRegressor().kind) is type(SConvKAN)


def test_the_commands_take_a_folder_of_pictures_and_a_table(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = small_pictures(36)
    for number, (picture, name) in enumerate(zip(X, y, strict=True)):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / name / f"{number}.png")
    sets = [word for one in ("channels=[2,2]", 'pool=["rbf"]', "min_steps=0", "max_epochs=1")
            for word in ("--set", one)]  # fmt: skip
    code, out, err = command("fit", "skan", "photos", "--out", "runs/p", *sets)
    assert not code, err
    code, out, err = command("probe", "skan", "runs/p", "--data", "photos", "--out", "runs/q")
    assert not code, err
    assert list((tmp_path / "runs" / "q").rglob("edges*"))
    table = "a,b,y\n" + "".join(f"{n % 7},{n % 5},{n % 3}.5\n" for n in range(40))
    (tmp_path / "sales.csv").write_text(table)
    code, out, err = command("fit", "skan", "sales.csv", "--out", "runs/t", "--target", "y",
                             "--set", "max_epochs=1", "--set", "min_steps=0")  # fmt: skip
    assert not code, err
    assert isinstance(stackwise.load(tmp_path / "runs" / "t"), SKANRegressor)


def test_a_part_of_evidence_takes_its_place_in_the_record_and_says_where_it_comes_from(
    tmp_path, monkeypatch
):
    with pytest.raises(StackwiseError, match="holds no record at scale smoke"):
        evidence.run("skan", out=tmp_path, part="pictures")
    with pytest.raises(StackwiseError, match="has no part 'films'; parts: "):
        evidence.run("skan", out=tmp_path, part="films")
    claims = [{"id": "of-tables"}, {"id": "pictures-gone"}]
    known = {"pictures": {"claims": ["pictures-gone"]}}
    before = {"scale": "smoke", "claims": claims, "parts": known, "commit": "first"}
    (tmp_path / "skan.json").write_text(json.dumps(before))
    monkeypatch.setitem(PARTS, "pictures", lambda scale: [Claim("pictures-new", scale, "holds")])
    after = json.loads(evidence.run("skan", out=tmp_path, part="pictures").read_text())
    assert [claim["id"] for claim in after["claims"]] == ["of-tables", "pictures-new"]
    assert after["commit"] == "first"
    assert after["parts"]["pictures"]["claims"] == ["pictures-new"]
    assert after["parts"]["pictures"]["command"].endswith("--scale smoke --part pictures")


@parametrize_with_checks(
    [small(channels=(3,), max_epochs=9, lr=0.05, keep=1, select_by="gate", augment="none")],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "weights change which rows are held out",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)
