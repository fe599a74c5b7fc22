"""lambda over a run: 0, a rise, and exactly 1."""

from itertools import pairwise

import pytest
import torch

from stackwise.errors import KnobError
from stackwise.shrink.vit_reparam import BranchedViT, JoinSchedule, set_join

ORDERS = ("together", "shallow-first", "deep-first", "ffn-first")
SHAPES = ("linear", "cosine", "step")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("total, end", [(7, 0.7), (10, 1.0), (1, 0.7), (333, 0.7), (97, 0.999)])
def test_a_schedule_rises_from_0_to_exactly_1(order: str, shape: str, total: int, end: float):
    schedule = JoinSchedule(end=end, shape=shape, order=order)
    runs = [schedule.at(step, total, depth=3) for step in range(total)]
    assert all(value == 1.0 for pair in runs[-1] for value in pair)
    if total > 1:
        assert all(value == 0.0 for pair in runs[0] for value in pair)
    for before, after in pairwise(runs):
        assert all(
            b <= a <= 1
            for x, y in zip(before, after, strict=True)
            for b, a in zip(x, y, strict=True)
        )


def test_shapes_are_those_of_their_equations():
    middle = {shape: JoinSchedule(0.0, 1.0, shape).at(1, 5, 1)[0][0] for shape in SHAPES}
    assert middle == {"linear": 0.25, "cosine": pytest.approx(0.1464466), "step": 1.0}


def test_orders_join_one_part_after_another():
    at = {order: JoinSchedule(0.0, 1.0, order=order).at(5, 11, 2) for order in ORDERS}
    assert at["shallow-first"] == [(1.0, 1.0), (0.0, 0.0)]
    assert at["deep-first"] == [(0.0, 0.0), (1.0, 1.0)]
    assert at["ffn-first"] == [(0.0, 1.0), (0.0, 1.0)]
    assert at["together"] == [(0.5, 0.5), (0.5, 0.5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_checkpoint_keeps_lambda(dtype: torch.dtype):
    sizes = {"image_size": 4, "patch": 4, "width": 6, "depth": 2, "branches": 2, "n_outputs": 2}
    model, resumed = BranchedViT(**sizes).to(dtype), BranchedViT(**sizes).to(dtype)
    set_join(model, [(0.25, 0.5), (0.75, 1.0)])
    resumed.load_state_dict(model.state_dict())
    lams = [(float(b.attention.lam), float(b.ffn.lam)) for b in resumed.blocks]
    assert lams == [(0.25, 0.5), (0.75, 1.0)]
    set_join(model, JoinSchedule().at(332, 333, 2))
    assert all(block.ffn.lam == 1.0 for block in model.blocks)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: JoinSchedule(0.7, 0.1), "start must come before end"),
        (lambda: JoinSchedule(shape="round"), "shape must be one of"),
        (lambda: JoinSchedule(order="any"), "order must be one of"),
        (lambda: set_join(BranchedViT(depth=1, width=6), 1.5), "lambda must lie within 0 and 1"),
        (lambda: set_join(BranchedViT(depth=1, width=6), [(0, 0)] * 2), "has 1 branched blocks"),
    ],
)
def test_impossible_schedules_are_refused(make, message: str):
    with pytest.raises(KnobError, match=message):
        make()
