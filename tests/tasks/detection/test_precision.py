"""Average precision is that of pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from stackwise.tasks.detection.boxes import Answer, Boxes
from stackwise.tasks.detection.results.matching import matched
from stackwise.tasks.detection.results.precision import (
    RECALL,
    SCORES,
    as_coco,
    average_precision,
    summed_up,
)
from stackwise.tasks.detection.results.resampling import resampled_precision
from stackwise.tasks.detection.results.showing import best_threshold, boxes_in, by_class, with_boxes
from stackwise.tasks.labelled.found import objects


def drawn(pictures: int, seed: int, *, crowd: bool = False) -> tuple[list[Boxes], list[Answer]]:
    """Objects of three classes and four sizes, and answers near them, doubled, and elsewhere."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, 6))
        low = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([low, low + rng.choice([12, 40, 90, 200], (count, 1))], 1)
        labels = objects(rng.choice(["a", "b", "c"], count).tolist())
        truth.append(Boxes(boxes.astype(np.float32), labels, rng.random(count) < 0.3 * crowd))
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 6, (2 * count, 4))
        wild = rng.uniform(0, 250, (3, 2))
        near = np.concatenate([near, np.concatenate([wild, wild + 50], 1)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        said = objects([*np.repeat(labels, 2), *rng.choice(["a", "b", "d"], 3)])
        scores = rng.random(len(near)).astype(np.float32)
        order = np.argsort(-scores)
        found.append(Answer(near[order].astype(np.float32), scores[order], said[order]))
    return truth, found


def by_pycocotools(truth, found) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        content, answers = as_coco(truth, found)
        known = COCO()
        known.dataset = content
        known.createIndex()
        evaluated = COCOeval(known, known.loadRes(answers), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return summed_up(evaluated.stats)


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_is_that_of_pycocotools(seed, crowd):
    truth, found = drawn(40, seed, crowd=crowd)
    ours, theirs = average_precision(truth, found), by_pycocotools(truth, found)
    assert next(iter(ours)) == "ap"
    assert set(ours) == set(theirs) == {*SCORES, *RECALL}
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name
    assert 0.05 < ours["ap"] < 0.95


@pytest.mark.parametrize("crowd", [False, True])
def test_the_score_of_every_picture_drawn_once_is_the_score(crowd):
    truth, found = drawn(40, 2, crowd=crowd)
    score = resampled_precision(truth, found)
    assert score(np.arange(40)) == pytest.approx(average_precision(truth, found)["ap"], abs=1e-6)


def test_the_score_of_pictures_drawn_twice_is_that_of_two_copies():
    truth, found = drawn(25, 3)
    rows = np.random.default_rng(0).integers(25, size=25)
    wanted = average_precision([truth[row] for row in rows], [found[row] for row in rows])["ap"]
    assert resampled_precision(truth, found)(rows) == pytest.approx(wanted, abs=1e-6)


def perfect(truth: list[Boxes]) -> list[Answer]:
    return [
        Answer(one.boxes, np.linspace(0.9, 0.1, len(one.labels), dtype=np.float32), one.labels)
        for one in truth
    ]


def test_perfect_answers_score_one_and_none_score_zero():
    truth, _ = drawn(20, 4)
    assert average_precision(truth, perfect(truth))["ap"] == pytest.approx(1)
    nothing = [Answer(np.zeros((0, 4), np.float32), np.zeros(0), objects([])) for _ in truth]
    assert average_precision(truth, nothing)["ap"] == 0


def test_only_the_order_of_scores_matters():
    truth, found = drawn(30, 5)
    other = [Answer(one.boxes, one.scores**3 / 2, one.labels) for one in found]
    assert average_precision(truth, other) == average_precision(truth, found)


def test_sizes_that_no_object_has_have_no_score():
    boxes = Boxes(np.array([[0, 0, 10, 10]], np.float32), objects(["a"]), np.zeros(1, bool))
    assert set(average_precision([boxes], perfect([boxes]))) == {
        "ap", "ap50", "ap75", "ap_small", "ar"
    }  # fmt: skip


def test_an_answer_in_a_crowd_is_neither_right_nor_wrong():
    truth = Boxes(
        np.array([[0, 0, 100, 100], [200, 0, 220, 20]], np.float32), objects(["a", "a"]),
        np.array([True, False]),
    )  # fmt: skip
    answer = Answer(
        np.array([[10, 10, 30, 30], [200, 0, 220, 20]], np.float32), np.array([0.9, 0.8]),
        objects(["a", "a"]),
    )  # fmt: skip
    found = matched(truth, answer, np.array([0.5]))
    assert found.ignored.tolist() == [[True, False]]
    assert found.right.tolist() == [[False, True]]
    assert average_precision([truth], [answer])["ap"] == pytest.approx(1)


def test_boxes_come_back_from_a_table_of_answers():
    import pandas as pd

    truth, found = drawn(10, 6)
    table = with_boxes(pd.DataFrame({"row": range(10)}), truth, found)
    back, again = boxes_in(table)
    assert average_precision(back, again)["ap"] == pytest.approx(
        average_precision(truth, found)["ap"], abs=1e-3
    )


def test_classes_are_counted_at_the_threshold_that_balances_them():
    truth, _ = drawn(20, 7)
    found = perfect(truth)
    least = best_threshold(truth, found)
    table = by_class(truth, found, least)
    assert (table["recall"] == 1).all()
    assert (table["precision"] == 1).all()
    assert table["objects"].sum() == sum(len(one.labels) for one in truth)
