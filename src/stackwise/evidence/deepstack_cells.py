"""Letters too small for the low view, read off a stack of blocks at the picture's own positions.

A mosaic has 4 x 4 cells of 14 pixels with a letter of pillow's font each, under noise. The low view
is half as large, so that a low token is one cell and K = 4 fine tokens lie over it. There is no
question and no causal mask: all 16 letters are read where the tokens stand. That favours sampling
which keeps place by design; it shows the mechanism, and no advantage in a language model.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.build.deepstack import DeepStack, DeepStackReader
from stackwise.data.mosaics import CONTRAST, LETTERS, letter_pictures, letter_tiles
from stackwise.tasks.vqa.estimators.crops import cut
from stackwise.tasks.vqa.estimators.network import PictureReader
from stackwise.tasks.vqa.estimators.vision import Tower, new_vision

CELLS, SIDE, PATCH = 4, 28, 7
"""Cells of a side, pixels of a view's side and of a patch's."""
SYSTEMS: dict[str, dict[str, Any]] = {
    "low view": {"stands": "low"},
    "all tokens": {"stands": "global-string"},
    "DeepStack": {},
    "grid stacks": {"sampling": "grid"},
    "sequential stacks": {"sampling": "sequential"},
    "dummy stacks": {"variant": "dummy"},
    "concat": {"variant": "concat"},
    "late start": {"start": 5, "summed": True},
}
"""What is compared; the last has all crops' tokens at once, at the last block."""


class Cells(nn.Module):
    """A reader of pictures whose blocks say the letter of each low token.

    Args:
        start: block that gets the first stack. summed: it gets all of them at once.
        system: what else a reader of `SYSTEMS` has.
    """

    def __init__(
        self, *, layers: int, width: int, start: int = 1, summed: bool = False, **system: Any
    ) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        config = LlamaConfig(
            vocab_size=2, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
            num_attention_heads=4, max_position_embeddings=128, bos_token_id=None,
            eos_token_id=None,
        )  # fmt: skip
        language = LlamaModel(config)
        tower = Tower(
            new_vision(side=SIDE, patch=PATCH, channels=1, layers=1, width=width, heads=4), SIDE
        )
        self.start, self.summed = start, summed
        self.reader: PictureReader
        if "stands" in system:
            self.reader = PictureReader(language, tower, system["stands"])
        else:
            stacks = 1 if summed else 4
            self.reader = DeepStackReader(language, tower, stacks=stacks, start=start, **system)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 1, 56, 56) -> (B, 16, 26)."""
        low = nn.functional.avg_pool2d(pictures, 2)
        grids = torch.full((len(pictures), 2), 2)
        tokens, stacks = self.reader.picture(low, cut(pictures, 2, 2), grids)
        assert tokens is not None
        rows, length = tokens.shape[:2]
        if stacks is not None and self.summed:
            stacks = stacks.sum(0, keepdim=True)
        inputs = {
            "inputs_embeds": tokens, "use_cache": False,
            "attention_mask": tokens.new_zeros(rows, 1, length, length),  # all see all
        }  # fmt: skip
        deep = DeepStack(self.reader.language, self.start)
        positions = torch.ones(rows, length, dtype=torch.bool)
        found = deep(stacks=stacks, positions=positions, **inputs).last_hidden_state
        logits: Tensor = self.head(found[:, : CELLS * CELLS])
        return logits


@dataclass
class Found:
    """Test accuracy in per cent and seconds of a step, by system, a value a seed; and ceilings."""

    accuracy: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    ceilings: dict[str, list[float]] = field(default_factory=dict)


def measured(
    *,
    seeds: Any,
    steps: int,
    batch: int,
    layers: int,
    width: int,
    systems: Any,
    tested: int,
    lr: float = 3e-3,
) -> Found:
    """Every system, trained on equally many mosaics that nobody saw twice."""
    found = Found()
    for seed in seeds:
        test, letters = mosaics(tested, np.random.default_rng(10_000 + seed))
        for name, share in ceilings(test, letters).items():
            found.ceilings.setdefault(name, []).append(round(share, 2))
        for name in systems:
            torch.manual_seed(seed)
            network = Cells(layers=layers, width=width, **SYSTEMS[name])
            began = time.process_time()
            trained(network, np.random.default_rng(seed), steps, batch, lr)
            took = (time.process_time() - began) / steps
            with torch.no_grad():
                said = torch.cat([network(part).argmax(-1) for part in test.split(128)])
            right = 100 * float((said == letters).float().mean())
            found.accuracy.setdefault(name, []).append(round(right, 2))
            found.seconds.setdefault(name, []).append(round(took, 5))
    return found


def trained(network: Cells, rng: np.random.Generator, steps: int, batch: int, lr: float) -> None:
    """AdamW and a cosine on fresh mosaics."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        pictures, letters = mosaics(batch, rng)
        logits = network(pictures)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), letters.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def mosaics(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(count, 1, 56, 56) float32, ink 1 and ground 0 but for the noise; (count, 16) letters."""
    pictures, which = letter_pictures(count, CELLS, rng)
    scaled = (torch.from_numpy(pictures).float() - 64) / 128
    return scaled[:, None], torch.from_numpy(which.reshape(count, -1))


def ceilings(pictures: Tensor, letters: Tensor) -> dict[str, float]:
    """Per cent of letters that the nearest of 26 templates gets right, in both views: what a reader
    can reach that knows the font. The templates have the middle contrast.
    """
    tiles = torch.from_numpy(letter_tiles()) * sum(CONTRAST) / 2
    found = {}
    for name, scale in (("fine view", 1), ("low view", 2)):
        view = nn.functional.avg_pool2d(pictures, scale)
        known = nn.functional.avg_pool2d(tiles[:, None], scale).flatten(1)
        side = view.shape[-1] // CELLS
        cells = nn.functional.unfold(view, side, stride=side).transpose(1, 2)
        said = torch.cdist(cells, known.expand(len(cells), -1, -1)).argmin(-1)
        found[name] = 100 * float((said == letters).float().mean())
    return found
