"""The paper's comparison on a user's own pictures: which stages should convolve, which attend?"""

import time
from collections.abc import Sequence
from typing import Any

import pandas as pd

from stackwise.build.astroformer.learner import AstroformerClassifier
from stackwise.errors import KnobError
from stackwise.findings import Findings
from stackwise.tasks.images.task import ImagesTask

LAYOUTS = ("CCCC", "CCCT", "CCTT", "CTTT")


def compare_layouts(
    X: Any, y: Any, layouts: Sequence[str] = LAYOUTS, seeds: int = 3, **knobs: Any
) -> Findings:
    """Fit a classifier of each layout on each of several splits of the same pictures.

    Layouts with more attention have more parameters, by some per cent: see the table. The best
    layout is said by accuracy on validation pictures; test pictures are for the table alone.

    Args:
        X, y: pictures and classes, as `AstroformerClassifier.fit` takes them.
        layouts: to compare; TTTT needs a size whose first width its heads divide.
        seeds: how many splits, each with first weights of its own.
        knobs: of `AstroformerClassifier`, for all.

    Returns:
        Findings with the table `fits` (a line a fit: layout, seed, validation and test accuracy,
        parameters, seconds) and a summary: mean test accuracy of each layout, and the `best`.

    Raises:
        KnobError: there is no layout or no seed.
    """
    if not layouts or seeds < 1:
        raise KnobError(f"at least one layout and one seed are needed, got {layouts}, {seeds}")
    lines = []
    for seed in range(seeds):
        task = ImagesTask.load((X, y), split_seed=seed)
        for layout in layouts:
            started = time.perf_counter()
            made = AstroformerClassifier(**knobs | {"layout": layout, "random_state": seed})
            task.fit(made)
            lines.append({
                "layout": layout, "seed": seed,
                "validation_accuracy": task.judge(made, "validation").scores["accuracy"],
                "test_accuracy": task.judge(made, "test").scores["accuracy"],
                "parameters": sum(p.numel() for p in made.network_.parameters()),
                "seconds": round(time.perf_counter() - started, 1),
            })  # fmt: skip
    fits = pd.DataFrame(lines)
    means = fits.groupby("layout", sort=False)[["validation_accuracy", "test_accuracy"]].mean()
    return Findings(
        tables={"fits": fits},
        summary={
            "test_accuracy": means["test_accuracy"].to_dict(),
            "best": str(means["validation_accuracy"].idxmax()),
        },
    )
