"""A network in a folder: its weights as safetensors, and what makes it again as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from stackwise.catalog import cards
from stackwise.errors import RunError
from stackwise.file_bounds import within
from stackwise.layers.arguments import NETWORKS, parts_of, place_of, with_parts
from stackwise.layers.sweeps import sweeps_of, with_sweeps
from stackwise.sparse_files import load_sparse, save_sparse


def keep_network(network: Any, folder: Path) -> dict[str, Any]:
    """Write a network that keeps its arguments; returns what a record holds of it."""
    save_sparse(network.state_dict(), folder / "model.safetensors")
    parts = parts_of(network)
    return (
        {"class": place_of(type(network)), "arguments": network.arguments}
        | ({"parts": parts} if parts else {})
        | ({"sweeps": sweeps} if (sweeps := sweeps_of(network)) else {})
    )


def network_in(folder: Path, record: Mapping[str, Any]) -> nn.Module:
    """The inverse of `keep_network`.

    Raises:
        RunError: the weights are of another network, or a class is named that no method brings.
    """
    made = network_class(record["class"])
    path = folder / "model.safetensors"
    tensors = load_sparse(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    parts, told = record.get("parts", []), record.get("sweeps")

    def whole(**arguments: Any) -> nn.Module:
        network = with_parts(made(**arguments), parts, network_class)
        return with_sweeps(network, told)

    network = within(whole, record["arguments"], shapes, path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise RunError(f"{path} holds weights of another network ({why})") from error
    return network


def network_class(place: Any) -> type[nn.Module]:
    """The class of a network that a model file names: one that a method has decorated.

    Where its module is not imported yet, those methods of the catalog are that lie beside it; the
    name in the file itself is never imported.
    """
    if isinstance(place, str) and place not in NETWORKS:
        room = place.partition(":")[0].rpartition(".")[0]
        for of in cards().values():
            for entry in of.entries:
                if entry.target.partition(":")[0].rpartition(".")[0] == room:
                    entry.load()
    if not isinstance(place, str) or place not in NETWORKS:
        raise RunError(
            f"the model file names the network {str(place)[:80]!r}, and nothing outside of those "
            "that methods of this installation bring is made of a file"
        )
    return NETWORKS[place]
