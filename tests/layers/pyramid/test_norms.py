"""Group norm for levels of few positions."""

import pytest
import torch

from stackwise.layers.pyramid.norms import group_norm


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(256, 32), (128, 32), (64, 16), (24, 6), (16, 4), (10, 2), (7, 1), (3, 1)],
)
def test_a_group_has_four_channels_or_more(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_a_level_of_one_position_still_says_something_of_one_picture():
    x = torch.randn(1, 16, 1, 1)
    assert float(group_norm(16)(x).detach().std()) > 0.5
