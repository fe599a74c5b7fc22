"""MaskNet against its equations, written out plainly: one embedding a field, one module a mask.

The package that carries a public MaskNet has left it out of its wheels, so that no installed code
can stand beside ours. Here is an independent form in its place, which shares no line with the
library: every field, every mask and every block is a module of its own, and nothing is joined.
"""

import pytest
import torch
from torch import Tensor, nn

from stackwise.build.masknet import MaskNet

CODES, K, WIDTH, BLOCKS = [4, 9, 2], 5, 7, 3


class PlainMask(nn.Module):
    def __init__(self, f_k: int, z: int, r: float) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(f_k, int(z * r)), nn.Linear(int(z * r), z)

    def forward(self, v_emb: Tensor) -> Tensor:
        return self.w2(torch.relu(self.w1(v_emb)))


class PlainBlock(nn.Module):
    def __init__(self, f_k: int, z: int, q: int, r: float) -> None:
        super().__init__()
        self.mask = PlainMask(f_k, z, r)
        self.w = nn.Linear(z, q, bias=False)
        self.ln = nn.LayerNorm(q)

    def forward(self, v_emb: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.ln(self.w(self.mask(v_emb) * h)))


class PlainMaskNet(nn.Module):
    """Categories alone; both nets of the paper with one logit."""

    def __init__(self, parallel: bool, r: float) -> None:
        super().__init__()
        self.parallel = parallel
        self.tables = nn.ModuleList(nn.Embedding(size + 1, K) for size in CODES)
        self.norms = nn.ModuleList(nn.LayerNorm(K) for _ in CODES)
        f_k = K * len(CODES)
        first = [f_k] * BLOCKS if parallel else [f_k] + [WIDTH] * (BLOCKS - 1)
        self.blocks = nn.ModuleList(PlainBlock(f_k, z, WIDTH, r) for z in first)
        self.deep = nn.Linear(BLOCKS * WIDTH, 6) if parallel else None
        self.out = nn.Linear(6 if parallel else WIDTH, 1)

    def forward(self, codes: Tensor) -> Tensor:
        e = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        v_emb = torch.cat(e, 1)
        ln_emb = torch.cat([norm(e_i) for norm, e_i in zip(self.norms, e, strict=True)], 1)
        if self.deep is not None:
            return self.out(
                torch.relu(self.deep(torch.cat([b(v_emb, ln_emb) for b in self.blocks], 1)))
            )
        h = ln_emb
        for block in self.blocks:
            h = block(v_emb, h)
        return self.out(h)


@torch.no_grad()
def copy_weights(ours: MaskNet, plain: PlainMaskNet) -> None:
    ours.embedding.weight.copy_(torch.cat([table.weight for table in plain.tables]))
    ours.norm.weight.copy_(torch.stack([norm.weight for norm in plain.norms]))
    ours.norm.bias.copy_(torch.stack([norm.bias for norm in plain.norms]))
    masks = [block.mask for block in plain.blocks]
    if plain.parallel:
        fused = ours.blocks
        fused.aggregate.weight.copy_(torch.cat([m.w1.weight for m in masks]))
        fused.aggregate.bias.copy_(torch.cat([m.w1.bias for m in masks]))
        fused.project.weight.copy_(torch.stack([m.w2.weight.T for m in masks]))
        fused.project.bias.copy_(torch.stack([m.w2.bias for m in masks]))
        fused.weight.copy_(torch.stack([b.w.weight.T for b in plain.blocks]))
        fused.scale.copy_(torch.stack([b.ln.weight[None] for b in plain.blocks]))
        fused.bias.copy_(torch.stack([b.ln.bias[None] for b in plain.blocks]))
        ours.head[0].load_state_dict(plain.deep.state_dict())
    else:
        for block, other in zip(ours.blocks, plain.blocks, strict=True):
            block.mask.aggregate.load_state_dict(other.mask.w1.state_dict())
            block.mask.project.load_state_dict(other.mask.w2.state_dict())
            block.linear.load_state_dict(other.w.state_dict())
            block.norm.load_state_dict(other.ln.state_dict())
    ours.head[-1].load_state_dict(plain.out.state_dict())


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
@pytest.mark.parametrize("r", [2.0, 1.0, 0.5])
def test_outputs_gradients_and_a_step_equal_the_plain_form(parallel: bool, r: float):
    torch.manual_seed(0)
    plain = PlainMaskNet(parallel, r)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = MaskNet(
        n_numeric=0, cardinalities=CODES, embedding_dim=K, width=WIDTH, blocks=BLOCKS,
        reduction=r, variant="parallel" if parallel else "serial", head=[6],
    )  # fmt: skip
    copy_weights(ours, plain)
    codes = torch.stack([torch.randint(0, size + 1, (32,)) for size in CODES], 1)
    label = torch.randint(0, 2, (32, 1)).float()
    none = torch.zeros(32, 0)
    loss = nn.functional.binary_cross_entropy_with_logits
    for _ in range(3):
        found, expected = ours(none, codes), plain(codes)
        assert torch.allclose(found, expected, atol=1e-6)
        for model, output in ((ours, found), (plain, expected)):
            model.zero_grad()
            loss(output, label).backward()
        tables = torch.cat([table.weight.grad for table in plain.tables])
        assert torch.allclose(ours.embedding.weight.grad, tables, atol=1e-6)
        for model in (ours, plain):
            torch.optim.SGD(model.parameters(), lr=0.1).step()
