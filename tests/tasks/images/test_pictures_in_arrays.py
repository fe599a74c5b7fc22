"""Arrays are pictures where their shape and their values say so in one way."""

import io
import zipfile

import numpy as np
import pytest

from stackwise.errors import DataError
from stackwise.tasks.images.reading.arrays import as_pictures
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures

GREY = np.arange(5 * 8 * 6, dtype=np.uint8).reshape(5, 8, 6)
RGB = np.arange(5 * 8 * 6 * 3).reshape(5, 8, 6, 3).astype(np.uint8)
Y = np.array([0, 1, 0, 1, 0])


def test_channels_are_the_axis_that_has_as_many():
    assert np.array_equal(as_pictures(GREY), GREY[..., None])
    assert np.array_equal(as_pictures(RGB), RGB)
    assert np.array_equal(as_pictures(np.moveaxis(RGB, -1, 1)), RGB)
    assert np.shares_memory(as_pictures(RGB), RGB)


def test_two_axes_that_fit_need_a_word():
    both = np.zeros((5, 3, 6, 3), np.uint8)
    with pytest.raises(DataError, match="may be axis 1 or axis 3; say channels_first=True or"):
        as_pictures(both)
    assert as_pictures(both, channels_first=True).shape == (5, 6, 3, 3)
    assert as_pictures(both, channels_first=False).shape == (5, 3, 6, 3)
    with pytest.raises(DataError, match="axis 1 of .* is not 1, 3 or 4 channels"):
        as_pictures(RGB, channels_first=True)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((64, 64), r"pictures are \(n, H, W\)"),
        ((5, 8, 6, 7), "no axis of"),
        ((5, 0, 6), "is empty"),
        ((48, 64, 3), "may be one picture or many that are 3 pixels wide"),
    ],
)
def test_other_shapes_are_refused(shape, why):
    with pytest.raises(DataError, match=why):
        as_pictures(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.0, 100.4, 255.0], np.float32), [0, 100, 255]),
        (np.array([0, 7, 255], np.int64), [0, 7, 255]),
        (np.array([False, True, True]), [0, 255, 255]),
        (np.array([0, 257, 65535], np.uint16), [0, 1, 255]),
        (np.array([0, 1, 255], np.uint16), [0, 1, 255]),
    ],
)
def test_values_become_eight_bits(values, read):
    assert as_pictures(values.reshape(1, 3, 1)).ravel().tolist() == read


@pytest.mark.parametrize(
    "values",
    [
        np.array([-1.0, 0.0, 1.0]), np.array([0.0, np.nan, 1.0]), np.array([0, 300, 1]),
        np.array([0.0, 256.0, 1.0]), np.array([0, 1, 2j]), np.array(["a", "b", "c"]),
    ],
)  # fmt: skip
def test_what_is_no_brightness_is_refused(values):
    with pytest.raises(
        DataError, match="values of pictures are from 0 to 255|pictures are numbers"
    ):
        as_pictures(values.reshape(1, 3, 1))


def test_opacity_is_laid_on_white():
    clear = np.array([[[[10, 20, 30, 255], [10, 20, 30, 0]]]], np.uint8)
    assert as_pictures(clear, channels_first=False).reshape(2, 3).tolist() == [
        [10, 20, 30],
        [255, 255, 255],
    ]


def test_a_pair_in_python_has_a_label_each():
    found = find_pictures((RGB, Y))
    assert found.labels.tolist() == Y.tolist() and found.names[4] == "4"
    with pytest.raises(DataError, match="4 labels for 5 pictures"):
        find_pictures((RGB, Y[:4]))
    with pytest.raises(DataError, match=r"labels are one a picture, \(n,\)"):
        find_pictures((RGB, np.eye(5)))


@pytest.mark.parametrize(
    "names", [("X", "y"), ("x", "y"), ("images", "labels"), ("X_train", "y_train")]
)
def test_an_npz_holds_pictures_and_labels(tmp_path, names):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **dict(zip(names, (RGB, Y[:, None]))))
    found = find_pictures(path)
    assert np.array_equal(found.samples, RGB) and found.labels.tolist() == Y.tolist()


def test_an_npz_may_hold_parts(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_images=RGB, train_labels=Y, val_images=RGB[:2], val_labels=Y[:2])
    found = find_pictures(path)
    assert found.parts.tolist() == ["train"] * 5 + ["validation"] * 2
    assert len(found) == len(found.samples) == len(found.labels) == 7
    np.savez(path, x_train=RGB, y_train=Y, x_test=RGB[:2])
    with pytest.raises(DataError, match="no labels for its test pictures"):
        find_pictures(path)


def test_an_npz_of_other_things_says_what_it_holds(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, weights=RGB, y=Y)
    with pytest.raises(DataError, match="holds weights, y; pictures are called X"):
        find_pictures(path)
    np.savez(path, X=RGB, images=RGB)
    with pytest.raises(DataError, match="holds X twice"):
        find_pictures(path)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"a\.npz cannot be read: it holds Python objects"):
        find_pictures(tmp_path / "a.npz")
    np.save(tmp_path / "X.npy", np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"X\.npy cannot be read"):
        find_pictures(tmp_path)


def test_a_damaged_npz_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=RGB, y=Y)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.npz cannot be read: "):
        find_pictures(path)


def test_an_npz_that_promises_more_than_memory_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 24, 1 << 10, 1 << 10)}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", header.getvalue())
    with pytest.raises(DataError, match=r"unpacks to 16,384\.0 GiB"):
        find_pictures(path)


def test_an_npy_stays_on_the_disk(tmp_path):
    np.save(tmp_path / "X.npy", RGB)
    np.save(tmp_path / "y.npy", Y)
    found = find_pictures(tmp_path)
    assert found.labels.tolist() == Y.tolist()
    pictures, *_ = load_pictures(found)
    assert isinstance(found.samples, np.memmap)
    assert np.array_equal(pictures.take(np.array([4, 0])), np.moveaxis(RGB[[4, 0]], -1, 1))
    assert len(find_pictures(tmp_path / "X.npy", labelled=False)) == 5
    whole = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"X\.npy cannot be read"):
        find_pictures(tmp_path)


@pytest.mark.parametrize(
    ("name", "count"), [("mnist-5k", 5000), ("digits", 1797), ("lfw-subset", 200)]
)
def test_a_set_is_found_by_its_name(name, count):
    found = find_pictures(name)
    assert len(found) == len(found.labels) == count
    assert found.samples.min() == 0 and found.samples.max() == 255
