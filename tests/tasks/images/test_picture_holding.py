"""Pictures are one array where they fit, and the same numbers from their files where not."""

import itertools
import pickle
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from picture_files import class_folders, colours, cut_off, saved, touched

from stackwise.errors import DataError
from stackwise.tasks.images.reading.decode import BadPicture
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.images.reading.threads import ahead
from stackwise.tasks.labelled.found import Found
from stackwise.tasks.labelled.repeats import repeated_across


@pytest.fixture
def photos(tmp_path) -> Found:
    """Forty pictures of two sizes."""
    class_folders(tmp_path, {"cats": 25})
    class_folders(tmp_path, {"dogs": 15}, height=40, width=20)
    return find_pictures(tmp_path)


def test_held_and_streamed_pictures_are_the_same(photos):
    held, rows, notes = load_pictures(photos)
    streamed, _, more = load_pictures(photos, memory=1000)
    assert held.held and not streamed.held
    assert held.shape == streamed.shape == (3, 24, 24) and len(held) == len(rows) == 40
    assert np.array_equal(held.hashes, streamed.hashes)
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(held.take(order), streamed.take(order))
    assert np.array_equal(held[3:7], streamed[3:7])
    assert np.array_equal(held[5], streamed[5]) and held[5].shape == (3, 24, 24)
    assert any("40 x 20" in note and "24 x 24" in note for note in notes)
    assert any("more than the 9.31e-07 GiB of --memory" in note for note in more)


def test_a_stream_keeps_its_order_and_what_is_asked_for(photos):
    held, *_ = load_pictures(photos)
    streamed, *_ = load_pictures(photos, memory=0)
    order = np.random.default_rng(0).permutation(40)
    batches = [order[start : start + 7] for start in range(0, 40, 7)]
    for pictures in (held, streamed):
        for rows, block in itertools.zip_longest(batches, pictures.stream(batches)):
            assert np.array_equal(block, held.take(rows))
        assert np.array_equal(np.concatenate(list(pictures.blocks(16))), held[:])


def test_no_more_than_some_batches_are_begun_ahead():
    begun = []

    def start(batch: int) -> tuple[list[Future[None]], int]:
        begun.append(batch)
        return [], batch

    stream = ahead(start, range(100), 3)
    assert next(stream) == 0 and len(begun) == 4
    assert next(stream) == 1 and len(begun) == 5
    stream.close()
    assert len(begun) == 5


def test_some_of_them_copy_nothing(photos):
    for memory in (1 << 30, 0):
        pictures, *_ = load_pictures(photos, memory=memory)
        odd = pictures.only(np.arange(1, 40, 2)).only(slice(5, None))
        assert len(odd) == 15 and np.array_equal(odd[0], pictures[11])
        assert odd.hashes[0] == pictures.hashes[11]


def test_they_travel_to_another_process(photos):
    streamed, *_ = load_pictures(photos, memory=0)
    assert np.array_equal(pickle.loads(pickle.dumps(streamed))[:], streamed[:])


def test_a_size_and_channels_that_are_asked_for(photos):
    pictures, _, notes = load_pictures(photos, image_size=(8, 12), channels=1)
    assert pictures.shape == (1, 8, 12) and notes == []
    assert load_pictures(photos, image_size=16)[0].shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 \(RGB\), not 2"):
        load_pictures(photos, channels=2)


def test_grey_is_kept_only_where_all_are_grey(tmp_path):
    paths = [saved(tmp_path / f"{n}.png", colours(n)[..., 0]) for n in range(3)]
    assert load_pictures(find_pictures(paths, labelled=False))[0].shape == (1, 24, 32)
    paths.append(saved(tmp_path / "9.png"))
    assert load_pictures(find_pictures(paths, labelled=False))[0].shape == (3, 24, 32)


def test_arrays_of_the_right_size_are_not_copied():
    X = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 9), np.uint8)
    pictures, rows, _ = load_pictures(find_pictures(X, labelled=False))
    assert np.array_equal(pictures[:], X) and np.shares_memory(pictures._source, X)
    small, *_ = load_pictures(find_pictures(X, labelled=False), image_size=4, channels=1)
    assert small.shape == (1, 4, 4) and len(rows) == 6


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_a_few_bad_pictures_are_left_out_and_named(tmp_path, memory):
    class_folders(tmp_path, {"cats": 199})
    cut_off(tmp_path / "cats" / "broken.jpg")
    found = find_pictures(tmp_path)
    pictures, good, notes = load_pictures(found, memory=memory)
    broken = found.names.index("cats/broken.jpg")
    assert len(pictures) == 199 and broken not in good
    assert any("1 picture of 200 cannot be read and is left out" in note for note in notes)
    assert any("cats/broken.jpg cannot be read: " in note for note in notes)


def test_more_than_a_hundredth_bad_is_an_error_unless_they_are_skipped(tmp_path):
    class_folders(tmp_path, {"cats": 20})
    cut_off(tmp_path / "cats" / "broken.jpg")
    touched(tmp_path / "cats" / "empty.PNG")
    touched(tmp_path / "cats" / "page.jpeg", b"<html>")
    found = find_pictures(tmp_path)
    with pytest.raises(DataError, match=r"3 pictures of 23 .*empty\.PNG is empty.*--bad skip"):
        load_pictures(found)
    pictures, good, _ = load_pictures(found, bad="skip")
    assert len(pictures) == len(good) == 20


def test_pictures_that_are_all_bad_are_never_skipped(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        touched(tmp_path / name)
    found = find_pictures(tmp_path, labelled=False)
    for size in (None, 8):
        with pytest.raises(DataError, match=r"none of 2 pictures can be read: a\.jpg is empty"):
            load_pictures(found, image_size=size, channels=None if size is None else 3, bad="skip")


def test_a_file_that_goes_while_it_is_used_is_named(photos):
    streamed, *_ = load_pictures(photos, memory=0)
    photos.samples[3].unlink()
    with pytest.raises(BadPicture, match=r"cats/11\.png does not exist"):
        streamed.take(np.arange(10))


def test_threads_that_take_at_once_get_their_own(photos):
    streamed, *_ = load_pictures(photos, memory=0)
    whole, wrong = streamed[:], []

    def check(seed: int) -> None:
        rows = np.random.default_rng(seed).permutation(40)
        if not np.array_equal(streamed.take(rows), whole[rows]):
            wrong.append(seed)

    others = [threading.Thread(target=check, args=(seed,)) for seed in range(8)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert not wrong


def test_the_same_picture_in_two_parts_is_found(tmp_path):
    class_folders(tmp_path / "train", {"cats": 3})
    saved(tmp_path / "test" / "cats" / "again.bmp", colours(2))
    saved(tmp_path / "test" / "cats" / "new.png", colours(99))
    found = find_pictures(tmp_path)
    pictures, *_ = load_pictures(found)
    parts = {part: np.flatnonzero(found.parts == part) for part in ("train", "test")}
    alike = {"what": "picture", "alike": "pixel for pixel"}
    assert repeated_across(pictures.hashes, parts, found.names, **alike) == [
        "1 picture of the test part is in the train part too, pixel for pixel, such as "
        "test/cats/again.bmp (there train/cats/1.png)"
    ]
    parts["test"] = parts["test"][1:]
    assert repeated_across(pictures.hashes, parts, found.names, **alike) == []
