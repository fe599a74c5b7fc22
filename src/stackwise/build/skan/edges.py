"""The learned edge functions: their values, their pictures, and the probe that shows them.

    phi_{ji}(x) = sum_m sum_b c~^m_{jib} B^m_b(x) + w_{ji} silu(x)

A convolution has a function for each tap of its window besides.

Source: arXiv 2408.08338. Differs from the paper: edges are ranked by the deviation of phi over the
inputs that reach them (without data: over [-1, 1]), so that the picture shows what matters.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from stackwise.build.skan.gates import PrunedEdges, SelectableEdges
from stackwise.build.skan.selectable import SelectableNetwork
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
Layer = SelectableEdges | PrunedEdges
TAP = ("row", "column")
ROWS = 1000
PICTURES, PIXELS = 64, 1000
"""Pictures that are put through a network of convolutions, and the pixels of each map of which the
edge functions are taken."""


@torch.no_grad()
def edge_values(layer: Layer, x: Tensor) -> Tensor:
    """The functions of all edges at given inputs, (B, n_in) -> (B, n_out, n_in, *taps).

    Summed over n_in, with the bias added, they are the output of a layer without taps. The layer
    has one group.
    """
    found = x.new_zeros(len(x), layer.n_out, layer.n_in, *layer.taps)
    for family, weight in layer.folded().items():
        inputs = layer.chosen[family] if isinstance(layer, PrunedEdges) else range(layer.n_in)
        places = list(inputs)
        found[:, :, places] += torch.einsum(
            "bik,ji...k->bji...", layer.bases[family](x[:, places]), weight
        )
    if layer.base is not None:
        found += torch.einsum("bi,ji...->bji...", F.silu(x), layer.base.weight)
    return found


def edge_families(layer: Layer) -> np.ndarray:
    """(n_out, n_in, *taps) the family of each edge by name; `several` where more than one acts."""
    table = np.full((layer.n_out, layer.n_in, *layer.taps), "none", dtype=object)
    if not isinstance(layer, PrunedEdges):
        table[:] = layer.pool[0] if len(layer.pool) == 1 else "several"
        return table
    for family, inputs in layer.chosen.items():
        alive = layer.alive(family)
        acts = (
            np.ones((layer.n_out, len(inputs), *layer.taps), bool)
            if alive is None
            else (alive.cpu().numpy())
        )
        of = table[:, inputs]
        table[:, inputs] = np.where(acts, np.where(of == "none", family, "several"), of)
    return table


def _axis(layer: Layer, low: float, high: float, points: int) -> Tensor:
    first = next(iter(layer.parameters()))
    line = torch.linspace(low, high, points, device=first.device, dtype=first.dtype)
    return line[:, None].expand(-1, layer.n_in)


def edge_figure(
    network: SelectableNetwork,
    layer: int,
    node: int,
    output: int,
    tap: Sequence[int] | None = None,
) -> "Figure":
    """The function of one edge on [-1, 1], from a node of a layer to one of its outputs.

    Args:
        tap: row and column of a convolution's window; None for its middle.
    """
    layers = network.all_layers()
    if not 0 <= layer < len(layers):
        raise ModelError(f"layer must be among 0..{len(layers) - 1}, got {layer}")
    of: Any = layers[layer]
    if not (0 <= node < of.n_in and 0 <= output < of.n_out):
        raise ModelError(
            f"layer {layer} leads from nodes 0..{of.n_in - 1} to outputs 0..{of.n_out - 1}, not "
            f"from {node} to {output}"
        )
    at = tuple(side // 2 for side in of.taps) if tap is None else tuple(int(n) for n in tap)
    if len(at) != len(of.taps) or any(not 0 <= n < m for n, m in zip(at, of.taps, strict=True)):
        raise ModelError(f"layer {layer} has a window of {list(of.taps)}, and no tap {list(at)}")
    x = _axis(of, -1, 1, 201)
    where = (output, node, *at)
    return _panels([{
        "x": x[:, 0].cpu().numpy(), "y": edge_values(of, x)[:, *where].cpu().numpy(),
        "family": edge_families(of)[where],
        "title": f"layer {layer}: {node} to {output}{_tap_words(at)}",
    }])  # fmt: skip


def _tap_words(tap: Sequence[int]) -> str:
    return f", tap {', '.join(map(str, tap))}" if tap else ""


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


def node_names(learner: Any, network: SelectableNetwork) -> list[str]:
    """What the inputs of the first layer are called, (d,)."""
    contract, count = getattr(learner, "contract_", None), int(network.all_layers()[0].n_in)  # type: ignore[arg-type]
    if contract is None:
        colours = {1: ["grey"], 3: ["red", "green", "blue"]}
        pictures = hasattr(learner, "image_shape_") and count in colours
        return colours[count] if pictures else [f"x{place}" for place in range(count)]
    names = list(contract.numeric_names)
    for name, codes in zip(contract.categorical_names, contract.cardinalities, strict=True):
        names += [f"{name} [{code}]" for code in range(codes)]
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
        Findings with the tables `edges` (one line an edge: layer, node, output, row and column of
            a convolution's window, strength, and the
        place of its family in the summary's `families`) and `functions` (a column for each edge
        that is shown), a figure a layer, and a summary.

    Raises:
        ModelError: the model is no S-KAN.
    """
    network = getattr(model, "network_", model)
    if not isinstance(network, SelectableNetwork):
        raise ModelError(f"a {type(model).__name__} has no edge functions; give a fitted S-KAN")
    flow = _first_inputs(model, data)
    names = node_names(model, network)
    families = [*network.arguments["pool"], "several", "none"]
    lines: list[dict[str, float]] = []
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, Any] = {}
    curves: dict[str, np.ndarray] = {}
    used: dict[str, int] = {}
    for place, module in enumerate(network.all_layers()):
        layer: Any = module
        seen = _axis(layer, -1, 1, points) if flow is None else _values_of(flow)
        strength = edge_values(layer, seen).std(0)
        of = edge_families(layer)
        strengths = strength.cpu().numpy()
        for j, i, *tap in np.ndindex(*strengths.shape):
            family = str(of[j, i, *tap])
            used[family] = used.get(family, 0) + 1
            lines.append({
                "layer": place, "node": i, "output": j, **dict(zip(TAP, tap, strict=False)),
                "strength": float(strengths[j, i, *tap]), "family": families.index(family),
            })  # fmt: skip
        shown = []
        order = strength.flatten().argsort(descending=True, stable=True)[:edges].tolist()
        for flat in order:
            j, i, *tap = (int(n) for n in np.unravel_index(flat, strength.shape))
            low, high = float(seen[:, i].min()), float(seen[:, i].max())
            x = _axis(
                layer, low if high > low else low - 1, high if high > low else low + 1, points
            )
            at: Any = (slice(None), j, i, *tap)
            y = edge_values(layer, x)[at].cpu().numpy()
            name = ".".join(map(str, (place, i, j, *tap)))
            curves[f"{name} x"] = x[:, 0].cpu().numpy()
            curves[name] = y
            title = f"{names[i] if place == 0 else f'node {i}'} to {j}{_tap_words(tap)}"
            edge = {"x": x[:, 0].cpu().numpy(), "y": y, "family": of[j, i, *tap], "title": title}
            if flow is not None:
                edge["seen"] = seen[:200, i].cpu().numpy()
            shown.append(edge)
        figures[f"layer{place}"] = _panels(shown)
        flow = None if flow is None else network.after(place, layer(flow)).detach()
    tables["edges"] = pd.DataFrame(lines)
    tables["functions"] = pd.DataFrame(curves).astype(float)
    summary = {
        "layers": len(network.all_layers()), "edges": len(lines), "families": families,
        "used": used,
        "parameters": sum(p.numel() for p in network.parameters()),
        "nodes": names,
    }  # fmt: skip
    return Findings(tables, figures, summary)


@torch.no_grad()
def _first_inputs(model: Any, data: Any) -> Tensor | None:
    if data is None or not hasattr(model, "first_inputs"):
        return None
    X = data.part("train")[0] if hasattr(data, "part") else data
    X = X[0] if isinstance(X, tuple) else X
    found: Tensor = model.first_inputs(X[: PICTURES if hasattr(model, "image_shape_") else ROWS])
    return found


def _values_of(flow: Tensor) -> Tensor:
    """(B, n) as it is, or pixels of (B, n, H, W), evenly spaced, as (pixels, n)."""
    if flow.ndim == 2:
        return flow
    flat = flow.movedim(1, -1).flatten(0, -2)
    return flat[:: max(1, len(flat) // PIXELS)][:PIXELS]
