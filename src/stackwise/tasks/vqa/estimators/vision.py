"""A vision transformer as what makes tokens of pictures."""

import inspect
from typing import Any

import numpy as np
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.optional import needs
from stackwise.tasks.images.estimators.frozen import IMAGENET
from stackwise.tasks.language.new_encoder import BERT_RANGE, BERT_WIDTH


class Tower(nn.Module):
    """A vision transformer of transformers, asked for the tokens of its patches.

    Args:
        model: takes `pixel_values` and gives `last_hidden_state`, the patches last in it.
        side: pixels of a picture's side.

    Attributes:
        patches: of a side. width: numbers of a token.

    Raises:
        ModelError: it is no such model. KnobError: the side is no whole number of patches.
    """

    def __init__(self, model: Any, side: int) -> None:
        super().__init__()
        config: Any = getattr(model, "config", None)
        patch = getattr(config, "patch_size", None)
        if not isinstance(patch, int) or getattr(model, "main_input_name", "") != "pixel_values":
            raise ModelError(
                f"a {type(model).__name__} makes no tokens of a picture's patches; give a vision "
                "transformer, such as dinov2-small"
            )
        if side % patch:
            raise KnobError(f"side={side} is no multiple of the {patch} pixels of a patch")
        self.model, self.side = model, side
        self.patches, self.width = side // patch, int(config.hidden_size)
        # towers with a table of positions for one size alone are told to interpolate
        fixed = getattr(config, "image_size", side) != side
        self.more = {"interpolate_pos_encoding": True} if fixed and _asks_for_it(model) else {}

    def inputs(self, pictures: Tensor) -> dict[str, Any]:
        """What the model is called with for (n, C, r, r) pictures."""
        return {"pixel_values": pictures} | self.more

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, C, r, r) -> (n, p, p, width)."""
        return patches_of(self.model(**self.inputs(pictures)).last_hidden_state, self.patches)


def patches_of(tokens: Tensor, side: int) -> Tensor:
    """(n, lead + side^2, width) -> (n, side, side, width): without class and register tokens."""
    return tokens[:, tokens.shape[1] - side * side :].unflatten(1, (side, side))


def new_vision(
    *, side: int, patch: int, channels: int, layers: int, width: int, heads: int
) -> nn.Module:
    """A small vision transformer of random weights, drawn from torch's random state.

    Raises:
        KnobError: the sizes do not divide.
    """
    needs("transformers", "a vision model")
    from transformers import Dinov2Config, Dinov2Model

    if side % patch:
        raise KnobError(f"side={side} is no multiple of patch={patch}")
    if width % heads:
        raise KnobError(f"vision_width={width} does not divide into {heads} heads")
    config = Dinov2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, image_size=side,
        patch_size=patch, num_channels=channels, architectures=["Dinov2Model"],
        initializer_range=BERT_RANGE * (BERT_WIDTH / width) ** 0.5,
    )  # fmt: skip
    model: nn.Module = Dinov2Model(config)
    return model


def normalisation(model: Any, new: bool) -> tuple[list[float], list[float]]:
    """Mean and deviation of a channel by which pictures of 0 to 1 are normalised: those that a
    pretrained model of DINO's family has learned with, else a half.
    """
    config: Any = model.config
    known = not new and config.num_channels == 3 and str(config.model_type).startswith("dino")
    half = np.full(config.num_channels, 0.5)
    mean, std = IMAGENET if known else (half, half)
    return np.asarray(mean).tolist(), np.asarray(std).tolist()


def _asks_for_it(model: nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
