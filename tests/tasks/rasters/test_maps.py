"""The majority filter, scores without names, and the files of a map."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from scipy.ndimage import generic_filter

from stackwise.errors import DataError
from stackwise.tasks.rasters.baselines import BandsMapper, PCAMapper
from stackwise.tasks.rasters.maps.majority import MASKED, filtered_strips, majority_filter
from stackwise.tasks.rasters.maps.scoring import score_map
from stackwise.tasks.rasters.maps.writing import tiff_writer, write_predictions
from stackwise.tasks.rasters.reading import scene as scenes
from stackwise.tasks.rasters.reading.files import grid_of
from stackwise.tasks.rasters.small import made_scene, small_scene

sys.path.insert(0, str(Path(__file__).parent))
from rasters_made import write_tif

RNG = np.random.default_rng(0)


def mode(window):
    values, counts = np.unique(window, return_counts=True)
    return values[counts.argmax()]  # the smallest of equal ones


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("shape", [(20, 20), (2, 9), (13, 1)])
def test_the_filter_is_scipys_mode_of_a_mirrored_window(size, shape):
    labels = RNG.integers(0, 4, shape)
    wanted = generic_filter(labels, mode, size=size)
    np.testing.assert_array_equal(majority_filter(labels, size), wanted)


def test_masked_pixels_neither_vote_nor_change():
    labels = RNG.integers(0, 3, (12, 12))
    mask = RNG.random((12, 12)) > 0.3
    found = majority_filter(labels, 3, mask)
    np.testing.assert_array_equal(found[~mask], labels[~mask])
    padded = np.pad(np.where(mask, labels, -1), 1, mode="symmetric")
    for row, column in zip(*np.nonzero(mask)):
        window = padded[row : row + 3, column : column + 3]
        assert found[row, column] == mode(window[window >= 0])


def test_a_constant_map_is_left_alone_and_names_stay():
    assert (majority_filter(np.full((5, 5), 40_000), 7) == 40_000).all()
    assert (majority_filter(np.full((5, 5), -1), 3) == -1).all()


def test_a_window_has_a_middle():
    with pytest.raises(DataError, match="filter_size must be odd, so that a window"):
        majority_filter(np.zeros((5, 5), int), 4)
    with pytest.raises(DataError, match="odd"):
        BandsMapper(filter_size=4).fit(small_scene()[0])


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_strips_are_filtered_as_the_whole(rows):
    labels = RNG.integers(0, 4, (31, 17)).astype(np.uint8)
    labels[3:6, 2:9] = MASKED
    wanted = majority_filter(labels.astype(int), 7, labels != MASKED)
    parts = [labels[top : top + rows] for top in range(0, 31, rows)]
    np.testing.assert_array_equal(np.concatenate(list(filtered_strips(parts, 7, 31))), wanted)


def test_names_of_units_do_not_matter_to_scores():
    classes = RNG.integers(0, 4, (10, 10))
    names = np.array([7, 3, 0, 5])
    found = score_map(names[classes], classes)
    assert found == {"accuracy": 1, "adjusted_rand": 1, "mutual_information": 1, "f1": 1}


def test_each_class_is_given_to_one_unit_and_a_further_one_is_wrong():
    classes = np.array([0, 0, 0, 0, 1, 1])
    units = np.array([2, 2, 2, 0, 1, 1])
    assert score_map(units, classes)["accuracy"] == pytest.approx(5 / 6)
    assert score_map(np.array([-1, 2, 2, 0, 1, 1]), classes)["accuracy"] == pytest.approx(4 / 5)
    with pytest.raises(DataError, match="no pixel"):
        score_map(units, np.full(6, -1))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    place = tmp_path_factory.mktemp("maps")
    cube, units = made_scene(60, np.array([[1, 2, 6.0], [5, 4, 1], [2, 2, 2]]), smooth=0.15)
    cube = (1000 * cube.clip(0.05)).astype("uint16")
    cube[:, :9, :9] = 0
    path = write_tif(place / "scene.tif", cube, nodata=0, tiled=True, blockxsize=16, blockysize=16)
    return path, BandsMapper(n_clusters=3).fit(path), place


def test_a_geotiff_lies_where_its_scene_lies(mapped):
    path, mapper, place = mapped
    assert write_predictions(place / "units.tif", mapper, path, confidence=True) == 3600 - 81
    with rasterio.open(path) as scene, rasterio.open(place / "units.tif") as units:
        for name in ("crs", "transform", "height", "width", "bounds"):
            assert getattr(units, name) == getattr(scene, name)
        assert units.dtypes == ("uint8",) and units.nodata == MASKED
        assert units.descriptions == ("unit",)
        assert units.colormap(1)[0] == (0x25, 0x63, 0xEB, 255)
        found = units.read(1)
        np.testing.assert_array_equal(units.read_masks(1) == 0, found == MASKED)
    np.testing.assert_array_equal(np.where(found == MASKED, -1, found.astype(int)), mapper.labels_)
    with rasterio.open(place / "units_confidence.tif") as sure:
        values = sure.read(1)
        assert np.isnan(sure.nodata) and np.isnan(values[:9, :9]).all()
        assert np.nanmin(values) >= 0 and np.nanmax(values) <= 1
        assert sure.transform == units.transform


def test_what_is_written_in_strips_is_what_rasterio_writes_at_once(tmp_path):
    values = RNG.integers(0, 9, (50, 40)).astype("uint8")
    path = write_tif(tmp_path / "whole.tif", values[None], nodata=255, compress="deflate")
    with rasterio.open(path) as whole:
        grid, wanted = grid_of(whole), whole.profile
    with tiff_writer(tmp_path / "strips.tif", grid, "uint8", 255, description="unit") as write:
        for top in range(0, 50, 7):
            write(top, values[top : top + 7])
    with rasterio.open(tmp_path / "strips.tif") as strips:
        np.testing.assert_array_equal(strips.read(1), values)
        assert strips.profile == wanted


def test_tiles_of_any_size_give_the_same_map(mapped, monkeypatch):
    path, mapper, place = mapped
    monkeypatch.setattr("stackwise.tasks.rasters.reading.files.HELD", 0)
    for numbers in (60 * 3 * 7, 60 * 3 * 25):
        monkeypatch.setattr(scenes, "STRIP", numbers)
        write_predictions(place / "units.npy", mapper, path)
        np.testing.assert_array_equal(np.load(place / "units.npy"), mapper.labels_)
        again = BandsMapper(n_clusters=3).fit(path)
        np.testing.assert_array_equal(again.labels_, mapper.labels_)


def test_a_cropped_scene_has_the_cropped_map_before_the_filter(mapped):
    path, mapper, _ = mapped
    with rasterio.open(path) as dataset:
        cube = dataset.read()
    whole = mapper.predict(path, filtered=False)
    np.testing.assert_array_equal(
        mapper.predict(cube[:, 20:41, 13:40], filtered=False), whole[20:41, 13:40]
    )


def test_a_picture_has_the_map_and_its_legend(mapped):
    path, mapper, place = mapped
    write_predictions(place / "units.tif", mapper, path, picture=str(place / "map.png"))
    with Image.open(place / "map.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((0x25, 0x63, 0xEB), (0xD9, 0x77, 0x06), (0x05, 0x96, 0x69)):
        assert (pixels == colour).all(1).sum() > 500


def test_what_cannot_be_mapped_or_written_gets_a_sentence(mapped, tmp_path):
    path, mapper, _ = mapped
    with pytest.raises(DataError, match=r"units\.txt must end in \.tif, \.npy or \.png"):
        write_predictions(tmp_path / "units.txt", mapper, path)
    with pytest.raises(DataError, match="the cube has 2 bands, fitted on 3"):
        mapper.predict(np.ones((2, 4, 4)))
    with pytest.raises(DataError, match="1 band; nothing to reduce"):
        PCAMapper().fit(np.ones((1, 4, 4)))
    with pytest.raises(DataError, match="n_clusters=9 is more than the 4 different valid pixels"):
        BandsMapper(n_clusters=9).fit(np.arange(8.0).reshape(2, 2, 2))
    with pytest.raises(DataError, match="no pixel of the cube is valid"):
        BandsMapper().fit(np.full((2, 4, 4), np.nan))
    assert not list(tmp_path.iterdir())
