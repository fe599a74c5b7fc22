"""How do I change a frozen stack for new work?

A change is a `Delta`: a small file beside the base, put on and taken off.

    delta = Delta.load("run/adapter")
    with delta.on(model):
        ...
    merge_delta("base", ["run"], "merged")      # for good, as a plain model folder
"""

from stackwise.adapt.delta import (
    DELTA,
    KINDS,
    Delta,
    Dense,
    LoraDelta,
    LowRank,
    Sparse,
    WeightDelta,
    all_off,
    base_hash,
    delta_folder,
    deltas_on,
    merge_delta,
    settle_all,
    state_hash,
)

__all__ = [
    "DELTA", "KINDS", "Delta", "Dense", "LoraDelta", "LowRank", "Sparse", "WeightDelta", "all_off",
    "base_hash", "delta_folder", "deltas_on", "merge_delta", "settle_all", "state_hash",
]  # fmt: skip
