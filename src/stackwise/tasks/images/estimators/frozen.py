"""Features of pictures by a pretrained encoder that learns nothing more: its class token joined
with the mean of its patches.

    f(x) = [z_0; 1/P sum_p z_p]        z = the encoder's normed last stream, z_0 the class token

That is what DINOv2 (arXiv 2304.07193) is probed with, and what transformers' classifier on it
reads. A picture goes through once a process: what is known is kept by the picture's own pixels, so
that the seeds of a comparison, folds, the test part and a fit on all rows find it again. That
changes no bit, since no row's output depends on which others go through with it
(`stackwise.learning.row_blocks`).
"""

import functools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.learning.outputs import through_network
from stackwise.learning.row_blocks import block_rows
from stackwise.models import open_model
from stackwise.seals import tensors_hash
from stackwise.tasks.images.estimators.pixels import Pixels
from stackwise.tasks.images.reading.holding import Pictures
from stackwise.training.session import count_aloud, spare

IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Mean and deviation of each channel, of pictures from 0 to 1, with which DINOv2 was trained."""
MOST_KNOWN = 1 << 28
"""Bytes of features that are kept; beyond them those that were asked for longest ago go."""


class EncoderPixels(Pixels):
    """Pictures as an encoder takes them: brought to its size smoothly, and to three channels."""

    def sized(self, pictures: Tensor) -> Tensor:
        """(k, C, h, w) at the encoder's size, bilinear; what becomes smaller is averaged."""
        return functional.interpolate(pictures, size=self.size, mode="bilinear", antialias=True)


class FrozenEncoder(nn.Module):
    """A vision encoder of transformers as a map from pixels to features.

    Args:
        encoder: gives `last_hidden_state` (B, 1 + P, D), the class token first.

    Attributes:
        hash: of its weights. patch: pixels of a patch's side.
        known: features (2 D,) of pictures that went through, by what the pictures hold.
        gone, blocks: seconds that pictures took to go through, and the blocks that they were in.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.hash = tensors_hash(encoder.state_dict())
        self.patch = int(getattr(encoder.config, "patch_size", 1))
        self.known: dict[bytes, np.ndarray] = {}
        self.gone, self.blocks = 0.0, 0

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2 D)."""
        stream = self.encoder(pixel_values=pixels).last_hidden_state
        return torch.cat([stream[:, 0], stream[:, 1:].mean(1)], dim=1)

    def features(self, pixels: EncoderPixels) -> np.ndarray:
        """(n, 2 D) float32; only pictures that are not known go through."""
        keys = keys_of(pixels)
        unknown = self._unknown(keys)
        found: dict[bytes, np.ndarray] = {}
        blocks, began = self._blocks(len(unknown)), time.perf_counter()
        if len(unknown):
            tell = count_aloud("features", len(unknown))

            def kept(block: Tensor) -> np.ndarray:
                tell(len(block))
                return block[:, 0].numpy().copy()

            rows = through_network(self, {"pixels": _Rows(pixels, unknown)}, kept)
            found = {keys[place]: row for place, row in zip(unknown, rows, strict=True)}
            self.gone += time.perf_counter() - began
            self.blocks += blocks
        # a time that is told is that of one who knows no picture yet
        spare((self._blocks(len(keys)) - blocks) * self.gone / max(self.blocks, 1))
        made = np.stack([found[key] if key in found else self.known[key] for key in keys])
        for key in dict.fromkeys(keys):  # those of now are the youngest
            self.known[key] = self.known.pop(key) if key in self.known else found[key].copy()
        for key in list(self.known)[: len(self.known) - MOST_KNOWN // made[0].nbytes]:
            del self.known[key]
        return made

    def share_in(self, pixels: EncoderPixels, seconds: float) -> float:
        """Of the pictures that are not known, the share that goes through in so many seconds."""
        unknown = self._unknown(keys_of(pixels))
        some = unknown[: self.rows]
        if not len(some):
            return 1.0
        began = time.monotonic()
        through_network(self, {"pixels": _Rows(pixels, some)}, lambda block: block[:, 0].numpy())
        each = (time.monotonic() - began) / len(some)
        return min(1.0, seconds / max(each * len(unknown), 1e-9))

    @property
    def rows(self) -> int:
        """Pictures that go through together; fewer take as long."""
        return block_rows(self, next(self.parameters()).device)

    def _blocks(self, pictures: int) -> int:
        return math.ceil(pictures / self.rows)

    def _unknown(self, keys: list[bytes]) -> np.ndarray:
        """The first place of each picture that is not known."""
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        return np.array(sorted(p for key, p in first.items() if key not in self.known), np.int64)


class _Rows:
    """Some rows of pixels, as `through_network` asks for them."""

    dtype = torch.float32

    def __init__(self, pixels: Pixels, rows: np.ndarray) -> None:
        self.pixels, self.rows = pixels, rows
        self.shape = (len(rows), *pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: Any) -> Tensor:
        return self.pixels[self.rows[places]]


def keys_of(pixels: EncoderPixels) -> list[bytes]:
    """What each picture holds, and how it is read: equal where its features are."""
    pictures = pixels.pictures
    form = (
        pixels.size, pictures.shape[-3:], str(getattr(pictures, "dtype", "uint8")),
        pixels.mean.tolist(), pixels.std.tolist(), torch.get_num_threads(),
    )  # fmt: skip
    seed = xxhash.xxh3_64_intdigest(repr(form).encode())
    if isinstance(pictures, Pictures):  # their hashes are there without decoding them again
        return [
            xxhash.xxh3_128_digest(one.tobytes(), seed) for one in pictures.hashes
        ]  # fmt: skip
    return [xxhash.xxh3_128_digest(np.ascontiguousarray(one).data, seed) for one in pictures]


def open_encoder(folder: Path) -> FrozenEncoder:
    """The encoder of a model folder, opened once a process."""
    return _opened(str(folder), (folder / "config.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _opened(folder: str, changed: int) -> FrozenEncoder:
    model = open_model(folder)
    if "pixel_values" not in str(getattr(model, "main_input_name", "")):
        raise ModelError(f"{folder} holds a {type(model).__name__}, which reads no pictures")
    return FrozenEncoder(model)
