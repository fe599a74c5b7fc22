"""Stacks and where they are added: exact, on every kind of stack."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from stackwise.build.deepstack import (
    DeepStack,
    DeepStackViT,
    best_grid,
    sample_stacks,
    stacks_of_crops,
    unsample_stacks,
)
from stackwise.errors import DataError, ModelError
from stackwise.stack import Stack
from stackwise.tasks.vqa.estimators.crops import cut, mosaic
from stackwise.tasks.vqa.estimators.vision import Tower

MODES = ("spatial", "grid", "sequential")
WIDTH, LAYERS = 16, 6


def index_grid(height, width):
    """(1, height, width, 1): each token its number."""
    return torch.arange(height * width).float().view(1, height, width, 1)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def sequence(rows=2, length=10, image=slice(2, 6)):
    """Embeddings, and the mask of a picture's positions."""
    torch.manual_seed(1)
    embeds = torch.randn(rows, length, WIDTH)
    positions = torch.zeros(rows, length, dtype=torch.bool)
    positions[:, image] = True
    return embeds, positions


def some_stacks(count=3, rows=2, tokens=4, seed=2):
    return torch.randn(
        count, rows, tokens, WIDTH, generator=torch.Generator().manual_seed(seed)
    )  # fmt: skip


# --- sampling


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("gh", "gw", "height", "width"), [(2, 2, 4, 6), (2, 3, 4, 6), (1, 4, 1, 8)]
)
def test_sampling_and_its_inverse_are_the_identity_and_every_token_appears_once(
    mode, gh, gw, height, width
):
    grid = index_grid(height, width)
    stacks = sample_stacks(grid, gh, gw, mode)
    assert stacks.shape == (gh * gw, 1, height * width // (gh * gw), 1)
    assert sorted(stacks.flatten().tolist()) == list(range(height * width))
    assert torch.equal(unsample_stacks(stacks, gh, gw, height, width, mode), grid)


def test_spatial_sampling_is_the_formula_where_height_and_width_differ():
    grid = index_grid(4, 9)
    gh, gw, p, q = 2, 3, 2, 3
    stacks = sample_stacks(grid, gh, gw).view(gh * gw, p, q)
    for i in range(gh):
        for j in range(gw):
            for a in range(p):
                for b in range(q):
                    assert stacks[i * gw + j, a, b] == grid[0, a * gh + i, b * gw + j, 0]


def test_sequential_sampling_takes_every_kth_token():
    stacks = sample_stacks(index_grid(2, 4), 2, 2, "sequential")
    assert stacks.view(4, 2).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_of_a_grid_that_is_constant_on_cells_all_stacks_are_the_coarse_grid():
    coarse = index_grid(2, 3)
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for stack in sample_stacks(fine, 2, 2):
        assert torch.equal(stack, coarse.view(1, 6, 1))


@pytest.mark.parametrize(("gh", "gw"), [(2, 2), (2, 3)])
def test_the_mosaic_of_crops_is_the_patch_grid_of_the_uncut_picture(gh, gw):
    side, patch = 6, 3
    picture = torch.rand(2, 1, gh * side, gw * side)

    def own_pixels(pictures):
        """A tower that gives each patch its own pixels."""
        found = nn.functional.unfold(pictures, patch, stride=patch).transpose(1, 2)
        return found.unflatten(1, (pictures.shape[2] // patch, pictures.shape[3] // patch))

    crops = cut(picture, gh, gw)
    tokens = own_pixels(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
    assert torch.equal(mosaic(tokens, gh, gw), own_pixels(picture))
    by_crop = sample_stacks(mosaic(tokens, gh, gw), gh, gw, "grid")
    for k in range(gh * gw):
        assert torch.equal(by_crop[k], tokens[:, k].flatten(1, 2))


def test_a_coarse_token_and_its_stack_tokens_cover_the_same_pixels():
    side, patch = 4, 2  # 2 x 2 coarse tokens, 4 x 4 fine ones
    for a in range(2):
        for b in range(2):
            picture = torch.zeros(1, 1, 2 * side, 2 * side)
            picture[..., a * 4 : a * 4 + 4, b * 4 : b * 4 + 4] = 1
            fine = nn.functional.avg_pool2d(picture, patch).movedim(1, -1)
            lit = sample_stacks(fine, 2, 2).view(4, 2, 2)
            coarse = nn.functional.avg_pool2d(picture, 2 * patch)[0, 0]
            assert all(torch.equal(stack, coarse) for stack in lit)


def test_pictures_of_different_grids_get_their_own_stacks_and_zeros_where_they_have_none():
    crops = torch.randn(3, 4, 2, 2, 5)
    grids = torch.tensor([[2, 2], [1, 2], [2, 1]])
    found = stacks_of_crops(crops, grids)
    for row, (gh, gw) in enumerate(grids.tolist()):
        own = sample_stacks(mosaic(crops[row : row + 1, : gh * gw], gh, gw), gh, gw)
        assert torch.equal(found[: gh * gw, row : row + 1], own)
        assert not found[gh * gw :, row].any()


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(DataError, match="grid 48 x 50 is not divisible by 2 x 4"):
        sample_stacks(torch.zeros(1, 48, 50, 1), 2, 4)


def test_a_wide_picture_gets_a_wide_grid():
    assert best_grid(800, 400, 4) == (2, 1)
    assert best_grid(400, 1600, 4) == (1, 4)
    assert best_grid(1000, 1000, 4) == (2, 2)
    with pytest.raises(DataError, match="at least 2"):
        best_grid(10, 10, 1)


# --- adding


def test_without_stacks_the_model_is_itself_bit_for_bit(decoder):
    embeds, positions = sequence()
    plain = decoder(inputs_embeds=embeds).logits
    deep = DeepStack(decoder)
    assert torch.equal(deep(inputs_embeds=embeds).logits, plain)
    none = torch.zeros(0, 2, 4, WIDTH)
    assert torch.equal(deep(inputs_embeds=embeds, stacks=none, positions=positions).logits, plain)
    deep(inputs_embeds=embeds, stacks=some_stacks(), positions=positions)
    assert torch.equal(decoder(inputs_embeds=embeds).logits, plain)  # nothing stays behind


class Noting(nn.Module):
    """A residual block that keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(WIDTH, WIDTH)
        self.seen = []

    def forward(self, h):
        self.seen.append(h)
        return h + self.line(h)


@pytest.mark.parametrize(("start", "interval"), [(0, 1), (1, 1), (1, 2), (3, 1)])
def test_at_the_input_of_its_block_a_stack_is_the_whole_difference_and_nothing_before_it_changes(
    start, interval
):
    torch.manual_seed(0)
    model = nn.Sequential(*(Noting() for _ in range(6)))
    embeds, positions = sequence()
    stacks = some_stacks()
    deep = DeepStack(model, start, interval)
    for k in range(3):
        with deep.adding(stacks[:k], positions):
            model(embeds)
        with deep.adding(stacks[: k + 1], positions):
            model(embeds)
        without, given = zip(*(block.seen[-2:] for block in model), strict=True)
        at = start + k * interval
        for place in range(at):
            assert torch.equal(given[place], without[place])
        expected = without[at].clone()
        expected[positions] += stacks[k].flatten(0, 1)
        assert torch.equal(given[at], expected)


def test_what_is_added_to_is_a_copy():
    model = nn.Sequential(*(Noting() for _ in range(3)))
    embeds, positions = sequence()
    before = embeds.clone()
    with DeepStack(model, start=0).adding(some_stacks(), positions):
        model(embeds)
    assert torch.equal(embeds, before)


def test_one_stack_at_block_zero_is_a_sum_of_embeddings(decoder):
    embeds, positions = sequence()
    stacks = some_stacks(count=1)
    summed = embeds.clone()
    summed[positions] += stacks[0].flatten(0, 1)
    found = DeepStack(decoder, start=0)(inputs_embeds=embeds, stacks=stacks, positions=positions)
    assert torch.equal(found.logits, decoder(inputs_embeds=summed).logits)


def test_positions_before_the_picture_do_not_see_the_stacks(decoder):
    embeds, positions = sequence()
    plain = decoder(inputs_embeds=embeds).logits
    found = DeepStack(decoder)(inputs_embeds=embeds, stacks=some_stacks(), positions=positions)
    assert torch.equal(found.logits[:, :2], plain[:, :2])
    assert (found.logits[:, 2:] != plain[:, 2:]).any(-1).all()


@pytest.mark.parametrize("pieces", [(10,), (9, 1), (4, 3, 3), (3, 2, 4, 1), (1,) * 10])
def test_a_prompt_read_in_pieces_through_the_cache_equals_the_whole(decoder, pieces):
    embeds, positions = sequence()
    stacks = some_stacks()
    deep = DeepStack(decoder)
    whole = deep(inputs_embeds=embeds, stacks=stacks, positions=positions).logits
    cache, found = None, []
    with deep.adding(stacks, positions):
        for piece in embeds.split(pieces, dim=1):
            output = decoder(inputs_embeds=piece, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found.append(output.logits)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_generation_through_the_cache_equals_computing_all_anew(decoder):
    embeds, positions = sequence()
    stacks, new = some_stacks(), 6
    deep = DeepStack(decoder)
    with deep.adding(stacks, positions):
        cached = decoder.generate(inputs_embeds=embeds, max_new_tokens=new, do_sample=False)
    said = torch.empty(2, 0, dtype=torch.int64)
    for _ in range(new):
        more = torch.cat([embeds, decoder.get_input_embeddings()(said)], dim=1)
        wide = nn.functional.pad(positions, (0, said.shape[1]))
        logits = deep(inputs_embeds=more, stacks=stacks, positions=wide).logits
        said = torch.cat([said, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(cached, said)
    plain = decoder.generate(inputs_embeds=embeds, max_new_tokens=new, do_sample=False)
    assert not torch.equal(cached, plain)


def test_a_step_behind_the_picture_must_not_receive_stacks(decoder):
    embeds, positions = sequence()
    deep, stacks = DeepStack(decoder), some_stacks()
    cache = deep(inputs_embeds=embeds, stacks=stacks, positions=positions, use_cache=True)
    with pytest.raises(ModelError, match="a decode step must not receive stacks"):
        deep(
            inputs_embeds=embeds[:, :1], stacks=stacks, positions=positions,
            past_key_values=cache.past_key_values,
        )  # fmt: skip


def test_rows_with_two_pictures_padding_and_none_equal_rows_by_themselves(decoder):
    """Row 0 has two pictures in a row, row 1 text alone, row 2 padding at its left, row 3 at its
    right.
    """
    length = 12
    embeds, _ = sequence(rows=4, length=length)
    spans = [[slice(1, 5), slice(5, 9)], [], [slice(5, 9)], [slice(2, 6)]]
    kept = [slice(0, 12), slice(0, 12), slice(4, 12), slice(0, 8)]
    positions = torch.zeros(4, length, dtype=torch.bool)
    attention = torch.zeros(4, length, dtype=torch.int64)
    for row, (images, span) in enumerate(zip(spans, kept, strict=True)):
        attention[row, span] = 1
        for image in images:
            positions[row, image] = True
    stacks = torch.randn(3, int(positions.sum()), WIDTH)
    places = (attention.cumsum(1) - 1).clamp_min(0)
    deep = DeepStack(decoder)
    together = deep(
        inputs_embeds=embeds, attention_mask=attention, position_ids=places, stacks=stacks,
        positions=positions,
    ).logits  # fmt: skip
    counts = positions.sum(1).tolist()
    for row, (own, span) in enumerate(zip(stacks.split(counts, dim=1), kept, strict=True)):
        here = positions[row : row + 1, span]
        alone = deep(
            inputs_embeds=embeds[row : row + 1, span], stacks=own if counts[row] else None,
            positions=here,
        ).logits  # fmt: skip
        torch.testing.assert_close(together[row : row + 1, span], alone, atol=1e-5, rtol=1e-5)
    text = decoder(inputs_embeds=embeds[1:2]).logits
    torch.testing.assert_close(together[1:2], text, atol=1e-5, rtol=1e-5)


def test_positions_may_be_numbers_too(decoder):
    embeds, positions = sequence()
    stacks = some_stacks()
    deep = DeepStack(decoder)
    by_mask = deep(inputs_embeds=embeds, stacks=stacks, positions=positions).logits
    numbers = torch.arange(2, 6).expand(2, -1)
    by_number = deep(inputs_embeds=embeds, stacks=stacks, positions=numbers).logits
    assert torch.equal(by_mask, by_number)
    turned = numbers.flip(1)
    by_turned = deep(inputs_embeds=embeds, stacks=stacks.flip(2), positions=turned).logits
    assert torch.equal(by_mask, by_turned)


def test_the_gradient_reaches_every_stack_and_checkpointing_changes_none():
    config = LlamaConfig(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).train()
    embeds, positions = sequence()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        stacks = some_stacks().requires_grad_()
        output = DeepStack(model)(inputs_embeds=embeds, stacks=stacks, positions=positions,
                                  use_cache=False)  # fmt: skip
        output.logits[:, -1].square().sum().backward()
        found.append(stacks.grad)
        assert (stacks.grad.abs().amax((1, 2, 3)) > 0).all()
    torch.testing.assert_close(found[0], found[1])


def test_an_encoder_takes_stacks_as_well():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=4,
        num_attention_heads=2,
    )  # fmt: skip
    model = BertModel(config).eval()
    embeds, positions = sequence()
    found = DeepStack(model)(inputs_embeds=embeds, stacks=some_stacks(), positions=positions)
    plain = model(inputs_embeds=embeds)
    assert (found.last_hidden_state != plain.last_hidden_state).any(-1).all()  # no causal mask


def test_what_does_not_fit_is_said_in_a_sentence(decoder):
    embeds, positions = sequence()

    def run(stacks, positions, **place):
        DeepStack(decoder, **place)(inputs_embeds=embeds, stacks=stacks, positions=positions)

    with pytest.raises(ModelError, match="start 5 \\+ 3 stacks x interval 1 exceeds the 6 layers"):
        run(some_stacks(), positions, start=5)
    with pytest.raises(ModelError, match="stacks have 3 tokens, the image has 4 positions"):
        run(some_stacks(tokens=3), positions)
    two = positions.clone()
    two[1, 6:10] = True
    with pytest.raises(ModelError, match="mark 2 images in row 1 but 1 stack was given"):
        run(some_stacks(), two)
    with pytest.raises(ModelError, match="need the positions"):
        run(some_stacks(), None)
    with pytest.raises(ModelError, match="interval|by 0"):
        DeepStack(decoder, interval=0)


# --- inside the tower


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(3)
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=7, num_attention_heads=2, image_size=8, patch_size=4,
        num_channels=1,
    )  # fmt: skip
    return Tower(Dinov2Model(config).eval().requires_grad_(False), 8)


def test_in_the_tower_the_crops_go_through_the_first_blocks_and_the_patches_alone_get_stacks(tower):
    low, crops = torch.randn(2, 1, 8, 8), torch.randn(2, 4, 1, 8, 8)
    grids = torch.tensor([[2, 2], [2, 2]])
    inside = DeepStackViT(tower, split=3)
    with Stack.of(tower.model).capture() as stream:
        tower(crops.flatten(0, 1))
    early = stream.hidden[3]
    assert torch.equal(inside.after_split(crops.flatten(0, 1)), early)
    patches = early[:, 1:].unflatten(1, (2, 2)).unflatten(0, (2, 4))
    stacks = stacks_of_crops(patches, grids)
    positions = torch.ones(2, 5, dtype=torch.bool)
    positions[:, 0] = False
    by_hand = DeepStack(tower.model, start=3)(
        pixel_values=low, stacks=stacks, positions=positions
    ).last_hidden_state[:, 1:]
    assert torch.equal(inside(low, crops, grids).flatten(1, 2), by_hand)


def test_a_tower_split_at_nothing_takes_the_embedded_crops(tower):
    crops = torch.randn(4, 1, 8, 8)
    inside = DeepStackViT(tower, split=0)
    with Stack.of(tower.model).capture() as stream:
        tower(crops)
    assert torch.equal(inside.after_split(crops), stream.hidden[0])


def test_a_tower_too_shallow_for_its_stacks_is_refused(tower):
    with pytest.raises(ModelError, match="exceeds the 7 layers"):
        DeepStackViT(tower, split=4)
