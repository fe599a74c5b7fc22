"""What a network is shown: pictures or series in grey levels from 0 to 255, and how it takes them.

Whatever the network's own scale is, a picture here is from 0 to 255 a channel, so that a step means
the same everywhere, and a mean is one of pictures as they are:

    the network's input = low + picture / 255 (high - low)
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.errors import DataError, ModelError
from stackwise.probe.multifaceted_visualization.maximise import WHITE, resized
from stackwise.probe.multifaceted_visualization.units import tensor_of
from stackwise.tasks.images.estimators.pixels import Pixels, for_transformers

BLOCK = 32


@dataclass(frozen=True)
class Shown:
    """A network and the pictures that it is shown.

    Attributes:
        network: in evaluation mode, frozen. pictures: (n, C, *S) from 0 to 255.
        low, high: (C,) what 0 and 255 are in the network's input. name: of that argument; None is
            the first one.
        others: further arguments, for one picture each. sources: which picture of the data each is.
        classes: of the outputs, where they are known. also: further arguments that are the same
            pictures, where a network of several members reads them member by member.
    """

    network: nn.Module
    pictures: Tensor
    low: Tensor
    high: Tensor
    name: str | None
    others: Mapping[str, Tensor]
    sources: np.ndarray
    classes: list[str] | None = None
    also: tuple[str, ...] = ()

    @property
    def sides(self) -> int:
        """2 for pictures, 1 for series."""
        return self.pictures.ndim - 2

    def __call__(self, pictures: Tensor) -> Any:
        """What the network answers to pictures from 0 to 255."""
        shape = (1, -1, *(1 for _ in range(self.sides)))
        low, high = self.low.view(shape), self.high.view(shape)
        asked = (low + pictures / WHITE * (high - low)).contiguous()
        others = {name: one.expand(len(pictures), *one.shape[1:])
                  for name, one in self.others.items()}  # fmt: skip
        if self.name is None:
            return self.network(asked, **others)
        given = dict.fromkeys((self.name, *self.also), asked)
        return self.network(**given, **others)

    def cropped(self, views: int, seed: int) -> "Shown":
        """Each picture seen `views` times: whole, and by random crops of half to all of a side."""
        if views == 1:
            return self
        generator = torch.Generator().manual_seed(seed)
        found, size = [], self.pictures.shape[2:]
        for picture in self.pictures:
            found.append(picture)
            for _ in range(views - 1):
                share = 0.5 + 0.5 * torch.rand((), generator=generator).item()
                places = [slice(None)]
                for side in size:
                    length = max(1, round(side * share))
                    first = int(torch.randint(side - length + 1, (), generator=generator))
                    places.append(slice(first, first + length))
                found.append(resized(picture[tuple(places)][None], size).clamp(0, WHITE)[0])
        sources = np.repeat(self.sources, views)
        return replace(self, pictures=torch.stack(found), sources=sources)


def shown(model: Any, data: Any, most: int, seed: int, size: int | None = None) -> Shown:
    """Bring a model and data together.

    Args:
        model: a fitted learner on pictures or series, a vision model of transformers, or a module.
        data: a loaded task, a source of pictures, or batches: tensors, or dicts of the model's
            arguments. most: pictures that are looked at, drawn at random where there are more.
        size: the side at which a network that takes any size is shown pictures.

    Raises:
        DataError: there is no data, or no picture in it. ModelError: the model is no network.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"a {type(model).__name__} is no network; give a fitted network, a torch module, a "
            "model folder or the name of a packaged network"
        )
    if data is None:
        raise DataError("there is nothing to look at: give pictures, --data photos/")
    if hasattr(model, "inputs_of_module"):
        samples = _samples(data)
        if samples is None:
            samples = _pictures(data, getattr(model, "image_shape_", None))
        rows = _drawn(len(samples), most, seed)
        inputs = dict(model.inputs_of_module(network, samples[rows]))
        classes = [str(one) for one in getattr(model, "classes_", [])] or None
        return replace(_of_inputs(network, inputs, rows), classes=classes)
    batches = _batches(data)
    if batches is not None:
        return _of_batches(network, batches, most, seed)
    asked = size or getattr(network, "image_size", None)
    return _on_pictures(network, data, asked, most, seed)


def _on_pictures(network: Any, data: Any, size: Any, most: int, seed: int) -> Shown:
    """A bare network, which says itself how it takes pictures, or a model of transformers."""
    samples = _samples(data)
    hugging = "pixel_values" in str(getattr(network, "main_input_name", ""))
    if hugging:
        side = getattr(network.config, "image_size", 224)
        height, width = (side, side) if isinstance(side, int) else tuple(side)
        channels = int(getattr(network.config, "num_channels", 3))
    else:
        height, width = (size, size) if isinstance(size, int) else tuple(size or (224, 224))
        channels = 3
    if samples is None:
        samples = _pictures(data, (channels, height, width))
    rows = _drawn(len(samples), most, seed)
    picked = samples[rows]
    if hugging:
        pixels = for_transformers(picked, network.config)
        named = getattr(network.config, "id2label", None)
        classes = None if named is None else [str(one) for one in named.values()]
        return replace(_of_inputs(network, {"pixel_values": pixels}, rows), classes=classes)
    mean = np.full(channels, getattr(network, "pixel_mean", 0.0))
    std = np.full(channels, getattr(network, "pixel_std", 1.0))
    found = _of_inputs(network, {"": Pixels(picked, mean, std, picked.shape[2:])}, rows)
    return replace(found, pictures=resized(found.pictures, (height, width)).clamp(0, WHITE))


def _samples(data: Any) -> Any:
    """Samples of a loaded task: those that were trained on."""
    return data.part("train")[0] if hasattr(data, "part") else None


def _pictures(data: Any, shape: Any) -> Any:
    """The pictures of a source, brought to the shape (C, H, W)."""
    from stackwise.tasks.images.reading.find import find_pictures
    from stackwise.tasks.images.reading.loading import load_pictures

    found = find_pictures(data, labelled=False)
    if shape is None:
        return load_pictures(found)[0]
    channels, height, width = shape
    return load_pictures(found, (height, width), channels)[0]


def _drawn(count: int, most: int, seed: int) -> np.ndarray:
    """Rows, all of them or a draw."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _batches(data: Any) -> list[Any] | None:
    """Batches that the model is called with, where data are such."""
    if isinstance(data, Tensor):
        return [data]
    if isinstance(data, (str, os.PathLike, np.ndarray, tuple)) or hasattr(data, "part"):
        return None
    if not isinstance(data, Iterable):
        return None
    found = list(data)
    if found and all(isinstance(one, (Tensor, Mapping)) for one in found):
        return found
    return None


def _of_batches(network: nn.Module, batches: list[Any], most: int, seed: int) -> Shown:
    """A module and tensors that it takes as they are; their range is what it may be shown."""
    named = [one if isinstance(one, Mapping) else {"": one} for one in batches]
    inputs = {
        name: torch.cat([one[name] for one in named])
        for name, tensor in named[0].items()
        if isinstance(tensor, Tensor) and tensor.ndim >= 3 and tensor.is_floating_point()
    }
    if len(inputs) != 1:
        raise DataError(
            f"batches hold {len(inputs)} tensors (B, C, ...) of floats, and one is needed: the "
            "pictures or the series"
        )
    ((name, whole),) = inputs.items()
    rows = _drawn(len(whole), most, seed)
    return _of_inputs(network, {name: whole[torch.from_numpy(rows)]}, rows)


def _of_inputs(network: nn.Module, inputs: Mapping[str, Any], rows: np.ndarray) -> Shown:
    """The inputs of a network, brought to 0 to 255 a channel."""
    name, asked = next(
        ((name, one) for name, one in inputs.items() if len(one.shape) in (3, 4)), (None, None)
    )
    if asked is None:
        raise DataError("the model reads neither pictures nor series (B, C, ...)")
    also = tuple(
        key for key, one in inputs.items()
        if key != name and not isinstance(one, Tensor) and tuple(one.shape) == tuple(asked.shape)
    )  # fmt: skip
    whole = asked[:].float()
    if not whole.numel():
        raise DataError("there is no picture to look at")
    if isinstance(asked, Pixels) and _are_bytes(asked):
        low = (-asked.mean / asked.std).flatten()
        high = ((1 - asked.mean) / asked.std).flatten()
    else:  # of other numbers the range is what was seen
        flat = whole.transpose(0, 1).flatten(1)
        low, high = flat.min(1).values, flat.max(1).values
        high = torch.where(high > low, high, low + 1)
    shape = (1, -1, *(1 for _ in range(whole.ndim - 2)))
    pictures = (whole - low.view(shape)) / (high - low).view(shape) * WHITE
    others = {
        key: one[:1].clone() for key, one in inputs.items()
        if key != name and isinstance(one, Tensor)
    }  # fmt: skip
    if "lengths" in others:  # a series that is made has all moments
        others["lengths"] = torch.full_like(others["lengths"], whole.shape[-1])
    return Shown(
        network, pictures.clamp(0, WHITE), low, high, name or None, others, rows, also=also
    )


def _are_bytes(pixels: Pixels) -> bool:
    first: Any = pixels.pictures[np.arange(1)]
    return bool(first.dtype == np.uint8)


def answers(of: Shown, ask: Any) -> Tensor:
    """(n, ...) what `ask` finds for blocks of the pictures, in their order."""
    with torch.no_grad():
        found = [ask(of.pictures[at : at + BLOCK]) for at in range(0, len(of.pictures), BLOCK)]
    return torch.cat(found)


def logits(of: Shown) -> Tensor:
    """(n, K) what the network answers."""
    return answers(of, lambda pictures: tensor_of(of(pictures)).float())
