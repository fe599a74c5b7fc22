"""The probe: how much of which level each fusion takes, and where it looks at what is enlarged."""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch

from stackwise.build.rcnet.learner import RCNetDetector
from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, ModelError
from stackwise.findings import Findings
from stackwise.layers.pyramid.reverse.fusion_node import Fused
from stackwise.layers.pyramid.reverse.rcnet import RCNet
from stackwise.tasks.detection.estimators.canvases import Canvases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AT_ONCE = 16


@probe(
    "rcnet",
    title="A detector whose pyramid is fused in one reverse pass",
    paper="2110.12130",
    tasks=("detection",),
    takes=("learner",),
)
def fusions(
    model: Any,
    data: Any = None,
    *,
    pictures: Annotated[int, Knob("test pictures that are looked at, at most", ge=1)] = 64,
    shown: Annotated[int, Knob("pictures whose guidance maps are drawn", ge=1, le=8)] = 3,
) -> Findings:
    """Read the weights and the guidance maps that a reverse pyramid decides on test pictures.

    Args:
        model: a fitted `RCNetDetector` with a reverse pyramid.
        data: a loaded detection task.

    Returns:
        a table of the weight of each fusion (mean over pictures, and how much it varies), one of
        every picture, and figures of both and of the guidance maps.

    Raises:
        ModelError: the model has no reverse pyramid. DataError: there are no pictures.
    """
    neck = _neck(model)
    if data is None:
        raise DataError("the fusions of RCNet are read on pictures: give their source")
    scenes, _ = data.part("test")
    scenes = scenes[:pictures]
    if not len(scenes):
        raise DataError("the test part has no picture; give --test a share above 0")
    canvases = Canvases(scenes, model.image_size_)
    decided = _decisions(model, neck, canvases)
    names = fusion_names(len(decided))
    weights = [w for node in decided for w in node.weights]
    every = pd.DataFrame(
        {name: w.double().numpy() for name, w in zip(names, weights, strict=True)},
        index=pd.Index(scenes.names, name="picture"),
    )
    table = pd.DataFrame({
        "taken": every.mean(), "least": every.min(), "most": every.max(),
        "deviation": every.std(ddof=0),
    }).rename_axis("fusion")  # fmt: skip
    figures = {"weights": drawn_weights(every)}
    maps = [node.guidance for node in decided if node.guidance is not None]
    if maps:
        figures["guidance"] = drawn_guidance(canvases, maps, min(shown, len(scenes)))
    summary = {
        "pictures": len(scenes),
        "weights": "how much of the first map of a fusion is taken; at first each is 0.5",
    }
    if maps:
        summary["guidance"] = (
            "what multiplies the coarser map, enlarged, at each place of each level; its mean is 1"
        )
    return Findings({"weights": table, "pictures": every}, figures, summary)


def _neck(model: Any) -> RCNet:
    if not isinstance(model, RCNetDetector):
        raise ModelError(f"a {type(model).__name__} has no reverse pyramid: give a run of rcnet")
    network: Any = model.network_
    neck: RCNet = network.neck
    if neck.revfp is None:
        raise ModelError("fusion=csn has no reverse pyramid; fit with fusion=rcnet or revfp")
    return neck


@torch.no_grad()
def _decisions(model: RCNetDetector, neck: RCNet, canvases: Canvases) -> list[Fused]:
    """What each node decided on all pictures, fine to coarse."""
    network: Any = model.network_
    device = next(network.parameters()).device
    network.eval()
    parts: list[list[Fused]] = []
    for start in range(0, len(canvases), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(canvases)))
        maps = network.backbone(model.normalised(canvases.take(rows)).to(device))
        parts.append(neck.decisions(list(maps)))
    joined = []
    for nodes in zip(*parts, strict=True):
        weights = [torch.cat(some).cpu() for some in zip(*(n.weights for n in nodes), strict=True)]
        maps = [node.guidance for node in nodes if node.guidance is not None]
        joined.append(Fused(weights, torch.cat(maps).cpu() if maps else None))
    return joined


def fusion_names(levels: int) -> list[str]:
    """What the fusions of a reverse pyramid join, in the order in which they are decided."""
    names = ["level 1: itself against level 2"]
    for level in range(2, levels):
        names.append(f"level {level}: itself against level {level + 1}")
        names.append(f"level {level}: both against level {level - 1}")
    return [*names, f"level {levels}: itself against level {levels - 1}"]


def drawn_weights(every: pd.DataFrame) -> "Figure":
    """A row a fusion, a dot a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 1.2 + 0.34 * every.shape[1]), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(every.columns):
        axes.scatter(every[name], [place] * len(every), s=14, alpha=0.4, color="#2563eb")
    axes.axvline(0.5, color="#8a8f98", lw=1)
    axes.set_yticks(range(every.shape[1]), list(every.columns), fontsize=8)
    axes.set_ylim(every.shape[1] - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the first map")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def drawn_guidance(canvases: Canvases, maps: list[torch.Tensor], count: int) -> "Figure":
    """A row a picture: itself, then the guidance of each level, from blue (0) over white (1)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.7 * (len(maps) + 1), 1.9 * count), layout="constrained")
    grid = figure.subplots(count, len(maps) + 1, squeeze=False)
    pixels = canvases.take(np.arange(count)).permute(0, 2, 3, 1).numpy()
    for row in range(count):
        grid[row, 0].imshow(pixels[row])
        for level, guidance in enumerate(maps, start=1):
            grid[row, level].imshow(guidance[row].numpy(), cmap="RdBu_r", vmin=0, vmax=2)
            if row == 0:
                grid[row, level].set_title(f"level {level}", fontsize=8)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure
