"""Small changes that are kept beside a base, put on and taken off: one contract for all kinds.


delta = Delta.load("run/adapter")
with delta.on(model):
    ...
merge_delta("base", ["run"], "merged")      # for good, as a plain model folder
"""

from stackwise.adapt.delta.contract import Delta
from stackwise.adapt.delta.folders import DELTA, KINDS, delta_folder
from stackwise.adapt.delta.hashes import state_hash
from stackwise.adapt.delta.lora import LoraDelta
from stackwise.adapt.delta.merging import merge_delta
from stackwise.adapt.delta.parts import Dense, LowRank, Sparse
from stackwise.adapt.delta.standing import all_off, base_hash, deltas_on, settle_all
from stackwise.adapt.delta.weights import WeightDelta

__all__ = [
    "DELTA", "KINDS", "Delta", "Dense", "LoraDelta", "LowRank", "Sparse", "WeightDelta", "all_off",
    "base_hash", "delta_folder", "deltas_on", "merge_delta", "settle_all", "state_hash",
]  # fmt: skip
