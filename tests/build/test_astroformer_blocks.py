"""Relative attention and the two blocks of Astroformer, exactly."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.astroformer import ConvBlock, RelativeAttention, TransformerBlock
from stackwise.errors import ModelError
from stackwise.layers.relative_attention import resized_table


def maps(channels: int, height: int, width: int, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, channels, height, width, dtype=torch.float64, generator=generator)


def attention(height: int = 2, width: int = 3, **changes) -> RelativeAttention:
    torch.manual_seed(0)
    made = RelativeAttention(5, 6, 2, (height, width), **changes).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)
    return made


def by_definition(made: RelativeAttention, x: Tensor) -> Tensor:
    """Equation 1 with loops over queries and keys."""
    rows, height, width = len(x), *x.shape[-2:]
    q, k, v = made.qkv(x).unflatten(1, (made.heads, 3, -1)).unbind(2)  # (B, heads, e, H, W)
    places = [(r, c) for r in range(height) for c in range(width)]
    out = torch.zeros_like(v)
    for r, c in places:
        logits = []
        for y, z in places:
            adaptive = (q[..., r, c] * k[..., y, z]).sum(-1) / q.shape[2] ** 0.5
            entry = (r - y + height - 1) * (2 * width - 1) + c - z + width - 1
            logits.append(adaptive + made.table[entry])
        share = torch.stack(logits).softmax(0)
        for (y, z), part in zip(places, share, strict=True):
            out[..., r, c] += part[..., None] * v[..., y, z]
    return made.out(out.reshape(rows, -1, height, width))


@pytest.mark.parametrize("height, width", [(2, 3), (3, 2), (1, 4)])
@torch.no_grad()
def test_attention_equals_its_equation(height: int, width: int):
    made, x = attention(height, width), maps(5, height, width)
    assert torch.allclose(made(x), by_definition(made, x), atol=1e-12)


@torch.no_grad()
def test_offsets_through_an_mlp_are_a_table_that_fits_any_map():
    small, large = attention(2, 3, relative="mlp"), attention(4, 5, relative="mlp")
    large.load_state_dict(small.state_dict())
    made, x = attention(2, 3), maps(5, 2, 3)
    made.load_state_dict({n: t for n, t in small.state_dict().items() if "from" not in n}, False)
    made.table.copy_(small.from_offsets(small.offsets))
    assert torch.allclose(small(x), made(x), atol=1e-12)
    hidden, _, last = small.from_offsets
    offset = torch.tensor([-1.0, 2.0]).double()  # one row up, two to the right
    by_hand = last.weight @ (hidden.weight @ (offset.sign() * (1 + offset.abs()).log())
                             + hidden.bias).relu()  # fmt: skip
    assert torch.allclose(small.bias()[:, 2, 3], large.bias()[:, 2, 5], atol=1e-12)
    assert torch.allclose(small.bias()[:, 2, 3], by_hand, atol=1e-12)


@torch.no_grad()
def test_a_table_of_zeros_is_plain_attention_and_a_constant_changes_nothing():
    made, x = attention(), maps(5, 2, 3)
    before = made(x)
    made.table += 3.0
    assert torch.allclose(made(x), before, atol=1e-12)
    made.table.zero_()
    plain = attention(relative="none")
    plain.load_state_dict({n: t for n, t in made.state_dict().items() if n != "table"})
    assert torch.allclose(made(x), plain(x), atol=1e-12)
    assert not torch.allclose(made(x), before, atol=1e-3)


def test_pairs_of_one_offset_have_one_bias():
    bias, seen = attention(3, 4).bias(), {}
    for i in range(12):
        for j in range(12):
            offset = (i // 4 - j // 4, i % 4 - j % 4)
            assert torch.equal(seen.setdefault(offset, bias[:, i, j]), bias[:, i, j])
    assert len(seen) == 5 * 7


@pytest.mark.parametrize("dy, dx", [(0, 1), (1, 0), (0, -1), (-1, 0)])
@torch.no_grad()
def test_the_table_is_indexed_by_query_minus_key(dy: int, dx: int):
    made, x = attention(2, 3), maps(5, 2, 3)
    made.table.zero_()
    made.table[(dy + 1) * 5 + dx + 2] = 200.0
    values = made.qkv(x).unflatten(1, (3, 3, 2))[:, :, 2].flatten(1, 2)
    expected, seen = made.out(values), made(x)
    for r in range(2):
        for c in range(3):
            if 0 <= r - dy < 2 and 0 <= c - dx < 3:
                assert torch.allclose(seen[..., r, c], expected[..., r - dy, c - dx], atol=1e-8)


@torch.no_grad()
def test_weights_after_the_softmax_are_added_to_shares():
    made, x = attention(relative="post"), maps(5, 2, 3)
    q, k, v = made.qkv(x).unflatten(1, (3, 3, 2)).flatten(-2).mT.unbind(2)
    shares = (q @ k.mT / 2**0.5).softmax(-1) + made.bias()
    expected = made.out((shares @ v).mT.flatten(1, 2).unflatten(-1, (2, 3)))
    assert torch.allclose(made(x), expected, atol=1e-12)


@torch.no_grad()
def test_one_place_attends_to_itself():
    made, x = attention(1, 1), maps(5, 1, 1)
    values = made.qkv(x).unflatten(1, (3, 3, 2))[:, :, 2].flatten(1, 2)
    assert torch.allclose(made(x), made.out(values), atol=1e-12)


@torch.no_grad()
def test_a_table_is_resized_over_offsets():
    table = torch.randn(5 * 7, 3)
    assert torch.equal(resized_table(table, (3, 4), (3, 4)), table)
    constant = resized_table(torch.full((35, 3), 0.7), (3, 4), (6, 5))
    assert constant.shape == (11 * 9, 3) and torch.allclose(constant, torch.tensor(0.7))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 13), indexing="ij")
    smooth = torch.stack([torch.exp(-(y**2) - x**2), y * x], -1).flatten(0, 1)
    there = resized_table(smooth, (4, 7), (8, 14))
    assert torch.allclose(resized_table(there, (8, 14), (4, 7)), smooth, atol=1e-2)


@torch.no_grad()
def test_a_strided_transformer_block_norms_then_pools_then_attends():
    torch.manual_seed(0)
    block = TransformerBlock(4, 6, 2, map_size=(2, 3), head_dim=2).double()
    x = maps(4, 4, 6)
    normed = functional.layer_norm(x.permute(0, 2, 3, 1), (4,), eps=1e-6).permute(0, 3, 1, 2)
    expand = block.shortcut[1]
    h = expand(functional.avg_pool2d(x, 2)) + block.attention(functional.avg_pool2d(normed, 2))
    again = functional.layer_norm(h.permute(0, 2, 3, 1), (6,), eps=1e-6).permute(0, 3, 1, 2)
    expected = h + block.second(functional.gelu(block.first(again)))
    assert torch.allclose(block(x), expected, atol=1e-12)
    board = (torch.arange(4)[:, None] + torch.arange(6)) % 2 * 2.0 - 1
    assert not block.pool(board[None, None]).any()


@torch.no_grad()
def test_a_convolution_block_moves_with_the_picture():
    torch.manual_seed(0)
    block = ConvBlock(3, 4, 2).double().eval()
    block.depthwise.padding_mode, block.depthwise._reversed_padding_repeated_twice = "circular", [
        1, 1, 1, 1,
    ]  # fmt: skip
    x = maps(3, 6, 8)
    moved = block(torch.roll(x, (2, 4), (2, 3)))
    assert torch.allclose(moved, torch.roll(block(x), (1, 2), (2, 3)), atol=1e-12)


def test_a_block_with_its_path_dropped_is_its_shortcut():
    x = maps(4, 2, 3)
    for block in (
        ConvBlock(4, 4, drop_path=1.0),
        TransformerBlock(4, 4, drop_path=1.0, map_size=(2, 3), head_dim=2),
    ):
        assert torch.equal(block.double().train()(x), x)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RelativeAttention(8, 10, 4, (2, 2)), "width 10 is not divisible by head_dim 4"),
        (lambda: RelativeAttention(8, 8, 4, (2, 2), relative="mean"), "bias, mlp, post or none"),
        (lambda: attention(2, 3)(maps(5, 3, 3)), "made for maps of 2 x 3, got 3 x 3"),
    ],
)
def test_impossible_attention_is_refused(make, message: str):
    with pytest.raises(ModelError, match=message):
        make()
