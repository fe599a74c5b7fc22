"""Pretrained networks of ours whose weights packages carry: the published names become ours."""

from pathlib import Path
from typing import TYPE_CHECKING

from stackwise.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the published weights of EfficientNet-Lite0."""

OUTSIDE = {
    "_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "widen.0", "_bn1": "widen.1",
    "_fc": "head",
}  # fmt: skip
INSIDE = {
    "_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1",
}  # fmt: skip


def efficientnet_lite0(file: Path) -> "nn.Module":
    """EfficientNet-Lite0 as it was trained on ImageNet, in eval mode.

    Raises:
        DataError: the file is not the published one.
    """
    import torch

    from stackwise.layers.efficientnet_lite import EfficientNetLite

    check_sha256(file, LITE0)
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = EfficientNetLite()
    network.load_state_dict(renamed(weights))
    return network.eval()


def renamed(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The published tensors of an EfficientNet-Lite by the names in `EfficientNetLite`."""
    found = {}
    for name, tensor in weights.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            number, part, last = rest
            found[f"blocks.{number}.{INSIDE[part]}.{last}"] = tensor
        else:
            found[".".join([OUTSIDE[first], *rest])] = tensor
    return found


def check_sha256(file: Path, wanted: str) -> None:
    """The file's bytes are those that were published.

    Raises:
        DataError: they are not.
    """
    import hashlib

    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != wanted:
        raise DataError(
            f"{file} is not the published file of weights (its sha256 begins with {found[:8]}, not "
            f"{wanted[:8]}); install the package's version that 'stackwise data' names"
        )
