"""The task: what it parts, judges, writes and shows; what commands make of it; its named sets."""

import json
import sys

import numpy as np
import pytest
from annotated_made import as_coco, pictures
from PIL import Image

from stackwise import data, optional
from stackwise.data.annotated_scenes import PARTS, composed_scenes, tree_crowns
from stackwise.errors import DataError, NotInstalled
from stackwise.runs import fit_run, load
from stackwise.tasks.detection.baselines.constant import ConstantBoxes
from stackwise.tasks.detection.boxes import Answer
from stackwise.tasks.detection.reading.sizes import common_side
from stackwise.tasks.detection.results.drawing import with_boxes
from stackwise.tasks.detection.results.writing import write_predictions
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.detection.task import DetectionTask
from stackwise.tasks.labelled.found import objects


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 annotated pictures, and six that are not."""
    place = tmp_path_factory.mktemp("data")
    as_coco(place / "boxes", 30)
    pictures(place / "pictures" / "a", 6)
    return place


@pytest.fixture(scope="module")
def guessed(folder):
    """Pictures, most of which have a disc at one place besides what they had."""
    scenes, truth = small_scenes(30)
    more = np.array([[8, 8, 40, 40]], np.float32)
    with_disc = [
        (np.concatenate([boxes, more]), [*labels, "disc"]) if row % 3 else (boxes, labels)
        for row, (boxes, labels) in enumerate(truth)
    ]
    return DetectionTask.load((scenes, with_disc))


@pytest.fixture(scope="module")
def run(folder, guessed):
    """A constant guess, fitted on these."""
    return fit_run("constant-boxes", guessed, out=folder / "runs" / "constant")


def test_parts_share_no_picture_and_equal_data_has_one_hash(folder):
    task = DetectionTask.load(folder / "boxes")
    rows = np.concatenate([task.rows_of(part) for part in ("train", "validation", "test")])
    assert sorted(rows) == list(range(30))
    assert DetectionTask.load(folder / "boxes").data_hash == task.data_hash
    assert DetectionTask.load(folder / "boxes", split_seed=1).data_hash != task.data_hash


def test_the_score_of_all_test_pictures_is_the_judged_one(guessed, run):
    count, score = guessed.resampled(run)
    judged = run.record["scores"]["test"]["ap"]
    assert judged > 0
    assert score(np.arange(count)) == pytest.approx(judged, abs=1e-4)


def test_a_run_shows_found_missed_and_wrong_boxes_on_pictures(guessed, run):
    found = DetectionTask.shows([run], run.record["data"])
    title = "What constant-boxes found"
    assert set(found.tables["classes"].columns) == {"precision", "recall", "objects", "answers"}
    axes = [one for one in found.figures[title].axes if one.images]
    assert len(axes) == len(guessed.rows_of("test"))
    colours = {patch.get_edgecolor() for one in axes for patch in one.patches}
    assert len(colours) == 3
    assert title in found.summary


def test_predictions_of_an_annotated_folder_bear_its_own_numbers(folder, run, tmp_path):
    from pycocotools.coco import COCO

    learner = load(run.folder)
    written = write_predictions(tmp_path / "boxes.json", learner, folder / "boxes")
    results = json.loads((tmp_path / "boxes.json").read_text())
    assert len(results) == written > 0
    assert {one["image_id"] for one in results} == set(range(100, 130))
    assert {(one["category"], one["category_id"]) for one in results} == {
        ("disc", 7), ("square", 8)
    }  # fmt: skip
    known = COCO(str(folder / "boxes" / "boxes.json"))
    assert len(known.loadRes(str(tmp_path / "boxes.json")).anns) == written


def test_predictions_of_bare_pictures_are_numbered_and_drawn(folder, run, tmp_path):
    learner = load(run.folder)
    write_predictions(
        tmp_path / "boxes.json", learner, folder / "pictures", show=str(tmp_path / "seen"),
        show_score=0.0, least_score=0.0,
    )  # fmt: skip
    results = json.loads((tmp_path / "boxes.json").read_text())
    assert {one["image_id"] for one in results} == set(range(1, 7))
    assert {one["category_id"] for one in results} == {1, 2}
    drawn = sorted((tmp_path / "seen").rglob("*.png"))
    assert [file.name for file in drawn] == [f"{number:03d}.png" for number in range(6)]
    with Image.open(drawn[0]) as image, Image.open(folder / "pictures/a/000.png") as bare:
        assert min(image.size) > min(bare.size)
        assert np.asarray(image).std() > 0


def test_a_box_is_drawn_where_it_is():
    picture = np.zeros((500, 500, 3), np.uint8)
    answer = Answer(np.array([[100, 200, 300, 400]], np.float32), np.array([0.9]), objects(["a"]))
    drawn = np.asarray(with_boxes(picture, answer, ["a"])).sum(-1)
    rows, columns = np.nonzero(drawn[210:])
    assert (columns.min(), columns.max() + 1, rows.max() + 211) == (100, 300, 400)
    assert drawn[210:390, 110:290].sum() == 0


def test_predictions_are_no_other_kind_of_file(folder, run, tmp_path):
    with pytest.raises(DataError, match=r"must end in \.json"):
        write_predictions(tmp_path / "boxes.csv", load(run.folder), folder / "pictures")
    with pytest.raises(DataError, match="is the input"):
        file = folder / "boxes" / "boxes.json"
        write_predictions(file, load(run.folder), file)


def test_a_part_without_a_box_is_refused():
    scenes, _ = small_scenes(12)
    box = (np.array([[4, 4, 20, 20]], np.float32), np.array(["a"]))
    none = (np.zeros((0, 4), np.float32), np.array([]))
    with pytest.raises(DataError, match=r"part has \d+ pictures and no box in them"):
        DetectionTask.load((scenes, [box] + [none] * 11))


def test_a_class_that_training_lacks_is_said_and_counts_as_never_found():
    scenes, truth = small_scenes(30)
    own = [(boxes, ["a"] * len(boxes)) for boxes, _ in truth]
    task = DetectionTask.load((scenes, own))
    row = next(row for row in task.rows_of("test") if len(task.boxes[row].labels))
    own[row] = (own[row][0], ["rare"] * len(own[row][0]))
    again = DetectionTask.load((scenes, own))
    assert any("classes without training boxes: rare" in note for note in again.notes)
    learner = again.fit(ConstantBoxes())
    both = again.judge(learner, "test").scores["ap"]
    assert 0 <= both < task.judge(task.fit(ConstantBoxes()), "test").scores["ap"] + 1e-9


def test_the_scores_need_a_package_that_the_extra_brings(monkeypatch):
    task = DetectionTask.small()
    learner = task.fit(ConstantBoxes())
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(NotInstalled, match=r"pip install 'stackwise\[detection\]'"):
        task.judge(learner, "test")
    assert optional.EXTRAS["faster_coco_eval"] == "detection"


def test_the_side_is_the_median_of_the_longer_ones_rounded_up():
    assert common_side([(60, 40), (70, 50), (10, 90)])[0] == 96
    assert common_side([(900, 400)])[0] == 256
    assert common_side([(9, 9)])[0] == 32


def test_tree_crowns_are_tiles_that_share_no_pixel_and_a_scene_is_in_one_part():
    if data.lacking("tree-crowns", "detection"):
        pytest.skip("deepforest is not here")
    tiles, truth, parts = data.detection("tree-crowns")
    assert {part: parts.count(part) for part in PARTS} == {
        "train": 37, "validation": 7, "test": 12
    }  # fmt: skip
    pixels = dict.fromkeys(PARTS, 0)
    for tile, part in zip(tiles, parts):
        pixels[part] += tile.shape[0] * tile.shape[1]
    assert pixels["test"] == 1249 * 1035
    assert pixels["train"] + pixels["validation"] == 2299 * 2472 + 2 * 400 * 400
    for tile, (boxes, labels) in zip(tiles, truth):
        assert set(labels) <= {"tree"}
        height, width = tile.shape[:2]
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
    assert callable(tree_crowns)


def test_composed_scenes_have_exact_boxes_and_digits_of_their_own_part():
    digits = np.zeros((10, 28, 28), np.uint8)
    for number in range(10):
        digits[number, 4:24, 10 : 12 + number] = 255
    labels = np.arange(10)
    grounds = [np.full((120, 200, 3), 120, np.uint8)]
    seen = {}
    for part in PARTS:
        scenes, truth = composed_scenes(digits, labels, grounds, 40, part=part, seed=3)
        seen[part] = {label for _, names in truth for label in names}
        for scene, (boxes, _) in zip(scenes, truth):
            assert scene.shape == (96, 96, 3)
            inside = np.zeros((96, 96), bool)
            for x1, y1, x2, y2 in boxes.astype(int):
                assert 9 <= max(x2 - x1, y2 - y1) <= 73
                inside[y1:y2, x1:x2] = True
                ink = (scene[y1:y2, x1:x2] != 120).any(-1)
                assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()
            assert (scene[~inside] == 120).all()
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    again, _ = composed_scenes(digits, labels, grounds, 2, part="train", seed=3)
    first, _ = composed_scenes(digits, labels, grounds, 2, part="train", seed=3)
    np.testing.assert_array_equal(again, first)


@pytest.mark.slow
def test_a_comparison_and_its_predictions_run_as_commands(folder, monkeypatch, command):
    monkeypatch.chdir(folder)

    def said_by(line: str) -> str:
        code, out, err = command(*line.split())
        assert code == 0, err
        return out

    named = "--method constant-boxes --method fpn-detector"
    said = said_by(f"compare boxes/ --seeds 1 --preset quick {named} --out runs/study")
    assert "constant-boxes" in said
    assert (folder / "runs/study/report.html").stat().st_size < 1_000_000
    page = (folder / "runs/study/report.html").read_text()
    assert "What constant-boxes found" in page or "What fpn-detector found" in page
    best = "runs/study/runs/fpn-detector-seed0"
    said_by(f"predict {best} pictures/ -o boxes.json --show seen/")
    assert json.loads((folder / "boxes.json").read_text()) is not None
    assert len(list((folder / "seen").rglob("*.png"))) == 6
