"""Detectors learn, answer, and are kept; pictures and boxes move together."""

import numpy as np
import pytest
import torch
from torch import nn

from stackwise.errors import DataError, KnobError
from stackwise.layers.pyramid import FPN
from stackwise.tasks.detection.baselines.constant import ConstantBoxes
from stackwise.tasks.detection.baselines.necks import FPNDetector
from stackwise.tasks.detection.boxes import Fit
from stackwise.tasks.detection.estimators.backbone import ResidualBackbone
from stackwise.tasks.detection.estimators.canvases import Canvases, coded
from stackwise.tasks.detection.estimators.detector import QUICK, Detector
from stackwise.tasks.detection.estimators.moving import (
    MOVES,
    MovedBatches,
    Moves,
    drawn_moves,
    moved,
    moved_boxes,
)
from stackwise.tasks.detection.estimators.network import DetectionNetwork
from stackwise.tasks.detection.heads.fcos import FCOSHead
from stackwise.tasks.detection.reading.checking import checked_boxes
from stackwise.tasks.detection.reading.scenes import scenes_of
from stackwise.tasks.detection.small import small_scenes
from stackwise.tasks.detection.task import DetectionTask

TINY = QUICK | {"max_epochs": 2, "levels": 4}


def tiny_network(neck: nn.Module | None = None) -> DetectionNetwork:
    torch.manual_seed(0)
    backbone = ResidualBackbone(8, 1, 4)
    head = FCOSHead(16, 2, [4, 8, 16, 32], 1)
    return DetectionNetwork(backbone, neck or FPN(backbone.maps, 16, 4), head).eval()


@pytest.mark.parametrize("side", [64, 96, 75])
def test_the_backbone_halves_its_maps_rounded_up(side):
    backbone = ResidualBackbone(8, 1, 4)
    maps = backbone(torch.randn(2, 3, side, side))
    sides = [-(-side // stride) for stride in (4, 8, 16, 32)]
    assert [tuple(one.shape) for one in maps] == [
        (2, channels, s, s) for channels, s in zip(backbone.maps, sides)
    ]


def test_the_answers_of_a_batch_are_those_of_its_pictures_one_by_one():
    network, pixels = tiny_network(), torch.randn(3, 3, 64, 64)
    network.head.says_class.bias.data.fill_(-1.0)
    together = network.detect(pixels)
    for row, one in enumerate(together):
        alone = network.detect(pixels[row : row + 1])[0]
        assert len(one.scores) > 0
        torch.testing.assert_close(one.scores, alone.scores)
        torch.testing.assert_close(one.boxes, alone.boxes, atol=1e-3, rtol=1e-4)


def test_a_neck_may_give_the_branches_maps_of_their_own():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fpn = FPN([8, 16, 32, 32], 16, 4)

        def forward(self, maps):
            levels = self.fpn(maps)
            return [torch.zeros_like(one) for one in levels], levels

    network = tiny_network(Two())
    plain = tiny_network()
    raw, other = network(torch.randn(1, 3, 64, 64)), plain(torch.randn(1, 3, 64, 64))
    assert raw[0].boxes.std() > 0
    assert raw[0].classes.shape == other[0].classes.shape
    torch.testing.assert_close(raw[0].classes[0, 40], raw[0].classes[0, 100])


def test_a_detector_learns_the_same_from_a_task_and_twice():
    task = DetectionTask.small()
    first = FPNDetector(**TINY).fit(task)
    second = FPNDetector(**TINY)
    task.fit(second)
    for one, other in zip(first.history_, second.history_, strict=True):
        assert one["metrics"] == other["metrics"]
    for name, tensor in first.network_.state_dict().items():
        assert torch.equal(tensor, second.network_.state_dict()[name]), name


def test_a_kept_detector_answers_to_the_bit(tmp_path):
    task = DetectionTask.small()
    made = FPNDetector(**TINY | {"head": "atss"}).fit(task)
    made.network_.head.says_class.bias.data.fill_(-2.0)
    made.save(tmp_path)
    back = FPNDetector.load(tmp_path)
    assert back.classes_.tolist() == ["disc", "square"]
    for one, other in zip(made.predict(task.scenes), back.predict(task.scenes), strict=True):
        assert len(one["scores"])
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(one[name], other[name])


def test_arrays_and_numbers_as_classes_go_in_and_come_out():
    pictures, truth = small_scenes(12)
    numbered = [(boxes, [5 if label == "disc" else 9 for label in labels])
                for boxes, labels in truth]  # fmt: skip
    made = FPNDetector(**TINY).fit(pictures, numbered)
    assert made.classes_.tolist() == [5, 9]
    made.network_.head.says_class.bias.data.fill_(0.0)
    found = made.predict(np.stack(pictures[:3]))
    assert len(found) == 3
    assert found[0]["boxes"].shape == (len(found[0]["scores"]), 4)
    assert set(found[0]["labels"].tolist()) <= {5, 9}
    assert (np.diff(found[0]["scores"]) <= 0).all()


def test_answers_are_in_the_pixels_of_a_picture_of_any_size():
    pictures, truth = small_scenes(12)
    made = FPNDetector(**TINY).fit(pictures, truth)
    made.network_.head.says_class.bias.data.fill_(0.0)
    tall = np.kron(pictures[0], np.ones((4, 2, 1), np.uint8))
    found = made.predict([tall])[0]["boxes"]
    assert found[:, 0::2].max() <= 128
    assert found[:, 1::2].max() <= 256
    assert found[:, 1::2].max() > 128


def test_windows_of_a_large_picture_find_what_a_tile_finds_where_it_lies():
    pictures, truth = small_scenes(12)
    made = FPNDetector(**TINY).fit(pictures, truth, image_size=64, tile=64)
    made.network_.head.says_class.bias.data.fill_(-1.0)
    large = np.full((64, 192, 3), 90, np.uint8)
    large[:, 128:] = pictures[0]
    whole, alone = made.answers([large])[0], made.answers([pictures[0]])[0]
    best = alone.boxes[0] + np.array([128, 0, 128, 0], np.float32)
    overlap = np.abs(whole.boxes - best).max(1)
    assert overlap.min() < 1e-2


def test_levels_that_the_backbone_alone_exceeds_are_refused():
    with pytest.raises(KnobError, match="give at least 4"):
        FPNDetector(**TINY | {"levels": 3}).fit(DetectionTask.small())


@pytest.mark.parametrize(
    ("pictures", "boxes", "said"),
    [
        (small_scenes(3)[0], small_scenes(2)[1], "3 pictures want as many lists of boxes, got 2"),
        ([np.zeros((9, 9, 3), np.uint8)], [([], [])], "no picture has a box"),
        (["no/such.png"], [([], [])], "does not exist"),
        ([object()], [([], [])], "picture 1 is a object"),
        ([np.zeros((9, 9, 3), np.uint8)], [5], "pair of boxes"),
    ],
)
def test_bad_input_is_one_sentence(pictures, boxes, said):
    with pytest.raises(DataError) as refused:
        ConstantBoxes().fit(pictures, boxes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_detector_without_a_neck_says_so():
    from stackwise.errors import ModelError

    with pytest.raises(ModelError, match="which neck it builds"):
        Detector.build_neck(FPNDetector(), [8], 8)


def test_a_picture_lies_on_its_canvas_unstretched():
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[5:10, 10:30] = 255
    canvases = Canvases(scenes_of([picture]), 80, [np.array([[10, 5, 30, 10]], np.float32)])
    assert canvases.fits[0] == Fit(2.0, 20, 40)
    assert canvases.boxes[0].tolist() == [[20, 10, 60, 20]]
    pixels = canvases.take(np.array([0]))[0]
    assert pixels.shape == (3, 80, 80)
    assert pixels[0, 12:18, 24:56].min() > 0.95
    torch.testing.assert_close(pixels[:, 40:], torch.full((3, 40, 80), 128 / 255))


@pytest.mark.parametrize("name", ["move", "photo", "aerial"])
def test_boxes_move_with_their_pixels(name):
    how = Moves(**{**vars(MOVES[name]), "colour": 0.0})
    pixels = torch.full((32, 3, 96, 96), 0.5)
    boxes = torch.tensor([[[30.0, 40, 62, 56]]]).repeat(32, 1, 1)
    pixels[:, :, 40:56, 30:62] = 1.0
    labels = torch.zeros(32, 1, dtype=torch.int64)
    made, where, still = moved(pixels, boxes, labels, how, torch.Generator().manual_seed(0))
    seen = 0
    for one, box, label in zip(made[:, 0], where[:, 0], still[:, 0]):
        if label < 0:
            continue
        rows, columns = (one > 0.75).nonzero(as_tuple=True)
        hull = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        torch.testing.assert_close(box, torch.stack(hull).float(), atol=1.5, rtol=0)
        seen += 1
    assert seen > 16
    assert (where[:, 0] - boxes[:, 0]).abs().max() > 5


def test_a_box_of_which_too_little_is_left_goes():
    matrix = torch.eye(2)[None]
    boxes, labels = torch.tensor([[[0.0, 0, 10, 10]]]), torch.zeros(1, 1, dtype=torch.int64)
    _, kept = moved_boxes(boxes, labels, matrix, torch.tensor([[-5.0, 0.0]]), 64)
    _, gone = moved_boxes(boxes, labels, matrix, torch.tensor([[-7.0, 0.0]]), 64)
    assert kept.item() == 0
    assert gone.item() == -1


def test_moves_are_drawn_from_the_seed_alone():
    draw = [drawn_moves(4, 64, MOVES["aerial"], torch.Generator().manual_seed(3)) for _ in "ab"]
    assert torch.equal(draw[0][0], draw[1][0])
    assert torch.equal(draw[0][1], draw[1][1])


def test_the_constant_guess_answers_what_fits_training_best():
    box = (np.array([[8, 8, 24, 24]], np.float32), ["a"])
    other = (np.array([[40, 40, 60, 60]], np.float32), ["a"])
    pictures = [np.full((64, 64, 3), shade, np.uint8) for shade in range(0, 100, 10)]
    made = ConstantBoxes(each=2).fit(pictures, [box] * 7 + [other] * 3)
    found = made.predict(pictures[:1])[0]
    np.testing.assert_allclose(found["boxes"], [[8, 8, 24, 24], [40, 40, 60, 60]])
    np.testing.assert_allclose(found["scores"], [0.7, 0.3])


@pytest.mark.slow
def test_a_detector_learns_to_find_what_it_was_shown():
    task = DetectionTask.small()
    made = FPNDetector(
        backbone_width=12, width=24, head_convs=1, max_epochs=25, batch_size=6, augment="none",
        head="atss", lr=3e-3,
    ).fit(task)  # fmt: skip
    first, last = (made.history_[place]["metrics"]["train_loss"] for place in (0, -1))
    assert last < 0.6 * first
    assert task.judge(made, "train").scores["ap50"] > 0.25


def test_batches_begin_anywhere_in_an_epoch_as_they_would_have_gone_on():
    scenes, truth = small_scenes(12)
    classes = np.array(["disc", "square"], dtype=object)
    boxes = checked_boxes(truth, [(64, 64)] * 12, [str(n) for n in range(12)], [])
    canvases = Canvases(scenes_of(scenes), 64, *coded(boxes, classes))
    batches = MovedBatches(canvases, 5, MOVES["aerial"], seed=3, normalise=lambda x: x - 0.5)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, 1))
    assert len(whole) == len(batches) == 2
    for name, tensor in whole[1].items():
        assert torch.equal(tensor, rest[0][name])
    assert not torch.equal(whole[1]["pixels"], list(batches.epoch(3))[1]["pixels"])
