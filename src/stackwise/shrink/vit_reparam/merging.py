"""Make one branch of N that have been joined. Nothing is approximated.

At lambda = 1 all branches apply phi, or softmax, to the same input, so that

    FFN                 W1 = mean_i W1_i,  b1 = mean_i b1_i,  W2 = sum_i W2_i              (eq. 3)
    attention, join     WQ, WK, WV = means,  WO_h = sum_i WO_ih                            (eq. 4)
    attention, wide     WQ, WK = means,  WV_h = [WV_1h ... WV_Nh],  WO_h = [WO_1h; ...]    (eq. 5)
                        or, where that is wider than D,  M_h = sum_i WV_ih WO_ih  (D, D)

First maps are averaged, with the weights of the branches where these are learned, and last maps
added; averaging both would divide the output by N. Rows of
the softmax sum to 1, so that a bias of V only shifts the output, bO += bV_h WO_h.

Sums are taken in float64 and rounded once, to the type that the weights have.
"""

import copy

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.shrink.vit_reparam.branches import (
    BranchedAttention,
    BranchedBlock,
    BranchedFFN,
    Joined,
    Projection,
    branched_blocks,
)
from stackwise.shrink.vit_reparam.network import BranchedViT


def merge(model: nn.Module, *, force: bool = False) -> nn.Module:
    """The model with one branch a layer, and the same outputs; the given one is not changed.

    Args:
        model: one whose blocks, or some of them, are branched. A `BranchedViT` gives a plain one.
        force: merge also where lambda is below 1, which changes the outputs.

    Raises:
        ModelError: nothing is branched, or lambda is below 1 somewhere.
    """
    blocks = branched_blocks(model)
    if not force:
        _check_joined(blocks)
    merged = {id(block): merged_block(block) for block in blocks}
    if isinstance(model, BranchedBlock):
        return merged[id(model)]
    if isinstance(model, BranchedViT):
        wide = max(block.attention.wide for block in merged.values())
        return model.with_blocks(
            [merged[id(block)] for block in blocks],
            branches=1, wide=wide, mixing="mean", pairwise=False,
        )  # fmt: skip
    new = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, BranchedBlock):
            new.set_submodule(name, merged[id(module)])
    return new


def _check_joined(blocks: list[BranchedBlock]) -> None:
    for layer, block in enumerate(blocks):
        for name, sublayer in (("attention", block.attention), ("ffn", block.ffn)):
            lam = float(sublayer.lam)
            if sublayer.branches > 1 and lam != 1:
                raise ModelError(
                    f"merge needs lambda = 1 everywhere, layer {layer} {name} has {lam:.4g} "
                    "(finish the schedule or pass force=True to average with error)"
                )


@torch.no_grad()
def merged_block(block: BranchedBlock) -> BranchedBlock:
    """One branch for the N of a block (equations 3 to 5), as if lambda were 1."""
    new = copy.deepcopy(block)
    new.attention, new.ffn = merged_attention(block.attention), merged_ffn(block.ffn)
    return new.train(block.training)


def merged_ffn(ffn: BranchedFFN) -> BranchedFFN:
    """Equation 3."""
    branches, hidden, dim = ffn.branches, ffn.hidden, ffn.first.in_features
    new = BranchedFFN(dim, hidden, activation=copy.deepcopy(ffn.activation)).to(ffn.first.weight)
    split = (branches, hidden)
    _write(
        new.first,
        _mean(ffn, _double(ffn.first.weight).unflatten(0, split), 0),
        _mean(ffn, _double(ffn.first.bias).unflatten(0, split), 0),
    )
    _write(new.second, _double(ffn.second.weight).unflatten(1, split).sum(1), ffn.second.bias)
    new.lam.copy_(ffn.lam)
    return new


def merged_attention(attention: BranchedAttention) -> BranchedAttention:
    """Equation 4 or 5, as `attention.values` says."""
    count, heads, e = attention.branches, attention.heads, attention.head_dim
    if count == 1:
        return copy.deepcopy(attention)
    assert isinstance(attention.out, Projection)
    wide = count if attention.values == "wide" else 1
    new = BranchedAttention(attention.dim, heads, values=attention.values, wide=wide)
    new = new.to(attention.qkv.weight)
    rows = _double(torch.cat([attention.qkv.weight, attention.qkv.bias[:, None]], 1))
    q, k, v = rows.unflatten(0, (3, count, heads, e))  # each (N, h, e, D + 1), biases last
    out = _double(attention.out.weight).unflatten(1, (count, heads, e))  # (D, N, h, e)
    bias = _double(attention.out.bias)
    if wide == 1:
        v, out = _mean(attention, v, 0), out.sum(1)
    else:
        v, out = v.transpose(0, 1).flatten(1, 2), out.transpose(1, 2).flatten(2)  # (h, N e, .)
    if new.product:
        product = torch.einsum("dhv,hvc->hdc", out, v)  # (h, D, D + 1): rows are M_h^T
        bias = bias + product[..., -1].sum(0)
        v = torch.cat([product[..., :-1], torch.zeros_like(product[..., -1:])], -1)
    first = [_mean(attention, part, 0) for part in (q, k)]
    rows = torch.cat([part.flatten(0, -2) for part in (*first, v)])
    _write(new.qkv, rows[:, :-1], rows[:, -1])
    new.out.bias.data.copy_(bias)
    if isinstance(new.out, Projection):
        new.out.weight.data.copy_(out.flatten(1))
    new.lam.copy_(attention.lam)
    return new


@torch.no_grad()
def value_bias_to_output(attention: BranchedAttention) -> BranchedAttention:
    """The same attention with b_V = 0 and bO += sum_i sum_h bV_ih WO_ih."""
    new = copy.deepcopy(attention)
    values = new.qkv.bias[-new.widths[2] :]
    if isinstance(new.out, Projection):
        new.out.bias.add_(new.out.weight @ values)
    else:
        new.out.bias.add_(values.unflatten(0, (new.heads, -1)).sum(0))
    values.zero_()
    return new


def _mean(joined: Joined, parts: Tensor, dim: int) -> Tensor:
    """The mean over branches as `joined` takes it."""
    return joined.mean_of(parts, dim).squeeze(dim)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()


def _write(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.data.copy_(weight)
    linear.bias.data.copy_(bias)
