"""Pictures: reading a folder beside a bare pillow loop, and training beside a hand-written loop.

Reading is all that a task does before training: find the files, decode, bring to one size, hash
and hold. The peer opens (a JPEG at a fraction of its size, as ours), converts, resizes and stacks,
in a pool of as many threads. Training is one epoch of the small residual network over pictures that
are held as bytes, normalised batch by batch on both sides.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from side_by_side import alternate, line
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN
from stackwise.tasks.images.estimators.augmentation import AugmentedBatches, recipe
from stackwise.tasks.images.estimators.pixels import Pixels
from stackwise.tasks.images.reading.find import find_pictures
from stackwise.tasks.images.reading.loading import load_pictures
from stackwise.tasks.images.reading.threads import threads
from stackwise.training import Backprop, train

FOLDERS = {
    "800 of 64 x 64": (800, 64),
    "240 of 256 x 256": (240, 256),
    "24 of 1024 x 1024": (24, 1024),
}
SIDE = 32
TRAINING = {"width 8": (8, 64), "width 16": (16, 64), "width 32": (32, 128)}
PICTURES = 1024


def folder_of(place: Path, count: int, side: int) -> Path:
    """JPEGs of smooth colours in two classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        here = place / f"class{number % 2}"
        here.mkdir(parents=True, exist_ok=True)
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(here / f"{number}.jpg")
    return place


def bare_reading(place: Path) -> np.ndarray:
    """(n, SIDE, SIDE, 3), read by a pool of threads."""

    def one(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            return np.asarray(small)

    with ThreadPoolExecutor(threads()) as pool:
        return np.stack(list(pool.map(one, sorted(place.rglob("*.jpg")))))


def reading() -> None:
    """A line a folder."""
    for name, (count, side) in FOLDERS.items():
        with tempfile.TemporaryDirectory() as made:
            place = folder_of(Path(made), count, side)
            line(
                f"read {name} as {SIDE} x {SIDE}",
                *alternate(
                    lambda place=place: load_pictures(find_pictures(str(place)), SIDE, 3),  # type: ignore[misc]
                    lambda place=place: bare_reading(place),  # type: ignore[misc]
                    9,
                ),
                "pillow in a pool of threads", "s", "uint8", threads(),
                "broken files are named, turned ones turned, and every picture is hashed",
            )  # fmt: skip


def training() -> None:
    """A line a width."""
    rng = np.random.default_rng(0)
    held = rng.integers(0, 256, (PICTURES, 3, SIDE, SIDE), dtype=np.uint8)
    target = torch.as_tensor(rng.integers(0, 10, PICTURES))
    mean, scale = held.mean((0, 2, 3)) / 255, held.std((0, 2, 3)) / 255
    pixels = Pixels(held, mean, scale, (SIDE, SIDE))
    for name, (width, batch) in TRAINING.items():
        batches = AugmentedBatches(
            {"pixels": pixels, "target": target}, batch, seed=0, recipe=recipe("none")
        )

        def network(width: int = width) -> nn.Module:
            torch.manual_seed(0)
            return ResidualCNN(channels=3, n_outputs=10, width=width)

        def ours(batches: AugmentedBatches = batches, network=network) -> None:  # type: ignore[no-untyped-def]
            rule = Backprop(lambda m, b: functional.cross_entropy(m(b["pixels"]), b["target"]))
            train(network(), rule, batches, max_epochs=1)

        def bare(batch: int = batch, network=network) -> None:  # type: ignore[no-untyped-def]
            model = network()
            parameters = list(model.parameters())
            optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
            of_mean = torch.as_tensor(mean, dtype=torch.float32)[:, None, None]
            of_scale = torch.as_tensor(scale, dtype=torch.float32)[:, None, None]
            order = torch.randperm(PICTURES).numpy()
            for first in range(0, PICTURES, batch):
                rows = order[first : first + batch]
                x = (torch.as_tensor(held[rows]).float() / 255 - of_mean) / of_scale
                loss = functional.cross_entropy(model(x), target[rows])
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        line(
            f"one epoch of a residual CNN, {name}, batch {batch}", *alternate(ours, bare, 7),
            "hand-written loop", "s", "float32", torch.get_num_threads(),
        )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    reading()
    training()
