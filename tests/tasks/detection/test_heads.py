"""What heads assign, lose and decode, against plain loops."""

import math

import pytest
import torch

from stackwise.tasks.detection.heads.atss import ATSSHead, assigned_by_statistics
from stackwise.tasks.detection.heads.centred import centreness
from stackwise.tasks.detection.heads.decoding import nms, nms_by_class
from stackwise.tasks.detection.heads.dense import locations
from stackwise.tasks.detection.heads.fcos import FCOSHead, assigned_by_centre
from stackwise.tasks.detection.heads.geometry import (
    decoded,
    encoded,
    generalised_iou,
    pairwise_iou,
)
from stackwise.tasks.detection.heads.losses import focal_loss
from stackwise.tasks.detection.heads.retina import (
    BACKGROUND,
    IGNORED,
    RetinaHead,
    anchors,
    assigned_by_overlap,
)

HEADS = {"retina": RetinaHead, "fcos": FCOSHead, "atss": ATSSHead}


def drawn_boxes(count: int, side: float = 100.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * side * 0.7
    return torch.cat([low, low + 2 + torch.rand(count, 2, generator=generator) * side * 0.3], 1)


def iou(a, b) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def test_pairwise_iou_is_that_of_each_pair():
    first, second = drawn_boxes(7), drawn_boxes(9, seed=1)
    found = pairwise_iou(first, second)
    for i, a in enumerate(first.tolist()):
        for j, b in enumerate(second.tolist()):
            assert found[i, j].item() == pytest.approx(iou(a, b), abs=1e-6)


def test_giou_is_one_for_equal_boxes_and_falls_with_the_gap_between_others():
    box = torch.tensor([[0.0, 0, 10, 10]])
    assert generalised_iou(box, box).item() == pytest.approx(1)
    near, far = torch.tensor([[10.0, 0, 20, 10]]), torch.tensor([[90.0, 0, 100, 10]])
    assert generalised_iou(box, near).item() == pytest.approx(0, abs=1e-6)
    assert generalised_iou(box, far).item() == pytest.approx(-0.8)


def test_decoding_undoes_encoding():
    boxes, against = drawn_boxes(20).double(), drawn_boxes(20, seed=1).double()
    std = torch.tensor([0.1, 0.1, 0.2, 0.2]).double()
    torch.testing.assert_close(decoded(encoded(boxes, against, std), against, std), boxes)


def plain_nms(boxes, scores, threshold) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda row: -scores[row])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [row for row in left if iou(boxes[best], boxes[row]) <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_is_the_plain_loop(threshold):
    for seed in range(5):
        boxes = drawn_boxes(60, seed=seed)
        scores = torch.rand(60, generator=torch.Generator().manual_seed(seed))
        wanted = plain_nms(boxes.tolist(), scores.tolist(), threshold)
        assert nms(boxes, scores, threshold).tolist() == wanted


def test_nms_of_classes_is_nms_of_each():
    boxes = drawn_boxes(80, seed=3)
    scores = torch.rand(80, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(80) % 3
    wanted = []
    for label in range(3):
        rows = (labels == label).nonzero()[:, 0].tolist()
        kept = plain_nms([boxes[row].tolist() for row in rows], scores[rows].tolist(), 0.5)
        wanted += [rows[place] for place in kept]
    wanted.sort(key=lambda row: -scores[row])
    assert nms_by_class(boxes, scores, labels, 0.5).tolist() == wanted


def test_nms_of_no_box_is_none():
    assert nms_by_class(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.5).shape == (0,)


def test_focal_loss_is_its_formula():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(6, 3)
    target[[0, 2], [1, 0]] = 1
    total = 0.0
    for logit, hit in zip(logits.flatten().tolist(), target.flatten().tolist()):
        p = 1 / (1 + math.exp(-logit))
        p_t, a_t = (p, 0.25) if hit else (1 - p, 0.75)
        total += -a_t * (1 - p_t) ** 2 * math.log(p_t)
    assert focal_loss(logits, target).item() == pytest.approx(total, rel=1e-5)


def test_centreness_is_one_in_the_middle_and_its_formula_elsewhere():
    box = torch.tensor([[0.0, 0, 20, 10]])
    assert centreness(torch.tensor([[10.0, 5]]), box).item() == pytest.approx(1)
    found = centreness(torch.tensor([[5.0, 2]]), box).item()
    assert found == pytest.approx(math.sqrt(5 / 15 * 2 / 8))


def test_retina_assigns_by_overlap_and_gives_every_box_its_best_anchor():
    every = torch.cat([anchors((12, 12), 8, torch.zeros(1)), anchors((6, 6), 16, torch.zeros(1))])
    boxes = torch.cat([drawn_boxes(5, 90.0), torch.tensor([[3.0, 3, 6, 6]])])
    found = assigned_by_overlap(every, boxes)
    overlaps = pairwise_iou(boxes, every)
    most_of = overlaps.max(1).values
    for anchor in range(len(every)):
        best = [box for box in range(len(boxes)) if overlaps[box, anchor] == most_of[box]]
        most = overlaps[:, anchor].max().item()
        if best:
            assert found[anchor] == best[-1]
        elif most >= 0.5:
            assert found[anchor] == overlaps[:, anchor].argmax()
        else:
            assert found[anchor] == (IGNORED if most >= 0.4 else BACKGROUND)
    assert found[overlaps[-1].argmax()] == len(boxes) - 1
    assert most_of[-1] < 0.4


def test_fcos_assigns_the_smallest_box_whose_middle_is_near_and_whose_sides_fit_the_level():
    strides, sizes = [8, 16, 32], [(12, 12), (6, 6), (3, 3)]
    middles = [locations(size, s, torch.zeros(1)) for size, s in zip(sizes, strides)]
    of_level = torch.cat([torch.full((len(one),), n) for n, one in enumerate(middles)])
    middle, boxes = torch.cat(middles), drawn_boxes(8, 96.0, seed=2)
    found = assigned_by_centre(middle, of_level, strides, boxes)
    limits = [(0, 64), (64, 128), (128, math.inf)]
    for place, (x, y) in enumerate(middle.tolist()):
        level = int(of_level[place])
        fitting = []
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            near = abs(x - (x1 + x2) / 2) < 1.5 * strides[level] and (
                abs(y - (y1 + y2) / 2) < 1.5 * strides[level]
            )
            if min(sides) > 0 and near and limits[level][0] <= max(sides) < limits[level][1]:
                fitting.append(((x2 - x1) * (y2 - y1), row))
        assert found[place] == (min(fitting)[1] if fitting else -1)


def test_atss_asks_for_the_mean_and_the_deviation_of_each_box_s_candidates():
    strides, sizes = [8, 16, 32], [(12, 12), (6, 6), (3, 3)]
    levels = []
    for size, stride in zip(sizes, strides):
        middle = locations(size, stride, torch.zeros(1))
        levels.append(torch.cat([middle - 4 * stride, middle + 4 * stride], 1))
    every, boxes = torch.cat(levels), drawn_boxes(6, 96.0, seed=4)
    found = assigned_by_statistics(every, [len(one) for one in levels], boxes)
    best = [(-1.0, -1)] * len(every)
    for row, box in enumerate(boxes.tolist()):
        candidates, first = [], 0
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        for level in levels:
            away = [
                ((a[0] + a[2]) / 2 - x) ** 2 + ((a[1] + a[3]) / 2 - y) ** 2 for a in level.tolist()
            ]
            candidates += [first + n for n in sorted(range(len(away)), key=away.__getitem__)[:9]]
            first += len(level)
        theirs = torch.tensor([iou(every[n].tolist(), box) for n in candidates])
        least = theirs.mean() + theirs.std()
        for n, overlap in zip(candidates, theirs.tolist()):
            cx, cy = (every[n, 0] + every[n, 2]) / 2, (every[n, 1] + every[n, 3]) / 2
            inside = box[0] < cx < box[2] and box[1] < cy < box[3]
            if overlap >= least - 1e-6 and inside and overlap > best[n][0]:
                best[n] = (overlap, row)
    assert found.tolist() == [row for _, row in best]


@pytest.mark.parametrize("name", HEADS)
def test_a_picture_without_a_box_is_all_background_and_has_a_gradient(name):
    torch.manual_seed(0)
    head = HEADS[name](8, 3, [8, 16], convs=1)
    maps = [torch.randn(2, 8, 6, 6), torch.randn(2, 8, 3, 3)]
    raw = head(maps, maps)
    none = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    parts = head.losses(raw, [none, none], (48, 48))
    total = sum(parts.values())
    total.backward()
    assert torch.isfinite(total)
    assert parts["focal"] > 0
    assert head.says_class.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", HEADS)
def test_numbers_that_say_the_truth_are_decoded_to_it_and_cost_no_box_loss(name):
    torch.manual_seed(0)
    head = HEADS[name](8, 2, [8, 16, 32], convs=0)
    maps = [torch.randn(1, 8, side, side) for side in (12, 6, 3)]
    boxes, labels = torch.tensor([[20.0, 30, 52, 70], [60.0, 8, 84, 30]]), torch.tensor([0, 1])
    raw = [
        one._replace(boxes=one.boxes.detach().requires_grad_(), classes=one.classes.detach(),
                     centre=None if one.centre is None else one.centre.detach())
        for one in head(maps, maps)
    ]  # fmt: skip
    learned = torch.optim.Adam([one.boxes for one in raw], lr=0.05)
    part = "smooth_l1" if name == "retina" else "giou"
    for _ in range(400):
        learned.zero_grad()
        lost = head.losses(raw, [(boxes, labels)], (96, 96))[part]
        lost.backward()
        learned.step()
    assert lost.item() < 0.02
    said = torch.cat([head.level_boxes(n, one) for n, one in enumerate(raw)], 1)[0]
    assert (pairwise_iou(boxes, said).max(1).values > 0.95).all()


@pytest.mark.parametrize("name", HEADS)
def test_at_first_every_class_is_said_with_probability_one_in_a_hundred(name):
    torch.manual_seed(0)
    head = HEADS[name](8, 3, [8], convs=1)
    raw = head([torch.randn(1, 8, 6, 6)] * 1, [torch.randn(1, 8, 6, 6)] * 1)
    assert raw[0].classes.sigmoid().mean().item() == pytest.approx(0.01, rel=0.1)
