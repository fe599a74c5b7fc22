"""The registered entry of the probe: the facets of units, in one call."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pandas as pd
import torch

from stackwise.catalog import Knob, probe
from stackwise.errors import KnobError
from stackwise.findings import Findings
from stackwise.layers.evaluating import in_evaluation
from stackwise.models import open_model
from stackwise.probe.multifaceted_visualization.facets import mean_images
from stackwise.probe.multifaceted_visualization.figures import facet_figure, map_figure
from stackwise.probe.multifaceted_visualization.inputs import Shown, shown
from stackwise.probe.multifaceted_visualization.looking import (
    exciting_pictures,
    layers_for_codes,
    named,
    parted,
    surest_classes,
)
from stackwise.probe.multifaceted_visualization.making import Recipe, Seen, Start, make
from stackwise.probe.multifaceted_visualization.maximise import PHASES
from stackwise.probe.multifaceted_visualization.units import frozen, module_named, unit_of

ENOUGH, MOST_VIEWS = 300, 24
"""Pictures from which on each is seen once, and crops at most where there are fewer."""


@probe(
    "multifaceted-visualization",
    title="The kinds of pictures that excite a unit, and one made for each",
    paper="1602.03616",
    cost="a hundred passes of the network forth and back for each picture made; no training",
    tasks=("images", "series"),
    takes=("learner", "vision"),
    reads="source",
    presets={
        "quick": {"k": 2, "share": 0.2, "exciting": 24, "views": 1, "embed": "none"},
        "best": {"exciting": 120, "share": 2.0},
    },
)
def multifaceted_visualization(
    model: Any,
    data: Any = None,
    *,
    unit: Annotated[
        list[str] | str | None,
        Knob("module and channel such as blocks.3:17; none: the three surest classes"),
    ] = None,
    k: Annotated[
        int | Literal["auto"], Knob("facets of a unit; auto: 2 to 6, by the silhouette", ge=1)
    ] = "auto",
    n_mean: Annotated[int, Knob("pictures that a mean image is made of", ge=1)] = 15,
    exciting: Annotated[int, Knob("most exciting pictures that are parted", ge=2)] = 60,
    layer: Annotated[
        str | None, Knob("whose codes part them; none: of two blocks the better silhouette")
    ] = None,
    pca: Annotated[int, Knob("dimensions of the codes that are kept", ge=1)] = 50,
    embed: Annotated[
        Literal["tsne", "none"], Knob("clusters are found in t-SNE, or in PCA alone")
    ] = "tsne",
    phases: Annotated[
        Literal["steady", "mean", "centre"], Knob("schedule: ours, or the paper's two")
    ] = "steady",
    start: Annotated[
        Literal["mean", "image", "noise"], Knob("what a picture is made from")
    ] = "mean",
    share: Annotated[float, Knob("of the schedule's steps that are made", gt=0, le=5)] = 1.0,
    stay: Annotated[
        float | None, Knob("way back to the start each step; none: as phases say", ge=0, lt=1)
    ] = None,
    beside: Annotated[bool, Knob("make as many pictures from noise beside")] = True,
    pictures: Annotated[int, Knob("pictures that are looked at, drawn at random", ge=1)] = 1000,
    views: Annotated[
        int | None, Knob("crops of each picture; none: 1, and more of few pictures", ge=1)
    ] = None,
    size: Annotated[
        int | None, Knob("side of the pictures, for a network that takes any", ge=8)
    ] = None,
    random_state: Annotated[int, Knob("seed of draws, t-SNE and crops", ge=0)] = 0,
) -> Findings:
    """Find the kinds of pictures that excite each unit, and make a picture for each kind.

    The network is looked at in evaluation mode and is left as it was.

    Args:
        model: a fitted network on pictures or series, a vision model of transformers, the name of
            a packaged network, or a module.
        data: pictures (a folder, a name, arrays), a loaded task, of which what was trained on is
            read, or batches that the module is called with.

    Returns:
        Findings with the tables `facets` (a row a facet: size, activations of the start, of the
        picture made, of the best real one), `coverage` and `embedding`, a figure for each
        unit, and a summary.

    Raises:
        KnobError: no such module, channel or layer. DataError: too few pictures excite the unit,
        or none moves it. ModelError: no network, or no gradient reaches its input.
    """
    texts = [unit] if isinstance(unit, str) else unit
    if texts is not None and not texts:
        raise KnobError("unit is empty; give one such as blocks.3:17, or none")
    asked = None if texts is None else [unit_of(text) for text in texts]
    of = shown(open_model(model), data, pictures, random_state, size)
    if views is None:
        views = min(-(-ENOUGH // len(of.pictures)), MOST_VIEWS) if of.sides == 2 else 1
    of = of.cropped(views, random_state)
    recipe = Recipe(PHASES[phases], start, share, stay, beside, random_state)
    with in_evaluation(of.network), frozen(of.network):
        if layer is not None:
            module_named(of.network, layer)
        layers = layers_for_codes(of, of.pictures[0]) if layer is None else [layer]
        every = []
        for one in asked or surest_classes(of, 3):
            rows, found = exciting_pictures(of, one, exciting, 4 if k == "auto" else k)
            places = torch.from_numpy(rows)
            its = of.pictures[places]
            facets, best, codes = parted(
                of, its, layers, k, n_mean=n_mean, pca=pca, embed=embed, seed=random_state
            )
            members = [its[torch.from_numpy(nearest)] for nearest in facets.members]
            every.append(
                Seen(
                    one, named(of, one), facets, best, codes, of.sources[rows].tolist(),
                    found[places].tolist(), members, mean_images(its, facets),
                )
            )  # fmt: skip
        make(of, every, recipe)
    return _findings(of, every, start)


def _findings(of: Shown, every: Sequence[Seen], start: Start) -> Findings:
    """Tables, figures and the summary."""
    rows, points = [], []
    for seen in every:
        near = {
            int(row): place + 1 for rows_of in seen.facets.members
            for place, row in enumerate(rows_of)
        }  # fmt: skip
        for facet in range(len(seen.facets)):
            own = seen.facets.labels == facet
            rows.append({
                "unit": seen.name, "facet": facet + 1, "pictures": int(own.sum()),
                "start": seen.begun[facet], "made": seen.reached[facet],
                "best real": max(value for value, here in zip(seen.real, own) if here),
            })  # fmt: skip
        for row, label in enumerate(seen.facets.labels):
            place = seen.facets.embedding[row]
            points.append({
                "unit": seen.name, "source": seen.sources[row], "facet": int(label) + 1,
                "nearest": near.get(row, 0), "x": float(place[0]),
                "y": float(place[1]) if len(place) > 1 else 0.0, "activation": seen.real[row],
            })  # fmt: skip
    covered = [{"unit": seen.name, **seen.covered} for seen in every]
    figures = {
        f"facets_{str(seen.unit).replace(':', '-').replace('@', '-')}": facet_figure(seen)
        for seen in every
    }
    figures["embedding"] = map_figure(every)
    tables = {"facets": rows, "coverage": covered, "embedding": points}
    beside: dict[str, Any] = {}
    if any(seen.beside for seen in every):
        beside["coverage from noise"] = _mean([seen.covered["noise"] for seen in every])
    summary = {
        "pictures": len(of.pictures), "units": [seen.name for seen in every],
        "facets": [len(seen.facets) for seen in every],
        "silhouettes": [seen.facets.silhouette if len(seen.facets) > 1 else None for seen in every],
        "layers": [seen.layer for seen in every],
        f"coverage from {start}": _mean([seen.covered[start] for seen in every]),
    }  # fmt: skip
    return Findings(
        {name: pd.DataFrame(table).set_index("unit") for name, table in tables.items()},
        figures,
        summary | beside,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
