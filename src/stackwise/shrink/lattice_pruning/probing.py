"""The probe: the dependency lattice of each recurrent layer, as tables and as pictures."""

import copy
from typing import Any

import pandas as pd
from torch import nn

from stackwise.catalog import probe
from stackwise.errors import ModelError
from stackwise.findings import Findings
from stackwise.shrink.lattice_pruning.dependency.lattice import Lattice, lattice_of
from stackwise.shrink.lattice_pruning.dependency.pictures import hasse_picture
from stackwise.shrink.lattice_pruning.edges import Keep, edge_mask
from stackwise.shrink.lattice_pruning.entry import CARD, lattices_of, parted
from stackwise.shrink.lattice_pruning.removing import staying
from stackwise.shrink.lattice_pruning.reporting import lattice_report
from stackwise.shrink.lattice_pruning.units import units_of


@probe(
    "lattice-pruning",
    tasks=("images",),
    takes=("learner", "module"),
    having="recurrent layers",
    shared=(units_of, lattice_of),
    **CARD,
)
def dependency_lattice(model: Any, data: Any = None, **knobs: Any) -> Findings:
    """Show which units of recurrent layers depend on which, and what pruning would leave.

    Args:
        model: a fitted learner or any module with recurrent layers. It is not changed.
        data: not looked at; the lattice is of the weights.
        knobs: those of `units_of` and `lattice_of`.

    Returns:
        Findings: table `units` (a row a unit: its set's size, component, gap, centrality, whether
        it is irreducible and critical, and the first unit that has its set), table `layers` (a row
        a layer, with the share of connections that each rule would keep), table `covers` (the edges
        of the Hasse diagrams) and a picture a layer.

    Raises:
        ModelError: there is no recurrent layer, or weights are no numbers.
        KnobError: knobs that do not go together.
    """
    network = copy.deepcopy(getattr(model, "network_", model))
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"a {type(model).__name__} has no network; give an nn.Module or a fitted neural learner"
        )
    settings, _ = parted(knobs, (units_of, lattice_of))
    found = lattices_of(network, settings)
    layers, units, edges, figures = [], [], [], {}
    summary = {}
    for of_layer, lattice in found:
        name = of_layer.name
        report = lattice_report(of_layer, lattice)
        warning = report.pop("warning")
        layers.append(report | _kept(lattice))
        units.append(_named(_table(lattice), name))
        if lattice.crisp:
            pairs = lattice.covers.nonzero().tolist()
            edges.append(_named(pd.DataFrame(pairs, columns=["upper", "lower"]), name))
        figures[f"lattice {name}"] = hasse_picture(lattice)
        which = f"{report['irreducible']} of {report['units']} units are irreducible"
        summary[name] = warning or which
    tables = {"layers": pd.DataFrame(layers).set_index("layer"), "units": pd.concat(units)}
    if edges:
        tables["covers"] = pd.concat(edges)
    return Findings(tables, figures, summary)


def _named(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    """A table whose every row is of a layer."""
    return table.set_index(pd.Index([layer] * len(table), name="layer"))


def _kept(lattice: Lattice) -> dict[str, float]:
    """The share of the connections, and of the units, that each rule would keep."""
    rules: list[Keep] = ["either", "both"]
    if lattice.crisp:
        rules.append("cover")
    total = int(lattice.present.sum())
    shares = {
        f"kept by {rule}": float(edge_mask(lattice, keep=rule).sum()) / total for rule in rules
    }
    return shares | {"kept by units": float(staying(lattice).double().mean())}


def _table(lattice: Lattice) -> pd.DataFrame:
    """A row a unit."""
    return pd.DataFrame(
        {
            "unit": range(len(lattice)),
            "set size": lattice.sets.double().sum(1).numpy(),
            "component": lattice.components.numpy(),
            "twin of": lattice.twins.numpy(),
            "irreducible": lattice.irreducible.numpy(),
            "gap": lattice.gap.numpy(),
            "centrality": lattice.centrality.numpy(),
            "critical": lattice.critical.numpy(),
        }
    )
