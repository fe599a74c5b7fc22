"""The learned edge functions: their values, their pictures, and the probe that shows them.

    phi_{ji}(x) = sum_m sum_b c~^m_{jib} B^m_b(x) + w_{ji} silu(x)

Source: arXiv 2408.08338. Differs from the paper: edges are ranked by the deviation of phi over the
inputs that reach them (without data: over [-1, 1]), so that the picture shows what matters.
"""

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from stackwise.build.skan.layer import PrunedKANLayer, SelectableKANLayer
from stackwise.build.skan.network import SKAN
from stackwise.catalog import Knob, probe
from stackwise.errors import ModelError
from stackwise.findings import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "bspline": "#30638e", "fastrbf": "#8d5a97", "rbf": "#d1495b", "rswaf": "#b08968",
    "cheby": "#edae49", "jacobi": "#7a9e3f", "gram": "#5f6b7a", "wavelet": "#00798c",
    "relu": "#c26a00", "fourier": "#3d8b5f", "several": "#1b1b1b", "none": "#1b1b1b",
}  # fmt: skip
Layer = SelectableKANLayer | PrunedKANLayer


@torch.no_grad()
def edge_values(layer: Layer, x: Tensor) -> Tensor:
    """The functions of all edges at given inputs, (B, n_in) -> (B, n_out, n_in).

    Summed over n_in, with the bias added, they are the output of the layer.
    """
    found = x.new_zeros(len(x), layer.n_out, layer.n_in)
    for family, weight in layer.folded().items():
        inputs = layer.chosen[family] if isinstance(layer, PrunedKANLayer) else range(layer.n_in)
        places = list(inputs)
        found[:, :, places] += torch.einsum(
            "bik,jik->bji", layer.bases[family](x[:, places]), weight
        )
    if layer.base is not None:
        found += F.silu(x)[:, None] * layer.base.weight
    return found


def edge_families(layer: Layer) -> list[list[str]]:
    """The family of each edge by output and input; `several` where more than one acts."""
    if not isinstance(layer, PrunedKANLayer):
        only = layer.pool[0] if len(layer.pool) == 1 else "several"
        return [[only] * layer.n_in for _ in range(layer.n_out)]
    table = [["none"] * layer.n_in for _ in range(layer.n_out)]
    for family, inputs in layer.chosen.items():
        alive = getattr(layer, f"alive_{family}")
        for place, i in enumerate(inputs):
            for j in range(layer.n_out):
                if alive is None or bool(alive[j, place]):
                    table[j][i] = family if table[j][i] == "none" else "several"
    return table


def _axis(layer: Layer, low: float, high: float, points: int) -> Tensor:
    first = next(iter(layer.parameters()))
    line = torch.linspace(low, high, points, device=first.device, dtype=first.dtype)
    return line[:, None].expand(-1, layer.n_in)


def edge_figure(network: SKAN, layer: int, node: int, output: int) -> "Figure":
    """The function of one edge on [-1, 1], from a node of a layer to one of its outputs."""
    if not 0 <= layer < len(network.layers):
        raise ModelError(f"layer must be among 0..{len(network.layers) - 1}, got {layer}")
    of: Any = network.layers[layer]
    if not (0 <= node < of.n_in and 0 <= output < of.n_out):
        raise ModelError(
            f"layer {layer} leads from nodes 0..{of.n_in - 1} to outputs 0..{of.n_out - 1}, not "
            f"from {node} to {output}"
        )
    x = _axis(of, -1, 1, 201)
    return _panels([{
        "x": x[:, 0].cpu().numpy(), "y": edge_values(of, x)[:, output, node].cpu().numpy(),
        "family": edge_families(of)[output][node], "title": f"layer {layer}: {node} to {output}",
    }])  # fmt: skip


def _panels(edges: list[dict[str, Any]]) -> "Figure":
    # a figure of its own, unknown to pyplot: nothing to close, and no window
    from matplotlib.figure import Figure

    columns = min(4, len(edges))
    count = math.ceil(len(edges) / columns)
    figure = Figure(figsize=(2.7 * columns + 0.4, 2.2 * count + 0.3), layout="constrained")
    for place, edge in enumerate(edges):
        axes = figure.add_subplot(count, columns, place + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(0, color="#dddddd", linewidth=0.8)
        axes.plot(edge["x"], edge["y"], color=COLOURS.get(edge["family"], "#1b1b1b"), linewidth=1.8)
        if "seen" in edge:
            axes.plot(edge["seen"], np.zeros(len(edge["seen"])), "|", color="#888888", alpha=0.25,
                      transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        axes.set_title(f"{edge['title']}\n{edge['family']}", fontsize="small")
        axes.tick_params(labelsize="x-small")
    return figure


def node_names(learner: Any, network: SKAN) -> list[str]:
    """What the inputs of the first layer are called, (d,)."""
    contract = getattr(learner, "contract_", None)
    if contract is None:
        return [f"x{place}" for place in range(network.layers[0].n_in)]  # type: ignore[arg-type]
    names = list(contract.numeric_names)
    for name, count in zip(contract.categorical_names, contract.cardinalities, strict=True):
        names += [f"{name} [{code}]" for code in range(count)]
    return names


@probe(
    "skan",
    title="A Kolmogorov-Arnold network that chooses its activation families",
    verb="build",
    takes=("learner",),
)
def skan_edges(
    model: Any,
    data: Any = None,
    *,
    edges: Annotated[int, Knob("edges of each layer that the picture shows", ge=1, le=64)] = 8,
    points: Annotated[int, Knob("places at which a function is read", ge=2)] = 101,
) -> Findings:
    """Show the learned edge functions of a fitted S-KAN, the ones that move most first.

    Args:
        model: a fitted S-KAN learner, its network, or a run that holds one.
        data: rows (X, or X and y, or a loaded task) over which the edges are ranked and whose
            inputs are marked below each function; None ranks them over [-1, 1].

    Returns:
        Findings with the tables `edges` (one line an edge: layer, node, output, strength, and the
        place of its family in the summary's `families`) and `functions` (a column for each edge
        that is shown), a figure a layer, and a summary.

    Raises:
        ModelError: the model is no S-KAN.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, SKAN):
        raise ModelError(f"a {type(model).__name__} has no edge functions; give a fitted S-KAN")
    flow = _first_inputs(model, network, data)
    names = node_names(model, network)
    families = [*network.arguments["pool"], "several", "none"]
    lines: list[dict[str, float]] = []
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, Any] = {}
    curves: dict[str, np.ndarray] = {}
    used: dict[str, int] = {}
    for place, module in enumerate(network.layers):
        layer: Any = module
        seen = _axis(layer, -1, 1, points) if flow is None else flow
        strength = edge_values(layer, seen).std(0)
        of = edge_families(layer)
        for j in range(layer.n_out):
            for i in range(layer.n_in):
                used[of[j][i]] = used.get(of[j][i], 0) + 1
                lines.append({
                    "layer": place, "node": i, "output": j, "strength": float(strength[j, i]),
                    "family": families.index(of[j][i]),
                })  # fmt: skip
        shown = []
        order = strength.flatten().argsort(descending=True, stable=True)[:edges].tolist()
        for j, i in (divmod(at, layer.n_in) for at in order):
            low, high = float(seen[:, i].min()), float(seen[:, i].max())
            x = _axis(
                layer, low if high > low else low - 1, high if high > low else low + 1, points
            )
            y = edge_values(layer, x)[:, j, i].cpu().numpy()
            curves[f"{place}.{i}.{j} x"] = x[:, 0].cpu().numpy()
            curves[f"{place}.{i}.{j}"] = y
            title = f"{names[i] if place == 0 else f'node {i}'} to {j}"
            edge = {"x": x[:, 0].cpu().numpy(), "y": y, "family": of[j][i], "title": title}
            if flow is not None:
                edge["seen"] = seen[:200, i].cpu().numpy()
            shown.append(edge)
        figures[f"layer{place}"] = _panels(shown)
        flow = None if flow is None else layer(flow).detach()
    tables["edges"] = pd.DataFrame(lines)
    tables["functions"] = pd.DataFrame(curves).astype(float)
    summary = {
        "layers": len(network.layers), "edges": len(lines), "families": families, "used": used,
        "parameters": sum(p.numel() for p in network.parameters()),
        "nodes": names,
    }  # fmt: skip
    return Findings(tables, figures, summary)


@torch.no_grad()
def _first_inputs(model: Any, network: SKAN, data: Any) -> Tensor | None:
    if data is None or not hasattr(model, "transform_columns"):
        return None
    X = data.part("train")[0] if hasattr(data, "part") else data
    X = X[0] if isinstance(X, tuple) else X
    arrays = model.transform_columns(X[:1000])
    device = next(network.parameters()).device
    return network.features(
        torch.as_tensor(arrays.numeric, device=device),
        torch.as_tensor(arrays.categorical, device=device),
    )
