"""Many domains beside one model: learned one after another, on disk, in memory as they are used.

    stacks = Brainstacks(model, "b")
    stacks.learn("code", code_task)
    stacks.learn("math", math_task)
    stacks.fit_router({"code": code_task, "math": math_task})
    with stacks.only("code"):                   # nothing else is in memory
        model(**inputs)
    stacks.route(input_ids=ids)                 # {"code": 0.93, "math": 0.07}

The folder holds a delta a domain and `stacks.json`, which says in which order they were learned.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stackwise.adapt.brainstacks.delta import ExpertDelta, check_name
from stackwise.adapt.brainstacks.entry import brainstacks, joined_with
from stackwise.adapt.brainstacks.forgetting import forgetting_matrix
from stackwise.adapt.brainstacks.routing import RouterDelta
from stackwise.adapt.delta import Delta, LoraDelta
from stackwise.adapt.delta.hashes import module_of
from stackwise.errors import KnobError, ModelError
from stackwise.files import read_json, write_json

MANIFEST, ROUTER = "stacks.json", "router"


class Brainstacks:
    """The stacks of a model, in a folder.

    Args:
        model: a module, a model of transformers or a fitted learner; stacks are put on it in place.
        folder: where they are kept; what lies there is found again.
        knobs: those of `brainstacks`, for all domains.
    """

    def __init__(self, model: Any, folder: Path | str, **knobs: Any) -> None:
        self.model, self.folder, self.knobs = model, Path(folder), knobs
        kept = self.folder / MANIFEST
        found = read_json(kept, {"order": [str]}, newest=1) if kept.is_file() else {"order": []}
        self.order: list[str] = [check_name(name) for name in found["order"]]
        self.here: dict[str, Delta] = {}

    def __repr__(self) -> str:
        on = ", ".join(self.here) or "none"
        return f"Brainstacks({', '.join(self.order) or 'no domain'}; in memory: {on})"

    def learn(self, name: str, data: Any, **knobs: Any) -> ExpertDelta:
        """Learn a domain on top of all that there are, and keep it.

        Raises:
            KnobError: there is one of that name. NothingLearned: so it says.
        """
        if check_name(name) in (*self.order, ROUTER):
            raise KnobError(f"there is a domain {name!r} already: remove it, or take another name")
        self.use(*self.order)
        made = brainstacks(self.model, data, name=name, **self.knobs | knobs)
        assert isinstance(made, ExpertDelta)
        made.save(self.folder / name)
        self.order.append(name)
        self._write()
        return made

    def remove(self, name: str) -> None:
        """Forget a domain: what was learned later stays, and was learned with it on."""
        self._check(name)
        if name in self.here:
            self.here.pop(name).take_off(self.model)
        self.order.remove(name)
        self._write()
        shutil.rmtree(self.folder / name)

    def use(self, *names: str) -> None:
        """Have these domains on, read from disk where they are not here, and no others."""
        for name in names:
            self._check(name)
        router = self.here.pop(ROUTER, None)
        if router is not None:
            router.take_off(self.model)
        for name in [one for one in self.here if one not in names]:
            self.here.pop(name).take_off(self.model)
        for name in self.order:
            if name in names and name not in self.here:
                delta = Delta.load(self.folder / name)
                delta.put(self.model)
                self.here[name] = delta

    @contextlib.contextmanager
    def only(self, *names: str) -> Iterator[Any]:
        """Have these domains on within the block; none is the base alone."""
        before = list(self.here)
        self.use(*names)
        try:
            yield self.model
        finally:
            self.use(*[name for name in before if name != ROUTER])

    def fit_router(self, data: Any, **knobs: Any) -> RouterDelta:
        """Learn which domains a prompt needs; `data` is a task, or a dict of tasks by domain."""
        self.use(*self.order)
        made = brainstacks(self.model, data, learn="router", **self.knobs | knobs)
        assert isinstance(made, RouterDelta)
        made.save(self.folder / ROUTER)
        return made

    def route(self, *args: Any, **inputs: Any) -> dict[str, float]:
        """What each domain weighs for one row that the model would be called with.

        Raises:
            ModelError: there is no router, or no domain.
        """
        if not (self.folder / ROUTER).is_dir():
            raise ModelError(f"{self.folder} has no router: call fit_router first")
        if not self.here:
            self.use(*self.order)
        router = Delta.load(self.folder / ROUTER)
        assert isinstance(router, RouterDelta)
        weights = router.weights_of(module_of(self.model), *args, **inputs)
        return {name: float(weight[0]) for name, weight in weights.items()}

    def use_for(self, *args: Any, **inputs: Any) -> dict[str, float]:
        """Have the domains on that the router weighs for this row, and no others in memory."""
        weights = self.route(*args, **inputs)
        self.use(*[name for name, weight in weights.items() if weight > 0])
        return weights

    def forgetting_matrix(self, data: Mapping[str, Any], *, batches: int = 20) -> pd.DataFrame:
        """The loss of each domain's data (columns) with each set of stacks (rows)."""
        self.use(*self.order)
        sources = {name: joined_with(self.model, one, None, None, 0) for name, one in data.items()}
        return forgetting_matrix(self.model, sources, batches=batches)

    def export_lora(self, name: str) -> LoraDelta:
        """A domain as a LoRA adapter in peft's files; only of stacks with one expert."""
        self._check(name)
        delta = Delta.load(self.folder / name)
        assert isinstance(delta, ExpertDelta)
        return delta.as_lora()

    def _check(self, name: str) -> None:
        if name not in self.order:
            raise KnobError(
                f"there is no domain {name!r}; there is {', '.join(self.order) or 'none yet'}"
            )

    def _write(self) -> None:
        write_json(self.folder / MANIFEST, {"format": 1, "order": self.order})
