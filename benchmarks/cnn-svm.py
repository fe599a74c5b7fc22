"""CNN-SVM against the same network with a softmax, and against a bare hand-written loop.

- a training step with the squared hinge and its regulariser, against cross-entropy on the same
  network, both in plain torch around our modules;
- an epoch through the estimator's loop, against a bare loop over the same pictures that does
  nothing but index, forward, backward and step;
- prediction of 1,000 pictures through the estimator, against the bare network in batches of 256.
"""

import numpy as np
import torch
from torch import nn

from side_by_side import alternate, line
from stackwise.build.cnn_svm import CNNSVMClassifier, ConvSVM
from stackwise.learning.outputs import batch_loss
from stackwise.tasks.images.estimators.augmentation import AugmentedBatches, recipe
from stackwise.tasks.images.estimators.pixels import Pixels
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

SIZES = {
    "8 and 16 channels, 14 x 14": ([8, 16], 3, 64, 14, 41),
    "16 and 32 channels, 28 x 28": ([16, 32], 3, 128, 28, 15),
    "32 and 64 channels of 5 x 5, 28 x 28 (the paper's)": ([32, 64], 5, 1024, 28, 5),
}
BATCH = 128


def network(widths, kernel, hidden, side, head="svm-l2") -> ConvSVM:
    torch.manual_seed(0)
    return ConvSVM(
        channels=1, image_size=(side, side), n_outputs=10, widths=widths, kernel_size=kernel,
        hidden=hidden, head=head,
    )  # fmt: skip


def step_of(model: nn.Module, batch: dict, loss):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def cross_entropy(model: nn.Module, batch: dict) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["pixels"]), batch["target"])


def squared_hinge(model: nn.Module, batch: dict) -> torch.Tensor:
    """The public code's loss, written out."""
    scores, y = model(batch["pixels"]), batch["target"]
    codes = 2 * nn.functional.one_hot(y, scores.shape[1]) - 1
    weights = model.head.weight
    return (weights * weights).mean() + (1 - codes * scores).clamp(min=0).square().mean()


def main() -> None:
    torch.set_num_threads(1)
    for name, (widths, kernel, hidden, side, repeats) in SIZES.items():
        batch = {
            "pixels": torch.randn(BATCH, 1, side, side), "target": torch.arange(BATCH) % 10,
            "weight": torch.ones(BATCH),
        }  # fmt: skip
        sizes = (widths, kernel, hidden, side)
        ours, peer = alternate(
            step_of(network(*sizes), batch, batch_loss),
            step_of(network(*sizes, head="softmax"), batch, cross_entropy), repeats,
        )  # fmt: skip
        line(f"training step, {name}", ours, peer, "softmax and cross-entropy", "s", "float32", 1,
             "the machines' loss has more small operations than cross-entropy")  # fmt: skip
        ours, peer = alternate(
            step_of(network(*sizes), batch, batch_loss),
            step_of(network(*sizes), batch, squared_hinge), repeats,
        )  # fmt: skip
        line(f"training step, {name}", ours, peer, "the loss written out", "s", "float32", 1,
             "ours looks for the head in the network, which shows on a small one")  # fmt: skip
    whole()


def whole() -> None:
    """An epoch, and prediction."""
    widths, kernel, hidden, side = [16, 32], 3, 128, 28
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (2048, 1, side, side), dtype=np.uint8)
    y = torch.arange(2048) % 10
    pixels = Pixels(pictures, np.array([0.5]), np.array([0.3]), (side, side))
    tensors = {"pixels": pixels, "target": y, "weight": torch.ones(2048)}
    batches = AugmentedBatches(tensors, BATCH, recipe=recipe("none"))

    def epoch_ours() -> None:
        rule = Backprop(batch_loss, grad_clip=None)
        train(network(widths, kernel, hidden, side), rule, batches, max_epochs=1)

    held = torch.from_numpy(pictures)

    def epoch_bare() -> None:
        model = network(widths, kernel, hidden, side).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        order = torch.randperm(2048)
        for start in range(0, 2048, BATCH):
            rows = order[start : start + BATCH]
            x = (held[rows].float() / 255 - 0.5) / 0.3
            squared_hinge(model, {"pixels": x, "target": y[rows]}).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    line("an epoch over 2,048 pictures", *alternate(epoch_ours, epoch_bare, 5), "a bare loop", "s",
         "float32", 1, "checks, the losses' record and a copy of the weights")  # fmt: skip
    model = CNNSVMClassifier(
        channels=widths, kernel_size=kernel, hidden=hidden, max_epochs=1, min_steps=0
    ).fit(pictures, y.numpy())
    asked = pictures[:1024]
    bare = model.network_

    @torch.no_grad()
    def predict_bare() -> None:
        for start in range(0, 1024, 256):
            x = (torch.from_numpy(asked[start : start + 256]).float() / 255 - 0.5) / 0.3
            bare(x).argmax(1)

    line("prediction of 1,024 pictures", *alternate(lambda: model.predict(asked), predict_bare, 9),
         "the bare network", "s", "float32", 1,
         "pictures are checked, and go through in blocks that give each the same bits")  # fmt: skip


if __name__ == "__main__":
    main()
