"""How training pictures are varied: nothing at strength 0, nothing unsaid, the same by seed."""

import pytest
import torch

from stackwise.tasks.images.estimators.augmentation import (
    RECIPES,
    Recipe,
    mixed,
    operated,
    recoloured,
    step_generator,
    vary,
)

GROUND = torch.zeros(1, 1, 1, 1)


def pictures(rows: int = 6, channels: int = 1, side: int = 8) -> torch.Tensor:
    return torch.rand(rows, channels, side, side, generator=torch.Generator().manual_seed(1))


def batch(rows: int = 6) -> dict[str, torch.Tensor]:
    return {"pixels": pictures(rows), "target": torch.arange(rows) % 3}


def test_operations_of_no_strength_are_the_identity():
    x = pictures(40)
    assert torch.allclose(operated(x, 0.0, step_generator(0, 0, 0), GROUND), x, atol=1e-6)
    assert torch.allclose(recoloured(x, 0.0, step_generator(0, 0, 0)), x, atol=1e-6)
    assert not torch.allclose(operated(x, 0.3, step_generator(0, 0, 0), GROUND), x, atol=1e-2)


def test_a_mixed_picture_is_the_sum_of_two_in_its_share():
    given = batch()
    found = mixed(given, Recipe(mixup=0.8), step_generator(0, 0, 0))
    share = found["share"][0]
    assert 0 < share < 1 and torch.equal(found["share"], share.expand(6))
    for row, picture in enumerate(found["pixels"]):
        others = [
            place for place in range(6)
            if torch.allclose(picture, share * given["pixels"][row]
                              + (1 - share) * given["pixels"][place], atol=1e-6)
        ]  # fmt: skip
        assert any(given["target"][place] == found["target_other"][row] for place in others)


def test_a_pasted_picture_keeps_the_share_that_is_said():
    given = batch()
    found = mixed(given, Recipe(cutmix=1.0), step_generator(0, 0, 3))
    kept = (found["pixels"] == given["pixels"]).float().mean((1, 2, 3))
    moved = (found["target_other"] != found["target"]).nonzero().flatten()
    assert torch.allclose(kept[moved], found["share"][moved], atol=1e-6)


def test_without_mixing_a_batch_is_left_alone():
    given = batch()
    assert mixed(given, Recipe(), step_generator(0, 0, 0)) is given


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_varied_alike_each_time(name: str):
    found = [vary(pictures(), RECIPES[name], step_generator(3, 1, 2), GROUND) for _ in range(2)]
    assert torch.equal(*found)
    same = torch.equal(found[0], pictures())
    assert same == (name == "none")
