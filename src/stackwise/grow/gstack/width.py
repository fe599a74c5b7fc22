"""Growth in width: more coordinates in the stream, more heads, a wider MLP, as many blocks.

    direct    coordinates, heads and neurons are copied; a weight that reads copies splits what it
              read over them, so that the parts add up to the old weight (even: in equal parts;
              uneven: in drawn parts, which tells copies apart). With copies of all coordinates
              (twice the width) the function is kept; else the copies weigh in the mean square of
              the norms unequally, and it is not.
    zero      W' = [[W, A], [0, C]]: new coordinates read nothing from old ones and so stay zero,
              while old ones may learn to read them. The function is kept: the norms' gains are
              multiplied by sqrt(d / D), for which the paper gives the reason, and their epsilon by
              d / D.
    random    [[W, A], [B, C]] with new parts all random, and outputs multiplied by a mask that is
              one on the old coordinates and goes from 0 to 1 on the new ones (`WidthMask`).

For Llama-like decoders (RMS norms, gated MLP, rotary positions, shared key heads). Differs from the
paper: with copies the gains are not multiplied by sqrt(d / D), which is right for zeros but not for
copies, whose mean square is the old one.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.grow.gstack.spaces import (
    STREAM,
    WRITES,
    Space,
    axes_of,
    empty_like,
    spaces_of,
)

Split = Literal["even", "uneven"]


def widened(model: Any, width: int, *, split: Split = "even", seed: int = 0) -> nn.Module:
    """G_direct in width: a model whose stream has `width` coordinates, copied from the old."""
    spaces = spaces_of(model.config, width, seed=seed)
    new = empty_like(model, spaces, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    shares = {name: _shares(space, split, generator) for name, space in spaces.items()}
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    old = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in new.named_parameters():
            weight.copy_(_copied(name, old[name], spaces, shares))
            if tied and name.endswith("model.norm.weight"):
                # the head is the embedding, whose columns are copies: what it reads is split here
                weight.mul_(shares[STREAM].to(weight))
    return new.eval() if not model.training else new


def widened_with_zeros(model: Any, width: int, *, seed: int = 0) -> nn.Module:
    """G_zero in width: the new coordinates of the stream stay zero until training moves them."""
    spaces = spaces_of(model.config, width, seed=seed)
    new = empty_like(model, spaces, seed=seed)
    scale = spaces[STREAM].old / spaces[STREAM].new
    _scale_epsilon(new, scale)
    old = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in new.named_parameters():
            rows, columns = axes_of(name, weight)
            before = old[name]
            if weight.ndim == 1:
                if rows == STREAM and not name.endswith("bias"):
                    before = before * scale**0.5
                elif rows is not None:
                    weight.zero_()  # a bias must not move the new coordinates
                weight[: len(before)] = before
                continue
            if _writes(name):
                weight[:, before.shape[1] :] = 0
            elif rows is not None:
                weight[before.shape[0] :, : before.shape[1]] = 0
            weight[: before.shape[0], : before.shape[1]] = before
    return new


def widened_at_random(model: Any, width: int, *, seed: int = 0) -> nn.Module:
    """G_random in width: all that is new is random; see `WidthMask` for how it comes in."""
    spaces = spaces_of(model.config, width, seed=seed)
    new = empty_like(model, spaces, seed=seed)
    old = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in new.named_parameters():
            before = old[name]
            weight[tuple(slice(size) for size in before.shape)] = before
    return new


class WidthMask:
    """Multiplies the new coordinates of every output by c, and has the norms count them so.

    At c = 0 the grown model computes what the old one did, at 1 it is a plain model.

    Attributes:
        c: the mask, between 0 and 1; set it while training.
    """

    def __init__(self, model: Any, spaces: dict[str, Space], c: float = 0.0) -> None:
        self.c, self._stream = c, spaces[STREAM]
        self._handles = []
        for name, module in model.named_modules():
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter):
                continue
            rows, columns = axes_of(f"{name}.weight", weight)
            if weight.ndim == 1:
                if rows == STREAM:
                    self._handles.append(module.register_forward_hook(self._norm))
                continue
            space = columns if _writes(f"{name}.weight") else rows
            if space is not None:
                self._handles.append(module.register_forward_hook(self._output(spaces[space])))

    def _output(self, space: Space) -> Any:
        def mask(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self.c == 1.0:
                return output
            old, new = output[..., : space.old], output[..., space.old :]
            return torch.cat([old, self.c * new], dim=-1)

        return mask

    def _norm(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """From x / sqrt(s + e) to x / sqrt(s D / n + e), n of the D coordinates counting."""
        counted = self._stream.old + self.c * (self._stream.new - self._stream.old)
        share = counted / self._stream.new
        if share == 1.0:
            return output
        square = inputs[0].float().pow(2).mean(-1, keepdim=True)
        epsilon = _epsilon(module)
        scale = ((square + epsilon) / (square / share + epsilon)).sqrt()
        return output * scale.to(output.dtype)

    def remove(self) -> None:
        """Take the mask away."""
        for handle in self._handles:
            handle.remove()


def _copied(
    name: str, before: Tensor, spaces: dict[str, Space], shares: dict[str, Tensor]
) -> Tensor:
    """A weight for copied coordinates: rows copied, columns copied and split."""
    rows, columns = axes_of(name, before)
    if rows is not None:
        before = before[spaces[rows].source.to(before.device)]
    if columns is not None:
        before = before[:, spaces[columns].source.to(before.device)]
        if not _writes(name):
            before = before * shares[columns].to(before)
    return before


def _shares(space: Space, split: Split, generator: torch.Generator) -> Tensor:
    """(new,) the part of an old weight that each copy gets; those of one coordinate add up to 1."""
    if split == "even":
        return 1 / space.copies.double()
    drawn = torch.rand(space.new, generator=generator).double() + 0.5
    total = torch.zeros(space.old).double().index_add_(0, space.source, drawn)
    return drawn / total[space.source]


def _writes(name: str) -> bool:
    return name.split(".")[-2] in WRITES


def _epsilon(norm: nn.Module) -> float:
    """What a norm adds to the mean square."""
    return float(getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0.0)


def _scale_epsilon(model: Any, scale: float) -> None:
    """Norms over more coordinates, of which the new are zero, have a smaller mean square."""
    model.config.rms_norm_eps *= scale
    for module in model.modules():
        for name in ("variance_epsilon", "eps"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, model.config.rms_norm_eps)
