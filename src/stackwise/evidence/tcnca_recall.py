"""Associative recall: which value stood behind this key? Made on the fly.

    start  k v  k v  ... (31 pairs)  k       within a sequence a key always has the same value

64 tokens in chunks of 16: seven whole pairs share the chunk of the last key, and where the key is
among them attention can find it. Where it stands in earlier chunks alone, the answer can only come
through the operator. The loss is that of every key that was seen before; on the last one alone
nothing is learned in so few steps. A sequence is made of its seed, epoch and step.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.build.tcnca import TCNCALanguageModel
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

PAIRS, CHUNK, VALUES = 31, 16, 10
SIZES: dict[str, Any] = {
    "dim": 32, "v_dim": 64, "z_dim": 32, "ffn_dim": 64, "chunk": CHUNK, "kernel_size": 5,
    "dilation_factor": 3, "depth": 4,
}  # fmt: skip
SIMPLE, GATED, EMA = "TCNCA-simple", "TCNCA", "EMA (MEGA)"
ALONE, BLIND = "convolutions alone", "attention alone"
SYSTEMS: dict[str, dict[str, Any]] = {
    SIMPLE: {"form": "simple"},
    GATED: {},
    EMA: {"operator": "ema"},
    ALONE: {"attention": False},
    BLIND: {"operator": None},
}


def sequences(count: int, keys: int, generator: np.random.Generator) -> dict[str, Tensor]:
    """Sequences (n, 65) of tokens, the answer to the last key at the end, and their labels.

    Tokens: 0 start, then the keys, then the values. A label is -100 where nothing is asked.
    """
    value_of = generator.integers(0, VALUES, (count, keys))
    drawn = generator.integers(0, keys, (count, PAIRS))
    ids = np.zeros((count, 2 * PAIRS + 3), dtype=np.int64)
    rows = np.arange(count)[:, None]
    ids[:, 1:-2:2] = 1 + drawn
    ids[:, 2:-2:2] = 1 + keys + value_of[rows, drawn]
    asked = np.array([generator.choice(np.unique(one)) for one in drawn])
    ids[:, -2] = 1 + asked
    ids[:, -1] = 1 + keys + value_of[rows[:, 0], asked]
    labels = np.full_like(ids, -100)
    for place in range(1, PAIRS):
        again = (drawn[:, :place] == drawn[:, place : place + 1]).any(1)
        labels[again, 2 * place + 2] = ids[again, 2 * place + 2]
    labels[:, -1] = ids[:, -1]
    near = drawn[:, PAIRS - (CHUNK - 2) // 2 :]
    same = (near == asked[:, None]).any(1)
    return {"ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels),
            "same": torch.from_numpy(same)}  # fmt: skip


class RecallBatches:
    """New sequences at every step."""

    def __init__(self, steps: int, rows: int, keys: int, seed: int) -> None:
        self.steps, self.rows, self.keys, self.seed = steps, rows, keys, seed

    def __len__(self) -> int:
        return self.steps

    def epoch(self, index: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The batches of epoch `index` from step `start` on."""
        for step in range(start, self.steps):
            yield sequences(self.rows, self.keys, np.random.default_rng([self.seed, index, step]))


def recall_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of the values behind keys that were seen."""
    found: Tensor = model(batch["ids"], labels=batch["labels"]).loss
    return found


def recalled(
    system: str, seed: int, *, steps: int, rows: int, keys: int, asked: int
) -> dict[str, float]:
    """Accuracy at the last key: of all, of those with the key in the same chunk, and of others."""
    torch.manual_seed(seed)
    model = TCNCALanguageModel(
        vocabulary=1 + keys + VALUES, sizes=SIZES | SYSTEMS[system], blocks=2
    )
    rule = Backprop(recall_loss, lr=2e-3, grad_clip=1.0)
    batches = RecallBatches(steps, rows, keys, seed)
    trained = train(
        model, rule, batches, max_epochs=1, seed=seed, precision="float32", device="cpu"
    )
    learned = trained.model.eval()
    test = sequences(asked, keys, np.random.default_rng([10_000 + seed]))
    with torch.no_grad():
        said = learned(test["ids"][:, :-1]).logits[:, -1].argmax(-1)
    right, same = said == test["ids"][:, -1], test["same"]
    shares = {"all": right, "same chunk": right[same], "other chunk": right[~same]}
    return {name: round(float(one.double().mean()), 4) for name, one in shares.items()}
