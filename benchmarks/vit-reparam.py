"""Merged vision transformers against what they replace, on one process and in turn.

- a pass: 6 and 3 merged layers against the 12 layers of transformers' ViT, at equal width, for
  three numbers of tokens;
- unmerged: the same against its own branches, which compute the same answers;
- as fast as plain: 6 merged layers against 6 layers of transformers' ViT;
- a training step: 6 layers of 2 branches against 12 plain layers of transformers' ViT.
"""

import os

import torch
from torch import Tensor, nn

from side_by_side import alternate, line
from stackwise.shrink.vit_reparam import BranchedViT, merge, set_join

WIDTH, HEADS, PATCH = 192, 3, 16
"""Those of DeiT-Tiny."""
SIDES = {"49 patches": 112, "196 patches": 224}
EDGE = "the whole of a pass is less than the noise of a call"


def merged(side: int, depth: int) -> tuple[nn.Module, nn.Module]:
    """A network of 12 / depth branches a layer, joined, and its merged form."""
    torch.manual_seed(0)
    branched = BranchedViT(
        image_size=side, n_outputs=10, patch=PATCH, width=WIDTH, depth=depth, heads=HEADS,
        branches=12 // depth,
    ).eval()  # fmt: skip
    set_join(branched, 1.0)
    return branched, merge(branched).eval()


def plain(side: int, depth: int) -> nn.Module:
    """Transformers' ViT of the same sizes."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=side, patch_size=PATCH, hidden_size=WIDTH, intermediate_size=4 * WIDTH,
        num_hidden_layers=depth, num_attention_heads=HEADS, num_labels=10,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


def passes(network: nn.Module, x: Tensor):
    """A pass without gradients."""

    @torch.no_grad()
    def run() -> None:
        network(x)

    return run


def steps(network: nn.Module, x: Tensor):
    """Forward, backward and a step."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    target = torch.zeros(len(x), dtype=torch.int64)

    def run() -> None:
        output = network(x)
        logits = output if isinstance(output, Tensor) else output.logits
        nn.functional.cross_entropy(logits, target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    theirs = "transformers ViT, 12 layers"
    for name, side in SIDES.items():
        deep = plain(side, 12)
        for batch in (1, 16):
            x = torch.randn(batch, 3, side, side)
            for depth in (6, 3):
                pair = passes(merged(side, depth)[1], x), passes(deep, x)
                case = f"pass, {depth} merged layers, {name}, batch {batch}"
                line(case, *alternate(*pair, 9), theirs, "s", "float32", threads)
        x = torch.randn(1, 3, side, side)
        branched, small = merged(side, 6)
        found = alternate(passes(small, x), passes(branched, x), 15)
        line(f"pass, merged, {name}", *found, "its branches", "s", "float32", threads)
        found = alternate(passes(small, x), passes(plain(side, 6), x), 15)
        line(
            f"pass, 6 merged layers, {name}", *found, "transformers ViT, 6 layers", "s", "float32",
            threads, EDGE,
        )  # fmt: skip
        x = torch.randn(16, 3, side, side)
        branched, _ = merged(side, 6)
        set_join(branched, 0.5)
        found = alternate(steps(branched, x), steps(plain(side, 12), x), 5)
        line(
            f"training step, 6 layers of 2 branches, {name}, batch 16", *found, theirs, "s",
            "float32", threads, "what is joined is one more pass over the memory of its inputs",
        )  # fmt: skip


if __name__ == "__main__":
    main()
