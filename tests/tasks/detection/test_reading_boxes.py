"""Annotated pictures come in alike from every format; what is wrong is said in a sentence."""

import json
import shutil

import numpy as np
import pytest
from annotated_made import as_coco, as_parquet, as_records, as_voc, as_yolo
from PIL import Image

from stackwise.errors import DataError
from stackwise.tasks import choose_task
from stackwise.tasks.detection.boxes import Boxes
from stackwise.tasks.detection.marks import recognises
from stackwise.tasks.detection.reading.checking import BoxChecks, checked_boxes
from stackwise.tasks.detection.reading.scenes import scenes_of
from stackwise.tasks.detection.reading.tiles import (
    boxes_in,
    cut_into_tiles,
    tiles_of,
    windows_of,
)
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.detection.task import DetectionTask
from stackwise.tasks.labelled.found import objects

FORMATS = {"coco": as_coco, "voc": as_voc, "yolo": as_yolo, "records": as_records}


def rows_of(task: DetectionTask) -> list[list[tuple]]:
    """The boxes of each picture with their labels, in the order of the pictures' names."""
    order = np.argsort([name.rpartition("/")[2] for name in task.scenes.names])
    return [
        sorted((*np.round(box, 3).tolist(), str(label)) for box, label in
               zip(task.boxes[row].boxes, task.boxes[row].labels, strict=True))
        for row in order
    ]  # fmt: skip


def known_rows(count: int = 12) -> list[list[tuple]]:
    _, truth = small_scenes(count)
    return [
        sorted((*map(float, box), str(label)) for box, label in zip(*one, strict=True))
        for one in truth
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_of_each_format_is_known_by_its_marks_and_read_alike(kind, tmp_path):
    folder = FORMATS[kind](tmp_path / "boxes")
    assert recognises(folder) > 0.9
    assert choose_task(str(folder)).name == "detection"
    assert rows_of(DetectionTask.load(folder)) == known_rows()


def test_a_column_of_objects_in_parquet_is_read_with_its_class_names(tmp_path):
    file = as_parquet(tmp_path / "boxes.parquet")
    assert recognises(file) > 0.9
    assert choose_task(str(file)).name == "detection"
    task = DetectionTask.load(file)
    assert [row for row in rows_of(task) if row] == [row for row in known_rows() if row] or sorted(
        map(tuple, rows_of(task))
    ) == sorted(map(tuple, known_rows()))


def test_pictures_alone_are_not_this_task(tmp_path):
    folder = as_coco(tmp_path / "boxes")
    (folder / "boxes.json").unlink()
    assert recognises(folder) == 0


def test_files_of_coco_named_after_parts_part_the_pictures(tmp_path):
    as_coco(tmp_path / "boxes", 9, name="instances_train2017.json")
    as_coco(tmp_path / "boxes", 9, start=9, name="instances_val2017.json")
    as_coco(tmp_path / "boxes", 9, start=18, name="instances_test2017.json")
    task = DetectionTask.load(tmp_path / "boxes")
    assert {part: len(task.rows_of(part)) for part in ("train", "validation", "test")} == {
        "train": 9, "validation": 9, "test": 9
    }  # fmt: skip


def test_a_yaml_of_yolo_names_classes_and_parts(tmp_path):
    folder = as_yolo(tmp_path / "boxes", 12)
    (folder / "classes.txt").unlink()
    for part, numbers in {"train": range(6), "val": range(6, 9), "test": range(9, 12)}.items():
        for kind, ending in (("images", "png"), ("labels", "txt")):
            (folder / kind / part).mkdir()
            for number in numbers:
                name = f"{number:03d}.{ending}"
                shutil.move(folder / kind / name, folder / kind / part / name)
    (folder / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames: [disc, square]\n"
    )
    task = DetectionTask.load(folder)
    assert [len(task.rows_of(part)) for part in ("train", "validation", "test")] == [6, 3, 3]
    assert rows_of(task) == known_rows()


def changed(folder, change) -> None:
    file = folder / "boxes.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["annotations"][0].update(category_id=99), "of the category 99"),
        (lambda c: c["annotations"][0].update(image_id=5), "the image 5, which it does not list"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "no bbox of four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[9, 9, -4, 5]), "a box is x1, y1, x2, y2"),
        (lambda c: c["images"][0].pop("file_name"), "images[0]"),
        (lambda c: c.update(annotations=[]), "no picture has a box"),
    ],
)
def test_a_wrong_annotation_is_named(change, said, tmp_path):
    folder = as_coco(tmp_path / "boxes")
    changed(folder, change)
    with pytest.raises(DataError) as refused:
        DetectionTask.load(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5 0.5 0.5 0.1 0.1", "class 5, which has no name"),
        ("0 30 30 10 10", "shares of the picture's sides"),
        ("0 0.5 0.5", "no class and four shares"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "outlines are not read"),
    ],
)
def test_a_wrong_line_of_yolo_is_named(line, said, tmp_path):
    folder = as_yolo(tmp_path / "boxes")
    (folder / "labels" / "003.txt").write_text(line)
    with pytest.raises(DataError, match=said):
        DetectionTask.load(folder)


def test_an_annotation_that_declares_a_document_type_is_refused(tmp_path):
    folder = as_voc(tmp_path / "boxes")
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'
    (folder / "000.xml").write_text(bomb)
    with pytest.raises(DataError, match="document type"):
        DetectionTask.load(folder)


def test_a_picture_is_turned_as_exif_says_before_its_boxes_are_checked(tmp_path):
    folder = as_coco(tmp_path / "boxes")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.new("RGB", (60, 30)).save(folder / "000.jpg", exif=exif)
    changed(folder, lambda c: c["images"][0].update(file_name="000.jpg"))
    task = DetectionTask.load(folder)
    assert task.scenes.sizes[0] == (60, 30)
    assert task.scenes[0].shape == (60, 30, 3)


def boxes(*rows, label="a") -> Boxes:
    return Boxes(
        np.array(rows, np.float32).reshape(-1, 4), objects([label] * len(rows)),
        np.zeros(len(rows), bool),
    )  # fmt: skip


def test_boxes_that_stand_out_are_cut_and_counted_and_those_outside_left_out():
    checks = BoxChecks()
    found = checks.checked(boxes((-5, 2, 10, 30), (70, 2, 80, 9)), (20, 40), "one.jpg")
    assert found.boxes.tolist() == [[0, 2, 10, 20]]
    assert any("1 box is cut at the border" in note and "one.jpg" in note for note in checks.notes)
    assert any("wholly outside" in note and "left out" in note for note in checks.notes)


def test_a_box_given_twice_counts_once_and_one_without_size_goes():
    checks = BoxChecks()
    found = checks.checked(boxes((1, 1, 5, 5), (1, 1, 5, 5), (2, 2, 2, 8)), (20, 20), "one.jpg")
    assert found.boxes.tolist() == [[1, 1, 5, 5]]
    assert [note.split(":")[0] for note in checks.notes] == [
        "1 box is without size", "1 box is given twice"
    ]  # fmt: skip


def test_a_box_in_the_wrong_order_names_its_picture_and_its_row():
    with pytest.raises(DataError, match=r"box 2 of one\.jpg is \(9, 9, 3, 12\)"):
        BoxChecks().checked(boxes((1, 1, 5, 5), (9, 9, 3, 12)), (20, 20), "one.jpg")


def test_more_labels_than_boxes_are_refused():
    with pytest.raises(DataError, match="1 boxes and 2 labels"):
        checked_boxes([([[0, 0, 3, 3]], ["a", "b"])], [(9, 9)], ["picture 1"], [])


def test_corners_that_are_given_as_sizes_are_refused_since_they_stand_out():
    _, truth = small_scenes(30)
    wrong = [
        (np.concatenate([of[:, :2], of[:, :2] + of[:, 2:] * 1.5], 1), labels)
        for of, labels in truth
    ]
    with pytest.raises(DataError, match="boxes stand out of their pictures"):
        checked_boxes(wrong, [(64, 64)] * 30, [f"{n}.png" for n in range(30)], [])


def test_tiles_share_no_pixel_and_cover_all():
    seen = np.zeros((130, 75), int)
    for x1, y1, x2, y2 in tiles_of((130, 75), 40):
        assert max(x2 - x1, y2 - y1) <= 40
        seen[y1:y2, x1:x2] += 1
    assert (seen == 1).all()


def test_windows_overlap_and_cover_all():
    seen = np.zeros((130, 75), int)
    for x1, y1, x2, y2 in windows_of((130, 75), 40):
        assert (x2 - x1, y2 - y1) == (40, 40)
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1
    assert seen.max() > 1


def test_a_box_is_in_a_tile_that_holds_its_share_and_is_cut_there():
    one = boxes((30, 10, 50, 20))
    left, kept = boxes_in(one, (0, 0, 40, 40), keep=0.5)
    assert kept.tolist() == [True]
    assert left.boxes.tolist() == [[30, 10, 40, 20]]
    right, _ = boxes_in(one, (40, 0, 80, 40), keep=0.5)
    assert right.boxes.tolist() == [[0, 10, 10, 20]]
    assert not boxes_in(one, (40, 0, 80, 40), keep=0.6)[1].any()


def test_tiles_are_samples_whose_pictures_are_pieces_of_theirs():
    picture = np.arange(60 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 100, 3)
    scenes, found, wholes, notes = cut_into_tiles(
        scenes_of([picture]), [boxes((45, 10, 59, 20))], 50, 0.4
    )
    assert len(scenes) == 4
    assert wholes.tolist() == [0] * 4
    np.testing.assert_array_equal(scenes[1], picture[:30, 50:])
    assert [len(one.boxes) for one in found] == [0, 1, 0, 0]
    assert "cut into tiles" in notes[0]


def test_tiles_of_a_picture_stay_in_one_part(tmp_path):
    task = DetectionTask.load(as_coco(tmp_path / "boxes", 20), tile=40)
    assert len(task.scenes) == 80
    of = {
        part: {task.scenes.names[row].partition(" at ")[0] for row in task.rows_of(part)}
        for part in ("train", "validation", "test")
    }
    assert not of["train"] & of["test"]
    assert not of["train"] & of["validation"]
