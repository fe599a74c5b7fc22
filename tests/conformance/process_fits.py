"""Small fits of every learner that trains, which torch's launcher can run in several processes.

Arguments: a folder for `<learner>.npz`, which holds the curve and the predictions of each; the
folder of a small language model, for learners that begin with one.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stackwise import processes
from stackwise.catalog import Card, Entry, cards
from stackwise.conformance import quick_knobs, small_task
from stackwise.conformance.holding import result_state
from stackwise.learning.network import NetworkLearner

ALSO: dict[str, dict[str, Any]] = {"skan": {"entropy": 5.0}, "hopular": {"memory_size": 40}}
"""Knobs under which a rule asks the model, or draws random numbers, beside its loss."""


def learners() -> dict[str, tuple[Card, Entry]]:
    """The learners of the catalog that go through the training loop, by the name of their class."""
    found = {}
    for slug in sorted(cards()):
        of = cards()[slug]
        for entry in of.entries:
            trains = entry.kind == "learner" and entry.budget is not None
            if trains and issubclass(entry.load(), NetworkLearner):
                found[entry.name] = (of, entry)
    return found


def knobs(of: Card, entry: Entry, base: str) -> dict[str, Any]:
    """Quick ones in float32, without dropout, whose draws depend on where a row lies in its part of
    a batch; for rows, batches of which each process gets a part of another size.
    """
    plain: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    model = entry.knobs.get("model")
    if model is not None and (model.required or model.default is not None):
        plain["model"] = base
    if entry.problem is not None:
        plain["batch_size"] = 25
    if "dropout" in entry.knobs:
        usual = entry.knobs["dropout"].default
        plain["dropout"] = [0.0] * len(usual) if isinstance(usual, (list, tuple)) else 0.0
    less = {name: value for name, value in plain.items() if name in entry.knobs}
    return quick_knobs(of, entry) | less | ALSO.get(of.slug, {})


def fitted(of: Card, entry: Entry, base: str) -> dict[str, np.ndarray]:
    """(epochs, metrics) of the fit, as `curve`, and what it predicts."""
    task = small_task(entry.tasks[0], entry.problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = task.fit(entry.load()(**knobs(of, entry, base)))
    lines = [list(line["metrics"].values()) for line in getattr(made, "history_", [])]
    widest = max(map(len, lines), default=0)
    curve = np.array([line + [0.0] * (widest - len(line)) for line in lines])
    return result_state(made, task) | {"curve": curve}


def main(folder: Path, base: str) -> None:
    """Every fit; the first process writes."""
    for name, (of, entry) in learners().items():
        made = fitted(of, entry, base)
        if processes.is_first():
            np.savez(folder / f"{name}.npz", **made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes.join("cpu")
    main(Path(sys.argv[1]), sys.argv[2])
    processes.leave()
