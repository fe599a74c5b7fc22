"""The steps that make a picture: how far, where, how smooth, and that nothing else changes."""

import itertools

import pytest
import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.probe.multifaceted_visualization import (
    CENTRE,
    MEAN,
    STEADY,
    Phase,
    denoise,
    maximise,
    total_variation,
)
from stackwise.probe.multifaceted_visualization.maximise import blurred, crop_of, inside, stepped
from stackwise.probe.multifaceted_visualization.smoothing import differences, divergence

NEVER = float("inf")
PLAIN = Phase(1, (NEVER, NEVER), (3, 3))


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def linear(weights):
    return lambda pictures, softmax: (pictures * weights).flatten(1).sum(1)


WEIGHTS = random(3, 6, 6) - 0.5


def test_one_step_on_a_linear_unit_moves_by_step_times_w_over_its_mean_size():
    start = torch.full((3, 6, 6), 120.0)
    made = maximise(linear(WEIGHTS), start, [PLAIN])
    assert torch.allclose(made, start + 3 * WEIGHTS / WEIGHTS.abs().mean(), atol=1e-4)
    assert (made - start).abs().mean() == pytest.approx(3, rel=1e-5)


def test_the_scale_of_the_units_answer_changes_nothing():
    start = torch.full((3, 6, 6), 120.0)
    phase = Phase(4, (0.3, 0.6), (3, 2))
    both = [maximise(linear(scale * WEIGHTS), start, [phase]) for scale in (1.0, 1024.0)]
    assert torch.equal(*both)


def test_under_clipping_the_optimum_is_the_corner_of_the_box():
    made = maximise(
        linear(WEIGHTS), torch.full((3, 6, 6), 120.0), [Phase(3000, (NEVER,) * 2, (9, 9))]
    )
    assert torch.equal(made, 255.0 * (WEIGHTS > 0))


def test_it_goes_up():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 2)).eval()
    start = 255 * random(3, 6, 6)

    def target(pictures, softmax):
        return network(pictures / 255)[:, 1]

    made = maximise(target, start, [Phase(1, (NEVER, NEVER), (0.1, 0.1))])
    assert target(made[None], False) > target(start[None], False)


def test_only_the_crop_changes_and_its_place_is_the_centre_on_average():
    phase = Phase(1, (0.5, 0.5), (5, 5), spread=0.3)
    picture, generator = 255 * random(1, 3, 9, 9), torch.Generator().manual_seed(1)
    crop = crop_of(phase, (9, 9), (6, 6), generator)
    moved, _ = stepped(linear(WEIGHTS), picture[crop], phase, 0.0, (6, 6))
    whole = picture.clone()
    whole[crop] = moved
    outside = torch.ones_like(picture, dtype=torch.bool)
    outside[crop] = False
    assert torch.equal(whole[outside], picture[outside]) and not torch.equal(whole, picture)
    starts = [crop_of(phase, (106, 106), (6, 6), generator)[2].start for _ in range(4000)]
    assert sum(starts) / len(starts) == pytest.approx(50, abs=2)
    assert min(starts) >= 0 and max(starts) <= 100


def test_without_slack_there_is_no_jitter():
    crop = crop_of(PLAIN, (6, 6), (6, 6), torch.Generator().manual_seed(0))
    assert crop[2:] == (slice(0, 6), slice(0, 6))


def test_pixels_within_the_margin_stay():
    phase = Phase(1, (NEVER, NEVER), (5, 5), margin=1 / 3)
    part = 100 + 50 * random(1, 3, 6, 6)
    moved, _ = stepped(linear(WEIGHTS), part, phase, 0.0, (6, 6))
    assert torch.equal(inside(moved - part, 1 / 3), moved - part)
    assert not torch.equal(moved[..., 2:4, 2:4], part[..., 2:4, 2:4])
    # the mean is of the whole crop, the border's zeros among it
    assert (moved - part).abs().mean() == pytest.approx(5, rel=1e-4)


def test_a_step_of_stay_goes_that_share_of_the_way_back():
    start = torch.full((3, 6, 6), 120.0)
    made = maximise(linear(WEIGHTS), start, [Phase(1, (NEVER,) * 2, (3, 3), stay=0.25)])
    free = maximise(linear(WEIGHTS), start, [PLAIN])
    assert torch.allclose(made - start, 0.75 * (free - start), atol=1e-4)


def test_natural_phases_mix_the_gradients_channels():
    start, mixing = torch.full((3, 6, 6), 120.0), random(3, 3, seed=3)
    phase = Phase(1, (NEVER,) * 2, (3, 3), natural=True)
    made = maximise(linear(WEIGHTS), start, [phase], mixing=mixing)
    mixed = torch.einsum("cd,dhw->chw", mixing, WEIGHTS)
    assert torch.allclose(made, start + 3 * mixed / mixed.abs().mean(), atol=1e-3)


def test_blurring_keeps_the_sum_away_from_edges_and_small_pictures_as_they_are():
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    found = blurred(point, 1 / 16)
    assert found.sum() == pytest.approx(1, rel=1e-4) and 0 < found.max() < 0.1
    assert torch.allclose(found, found.transpose(2, 3))
    assert torch.equal(blurred(point, 1 / 100), point)


def test_the_dual_is_the_adjoint():
    pictures, field = random(2, 3, 5, 7), random(2, 2, 3, 5, 7, seed=1)
    assert torch.allclose(
        (differences(pictures) * field).sum(), -(pictures * divergence(field)).sum(), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 3, 20)])
def test_denoising_by_an_infinite_weight_is_the_identity_and_flat_ones_stay(shape):
    pictures = 255 * random(*shape)
    assert torch.equal(denoise(pictures, NEVER)[0], pictures)
    flat = torch.full(shape, 77.0)
    assert torch.equal(denoise(flat, 0.1)[0], flat)


@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0])
def test_denoising_never_adds_variation_and_keeps_the_mean(weight):
    pictures = 255 * random(2, 3, 8, 9)
    smooth, _ = denoise(pictures, weight, 300)
    assert (total_variation(smooth) <= total_variation(pictures)).all()
    assert torch.allclose(smooth.mean((2, 3)), pictures.mean((2, 3)), atol=1e-2)


def test_denoising_reaches_the_minimum_that_gradient_descent_finds():
    picture = (10 * random(1, 1, 4, 4)).double()

    def value(u):
        return total_variation(u) + 0.2 * (u - picture).square().sum()

    found, _ = denoise(picture, 0.2, 500)
    by_hand = picture.clone().requires_grad_(True)
    smooth = 1e-6
    optimiser = torch.optim.LBFGS([by_hand], max_iter=500, tolerance_grad=1e-9)

    def closure():
        optimiser.zero_grad()
        lengths = (differences(by_hand).square().sum(0) + smooth).sqrt().sum()
        loss = lengths + 0.2 * (by_hand - picture).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert value(found) <= value(by_hand.detach()) + 1e-3


def test_a_denoising_goes_on_where_the_last_one_ended():
    picture = 255 * random(1, 3, 8, 8)
    once, dual = denoise(picture, 0.05, 400)
    again, _ = denoise(picture, 0.05, 5, dual)
    assert torch.allclose(once, again, atol=1e-2)
    assert not torch.allclose(once, denoise(picture, 0.05, 5)[0], atol=1e-1)


@pytest.mark.parametrize("phases", [STEADY, MEAN, CENTRE])
def test_the_seed_alone_decides_whatever_was_made_before(phases):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2)).eval()

    def target(pictures, softmax):
        return (
            network(pictures / 255).softmax(1)[:, 1] if softmax else network(pictures / 255)[:, 1]
        )

    start = 255 * random(3, 6, 6)
    first = maximise(target, start, phases, share=0.02, seed=5)
    maximise(target, 255 * random(3, 6, 6, seed=9), phases, share=0.02, seed=6)
    torch.rand(3)
    again = maximise(target, start, phases, share=0.02, seed=5)
    other = maximise(target, start, phases, share=0.02, seed=6)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == start.shape and first.min() >= 0 and first.max() <= 255


def test_a_network_that_gives_no_gradient_is_refused():
    with pytest.raises(ModelError, match="no gradient reaches the picture"):
        maximise(lambda pictures, softmax: pictures.detach().sum((1, 2, 3)), WEIGHTS, [PLAIN])


def test_phases_enlarge_and_what_comes_out_has_the_starts_size():
    sizes = set()

    def target(pictures, softmax):
        sizes.add(tuple(pictures.shape[2:]))
        return pictures.flatten(1).mean(1)

    made = maximise(target, 255 * random(3, 20, 30), STEADY, share=0.05)
    assert sizes == {(20, 30)} and made.shape == (3, 20, 30)


def test_parts_of_the_paper_stand_as_published():
    assert [sum(phase.steps for phase in phases) for phases in (MEAN, CENTRE)] == [370, 530]
    assert [phase.softmax for phase in CENTRE] == [True, True, False, False, False]
    assert all(not phase.blur[0] and not phase.zoom for phase in itertools.chain(MEAN, CENTRE))
