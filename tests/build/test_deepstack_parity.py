"""Parity with transformers' Qwen3-VL, a later use of the method: a tiny model of random weights."""

import pytest
import torch
from torch import nn

from stackwise.build.deepstack import DeepStack, DeepStackTap, PatchMerger
from stackwise.build.deepstack.taps import in_blocks
from stackwise.stack import Stack

transformers = pytest.importorskip("transformers")
qwen = pytest.importorskip("transformers.models.qwen3_vl.modeling_qwen3_vl")

IMAGE, WIDTH, OUT, TAPS = 30, 16, 24, [0, 2, 3]
GRID = torch.tensor([[1, 4, 6], [1, 4, 4]])
"""Two pictures of 4 x 6 and 4 x 4 patches: 6 and 4 tokens."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": 40, "hidden_size": OUT, "intermediate_size": 32, "num_hidden_layers": 5,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2],
                                "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 5, "hidden_size": WIDTH, "intermediate_size": 32, "num_heads": 2,
            "patch_size": 2, "temporal_patch_size": 1, "spatial_merge_size": 2,
            "out_hidden_size": OUT, "num_position_embeddings": 36,
            "deepstack_visual_indexes": TAPS,
        },
        image_token_id=IMAGE, video_token_id=31, vision_start_token_id=32, vision_end_token_id=33,
    )  # fmt: skip
    made = transformers.Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
    for parameter in made.parameters():  # far from the small initial ones
        parameter.add_(0.1 * torch.randn(parameter.shape))
    return made


@pytest.fixture(scope="module")
def asked():
    """A text with two pictures in the first row, and a row of text padded at its left."""
    row = [1, 32, *[IMAGE] * 6, 33, 2, 32, *[IMAGE] * 4, 33, 3, 4]
    ids = torch.tensor([row, [0] * 6 + list(range(3, 3 + len(row) - 6))])
    patches = int(GRID.prod(1).sum())
    torch.manual_seed(1)
    return {
        "input_ids": ids, "attention_mask": torch.tensor([[1] * len(row), [0] * 6 + [1] * 12]),
        "pixel_values": torch.randn(patches, 3 * 2 * 2), "image_grid_thw": GRID,
        "mm_token_type_ids": (ids == IMAGE).int(),
    }  # fmt: skip


def copied(ours: PatchMerger, theirs: nn.Module) -> PatchMerger:
    """Our merger with their weights."""
    names = {"norm": "norm", "widen": "linear_fc1", "project": "linear_fc2"}
    for own, other in names.items():
        getattr(ours, own).load_state_dict(getattr(theirs, other).state_dict())
    return ours


@pytest.fixture(scope="module")
def ours(model, asked):
    """What their tower gives, through our taps: (tokens, stacks)."""
    tower = model.model.visual
    taps = DeepStackTap(WIDTH, OUT, TAPS)
    for own, other in zip(taps.mergers, tower.deepstack_merger_list, strict=True):
        copied(own, other)
    main = copied(PatchMerger(WIDTH, OUT), tower.merger)
    with Stack.of(tower, "blocks").capture() as stream:
        tower(asked["pixel_values"], grid_thw=GRID)
    # their patches lie in squares of four already
    squares = [stream.hidden[tap + 1].view(-1, 4, WIDTH) for tap in TAPS]
    stacks = [of.of_blocks(one) for of, one in zip(taps.mergers, squares, strict=True)]
    return main.of_blocks(stream.hidden[-1].view(-1, 4, WIDTH)), torch.stack(stacks)


def test_our_mergers_make_their_tokens_and_their_stacks(model, asked, ours):
    theirs = model.model.visual(asked["pixel_values"], grid_thw=GRID)
    torch.testing.assert_close(ours[0], theirs.pooler_output, atol=1e-5, rtol=1e-5)
    for own, other in zip(ours[1], theirs.deepstack_features, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
    assert ours[1].shape == (3, 10, OUT)


def test_a_grid_in_rows_is_merged_as_their_squares_are():
    grid = torch.arange(24.0).view(1, 4, 6, 1)
    first, second = in_blocks(grid, 2)[0, :2, :, 0].tolist()
    assert first == [0, 1, 6, 7] and second == [2, 3, 8, 9]


def test_added_by_us_the_stacks_give_their_logits(model, asked, ours):
    theirs = model(**asked).logits
    ids = asked["input_ids"]
    mask = ids == IMAGE
    tokens, stacks = ours
    embeds = model.get_input_embeddings()(ids).masked_scatter(mask[..., None], tokens)
    inner = model.model
    positions, _ = inner.get_rope_index(
        ids, asked["mm_token_type_ids"], GRID, attention_mask=asked["attention_mask"]
    )
    text = (asked["attention_mask"].cumsum(1) - 1).clamp_min(0)[None]
    inputs = {
        "inputs_embeds": embeds, "attention_mask": asked["attention_mask"],
        "position_ids": torch.cat([text, positions]),
    }  # fmt: skip
    deep = DeepStack(inner.language_model)
    found = deep(stacks=stacks, positions=mask, **inputs).last_hidden_state
    mine = model.lm_head(found)
    seen = asked["attention_mask"].bool()
    torch.testing.assert_close(mine[seen], theirs[seen], atol=1e-5, rtol=1e-5)
    without = model.lm_head(inner.language_model(**inputs).last_hidden_state)
    assert (without[0] - theirs[0]).abs().max() > 1e-2  # the stacks are what makes them equal
