"""Scenes and references: what is read equals what rasterio reads, and what does not fit is said."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom

from stackwise.errors import DataError
from stackwise.tasks.rasters.reading import scene as scenes
from stackwise.tasks.rasters.reading.grid import Grid
from stackwise.tasks.rasters.reading.opening import open_scene
from stackwise.tasks.rasters.reading.reference import read_reference
from stackwise.tasks.rasters.task import RastersTask

sys.path.insert(0, str(Path(__file__).parent))
from rasters_made import CRS, PLACE, write_tif


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(1, 9999, (3, 20, 30)).astype("uint16")


def whole(scene):
    return scene.read(0, scene.grid.height)


def test_what_is_read_equals_what_rasterio_reads(tmp_path, cube):
    cube[:, 0, 0] = 0
    cube[1, 3, 4] = 0  # of one band alone
    path = write_tif(tmp_path / "a.tif", cube, nodata=0, tiled=True, blockxsize=16, blockysize=16)
    scene = open_scene(path)
    values, valid = whole(scene)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(values, dataset.read())
        np.testing.assert_array_equal(valid, (dataset.read_masks() != 0).all(0))
        assert scene.grid.transform == tuple(dataset.transform)[:6]
        assert rasterio.crs.CRS.from_wkt(scene.grid.crs) == dataset.crs
    assert (~valid).sum() == 2


def test_strips_of_any_size_are_the_whole(tmp_path, cube, monkeypatch):
    path = write_tif(tmp_path / "a.tif", cube, tiled=True, blockxsize=16, blockysize=16)
    values, _ = whole(open_scene(path))
    monkeypatch.setattr("stackwise.tasks.rasters.reading.files.HELD", 0)
    for numbers in (1, 300, 30 * 3 * 16):
        monkeypatch.setattr(scenes, "STRIP", numbers)
        scene = open_scene(path)
        parts = [scene.read(top, rows)[0] for top, rows in scenes.strips(scene)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), values)
        assert scene._kept is None


def test_files_of_a_folder_are_stacked_in_the_order_of_their_numbers(tmp_path, cube):
    for name, band in zip(("B2.tif", "B10.tif", "B8.tif"), cube, strict=True):
        write_tif(tmp_path / name, band[None])
    scene = open_scene(tmp_path)
    np.testing.assert_array_equal(whole(scene)[0], cube[[0, 2, 1]])
    assert [name.partition(".")[0] for name in scene.names] == ["B2", "B8", "B10"]
    again = open_scene([tmp_path / "B8.tif", tmp_path / "B2.tif"])
    np.testing.assert_array_equal(whole(again)[0], cube[[2, 0]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"transform": rasterio.transform.from_origin(500_005, 6_500_000, 10, 10)}, "transform"),
        ({"crs": "EPSG:32755"}, "CRS EPSG:32755, not EPSG:32754: reproject it first"),
    ],
)
def test_files_of_other_grids_are_refused_by_name(tmp_path, cube, change, says):
    write_tif(tmp_path / "a.tif", cube)
    write_tif(tmp_path / "b.tif", cube, **change)
    with pytest.raises(DataError, match=r"b\.tif has the .*" + says):
        open_scene(tmp_path)


def test_files_of_other_sizes_are_refused_by_name(tmp_path, cube):
    write_tif(tmp_path / "a.tif", cube)
    write_tif(tmp_path / "b.tif", cube[:, :5])
    with pytest.raises(DataError, match=r"b\.tif has 5 x 30 pixels, not 20 x 30 as a\.tif has"):
        open_scene(tmp_path)


def test_a_number_that_is_not_finite_or_stands_for_none_is_not_valid(cube):
    floats = cube.astype("float32")
    floats[0, 0, 0], floats[1, 0, 1] = np.nan, np.inf
    floats[:, 0, 2] = -1
    _, valid = whole(open_scene(floats, nodata=-1))
    assert (~valid).sum() == 3


def test_a_mask_leaves_pixels_out(tmp_path, cube):
    mask = np.ones((20, 30), "uint8")
    mask[:5] = 0
    path = write_tif(tmp_path / "a.tif", cube)
    np.save(tmp_path / "mask.npy", mask)
    for given in (mask, write_tif(tmp_path / "mask.tif", mask[None]), tmp_path / "mask.npy"):
        np.testing.assert_array_equal(whole(open_scene(path, mask=given))[1], mask != 0)
    _, valid = whole(open_scene(cube, mask=mask))
    np.testing.assert_array_equal(valid, mask != 0)
    with pytest.raises(DataError, match="mask"):
        open_scene(path, mask=write_tif(tmp_path / "small.tif", mask[None, :4]))


def test_arrays_in_files_are_scenes(tmp_path, cube):
    np.save(tmp_path / "a.npy", cube)
    np.savez(tmp_path / "a.npz", cube=cube)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(whole(open_scene(tmp_path / name))[0], cube)


def test_bands_are_chosen_by_number(tmp_path, cube):
    path = write_tif(tmp_path / "a.tif", cube)
    for source in (path, cube):
        scene = open_scene(source, bands=[3, 1])
        np.testing.assert_array_equal(whole(scene)[0], cube[[2, 0]])
        assert scene.names == ["band 3", "band 1"]
        with pytest.raises(DataError, match="bands 1 to 3, not 4"):
            open_scene(source, bands=[4])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "no.tif", "there is no file or scene"),
        (lambda p: "sentinel-crops", "Did you mean 'sentinel-crop'"),
        (lambda p: p, "holds no raster"),
        (lambda p: (p / "text.tif").write_text("no raster") and p / "text.tif", "as a raster"),
        (lambda p: (p / "text.npy").write_text("no array") and p / "text.npy", "as an array"),
        (lambda p: np.zeros((2, 3, 4, 5)), "4 dimensions"),
        (lambda p: np.array([["a", "b"]]), "not numbers"),
        (lambda p: np.zeros((2, 0, 3)), "is empty"),
        (lambda p: [np.zeros((2, 2)), np.zeros((3, 3))], "bands differ in shape"),
        (lambda p: object(), "no scene"),
    ],
)
def test_what_is_no_scene_gets_a_sentence(tmp_path, make, says):
    with pytest.raises(DataError, match=says):
        open_scene(make(tmp_path))


def test_a_scene_goes_to_another_process_without_its_pixels(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    before, _ = whole(scene)
    sent = pickle.dumps(scene)
    assert len(sent) < 5000
    np.testing.assert_array_equal(whole(pickle.loads(sent))[0], before)


def test_a_named_scene_has_the_names_of_its_bands():
    task = RastersTask.load("sentinel-crop")
    assert task.scene.names == ["B02", "B03", "B04", "B08"]
    assert task.rows()["train"] == 90_000 and task.unscored


def square(column, row, side=4):
    """A closed ring of pixels in the coordinates of the scene."""
    corners = [(0, 0), (side, 0), (side, side), (0, side), (0, 0)]
    return [list(PLACE * (column + x, row + y)) for x, y in corners]


def geojson(path, rings, crs=CRS, field="class"):
    features = [
        {"type": "Feature", "properties": {field: name},
         "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for name, ring in rings
    ]  # fmt: skip
    more = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))
    return path


def test_polygons_are_drawn_on_the_grid(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    rings = [("rock", square(2, 3)), ("sand", square(20, 10, 2)), ("rock", square(10, 0))]
    found = read_reference(geojson(tmp_path / "r.geojson", rings), scene)
    wanted = np.full((20, 30), -1)
    wanted[3:7, 2:6], wanted[0:4, 10:14], wanted[10:12, 20:22] = 0, 0, 1
    np.testing.assert_array_equal(found.codes, wanted)
    assert found.classes == ["rock", "sand"]


def test_polygons_of_longitude_and_latitude_are_brought_to_the_scene(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    shape = {"type": "Polygon", "coordinates": [square(2, 3)]}
    ring = transform_geom(CRS, "EPSG:4326", shape)["coordinates"][0]
    found = read_reference(geojson(tmp_path / "r.geojson", [("rock", ring)], crs=None), scene)
    assert (found.codes == 0).sum() == 16 and (found.codes[3:7, 2:6] == 0).all()


def test_polygons_that_cannot_be_used_get_a_sentence(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    path = tmp_path / "r.geojson"
    with pytest.raises(DataError, match="no polygon of .* lies on the scene"):
        read_reference(geojson(path, [("rock", square(900, 900))]), scene)
    with pytest.raises(DataError, match="has no property 'kind'"):
        read_reference(geojson(path, [("rock", square(0, 0))]), scene, field="kind")
    with pytest.raises(DataError, match="no property 'class'.*--reference-field"):
        read_reference(geojson(path, [("rock", square(0, 0))], field="stone"), scene)
    path.write_text("{")
    with pytest.raises(DataError, match="as GeoJSON"):
        read_reference(path, scene)


def test_a_reference_of_another_grid_is_refused(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    with pytest.raises(DataError, match="the reference array has 3 x 3 pixels, not 20 x 30"):
        read_reference(np.zeros((3, 3), int), scene)
    moved = write_tif(tmp_path / "m.tif", cube[:1], crs="EPSG:32755")
    with pytest.raises(DataError, match=r"the reference m\.tif has the CRS EPSG:32755"):
        read_reference(moved, scene)
    noise = np.random.default_rng(0).normal(size=(40, 40))
    with pytest.raises(DataError, match="no map of classes"):
        read_reference(np.abs(noise), open_scene(np.zeros((2, 40, 40))))


def test_classes_of_a_raster_keep_their_numbers_and_none_is_none(tmp_path, cube):
    scene = open_scene(write_tif(tmp_path / "a.tif", cube))
    codes = np.zeros((20, 30), "uint8")
    codes[5:], codes[15:] = 7, 12
    path = write_tif(tmp_path / "r.tif", codes[None], nodata=0)
    found = read_reference(path, scene)
    assert found.classes == ["7", "12"] and (found.codes[:5] == -1).all()
    assert read_reference(codes, scene, nodata=7).classes == ["0", "12"]
    np.save(tmp_path / "r.npy", codes)
    np.testing.assert_array_equal(read_reference(tmp_path / "r.npy", scene).codes[6], 1)
    table = open_scene(cube.reshape(3, -1).T)
    np.testing.assert_array_equal(
        read_reference(codes.ravel(), table).codes.ravel(),
        read_reference(codes, scene).codes.ravel(),
    )


def test_grids_of_which_nothing_is_known_do_not_differ():
    assert Grid(3, 4).unlike(Grid(3, 4, (1, 0, 5, 0, -1, 5), "x")) is None
    assert Grid(3, 4).unlike(Grid(4, 3)) == "has 4 x 3 pixels, not 3 x 4"


def test_a_scene_without_a_valid_pixel_is_refused(tmp_path, cube):
    path = write_tif(tmp_path / "a.tif", np.zeros_like(cube), nodata=0)
    with pytest.raises(DataError, match="no pixel of .* is valid"):
        RastersTask.load(path)


def test_marks_tell_scenes_from_pictures(tmp_path, cube):
    from PIL import Image

    from stackwise.tasks import choose_task

    scene = write_tif(tmp_path / "scene.tif", cube)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.tif")
    assert choose_task(scene).name == "rasters"
    assert choose_task(tmp_path / "photo.tif").name == "images"
    assert choose_task("sentinel-crop").name == "rasters"
