"""The parts of the probe: which units, which pictures excite them, which layer parts them, and how
much of it all the made pictures cover.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.probe.multifaceted_visualization.facets import Embed, Facets, find_facets
from stackwise.probe.multifaceted_visualization.inputs import Shown, answers, logits
from stackwise.probe.multifaceted_visualization.maximise import Target
from stackwise.probe.multifaceted_visualization.units import (
    OUTPUT,
    Unit,
    activation,
    answer_of,
    channels_second,
    code,
)
from stackwise.stack import Stack

STRONG = 0.25
"""The share of the way from the mean activation to the largest from which a picture excites."""
ENOUGH = 10
"""Pictures of one kind that are parted; where there are fewer, weaker ones come along."""


def surest_classes(of: Shown, count: int) -> list[Unit]:
    """The outputs of which the network is surest on some picture, the surest first."""
    sure = logits(of).flatten(1).softmax(1).amax(0)
    return [Unit(OUTPUT, int(one)) for one in sure.argsort(descending=True)[:count]]


def activations(of: Shown, unit: Unit) -> Tensor:
    """(n,) how strongly each picture excites a unit."""
    return answers(of, lambda pictures: _of_unit(of, unit, pictures))


def _of_unit(of: Shown, unit: Unit, pictures: Tensor) -> Tensor:
    answer = answer_of(of.network, unit.module, lambda: of(pictures))
    return activation(answer, unit, of.sides)


def target_of(of: Shown, unit: Unit) -> Target:
    """What is maximised for a unit: its value, or its probability among its module's channels."""

    def target(pictures: Tensor, softmax: bool) -> Tensor:
        if not softmax:
            return _of_unit(of, unit, pictures)
        answer = answer_of(of.network, unit.module, lambda: of(pictures))
        activation(answer, unit, of.sides)  # there is such a channel
        return activation(channels_second(answer, of.sides).softmax(1), unit, 0)

    return target


def exciting_pictures(of: Shown, unit: Unit, count: int, least: int) -> tuple[np.ndarray, Tensor]:
    """Rows of the pictures that excite a unit most, and (n,) the activations of all.

    They come at least a quarter of the way from the mean activation to the largest, where those
    are enough; of a class they are those that the network takes for it.

    Args:
        least: that are needed.

    Raises:
        DataError: there are too few, or no picture moves the unit.
    """
    found = activations(of, unit)
    if not torch.isfinite(found).all():
        raise DataError(f"{unit} answers with NaN or infinite numbers to some pictures")
    if float(found.max()) <= float(found.min()):
        raise DataError(f"{unit} answers {float(found.max()):.3g} to every picture: it is dead")
    rows = np.arange(len(found))
    strong = found >= found.mean() + STRONG * (found.max() - found.mean())
    kinds = [strong.numpy(), (found > 0).numpy()]
    if unit.module == OUTPUT:
        kinds.insert(0, (logits(of).argmax(1) == unit.channel).numpy())
    for kind in kinds:
        if kind.sum() >= max(least, ENOUGH):
            rows = np.flatnonzero(kind)
            break
    if len(rows) < least:
        raise DataError(
            f"{unit} is excited by {len(rows)} pictures, and {least} are needed: give more "
            f"pictures, views={least}, or a smaller k"
        )
    order = np.argsort(-found.numpy()[rows], kind="stable")
    return rows[order[:count]], found


def running(network: nn.Module, names: Sequence[str], call: Callable[[], Any]) -> list[str]:
    """Those of some modules that a call runs as modules, in the order of their names."""
    ran: set[str] = set()

    def notes(name: str) -> Callable[..., None]:
        return lambda *_: ran.add(name)

    handles = [network.get_submodule(one).register_forward_hook(notes(one)) for one in names]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return [one for one in names if one in ran]


def layers_for_codes(of: Shown, picture: Tensor) -> list[str]:
    """The block in the middle of the stack and the last one; without a stack, of its layers.

    Args:
        picture: (C, H, W) one, by which those are found that run as modules.
    """
    network = of.network
    names: list[str] = []
    with contextlib.suppress(ModelError):
        stack = Stack.of(network)
        names = stack.names if stack.name else []  # "" are all layers of a plain sequence
    names = running(network, names, partial(of, picture[None]))
    if not names:
        kinds = (nn.Conv1d, nn.Conv2d, nn.Linear)
        names = [name for name, one in network.named_modules() if isinstance(one, kinds)]
        names = running(network, names, partial(of, picture[None]))
        names = names[:-1] or names  # the last one answers
    if not names:
        raise ModelError("the network has no layer whose codes part pictures; name one: layer=...")
    return list(dict.fromkeys([names[-1], names[len(names) // 2]]))


def codes_of(of: Shown, pictures: Tensor, layer: str) -> Tensor:
    """(n, D) what a layer answers, its map averaged to a coarse grid."""
    with torch.no_grad():
        found = [
            # a layer inside a scan answers moment by moment: all rows are of the one picture
            code(answer_of(of.network, layer, partial(of, one[None])), of.sides)
            .float()
            .mean(0, keepdim=True)
            for one in pictures
        ]
    return torch.cat(found)


def parted(
    of: Shown,
    pictures: Tensor,
    layers: Sequence[str],
    k: int | Literal["auto"],
    *,
    n_mean: int,
    pca: int,
    embed: Embed,
    seed: int,
) -> tuple[Facets, str, Tensor]:
    """The facets by the layer with the best silhouette, its name, and the codes."""
    best: tuple[Facets, str, Tensor] | None = None
    for layer in layers:
        codes = codes_of(of, pictures, layer)
        found = find_facets(codes, k, n_mean=n_mean, pca=pca, embed=embed, seed=seed)
        if best is None or found.silhouette > best[0].silhouette:
            best = found, layer, codes
    assert best is not None
    return best


def coverage(codes: Tensor, facets: Facets, made: Tensor) -> float:
    """Share of the exciting pictures whose facet a made picture falls into.

    Args:
        codes: (n, D) of the exciting pictures. made: (m, D) of those that were made; each belongs
            to the facet whose mean code is nearest, every number on the scale of `codes`.
    """
    mean, std = codes.mean(0), codes.std(0).clamp(min=1e-6)
    labels = torch.from_numpy(facets.labels)
    centres = torch.stack(
        [((codes[labels == one] - mean) / std).mean(0) for one in range(len(facets))]
    )
    hit = torch.cdist((made - mean) / std, centres).argmin(1).unique()
    return float(torch.isin(labels, hit).double().mean())


def noise(of: Shown, seed: int) -> Tensor:
    """(C, *S) grey with little noise, as the published code begins: N(175, 8)."""
    generator = torch.Generator().manual_seed(seed)
    return (175 + 8 * torch.randn(of.pictures.shape[1:], generator=generator)).clamp(0, 255)


def named(of: Shown, unit: Unit) -> str:
    """The unit in words, the class of an output among them."""
    if unit.module == OUTPUT and of.classes is not None and unit.channel < len(of.classes):
        return f"{unit} ({of.classes[unit.channel]})"
    return str(unit)
