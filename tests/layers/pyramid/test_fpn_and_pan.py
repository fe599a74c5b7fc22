"""FPN and PAN: sizes, which level sees which, and what is refused."""

import pytest
import torch
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.pyramid import FPN, PAN, Laterals

NECKS = [Laterals, FPN, PAN]


def maps(sides=((13, 17), (7, 9), (4, 5)), widths=(4, 6, 8)):
    return [torch.randn(2, c, *side) for c, side in zip(widths, sides, strict=True)]


def reached(neck, given):
    """For each output level, the set of backbone maps that its sum has a gradient to."""
    found = []
    for level in range(neck_levels(neck)):
        leaves = [x.clone().requires_grad_() for x in given]
        out = neck(leaves)[level]
        grads = torch.autograd.grad(out.square().sum(), leaves, allow_unused=True)
        found.append({i for i, g in enumerate(grads) if g is not None and bool(g.any())})
    return found


def neck_levels(neck):
    return next(m for m in neck.modules() if isinstance(m, Laterals)).levels


@pytest.mark.parametrize("kind", NECKS)
@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_odd_sizes_come_back_and_further_levels_halve(kind, norm):
    given = maps()
    kept = [x.clone() for x in given]
    out = kind([4, 6, 8], 8, 5, norm=norm)(given)
    assert [tuple(x.shape) for x in out] == [
        (2, 8, 13, 17), (2, 8, 7, 9), (2, 8, 4, 5), (2, 8, 2, 3), (2, 8, 1, 2)
    ]  # fmt: skip
    assert len(given) == 3 and all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


@pytest.mark.parametrize(
    ("kind", "sees"),
    [
        (Laterals, [{0}, {1}, {2}, {2}]),
        (FPN, [{0, 1, 2}, {1, 2}, {2}, {2}]),
        (PAN, [{0, 1, 2}] * 4),
    ],
)
def test_a_level_sees_the_maps_that_its_neck_says(kind, sees):
    torch.manual_seed(0)
    assert reached(kind([4, 6, 8], 8, 4), maps()) == sees


def test_fpn_equals_its_equation():
    torch.manual_seed(0)
    neck, (c3, c4, c5) = FPN([4, 6, 8], 8, 3), maps()
    sides = [side(x) for side, x in zip(neck.laterals.sides, (c3, c4, c5), strict=True)]
    m5 = sides[2]
    m4 = sides[1] + functional.interpolate(m5, size=(7, 9), mode="nearest")
    m3 = sides[0] + functional.interpolate(m4, size=(13, 17), mode="nearest")
    wanted = [layer(m) for layer, m in zip(neck.smooth, (m3, m4, m5), strict=True)]
    for one, two in zip(neck([c3, c4, c5]), wanted, strict=True):
        torch.testing.assert_close(one, two)


def test_what_is_no_pyramid_is_refused():
    neck = FPN([4, 6, 8], 8, 3)
    with pytest.raises(ModelError, match="level 1 is 7 x 9 but level 2 is 3 x 5; expected 4 x 5"):
        neck(maps(sides=((13, 17), (7, 9), (3, 5))))
    with pytest.raises(ModelError, match=r"level 1 must be \(batch, 6, height, width\)"):
        neck(maps(widths=(4, 5, 8)))
    with pytest.raises(ModelError, match="built for 3 levels, got 2"):
        neck(maps()[:2])
    with pytest.raises(ModelError, match="at least as many levels, got 2"):
        FPN([4, 6, 8], 8, 2)
