"""Fits of language models that torch's launcher can run in several processes.

Arguments: the folder to write, the folder of a base model.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from stackwise import processes, runs
from stackwise.conformance import small_task
from stackwise.errors import Interrupted
from stackwise.report import compare
from stackwise.studies import Study
from stackwise.training import loop
from stackwise.training.distribution.sharding import Sharded

SIZES = {"layers": 4, "factor": 2, "width": 16, "heads": 2, "max_epochs": 2, "lr": 3e-3}
TUNING = {"recipe": "tulu", "batch_size": 6, "max_epochs": 2, "lr": 3e-3, "remember": "none"}
FITS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "grown": ("gstack", "text", SIZES | {"batch_size": 4}),
    "masked": (
        "gstack",
        "text",
        SIZES | {"batch_size": 4, "operator": "random", "rows_at_once": 1, "checkpointing": True},
    ),
    "tuned": ("sft-recipe", "instructions", TUNING | {"max_tokens": 40}),
    "adapted": ("sft-recipe", "instructions", TUNING | {"lora": 2, "packed": False}),
    "phased": ("sft-recipe", "instructions", TUNING | {"order": "phased", "checkpointing": True}),
}


def fit(name: str, folder: Path, base: str, **settings: Any) -> runs.Run:
    """One fit, as `stackwise fit` would do it."""
    slug, task, knobs = FITS[name]
    model = {"model": base} if task == "instructions" else {}
    return runs.fit_run(
        slug, small_task(task), out=folder / name, knobs=knobs | model, device="cpu", **settings
    )


def stopped(name: str, folder: Path, base: str, *, after: int) -> runs.Run:
    """The same fit, told to end at an epoch, and then told to go on."""
    seen: list[int] = []

    def stop(event: dict[str, Any]) -> None:
        if "metrics" in event:
            seen.append(1)
            if len(seen) == after:
                os.kill(os.getpid(), signal.SIGTERM)

    try:
        fit(name, folder, base, on_event=stop)
    except Interrupted:
        return fit(name, folder, base, resume=True)
    raise AssertionError("the fit was not interrupted")


def count_shares() -> list[list[float]]:
    """The share of each parameter that this process holds, of every model made in parts."""
    made: list[list[float]] = []

    class Counted(Sharded):
        def __init__(self, model: torch.nn.Module, *given: Any, **more: Any) -> None:
            super().__init__(model, *given, **more)
            parts = [(p.to_local().numel(), p.numel()) for p in model.parameters()]  # type: ignore[operator]
            made.append([sum(own for own, _ in parts) / sum(all_ for _, all_ in parts)])

    loop.Sharded = Counted  # type: ignore[misc]
    return made


def compared(folder: Path, base: str) -> Study:
    """A comparison of two recipes and of the model as it is."""
    knobs = {"*": {"model": base, "remember": "none"}, "sft-recipe": TUNING}
    return compare(
        small_task("instructions"), out=folder / "compared", methods=["sft-recipe", "untuned"],
        seeds=1, knobs=knobs, device="cpu",
    )  # fmt: skip


def main(folder: Path, base: str) -> None:
    """Every fit with whole weights and with weights in parts, and some told to stop on the way."""
    made = count_shares()
    for name in FITS:
        fit(name, folder / "whole", base)
    stopped("grown", folder / "stopped", base, after=4)
    compared(folder, base)
    assert not made
    os.environ["STACKWISE_SHARD"] = "1"
    for name in FITS:
        fit(name, folder / "parts", base)
    stopped("grown", folder / "parts-stopped", base, after=4)
    stopped("tuned", folder / "parts-stopped", base, after=1)
    shares = [share for sharded in made for share in sharded]
    assert shares and all(0.4 < share < 0.6 for share in shares), shares


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2])
    processes.leave()
