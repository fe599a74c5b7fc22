"""A model folder of transformers makes no model larger than the weights that lie in it.

Its `config.json` is read as data first, since some configs make lists of their sizes at once; then
the model is made without numbers and watched while it grows, as `file_bounds` says.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from stackwise.errors import ModelError, RunError
from stackwise.file_bounds import SPARE, TooLarge, growing_within, numbers_in, shown
from stackwise.files import check_shape, read_file

SIZE = re.compile(r"(layers?|size|dim|d_model|d_ff|heads|n_embd|n_head|experts|channels|width)$")
"""Names in a config that say how large a model is."""


def config_json(folder: Path) -> dict[str, Any]:
    """What `config.json` of a model folder holds; an infinite number may be among it, as no limit.

    Raises:
        RunError: it is missing, or holds no table.
    """
    path = folder / "config.json"
    found = read_file(path, lambda place: json.loads(place.read_text(encoding="utf-8")))
    check_shape(path, found, dict)
    return dict(found)


def check_config(config: dict[str, Any], folder: Path) -> None:
    """Whole numbers that are sizes are no larger than the weights in the folder: some configs make
    lists of that length as soon as they are read.

    Raises:
        RunError: one is.
    """
    shapes = weight_shapes(folder)
    if not shapes:
        return
    most = {"layers": 4 * len(shapes) + SPARE, "": max(numbers_in(shapes), 1 << 20)}
    for name, value in config.items():
        if isinstance(value, dict):
            check_config(value, folder)
        if not isinstance(value, int) or not SIZE.search(name):
            continue
        if value > most["layers" if "layer" in name else ""]:
            raise RunError(
                f"{folder / 'config.json'} says {name} {shown(value)}, far more than the weights "
                "beside it have"
            )


def check_size(builder: Any, config: Any, folder: Path) -> None:
    """The model that a config says is as large as the weights beside it, before it is made.

    Raises:
        RunError: it is larger.
    """
    shapes = weight_shapes(folder)
    make = getattr(builder, "_from_config", None) or getattr(builder, "from_config", None)
    if not shapes or make is None:
        return
    try:
        with growing_within(shapes), torch.device("meta"):
            make(copy.deepcopy(config))
    except TooLarge as error:
        raise RunError(
            f"{folder / 'config.json'} says another model than the weights beside it ({error})"
        ) from error


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in the safetensors files of a folder; headers alone are read."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is no whole safetensors file ({error})") from error
    return shapes
