"""What a page shows of finished maps: the map of the run to keep, its legend, what its units look
like, and where they lie in the reference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stackwise.files import read_json
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.shapes import SCORE
from stackwise.tasks.rasters.maps.pictures import (
    MOST_SPECTRA,
    agreement_picture,
    elbow_picture,
    map_picture,
    spectra_picture,
)
from stackwise.tasks.rasters.maps.scoring import contingency, matching

OVERVIEW = "overview.png"
"""The small map that a run keeps, a byte a pixel."""
KEPT = {
    "bands": [str],
    "units": int,
    "more": {
        "elbow": (None, {"units": [int], "inertia": [SCORE], "chosen": int}),
        "internal": {"*": SCORE}, "areas": [int], "pixel_area": SCORE,
        "spectra": [[SCORE]], "spreads": [[SCORE]],
    },
}  # fmt: skip
"""What the page reads of a learner's model.json."""


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs, the run to keep first.

    Returns:
        A table of the units; figures of the map, its spectra, the agreement with the reference and
        the elbow, as far as there are such; the summary says under a figure's name how to read it.
    """
    found = Findings()
    if not runs or not (runs[0].folder / OVERVIEW).is_file():
        return found
    kept = runs[0]
    slug = kept.record["slug"]
    about = read_json(kept.folder / "model.json", KEPT)
    more = about["more"]
    with Image.open(kept.folder / OVERVIEW) as picture:
        overview = np.asarray(picture)
    spectra, spreads = (np.array(more[name], dtype=float) for name in ("spectra", "spreads"))
    count = int(about["units"])
    names = [f"unit {unit}" for unit in range(count)]
    answers = kept.predictions_on("test")
    counts = agreement(answers, count) if "target" in answers and len(answers) else None
    matched = matched_classes(counts) if counts is not None else {}
    legend = [f"{name}: {matched[u]}" if u in matched else name for u, name in enumerate(names)]
    title = f"The map of {slug}"
    found.figures[title] = map_picture(overview, legend)
    found.summary[title] = "After the majority filter; of a large scene every so many pixels."
    title = "What the units look like"
    found.figures[title] = spectra_picture(spectra, spreads, about["bands"], names)
    found.summary[title] = (
        "Mean of each band over the pixels of a unit, and a standard deviation."
        + (f" The first {MOST_SPECTRA} units." if count > MOST_SPECTRA else "")
    )
    if counts is not None:
        title = "Units and the reference"
        found.figures[title] = agreement_picture(counts)
        found.summary[title] = (
            "Of the test pixels of each class the share that lies in each unit. The accuracy gives "
            "each unit one class, and each class one unit, such that most pixels agree."
        )
    if more["elbow"]:
        title = "The number of units"
        found.figures[title] = elbow_picture(more["elbow"])
        found.summary[title] = "Inertia of k-means; the one farthest below the chord is taken."
    found.tables["units"] = units_table(np.array(more["areas"]), more["pixel_area"], matched)
    for name, value in more["internal"].items():
        found.summary[name] = round(float(value), 4)
    return found


def agreement(answers: pd.DataFrame, units: int) -> pd.DataFrame:
    """How many test pixels of each class lie in each unit."""
    classes, place = np.unique(answers["target"].astype(str), return_inverse=True)
    counts = contingency(place, answers["unit"].to_numpy(np.int64))
    wide = np.zeros((len(classes), units), int)
    wide[:, : counts.shape[1]] = counts
    return pd.DataFrame(wide, index=pd.Index(classes, name="class"), columns=range(units))


def matched_classes(counts: pd.DataFrame) -> dict[int, str]:
    """The class of each unit under the best matching, where it has one that occurs in it."""
    pairs = matching(counts.to_numpy().T)
    return {
        unit: str(counts.index[place]) for unit, place in pairs.items() if counts.iloc[place, unit]
    }


def units_table(
    areas: np.ndarray, pixel_area: float | None, matched: Mapping[int, str]
) -> pd.DataFrame:
    """Pixels, share and square kilometres of each unit, and the class that it was matched with."""
    table = pd.DataFrame(
        {"pixels": areas, "share": areas / max(areas.sum(), 1)},
        index=pd.Index(range(len(areas)), name="unit"),
    )
    if pixel_area is not None:
        table["km2"] = areas * pixel_area
    if matched:
        table["class"] = [matched.get(unit, "") for unit in range(len(areas))]
    return table
