"""What pruning did to a layer, in numbers and in a sentence."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice
from stackwise.shrink.lattice_pruning.units import Units


def lattice_report(units: Units, lattice: Lattice) -> dict[str, Any]:
    """What was found of a layer: counts of its units and edges, before anything is pruned."""
    total = int(lattice.present.sum())
    components = lattice.components.unique(return_counts=True)[1]
    return {
        "layer": units.name,
        "units": len(lattice),
        "components": len(components),
        "largest component": int(components.max()),
        "elements": len(lattice.twins.unique()),
        "irreducible": int(lattice.irreducible.sum()),
        "critical": int(lattice.critical.sum()),
        "connections": total,
        "above the threshold": int(lattice.edges.sum()),
        "warning": lattice.void,
    }


def edge_report(units: Units, lattice: Lattice, mask: Tensor) -> dict[str, Any]:
    """The same with the connections that stay, and whose doing it is that the others went.

    `kept mass` is sum(|W| M) / sum |W| of the influences. Connections are those between units: in
    the weights each stands once a gate.
    """
    found = lattice_report(units, lattice)
    total, kept = found["connections"], int(mask.sum())
    return found | {
        "kept": kept,
        "sparsity": 1 - kept / total,
        "of the threshold": 1 - found["above the threshold"] / total,
        "of the lattice": (found["above the threshold"] - kept) / total,
        "kept mass": float((lattice.influence * mask).sum() / lattice.influence.sum()),
        "irreducible units": lattice.irreducible.nonzero().flatten().tolist(),
    }


def unit_report(
    units: Units, lattice: Lattice, kept: Sequence[Sequence[Sequence[int]]]
) -> dict[str, Any]:
    """The same with the units that stay, kept[layer][direction]."""
    found = lattice_report(units, lattice)
    return found | {
        "kept units": sum(len(kept[layer][way]) for layer, way, _ in units.parts),
        "irreducible units": lattice.irreducible.nonzero().flatten().tolist(),
    }


def sentence(report: dict[str, Any]) -> str:
    """A report in words."""
    which = f"{report['irreducible']} of {report['units']} units are irreducible"
    if "kept" not in report:
        return f"{report['layer']}: {which}, {report['kept units']} units stay"
    return (
        f"{report['layer']}: {which}; {report['sparsity']:.1%} of the connections are zero, "
        f"{report['of the threshold']:.1%} by the threshold and {report['of the lattice']:.1%} by "
        "the lattice"
    )
