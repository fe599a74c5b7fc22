"""Pictures of a search: the front of depth and accuracy, and what becomes of each block."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def front_figure(front: "pd.DataFrame", depth: int, accuracy: float) -> "Figure":
    """Questions with a right path of at most so many blocks, and the model as it is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.step(front["depth"], front["solved"], where="post", color="#2563eb",
              label="some path is right (the answer known)")  # fmt: skip
    axes.plot([depth], [accuracy], "o", color="#c2410c", label="the model as it is")
    axes.set_xlabel("blocks of the path, at most")
    axes.set_ylabel("share of the questions")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def use_figure(blocks: "pd.DataFrame") -> "Figure":
    """How often each block is left out, and how often it runs again."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(
        blocks["block"], -blocks["skipped"], color="#c2410c", label="left out (share of paths)"
    )
    axes.bar(blocks["block"], blocks["extra"], color="#2563eb", label="run again (mean extra runs)")
    axes.axhline(0, color="#333", lw=0.8)
    axes.set_xlabel("block")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
