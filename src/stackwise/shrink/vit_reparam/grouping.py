"""Turn the blocks of a trained vision transformer into branches of fewer layers, and back.

Blocks 0 .. N - 1 become the branches of layer 0, the next N those of layer 1, and so on. What ran
one after another then runs side by side, on the stream that entered the group:

    before   h1 = h0 + f_0(h0),  h2 = h1 + f_1(h1)        after   h2 = h0 + f_0(h0) + f_1(h0)

This is an approximation, which fine-tuning must mend while the branches are joined; only the merge
after it is exact. N = 1 changes nothing.
"""

import copy
from typing import Any

import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.shrink.vit_reparam.branches import BranchedBlock, Mixing, Values
from stackwise.shrink.vit_reparam.network import BranchedViT
from stackwise.shrink.vit_reparam.plain_blocks import block_of, read_block, write_block
from stackwise.stack import Stack


def grouped(
    model: nn.Module, depth: int, *, values: Values = "join", mixing: Mixing = "mean",
    pairwise: bool = False,
) -> nn.Module:  # fmt: skip
    """A copy of `model` with `depth` branched layers, lambda = 0; `merge` makes it plain.

    Args:
        model: a `BranchedViT` with one branch, or a ViT, DeiT or DINOv2 of transformers.
        values, mixing, pairwise: how branches are joined, see `BranchedAttention` and `Joined`.

    Raises:
        ModelError: the number of blocks is no multiple of `depth`, or they are not plain pre-norm
            blocks of one form.
    """
    stack = Stack.of(model)
    if depth < 1 or len(stack) % depth:
        raise ModelError(f"{len(stack)} layers cannot be grouped into {depth} layers")
    count = len(stack) // depth
    plain = [read_block(block, index) for index, block in enumerate(stack.blocks)]
    weight = next(stack.blocks[0].parameters())
    blocks = [
        copy.deepcopy(block_of(plain[start : start + count], values, mixing, pairwise)).to(weight)
        for start in range(0, len(stack), count)
    ]
    if isinstance(model, BranchedViT):
        return model.with_blocks(
            blocks, branches=count, values=values, mixing=mixing, pairwise=pairwise
        )
    new = stack.rebuild(range(depth))
    for name, block in zip(Stack.of(new).names, blocks, strict=True):
        new.set_submodule(name, block.train(model.training))
    return new


@torch.no_grad()
def restored(merged: nn.Module, like: nn.Module) -> nn.Module:
    """A merged model of transformers in the classes of `like`, which it was grouped from.

    It loads without this package; `config.num_hidden_layers` says its depth. Layers without biases
    of Q, K and V get them, since the shift of a norm has become one.

    Raises:
        ModelError: it is not merged, or its values are wider than the heads of such layers.
    """
    blocks = [module for module in merged.modules() if isinstance(module, BranchedBlock)]
    if any(block.attention.wide > 1 for block in blocks):
        raise ModelError(
            f"heads with wide values do not fit into {type(like).__name__}; group with values=join"
        )
    plain = [read_block(block, index) for index, block in enumerate(blocks)]
    config: Any = Stack.of(like).rebuild(range(len(blocks))).config
    config.qkv_bias = True
    weight = next(merged.parameters())
    new = type(like)(config).to(weight)
    stack = Stack.of(new)
    rest = {
        name: tensor
        for name, tensor in merged.state_dict().items()
        if not name.startswith(f"{stack.name}.")
    }
    new.load_state_dict(rest, strict=False)
    for block, numbers in zip(stack.blocks, plain, strict=True):
        write_block(block, numbers)
    return new.train(merged.training)
