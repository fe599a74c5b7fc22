"""What an alarm means: which channels, which neighbours, one sensor or the system.

A channel is strange where its error is above its own threshold, that of the normal moments. Where
the strangest channel's neighbours in the graph are not strange, its sensor is (the paper's clerical
error); where at least one of them is strange too, the anomaly is systematic.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SENSOR, SYSTEMATIC = "sensor", "systematic"


@dataclass(frozen=True)
class Explanation:
    """Why a moment is strange.

    Attributes:
        score: of the moment. alarm: whether it is above the threshold.
        channels: a row a channel, the strangest first: `error`, `threshold`, `strange`.
        neighbours: of the strangest channel, a row each: `weight` in the graph, `error`, `strange`.
        verdict: `sensor` or `systematic`.
    """

    score: float
    alarm: bool
    channels: pd.DataFrame
    neighbours: pd.DataFrame
    verdict: str

    def __str__(self) -> str:
        first = self.channels.index[0]
        beside = [str(name) for name in self.neighbours.index[self.neighbours["strange"]]]
        said = f"{first} is strangest"
        if beside:
            said += f", and so are its neighbours {', '.join(beside)}"
        elif len(self.neighbours):
            said += f", its neighbours {', '.join(map(str, self.neighbours.index))} are not"
        else:
            said += ", and has no neighbours"
        return (
            f"{said}: {self.verdict} (score {self.score:.4g}, {'an' if self.alarm else 'no'} alarm)"
        )


def bare(adjacency: np.ndarray) -> np.ndarray:
    """(n, n) the graph without its diagonal."""
    return adjacency * (1 - np.eye(len(adjacency)))


def verdicts(errors: np.ndarray, thresholds: np.ndarray, adjacency: np.ndarray) -> np.ndarray:
    """(L, n) errors -> (L,) `sensor` or `systematic`; empty where there is no error.

    Args:
        thresholds: (n,) of the channels. adjacency: (n, n) A~.
    """
    scored = np.isfinite(errors).all(axis=1)
    known = np.where(scored[:, None], errors, 0.0)
    strange = known > thresholds
    joined = bare(adjacency) > 0
    together = (strange.astype(np.int64) @ joined.T.astype(np.int64)) > 0
    first = known.argmax(axis=1)
    systematic = together[np.arange(len(errors)), first]
    return np.where(scored, np.where(systematic, SYSTEMATIC, SENSOR), "")


def explained(
    errors: np.ndarray,
    thresholds: np.ndarray,
    adjacency: np.ndarray,
    names: list[str],
    *,
    score: float,
    alarm: bool,
) -> Explanation:
    """Why one moment is strange, from the errors (n,) of its channels."""
    table = pd.DataFrame(
        {"error": errors, "threshold": thresholds, "strange": errors > thresholds},
        index=pd.Index(names, name="channel"),
    )
    first = int(errors.argmax())
    weights = bare(adjacency)[first]
    order = [place for place in np.argsort(-weights, kind="stable") if weights[place] > 0]
    neighbours = table[["error", "strange"]].iloc[order].assign(weight=weights[order])
    neighbours.index.name = "neighbour"
    return Explanation(
        score, alarm, table.sort_values("error", ascending=False), neighbours,
        str(verdicts(errors[None], thresholds, adjacency)[0]),
    )  # fmt: skip
