"""The findings in single numbers and plain sentences."""

import math
from typing import Any

import numpy as np
import pandas as pd

from stackwise.probe.depth_efficiency.measurements.difficulty import (
    cosine_depth,
    kl_depth,
    overlap_depth,
)


def summarised(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Single numbers from the tables, and a plain sentence for each."""
    found: dict[str, Any] = {}
    said: list[str] = []
    if "contribution" in tables:
        ratios = tables["contribution"]["layer"].to_numpy()
        # the first block writes many times the bare stem and would rule its half
        first, second = _halves(ratios if len(ratios) < 4 else np.r_[np.nan, ratios[1:]])
        found |= {"contribution_first_half": first, "contribution_second_half": second}
        said.append(
            f"Blocks of the second half write {_times(second, first)} as much, relative to the "
            "stream, as those of the first (its first block left out)."
        )
    if "cosine" in tables:
        found["cosine_depth"] = turn = cosine_depth(tables["cosine"])
        depth = len(tables["cosine"])
        found["phase_change"] = None if turn is None else round(turn * depth) - 1
        said.append(
            "The cosine of what blocks write with the stream never turns from erasing to "
            "strengthening."
            if turn is None
            else f"After block {found['phase_change']} of {depth}, blocks turn from erasing to "
            "strengthening what is in the stream."
        )
    for name, words in (("skip", "the current output"), ("future", "the output at later tokens")):
        if f"{name}_output" in tables:
            first, second = _halves(tables[f"{name}_output"]["output"].to_numpy())
            found |= {f"{name}_output_first_half": first, f"{name}_output_second_half": second}
            said.append(
                f"Skipping a block of the second half changes {words} {_times(second, first)} as "
                "much as skipping one of the first."
            )
            early, late = _quarters(tables[name].to_numpy())
            found |= {f"{name}_early_on_early": early, f"{name}_late_on_late": late}
    if "lens" in tables:
        found |= {
            "kl_depth": kl_depth(tables["lens"]),
            "overlap_depth": overlap_depth(tables["lens"]),
        }
        overlap = tables["lens"]["overlap"].to_numpy()
        half = len(overlap) // 2
        gains = overlap[half] - overlap[0], overlap[-1] - overlap[half]
        found |= {"overlap_gain_first_half": gains[0], "overlap_gain_second_half": gains[1]}
        said.append(
            f"The lens shares {overlap[half]:.0%} of the answer's top tokens at half the depth."
        )
    found["sentences"] = said
    return {name: _plain(value) for name, value in found.items()}


def _halves(values: np.ndarray) -> tuple[float, float]:
    half = max(len(values) // 2, 1)
    return float(np.nanmean(values[:half])), float(
        np.nanmean(values[half:] if half < len(values) else values)
    )


def _quarters(effects: np.ndarray) -> tuple[float, float]:
    """Mean effect of early blocks on early ones, and of late blocks on late ones, s < l."""
    half = max(len(effects) // 2, 1)
    found = []
    for part in (effects[:half, :half], effects[half:, half:]):
        above = part[np.triu_indices(len(part), k=1)]
        found.append(float(np.nanmean(above)) if len(above) else float("nan"))
    return found[0], found[1]


def _times(value: float, of: float) -> str:
    return f"{value / of:.2f} times" if of > 0 else "not measurably"


def _plain(value: Any) -> Any:
    """A Python number; None where there was nothing to measure."""
    value = float(value) if isinstance(value, np.floating) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
