"""One branch of N: exact where lambda is 1, and only there."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.shrink.vit_reparam import (
    BranchedAttention,
    BranchedBlock,
    BranchedFFN,
    branch_gap,
    merge,
    merged_block,
    set_join,
    value_bias_to_output,
)
from stackwise.shrink.vit_reparam.merging import merged_attention, merged_ffn

EXACT = 1e-10
D = 12
CASES = list(product((1, 2, 3, 4), (1, 3), ("join", "wide")))


def tokens(rows: int = 2) -> Tensor:
    return torch.randn(rows, 5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def random_block(branches: int, heads: int = 3, values: str = "join", **joining) -> BranchedBlock:
    """All numbers random, biases too, so that nothing hides."""
    torch.manual_seed(branches)
    block = BranchedBlock(D, heads, branches, 2.0, values=values, **joining).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def far(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


@pytest.mark.parametrize("branches, heads, values", CASES)
def test_a_merged_block_equals_the_joined_one(branches: int, heads: int, values: str):
    block = random_block(branches, heads, values)
    set_join(block, 1.0)
    assert far(merged_block(block)(tokens()), block(tokens())) < EXACT


@pytest.mark.parametrize("values", ["join", "wide"])
@pytest.mark.parametrize("mixing", ["mean", "learned"])
@pytest.mark.parametrize("pairwise", [False, True])
def test_weighted_and_pairwise_joining_merge_exactly(values: str, mixing: str, pairwise: bool):
    block = random_block(4, values=values, mixing=mixing, pairwise=pairwise)
    set_join(block, 1.0)
    assert far(merged_block(block)(tokens()), block(tokens())) < EXACT
    assert merged_block(block).ffn.mix is None


def test_learned_weights_change_the_mean_and_are_learned():
    block = random_block(2, mixing="learned")
    set_join(block, 1.0)
    before = block(tokens())
    before.square().sum().backward()
    assert all(part.mix.grad.abs().sum() > 0 for part in (block.attention, block.ffn))
    with torch.no_grad():
        block.ffn.mix.copy_(torch.tensor([3.0, -3.0]))
    assert far(block(tokens()), before) > 1e-3
    alike = random_block(2, mixing="learned")
    for part in (alike.attention, alike.ffn):
        nn.init.zeros_(part.mix)
    set_join(alike, 1.0)
    plain = random_block(2)
    plain.load_state_dict(alike.state_dict(), strict=False)
    assert far(alike(tokens()), plain(tokens())) < EXACT


def test_pairs_are_joined_before_pairs_of_pairs():
    ffn = BranchedFFN(D, 3, 4, pairwise=True).double()
    u = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    ffn.lam.fill_(0.5)
    joined = ffn.join(u, -2)
    assert torch.equal(joined[..., 0, :], joined[..., 1, :])
    assert torch.allclose(joined[..., 0, :], u[..., :2, :].mean(-2))
    assert not torch.allclose(joined[..., 0, :], joined[..., 2, :])
    ffn.lam.fill_(1.0)
    assert torch.allclose(ffn.join(u, -2), u.mean(-2, keepdim=True).expand_as(u))
    with pytest.raises(ModelError, match="pairwise joining takes 2, 4, 8, ... branches, got 3"):
        BranchedFFN(D, 3, 3, pairwise=True)


@pytest.mark.parametrize("values", ["join", "wide"])
def test_merging_before_the_end_changes_the_outputs(values: str):
    block = random_block(3, values=values)
    with pytest.raises(ModelError, match="layer 0 attention has 0 .finish the schedule"):
        merge(block)
    assert far(merge(block, force=True)(tokens()), block(tokens())) > 1e-2
    set_join(block, [(1.0, 0.83)])
    with pytest.raises(ModelError, match=r"layer 0 ffn has 0\.83 "):
        merge(block)


def test_only_first_maps_are_averaged():
    ffn = random_block(4).ffn
    merged = merged_ffn(ffn)
    assert torch.allclose(merged.first.weight, torch.stack(ffn.first.weight.chunk(4)).mean(0))
    assert torch.allclose(merged.second.weight, torch.stack(ffn.second.weight.chunk(4, 1)).sum(0))
    assert torch.equal(merged.second.bias, ffn.second.bias)


def test_one_branch_merges_to_itself_whatever_lambda_is():
    block = random_block(1)
    before = block(tokens())
    set_join(block, 0.3)
    assert torch.equal(block(tokens()), before)
    set_join(block, 1.0)
    merged = merge(block)
    for name, tensor in block.state_dict().items():
        assert torch.equal(merged.state_dict()[name], tensor), name


def alike(branches: int) -> BranchedBlock:
    """A block of which all branches are one."""
    block = random_block(branches)
    qkv, ffn = block.attention.qkv, block.ffn
    for linear, parts in ((qkv, 3), (ffn.first, 1)):
        for tensor in (linear.weight.data, linear.bias.data):
            split = tensor.unflatten(0, (parts, branches, -1))
            split.copy_(split[:, :1].expand_as(split))
    for linear in (block.attention.out, ffn.second):
        split = linear.weight.data.unflatten(1, (branches, -1))
        split.copy_(split[:, :1].expand_as(split))
    return block


def test_branches_that_are_alike_do_not_feel_lambda():
    block = alike(3)
    apart = block(tokens())
    for lam in (0.4, 1.0):
        set_join(block, lam)
        assert far(block(tokens()), apart) < EXACT
    merged, one = merge(block), block.ffn.second.weight.chunk(3, 1)[0]
    assert torch.allclose(merged.ffn.second.weight, 3 * one)
    assert branch_gap(block, tokens())[0]["ffn"] < EXACT


def one_attention(attention: BranchedAttention, branch: int) -> nn.MultiheadAttention:
    """A branch as torch's own module; the common output bias goes to branch 0."""
    own = nn.MultiheadAttention(D, attention.heads, batch_first=True).double().eval()
    count = attention.branches
    for name, tensor in (("weight", attention.qkv.weight), ("bias", attention.qkv.bias)):
        part = tensor.detach().unflatten(0, (3, count, D))[:, branch].flatten(0, 1)
        getattr(own, f"in_proj_{name}").data.copy_(part)
    own.out_proj.weight.data.copy_(attention.out.weight.detach().chunk(count, 1)[branch])
    own.out_proj.bias.data.copy_(attention.out.bias.detach() if branch == 0 else torch.zeros(D))
    return own


@pytest.mark.parametrize("branches, heads", [(1, 1), (2, 3), (4, 3)])
def test_at_lambda_0_a_block_is_the_sum_of_its_branches(branches: int, heads: int):
    block, h = random_block(branches, heads), tokens()
    z = block.norm(h)
    for branch in range(branches):
        h = h + one_attention(block.attention, branch)(z, z, z, need_weights=False)[0]
    z, ffn = block.norm(h), block.ffn
    first = zip(ffn.first.weight.chunk(branches), ffn.first.bias.chunk(branches), strict=True)
    for (w1, b1), w2 in zip(first, ffn.second.weight.chunk(branches, 1), strict=True):
        h = h + nn.functional.gelu(z @ w1.T + b1) @ w2.T
    assert far(block(tokens()), h + ffn.second.bias) < EXACT


def test_attention_is_the_sum_over_heads_without_concatenation():
    attention, z = random_block(2).attention, tokens()
    q, k, v = (part.flatten(2, 3).transpose(1, 2) for part in attention.signals(z))
    scores = (q @ k.transpose(-1, -2) / attention.head_dim**0.5).softmax(-1)
    heads = attention.out.weight.T.unflatten(0, (-1, attention.head_dim))  # WO_ih (N h, e, D)
    summed = (scores @ v @ heads).sum(1) + attention.out.bias
    assert far(attention(z), summed) < EXACT


@pytest.mark.parametrize("heads, branches, product", [(3, 2, False), (3, 4, True)])
def test_wide_values_are_kept_as_products_beyond_the_width(
    heads: int, branches: int, product: bool
):
    wide = merged_attention(random_block(branches, heads, "wide").attention)
    assert wide.product is product
    assert wide.value_dim == (D if product else branches * D // heads)


@pytest.mark.parametrize("branches", [1, 3])
def test_the_bias_of_values_may_move_to_the_output(branches: int):
    attention = random_block(branches).attention
    for one in (attention, merged_attention(random_block(4, 3, "wide").attention)):
        moved = value_bias_to_output(one)
        assert not moved.qkv.bias[-moved.widths[2] :].any()
        assert far(moved(tokens()), one(tokens())) < EXACT


def test_at_lambda_1_branches_get_the_same_gradients():
    block = random_block(3)
    set_join(block, 1.0)
    block(tokens()).square().sum().backward()
    for gradient in (
        block.ffn.first.weight.grad.chunk(3),
        block.ffn.second.weight.grad.chunk(3, 1),
        block.attention.out.weight.grad.chunk(3, 1),
        block.attention.qkv.weight.grad.unflatten(0, (3, 3, D)).unbind(1),
    ):
        for other in gradient[1:]:
            assert far(other, gradient[0]) < EXACT


def test_the_order_of_branches_does_not_matter():
    block = random_block(3)
    other, order = copy.deepcopy(block), torch.tensor([2, 0, 1])
    for linear, parts in ((other.attention.qkv, 3), (other.ffn.first, 1)):
        for tensor in (linear.weight.data, linear.bias.data):
            tensor.copy_(tensor.unflatten(0, (parts, 3, -1))[:, order].flatten(0, 2))
    for linear in (other.attention.out, other.ffn.second):
        linear.weight.data.copy_(linear.weight.data.unflatten(1, (3, -1))[:, order].flatten(1))
    for lam in (0.0, 0.5, 1.0):
        set_join(block, lam)
        set_join(other, lam)
        assert far(other(tokens()), block(tokens())) < EXACT


def test_tokens_have_no_order_of_their_own():
    block, order = random_block(2), torch.tensor([3, 1, 4, 0, 2])
    set_join(block, 0.5)
    assert far(block(tokens()[:, order]), block(tokens())[:, order]) < EXACT


def test_half_way_is_neither_end():
    block, outputs = random_block(2), []
    for lam in (0.0, 0.5, 1.0):
        set_join(block, lam)
        outputs.append(block(tokens()))
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert far(outputs[a], outputs[b]) > 1e-3


def test_the_gap_says_how_far_branches_are_apart():
    block = random_block(2)
    gaps = branch_gap(block, tokens())
    z = block.norm(tokens())
    q = block.attention.signals(z)[0].detach()
    by_hand = (q[:, :, 0] - q.mean(2)).norm() / q.mean(2).norm()
    assert gaps[0]["attention"] >= float(by_hand) > 0.1
    set_join(block, 1.0)
    assert branch_gap(merge(block), tokens()) == [{"attention": 0.0, "ffn": 0.0}]


def test_half_precision_is_summed_in_full():
    ffn = random_block(4).ffn
    half = merged_ffn(copy.deepcopy(ffn).half())
    exact = torch.stack(copy.deepcopy(ffn).half().second.weight.double().chunk(4, 1)).sum(0)
    assert torch.equal(half.second.weight, exact.half())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BranchedFFN(4, 8, 0), "branches must be at least 1, got 0"),
        (lambda: BranchedAttention(8, 3), "width of 8 cannot be split into 3 heads"),
        (lambda: BranchedAttention(8, 2, values="sum"), "values must be join or wide"),
        (lambda: BranchedAttention(8, 2, 2, wide=2), "after its branches merge"),
        (lambda: merge(nn.Linear(2, 2)), "Linear has no branched blocks"),
    ],
)
def test_impossible_branches_are_refused(make, message: str):
    with pytest.raises(ModelError, match=message):
        make()
