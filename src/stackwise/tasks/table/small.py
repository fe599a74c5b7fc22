"""A small table on which a method is tried in a second."""

import numpy as np
import pandas as pd


def small_table(
    problem: str | None = None, rows: int = 120, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """A number, a number with gaps and a category, and their target.

    Args:
        problem: classification for two classes; else the target is a number.
    """
    generator = np.random.default_rng(seed)
    size, weight = generator.normal(size=(2, rows))
    colour = generator.choice(["red", "green", "blue"], rows)
    target = 2 * size + weight + (colour == "red") + 0.1 * generator.normal(size=rows)
    weight[generator.random(rows) < 0.1] = np.nan
    X = pd.DataFrame({"size": size, "weight": weight, "colour": colour})
    if problem in ("classification", "binary"):
        return X, np.where(target > 0, "high", "low")
    return X, target
