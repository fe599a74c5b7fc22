"""Gradual pruning against torch.nn.utils.prune, and what sparsity saves.

A masked training step and an update of the masks, side by side with the pruning of torch on the
same network; then the size of the file, and a sparse product against the dense one.
"""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune

from side_by_side import alternate, line
from stackwise.shrink.gradual_pruning import GradualRule, Schedule, attach, magnitude_mask, prunable
from stackwise.sparse_files import save_sparse

WIDTHS = {"small": 128, "middle": 512, "large": 1024}


def network(width: int) -> nn.Sequential:
    """784-w-w-10."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def masked_step(width: int, x: torch.Tensor, y: torch.Tensor, *, ours: bool):
    """What takes one step with 90 % of the weights masked, without momentum's drift."""
    model = network(width)
    if ours:
        places = prunable(model)
        rule = GradualRule(
            lambda m, b: nn.functional.cross_entropy(m(x), y), masks=attach(places), places=places,
            targets=dict.fromkeys(places, 0.9), schedule=Schedule(0, 1, 1), grad_clip=None,
            regrow=False,
        )  # fmt: skip
        rule.prune(1)
        (optimizer,) = rule.optimizers(model)

        class Place:
            step, total_steps, optimizers = 5, 10, [optimizer]

        def run() -> None:
            rule.loss(model, None).backward()
            rule.update(Place, optimizer)

        return run
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", amount=0.9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def run_theirs() -> None:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():  # else decay and momentum move masked weights
            for layer in layers:
                layer.weight_orig.mul_(layer.weight_mask)
                for value in optimizer.state[layer.weight_orig].values():
                    if value.shape == layer.weight_orig.shape:
                        value.mul_(layer.weight_mask)

    return run_theirs


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    x, y = torch.randn(128, 784), torch.randint(0, 10, (128,))
    peer = "torch.nn.utils.prune"
    for name, width in WIDTHS.items():
        pair = [masked_step(width, x, y, ours=ours) for ours in (True, False)]
        line(
            f"training step at 90 %, {name} (784-{width}-{width}-10)",
            *alternate(*pair, 9),
            peer,
            "s",
            "float32",
            threads,
            "a bool mask is cast where torch keeps a float one, which takes four times the memory",
        )
        weight = torch.randn(width, width)
        method = prune.L1Unstructured(amount=round(0.9 * weight.numel()))
        found = alternate(
            lambda w=weight: magnitude_mask(w, 0.9),
            lambda w=weight, m=method: m.compute_mask(w, torch.ones_like(w)),
            9,
        )
        line(
            f"mask of {width} x {width} at 90 %",
            *found,
            peer,
            "s",
            "float32",
            threads,
            "a stable sort keeps the count exact where magnitudes tie; top-k does not",
        )
        for share in (0.5, 0.9, 0.98):
            sparse = weight * magnitude_mask(weight, share)
            with tempfile.TemporaryDirectory() as folder:
                size = save_sparse({"w": sparse}, Path(folder) / "w.safetensors")
            line(
                f"file of {width} x {width} at {share:.0%}",
                size,
                4 * weight.numel(),
                "dense safetensors",
                "bytes",
                "float32",
                threads,
            )
            rows = torch.randn(width, 64)
            csr = sparse.to_sparse_csr()
            found = alternate(lambda s=csr, r=rows: s @ r, lambda s=sparse, r=rows: s @ r, 15)
            line(
                f"CSR product, {width} x {width} at {share:.0%}, 64 columns",
                *found,
                "dense product",
                "s",
                "float32",
                threads,
                "a sparse kernel reaches a small part of the dense rate; too few zeros to pay",
            )


if __name__ == "__main__":
    main()
