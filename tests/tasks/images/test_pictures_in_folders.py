"""Pictures in folders are found with their classes and parts, and what is left out is counted."""

import os
from pathlib import Path

import pytest
from picture_files import class_folders, colours, is_root, saved, touched

from stackwise.errors import DataError
from stackwise.tasks.images.reading.find import find_pictures


def test_a_folder_a_class(tmp_path):
    found = find_pictures(class_folders(tmp_path, {"cats": 2, "dogs": 1}))
    assert found.names == ["cats/0.png", "cats/1.png", "dogs/0.png"]
    assert found.labels.tolist() == ["cats", "cats", "dogs"]
    assert found.parts is None and not found.notes
    assert len(found.columns) == 3 and not len(found.columns.columns)
    assert found.samples[0] == tmp_path / "cats" / "0.png"


def test_parts_above_the_classes(tmp_path):
    for name in ("train", "VAL", "test"):
        class_folders(tmp_path / name, {"cats": 1, "dogs": 1})
    found = find_pictures(tmp_path)
    assert found.parts.tolist() == ["validation"] * 2 + ["test"] * 2 + ["train"] * 2
    assert found.labels.tolist() == ["cats", "dogs"] * 3
    assert found.names[0] == "VAL/cats/0.png"


def test_a_class_may_be_called_train(tmp_path):
    found = find_pictures(class_folders(tmp_path, {"train": 2, "bus": 1}))
    assert found.parts is None
    assert set(found.labels) == {"train", "bus"}


def test_parts_beside_classes_are_refused(tmp_path):
    class_folders(tmp_path / "train", {"cats": 1})
    class_folders(tmp_path, {"dogs": 1})
    with pytest.raises(DataError, match="the parts train beside the class 'dogs'"):
        find_pictures(tmp_path)


def test_an_unlabelled_test_part_is_left_out_and_said(tmp_path):
    class_folders(tmp_path / "train", {"cats": 1, "dogs": 1})
    saved(tmp_path / "test" / "1.png")
    found = find_pictures(tmp_path)
    assert set(found.parts) == {"train"}
    assert any("1 picture in no class's folder left out" in note for note in found.notes)


def test_the_class_is_the_first_folder(tmp_path):
    saved(tmp_path / "cats" / "tabby" / "1.png")
    saved(tmp_path / "dogs" / "1.png")
    assert find_pictures(tmp_path).labels.tolist() == ["cats", "dogs"]


def test_endings_in_capitals_and_names_in_any_script(tmp_path):
    saved(tmp_path / "猫" / "ÉTÉ.JPG")
    saved(tmp_path / "Hündin" / "a b.PNG")
    found = find_pictures(tmp_path)
    assert found.names == ["Hündin/a b.PNG", "猫/ÉTÉ.JPG"]


def test_one_class_spelled_in_two_ways_is_one(tmp_path):
    saved(tmp_path / "train" / "caf\u00e9" / "1.png")
    saved(tmp_path / "test" / "cafe\u0301" / "1.png")
    assert len(set(find_pictures(tmp_path).labels)) == 1


def test_a_name_of_stray_bytes_can_be_written(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    try:
        os.rename(tmp_path / "cats" / "0.png", os.fsencode(tmp_path / "cats") + b"/\xff.png")
    except OSError:
        pytest.skip("this disk takes no such names")
    assert find_pictures(tmp_path).names[0].encode() == rb"cats/\xff.png"


def test_hidden_and_foreign_files_are_counted(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    for name in ("cats/.DS_Store", "cats/._0.png", "__MACOSX", ".git/a.png"):
        touched(tmp_path / name)
    for name in ("cats/notes.txt", "Thumbs.db", "dogs"):  # a file named like a class
        touched(tmp_path / name)
    found = find_pictures(tmp_path)
    assert found.labels.tolist() == ["cats"]
    assert "3 hidden files passed over" in found.notes
    assert any(note.startswith("3 files not pictures by their endings (") for note in found.notes)


def test_a_picture_beside_the_classes_is_left_out(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    saved(tmp_path / "cats.jpg")
    found = find_pictures(tmp_path)
    assert len(found) == 1
    assert any(f"such as {tmp_path / 'cats.jpg'}" in note for note in found.notes)


def test_an_empty_class_is_noted(tmp_path):
    class_folders(tmp_path / "train", {"cats": 1, "birds": 0})
    class_folders(tmp_path / "test", {"cats": 1})
    found = find_pictures(tmp_path)
    assert "1 folder of a class without a picture: train/birds" in found.notes


def test_links_are_followed_and_a_circle_ends(tmp_path):
    elsewhere = class_folders(tmp_path / "elsewhere", {"cats": 2})
    photos = class_folders(tmp_path / "photos", {"dogs": 1})
    (photos / "cats").symlink_to(elsewhere / "cats")
    (photos / "dogs" / "linked.png").symlink_to(elsewhere / "cats" / "0.png")
    (photos / "dogs" / "above").symlink_to(photos)
    (photos / "dogs" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    found = find_pictures(photos)
    assert found.labels.tolist() == ["cats", "cats", "dogs", "dogs", "dogs"]
    assert "dogs/nowhere.png" in found.names  # it will count as one that cannot be read


def test_a_pipe_is_no_picture(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    os.mkfifo(tmp_path / "cats" / "pipe.png")
    assert find_pictures(tmp_path).names == ["cats/0.png"]


def test_a_flat_folder_has_no_labels(tmp_path):
    saved(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"has no labels: put the pictures of each class into"):
        find_pictures(tmp_path)
    found = find_pictures(tmp_path, labelled=False)
    assert found.labels is None and found.names == ["1.png"]


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    touched(tmp_path / "a" / "notes.txt")
    with pytest.raises(DataError, match=r"holds no pictures \(1 file not pictures"):
        find_pictures(tmp_path)


def test_a_target_of_class_folders_is_refused(tmp_path):
    class_folders(tmp_path, {"cats": 1})
    with pytest.raises(DataError, match="no columns, so that none is the target 'price'"):
        find_pictures(tmp_path, target="price")


def test_one_picture_and_a_list_of_them_are_found(tmp_path):
    first, second = saved(tmp_path / "1.png"), saved(tmp_path / "2.JPG", colours(1))
    assert find_pictures(first, labelled=False).samples == [first]
    assert find_pictures([str(first), second], labelled=False).names == [str(first), str(second)]


def test_what_is_not_there_gets_the_nearest_name():
    with pytest.raises(DataError, match="Did you mean 'mnist-5k'"):
        find_pictures("mnist5k")
    with pytest.raises(DataError, match="photos/cats does not exist"):
        find_pictures("photos/cats")


@pytest.mark.skipif(is_root(), reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path):
    class_folders(tmp_path, {"cats": 1})
    (tmp_path / "cats").chmod(0)
    with pytest.raises(DataError, match="cats cannot be read: Permission denied"):
        find_pictures(tmp_path)
    (tmp_path / "cats").chmod(0o755)
