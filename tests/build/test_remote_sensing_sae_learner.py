"""The mapper and the transformer: bit for bit the same, on tiles and whole, from files and back."""

import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from stackwise import SpectralMapper, StackedAutoencoder, cli
from stackwise.errors import DataError, KnobError
from stackwise.runs import fit_run, load
from stackwise.tasks.rasters.reading import scene as scenes
from stackwise.tasks.rasters.small import small_scene
from stackwise.tasks.rasters.task import RastersTask

QUICK = {"epochs": [3, 2, 2], "batch_size": 64, "lr": 5e-3, "n_clusters": 3}


@pytest.fixture(scope="module")
def cube():
    return small_scene()[0]


@pytest.fixture(scope="module")
def mapper(cube):
    return SpectralMapper(**QUICK).fit(cube)


@pytest.mark.slow
def test_the_transformer_passes_scikit_learns_checks():
    check_estimator(StackedAutoencoder(epochs=1, batch_size=64))


def test_the_transformer_works_in_a_pipeline_and_back():
    import pandas as pd

    x = np.random.default_rng(0).normal(size=(300, 1)) @ np.array([[1.0, 2, -1, 0.5]])
    frame = pd.DataFrame(x, columns=list("abcd"))
    coder = StackedAutoencoder(epochs=[30, 10, 10], batch_size=64, lr=2e-2)
    pipe = make_pipeline(coder, KMeans(2, n_init=3, random_state=0)).fit(frame)
    assert len(set(pipe.predict(frame))) == 2
    codes = coder.transform(frame)
    back = coder.inverse_transform(codes)
    assert back.shape == frame.shape
    assert np.mean((back - x) ** 2) < 0.2 * x.var(0).mean()
    names = ["stackedautoencoder0", "stackedautoencoder1"]
    assert list(coder.get_feature_names_out()) == names
    assert [line["phase"][-1] for line in coder.history_][::15] == ["1", "1", "2", "3"]
    assert {"train_loss", "train_error", "train_penalty"} <= set(coder.history_[0]["metrics"])


def test_the_transformer_is_kept_and_refuses_what_it_cannot_take(tmp_path):
    x = np.random.default_rng(0).random((40, 5))
    coder = StackedAutoencoder(epochs=1, batch_size=16).fit(x)
    coder.save(tmp_path / "kept")
    again = StackedAutoencoder.load(tmp_path / "kept")
    np.testing.assert_array_equal(again.transform(x), coder.transform(x))
    np.testing.assert_array_equal(
        again.inverse_transform(x[:, :2]), coder.inverse_transform(x[:, :2])
    )
    with pytest.raises(DataError, match=r"codes are \(n, 2\), got \(40, 5\)"):
        coder.inverse_transform(x)
    with pytest.raises(DataError, match="scale=False takes numbers of 0 to 1"):
        StackedAutoencoder(scale=False).fit(x + 1)
    for knobs, says in (
        ({"epochs": [1, 2]}, r"epochs=\[1, 2\] names 2 of 3 stages"),
        ({"batch_size": [1, 0, 2]}, "batch_size must be at least 1 in each stage, got 0"),
        ({"stages": [6, 4]}, r"lists of widths such as \[\[6,4\],\[10,5\]\]"),
        ({"code_dim": 0}, "code_dim must be at least 1"),
    ):
        with pytest.raises(KnobError, match=says):
            StackedAutoencoder(**knobs).fit(x)


def test_a_seed_fixes_the_map_bit_for_bit(cube, mapper):
    again = SpectralMapper(**QUICK).fit(cube)
    np.testing.assert_array_equal(again.labels_, mapper.labels_)
    np.testing.assert_array_equal(again.codes_, mapper.codes_)
    other = SpectralMapper(**QUICK, random_state=1).fit(cube)
    assert not np.array_equal(other.codes_, mapper.codes_)


def test_the_map_of_the_training_scene_is_what_predict_gives(cube, mapper):
    np.testing.assert_array_equal(mapper.predict(cube), mapper.labels_)
    assert mapper.labels_.shape == (24, 24) and mapper.labels_.dtype == np.int32
    assert mapper.fit_predict is not None and set(np.unique(mapper.labels_)) <= {0, 1, 2}


def test_permuted_pixels_have_permuted_codes_and_units(mapper):
    many = np.random.default_rng(0).random((40_000, 4)).astype("float32")
    order = np.random.default_rng(1).permutation(len(many))
    units, sure = mapper.units_of(many)
    again, sure_again = mapper.units_of(many[order])
    np.testing.assert_array_equal(units[order], again)
    np.testing.assert_array_equal(sure[order], sure_again)
    np.testing.assert_array_equal(mapper.transform(many)[order], mapper.transform(many[order]))


def test_tiles_give_the_map_of_the_whole(cube, mapper, monkeypatch):
    whole = mapper.predict(cube, filtered=False)
    for numbers in (1, 24 * 4 * 5):
        monkeypatch.setattr(scenes, "STRIP", numbers)
        np.testing.assert_array_equal(mapper.predict(cube, filtered=False), whole)
        np.testing.assert_array_equal(mapper.predict(cube), mapper.labels_)
    crop = mapper.predict(cube[:, 3:20, 5:22], filtered=False)
    np.testing.assert_array_equal(crop, whole[3:20, 5:22])


def test_pixels_that_are_left_out_change_nothing_else(cube):
    mask = np.ones((24, 24), bool)
    mask[:6] = False
    there = SpectralMapper(**QUICK).fit(cube, mask=mask)
    alone = SpectralMapper(**QUICK).fit(cube[:, 6:])
    assert (there.labels_[:6] == -1).all()
    np.testing.assert_array_equal(there.predict(cube[:, 6:]), alone.labels_)
    assert "25 % of the pixels" in there.notes_[0]


def test_a_table_of_pixels_is_mapped_without_a_filter(cube, mapper):
    table = cube.reshape(4, -1).T
    found = SpectralMapper(**QUICK).fit(table)
    np.testing.assert_array_equal(found.labels_, mapper.predict(cube, filtered=False).ravel())


def test_pca_is_scikit_learns(cube):
    mapper = SpectralMapper(reduce="pca", n_clusters=3).fit(cube)
    scaled = cube.reshape(4, -1).T
    scaled = (scaled - scaled.min(0)) / np.ptp(scaled, axis=0)
    peer = PCA(0.9).fit(scaled)
    codes = peer.transform(scaled)
    assert mapper.codes_.shape == codes.shape
    signs = np.sign((codes * mapper.codes_).sum(0))
    np.testing.assert_allclose(mapper.codes_, signs * codes, atol=1e-4)


def test_one_autoencoder_is_the_first_stage_alone(cube):
    mapper = SpectralMapper(**QUICK | {"reduce": "ae"}).fit(cube)
    assert mapper.network_.codes.encoder.arguments["stages"] == [[6, 4]]
    assert {line["phase"] for line in mapper.history_} == {"stage 1"}
    back = mapper.reconstruct(cube)
    assert back.shape == cube.shape
    scaled = (back - cube) / np.ptp(cube, axis=(1, 2))[:, None, None]
    assert np.mean(scaled**2) == pytest.approx(mapper.reconstruction_error_, rel=1e-3)


def test_scaled_pixels_lie_in_0_to_1(cube, mapper):
    import torch

    scaled = mapper.network_.codes.scaled(torch.from_numpy(cube.reshape(4, -1).T.copy()))
    assert float(scaled.min()) == 0 and float(scaled.max()) == 1
    np.testing.assert_array_equal(mapper.band_max_, cube.max((1, 2)))


def test_a_run_comes_back_and_resumes_bit_for_bit(cube, tmp_path):
    task = RastersTask.small()
    run = fit_run("remote-sensing-sae", task, out=tmp_path / "run", knobs=QUICK)
    np.testing.assert_array_equal(
        load(run.folder).predict(cube), SpectralMapper(**QUICK).fit(task).labels_
    )

    class Killed(Exception):
        pass

    def stop(event):
        if event.get("phase") == "stage 2" and event.get("metrics"):
            raise Killed

    with pytest.raises(Killed):
        fit_run("remote-sensing-sae", task, out=tmp_path / "cut", knobs=QUICK, on_event=stop)
    again = fit_run("remote-sensing-sae", task, out=tmp_path / "cut", knobs=QUICK, resume=True)
    np.testing.assert_array_equal(load(again.folder).predict(cube), load(run.folder).predict(cube))
    assert again.record["scores"] == run.record["scores"]


def test_a_limit_of_time_leaves_every_stage_its_share(cube):
    mapper = SpectralMapper(**QUICK | {"epochs": 4000, "time_limit": 1.5}).fit(cube)
    phases = [line["phase"] for line in mapper.history_]
    assert {"stage 1", "stage 2", "stage 3"} == set(phases)
    assert any("time limit" in note for note in mapper.notes_)


def test_a_dead_number_of_the_code_is_said():
    coder = StackedAutoencoder()
    coder._begin()
    alive = np.random.default_rng(0).normal(size=(100, 2))
    coder._look(alive)
    assert not coder.notes_
    coder._look(alive * [1, 1e-3])
    assert "number 2 of the code is nearly constant" in coder.notes_[0]


@pytest.mark.slow
def test_the_commands_of_the_issue_run_on_real_pixels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (
        "fit remote-sensing-sae sentinel-crop --preset quick --set fit_pixels=2000 --out runs/map",
        "predict runs/map sentinel-crop -o units.npy --picture map.png",
        "report runs/map --out page.html",
    ):
        monkeypatch.setattr(sys, "argv", ["stackwise", *words.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err
    assert np.load("units.npy").shape == (300, 300)
