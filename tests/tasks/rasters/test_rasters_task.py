"""The task: what it judges, what it says without a reference, what commands make of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from stackwise import cli, studies
from stackwise.errors import DataError, StudyError
from stackwise.runs import fit_run, load
from stackwise.tasks.rasters.baselines import BandsMapper, PCAMapper
from stackwise.tasks.rasters.estimators.clustering import farthest_below
from stackwise.tasks.rasters.estimators.components import enough, principal_components
from stackwise.tasks.rasters.estimators.sampling import drawn
from stackwise.tasks.rasters.reading.opening import open_scene
from stackwise.tasks.rasters.small import small_scene
from stackwise.tasks.rasters.task import RastersTask

sys.path.insert(0, str(Path(__file__).parent))
from rasters_made import write_tif


def test_judged_parts_share_no_pixel_and_hold_all_that_is_known():
    cube, units = small_scene()
    units = np.where(np.arange(24)[:, None] < 3, -1, units)
    task = RastersTask.load(cube, reference=units)
    both = np.concatenate([task._judged["validation"], task._judged["test"]])
    assert len(np.unique(both)) == len(both) == (units >= 0).sum()
    again = RastersTask.load(cube, reference=units, split_seed=1)
    assert again.data_hash != task.data_hash
    few = RastersTask.load(cube, reference=units, most_judged=20)
    assert few.rows() == {"train": 576, "validation": 20, "test": 20}


def test_the_deciding_score_of_all_test_pixels_is_the_judged_one(tmp_path):
    task = RastersTask.small()
    run = fit_run("k-means", task, out=tmp_path / "run", knobs={"n_clusters": 3})
    count, score = task.resampled(run)
    assert score(np.arange(count)) == pytest.approx(run.record["scores"]["test"]["accuracy"])
    assert run.record["scores"]["test"]["accuracy"] > 0.9


def test_without_a_reference_there_is_no_score_and_no_comparison(tmp_path):
    task = RastersTask.load(small_scene()[0])
    run = fit_run("k-means", task, out=tmp_path / "run")
    assert run.record["scores"] == {"validation": {}, "test": {}}
    assert load(run.folder).predict(small_scene()[0]).shape == (24, 24)
    with pytest.raises(StudyError, match="needs scores: the scene has no reference"):
        studies.compare(task, out=tmp_path / "study")
    with pytest.raises(DataError, match="there is no reference"):
        RastersTask.load(small_scene()[0], reference_field="class")


def test_a_reference_of_too_few_pixels_is_refused():
    cube, units = small_scene()
    with pytest.raises(DataError, match="knows 1 valid pixels"):
        RastersTask.load(cube, reference=np.where(np.arange(576).reshape(24, 24) == 5, 1, -1))
    with pytest.raises(DataError, match="holds no class"):
        RastersTask.load(cube, reference=np.full((24, 24), -1))


def test_drawn_pixels_depend_on_the_seed_and_not_on_strips(monkeypatch):
    cube = np.random.default_rng(0).normal(size=(3, 40, 25))
    cube[:, 4] = np.nan
    first = drawn(open_scene(cube), 200, 1)
    monkeypatch.setattr("stackwise.tasks.rasters.reading.scene.STRIP", 1)
    again = drawn(open_scene(cube), 200, 1)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.low, np.nanmin(cube, (1, 2)).astype("float32"))
    assert first.valid == 39 * 25 and len(first.pixels) == 200
    assert not np.array_equal(drawn(open_scene(cube), 200, 2).pixels, first.pixels)


def test_components_are_those_of_scikit_learn_and_as_few_as_hold_the_variance():
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(500, 6)).astype("float32") * [5, 3, 1, 1, 1, 1]
    found = principal_components(x, 0.9, None)
    peer = PCA().fit(x)
    kept = int(np.argmax(np.cumsum(peer.explained_variance_ratio_) >= 0.9)) + 1
    assert found.weight.shape == (kept, 6)
    signs = np.sign((found.weight.numpy() * peer.components_[:kept]).sum(1, keepdims=True))
    np.testing.assert_allclose(found.weight, signs * peer.components_[:kept], atol=1e-4)
    assert enough(np.array([0.6, 0.2, 0.2]), 0.9) == 3
    assert enough(np.array([0.9, 0.1]), 0.9) == 1
    assert enough(np.array([0.5, 0.5 - 1e-9]), 1.0) == 2


def test_the_elbow_is_the_point_farthest_below_the_chord():
    assert farthest_below([2, 3, 4, 5, 6], [100, 40, 10, 8, 6]) == 2
    assert farthest_below([2, 3, 4], [1, 1, 1]) == 0


def test_units_are_numbered_from_dark_to_bright_and_equal_k_means():
    from sklearn.cluster import KMeans

    cube, _ = small_scene()
    mapper = BandsMapper(n_clusters=3, filter_size=1).fit(cube)
    scaled = cube.reshape(4, -1).T
    scaled = (scaled - scaled.min(0)) / np.ptp(scaled, axis=0)
    peer = KMeans(3, n_init=10, random_state=0).fit(scaled)
    order = np.argsort([scaled[peer.labels_ == unit].mean() for unit in range(3)])
    np.testing.assert_array_equal(np.argsort(order)[peer.labels_], mapper.labels_.ravel())
    np.testing.assert_allclose(mapper.cluster_centers_, peer.cluster_centers_[order], atol=1e-4)
    assert mapper.spectra_[:, 0].tolist() == [
        pytest.approx(cube[0][mapper.labels_ == unit].mean(), rel=1e-4) for unit in range(3)
    ]
    assert mapper.areas_.sum() == 576


def test_a_constant_band_is_said_and_changes_nothing():
    cube, _ = small_scene()
    flat = np.concatenate([cube, np.full((1, 24, 24), 7.0)])
    mapper = BandsMapper(n_clusters=3).fit(flat)
    np.testing.assert_array_equal(mapper.labels_, BandsMapper(n_clusters=3).fit(cube).labels_)
    assert "band 5 is constant" in mapper.notes_[0]


def test_cut_percentiles_keep_an_outlier_from_the_scale():
    cube, units = small_scene()
    cube[:, 0, 0] = 1e4
    plain = BandsMapper(n_clusters=3).fit(cube)
    cut = BandsMapper(n_clusters=3, clip=2.0).fit(cube)
    task = RastersTask.load(cube, reference=units)
    before, after = (task.judge(m, "test").scores["accuracy"] for m in (plain, cut))
    assert after > 0.9 > before
    assert cut.network_.codes.scaled(np_tensor(cube)).max() == 1


def np_tensor(cube):
    import torch

    return torch.from_numpy(cube.reshape(len(cube), -1).T.copy())


def test_a_fitted_mapper_comes_back_the_same(tmp_path):
    cube, _ = small_scene()
    mapper = PCAMapper(n_clusters=3).fit(cube)
    mapper.save(tmp_path / "kept")
    again = PCAMapper.load(tmp_path / "kept")
    np.testing.assert_array_equal(again.predict(cube), mapper.labels_)
    np.testing.assert_array_equal(again.transform(cube), mapper.transform(cube))
    assert again.elbow_ is None and again.internal_ == mapper.internal_
    assert np.abs(again.reconstruct(cube) - cube).max() < 0.1


def run_command(*words):
    sys.argv = ["stackwise", *map(str, words)]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.slow
def test_commands_map_files_and_arrays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cube, units = small_scene()
    write_tif(tmp_path / "scene.tif", cube)
    write_tif(tmp_path / "map.tif", units[None].astype("uint8"))
    assert not run_command("fit", "k-means", "scene.tif", "--reference", "map.tif", "--out", "run")
    assert not run_command("predict", "run", "scene.tif", "-o", "units.tif", "--picture", "map.png")
    with rasterio.open("units.tif") as written:
        assert written.crs.to_epsg() == 32754
    np.save("cube.npy", cube)
    assert not run_command("predict", "run", "cube.npy", "-o", "units.npy")
    with rasterio.open("units.tif") as written:
        np.testing.assert_array_equal(written.read(1), np.load("units.npy"))
    assert not run_command("report", "run", "--out", "page.html")
    page = Path("page.html").read_text()
    for title in ("The map of k-means", "What the units look like", "Units and the reference"):
        assert title in page
    capsys.readouterr()
    assert run_command("compare", "scene.tif", "--out", "study") == 2
    assert "needs scores" in capsys.readouterr().err
    np.save("two.npy", cube[:2])
    assert run_command("predict", "run", "two.npy", "-o", "x.tif") == 2
    assert "two.npy has 2 bands, fitted on 4" in capsys.readouterr().err
    data = json.loads(Path("run/run.json").read_text())["data"]
    assert data["grid"]["crs"] == "EPSG:32754" and data["options"] == {"reference": "map.tif"}
