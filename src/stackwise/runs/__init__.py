"""A run: one method on one data set with one seed, kept as a folder.

    run.json            status, knobs, seed, data, scores, versions, machine, commit
    metrics.jsonl       one line an epoch
    model.*             what `load(folder)` gives back
    test_predictions.parquet, columns.json, figures/

Every file is replaced whole, and `run.json` says `finished` only when all the others are there,
so that a kill at any moment leaves a folder with which the same command and `resume=True` goes
on. A lock keeps two processes out of one run.
"""

from stackwise.runs.derive import derive_run
from stackwise.runs.fit import fit_run, fitting, foldable, keep_learner
from stackwise.runs.folder import FORMAT, REFITTED, OnEvent, Run, find, kept_folder, load
from stackwise.runs.holding import Held, opened, tidy
from stackwise.runs.opening import open_delta, open_reference, split_reference
from stackwise.runs.refitted import refit_run
from stackwise.runs.request import chosen_knobs, folder_hash

__all__ = [
    "FORMAT",
    "REFITTED",
    "Held",
    "OnEvent",
    "Run",
    "chosen_knobs",
    "derive_run",
    "find",
    "fit_run",
    "fitting",
    "foldable",
    "folder_hash",
    "keep_learner",
    "kept_folder",
    "load",
    "open_delta",
    "open_reference",
    "opened",
    "refit_run",
    "split_reference",
    "tidy",
]  # fmt: skip
