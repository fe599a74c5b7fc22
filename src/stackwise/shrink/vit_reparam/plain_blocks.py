"""Read the numbers of a plain pre-norm block, whoever made it, and write them back.

What a block of a ViT has beside its matrices is linear and goes into them (gamma, beta: scale and
shift of the norm before; s: layer scale after):

    W <- W diag(gamma),  b <- b + W beta          of Q, K, V and W1
    W <- diag(s) W,      b <- s b                 of W_O and W2

Parts are known by their names in transformers (ViT, DeiT, DINOv2). Names prove nothing, so that the
numbers read are tried: on random tokens they must give what the block gives.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.drop_path import DropPath
from stackwise.shrink.vit_reparam.branches import BranchedBlock, Mixing, Values

NAMES = {
    "norm1": ("layernorm_before", "norm1"),
    "norm2": ("layernorm_after", "norm2"),
    "q": ("attention.q_proj", "attention.attention.query"),
    "k": ("attention.k_proj", "attention.attention.key"),
    "v": ("attention.v_proj", "attention.attention.value"),
    "out": ("attention.o_proj", "attention.output.dense"),
    "first": ("mlp.fc1", "intermediate.dense"),
    "second": ("mlp.fc2", "output.dense"),
    "scale1": ("layer_scale1",),
    "scale2": ("layer_scale2",),
    "activation": ("mlp.activation_fn", "mlp.activation", "intermediate.intermediate_act_fn"),
}
"""What the parts of a block are called, in this and in earlier versions of transformers."""
OPTIONAL = {"scale1", "scale2"}
TOLERANCE = 1e-3
"""Largest error of a block that was read, over its largest output: rounding is far below."""


@dataclass(frozen=True)
class PlainBlock:
    """One block as matrices, norms and layer scales folded in, float64.

    Attributes:
        qkv, out, first, second: (out features, in features + 1), biases in the last column.
    """

    heads: int
    qkv: Tensor
    out: Tensor
    first: Tensor
    second: Tensor
    eps: float
    dropout: float
    drop_path: float
    activation: nn.Module

    @property
    def form(self) -> tuple[object, ...]:
        """What must be equal in branches of one layer."""
        kind = type(self.activation), str(vars(self.activation).get("approximate"))
        return self.heads, self.qkv.shape, self.first.shape, self.eps, kind


@torch.no_grad()
def read_block(block: nn.Module, index: int) -> PlainBlock:
    """The numbers of block `index` of a model.

    Raises:
        ModelError: it is not a plain pre-norm block of attention and a two-layer MLP.
    """
    plain = _read_ours(block, index) if isinstance(block, BranchedBlock) else _read(block, index)
    if not isinstance(block, BranchedBlock):
        _try(block, plain, index)
    return plain


def _read_ours(block: BranchedBlock, index: int) -> PlainBlock:
    if block.branches > 1 or block.attention.wide > 1:
        raise ModelError(f"block {index} has branches already; merge the model first")
    dropout, drop_path = block.drop
    assert isinstance(dropout, nn.Dropout) and isinstance(drop_path, DropPath)
    return PlainBlock(
        block.attention.heads, _rows(block.attention.qkv), _rows(block.attention.out),
        _rows(block.ffn.first), _rows(block.ffn.second), block.norm.eps,
        dropout.p, drop_path.p, block.ffn.activation,
    )  # fmt: skip


def _read(block: nn.Module, index: int) -> PlainBlock:
    parts = {name: _part(block, names) for name, names in NAMES.items()}
    lacking = [NAMES[name][0] for name in parts.keys() - OPTIONAL if parts[name] is None]
    heads = [n for m in block.modules() if (n := getattr(m, "num_attention_heads", None))]
    if lacking or not heads:
        raise ModelError(
            f"block {index} ({type(block).__name__}) has no {sorted([*lacking, 'heads'])[0]}: it "
            "must be a block of ViT, DeiT or DINOv2, with an MLP of two layers"
        )
    norm1, norm2 = parts["norm1"], parts["norm2"]
    dropout, drop_path = getattr(block, "dropout", None), getattr(block, "drop_path", None)
    return PlainBlock(
        heads[0],
        torch.cat([_after_norm(_rows(parts[name]), norm1) for name in "qkv"]),
        _scaled(_rows(parts["out"]), parts["scale1"]),
        _after_norm(_rows(parts["first"]), norm2),
        _scaled(_rows(parts["second"]), parts["scale2"]),
        norm1.eps,
        getattr(dropout, "p", 0.0),
        getattr(drop_path, "drop_prob", 0.0) or 0.0,
        parts["activation"],
    )


def _part(block: nn.Module, names: tuple[str, ...]) -> Any:
    for name in names:
        try:
            return block.get_submodule(name)
        except AttributeError:
            continue
    return None


def _rows(linear: Any) -> Tensor:
    """(out, in + 1) float64: the weights of a linear layer, and its bias, or 0, beside them."""
    weight = linear.weight.detach().double()
    bias = torch.zeros(len(weight)).to(weight) if linear.bias is None else linear.bias.detach()
    return torch.cat([weight, bias.double()[:, None]], 1)


def _after_norm(rows: Tensor, norm: Any) -> Tensor:
    weight, bias = rows[:, :-1], rows[:, -1:]
    shift = weight @ norm.bias.detach().double()[:, None]
    return torch.cat([weight * norm.weight.detach().double(), bias + shift], 1)


def _scaled(rows: Tensor, scale: Any) -> Tensor:
    return rows if scale is None else rows * scale.lambda1.detach().double()[:, None]


def _try(block: nn.Module, plain: PlainBlock, index: int) -> None:
    """Compare the block with what was read of it, on tokens of mean size 1."""
    weight = next(block.parameters())
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, len(plain.out), generator=generator).to(weight)
    training = block.training
    theirs = block.eval()(tokens)
    block.train(training)
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    ours = block_of([plain]).to(weight).eval()(tokens)
    tolerance = max(TOLERANCE, 8 * torch.finfo(weight.dtype).eps)
    if (ours - theirs).abs().max() > tolerance * theirs.abs().max():
        raise ModelError(
            f"block {index} ({type(block).__name__}) does not compute h + attention(norm(h)), then "
            "h + mlp(norm(h)): normalisation must come before the sublayer, and nothing else there"
        )


def block_of(
    plain: list[PlainBlock], values: Values = "join", mixing: Mixing = "mean",
    pairwise: bool = False,
) -> BranchedBlock:  # fmt: skip
    """A block whose branch i computes, on the stream that all share, what block i did on its own.

    float64, lambda = 0.

    Raises:
        ModelError: the blocks differ in form.
    """
    first = plain[0]
    if any(other.form != first.form for other in plain):
        raise ModelError("blocks differ in heads, width or activation: cannot be branches of one")
    dim, hidden = len(first.out), len(first.first)
    block = BranchedBlock(
        dim, first.heads, len(plain), hidden / dim, values=values, eps=first.eps,
        dropout=first.dropout, drop_path=max(one.drop_path for one in plain),
        activation=first.activation, mixing=mixing, pairwise=pairwise,
    ).double()  # fmt: skip
    qkv = torch.stack([one.qkv.unflatten(0, (3, dim)) for one in plain], 1).flatten(0, 2)
    write_rows(block.attention.qkv, qkv)
    write_rows(block.attention.out, _beside([one.out for one in plain]))
    write_rows(block.ffn.first, torch.cat([one.first for one in plain]))
    write_rows(block.ffn.second, _beside([one.second for one in plain]))
    return block


def _beside(rows: list[Tensor]) -> Tensor:
    """Maps of which the outputs are added, as one: inputs side by side, biases summed."""
    bias = torch.stack([one[:, -1:] for one in rows]).sum(0)
    return torch.cat([*(one[:, :-1] for one in rows), bias], 1)


@torch.no_grad()
def write_rows(linear: Any, rows: Tensor) -> None:
    """The opposite of reading: (out, in + 1) into a layer that has a bias."""
    linear.weight.copy_(rows[:, :-1])
    linear.bias.copy_(rows[:, -1])


@torch.no_grad()
def write_block(block: nn.Module, plain: PlainBlock) -> None:
    """Let a block of transformers compute what was read: its norms and layer scales become 1."""
    parts = {name: _part(block, names) for name, names in NAMES.items()}
    for name in ("norm1", "norm2"):
        parts[name].weight.fill_(1)
        parts[name].bias.zero_()
    for name in OPTIONAL:
        if parts[name] is not None:
            parts[name].lambda1.fill_(1)
    for name, rows in zip("qkv", plain.qkv.chunk(3), strict=True):
        write_rows(parts[name], rows)
    for name in ("out", "first", "second"):
        write_rows(parts[name], getattr(plain, name))
