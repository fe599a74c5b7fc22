"""What every learner shares: its knobs are checked, its seed and its notes kept, and it is written
as data and read back.

A learner is an estimator of scikit-learn: its constructor stores knobs, `fit` learns, what it has
learned ends in `_`. Commands call `task.fit(learner)`; `fit(task)` does the same.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from stackwise.cards import card_of_learner
from stackwise.catalog import check_knobs
from stackwise.errors import RunError
from stackwise.files import believing, plain, read_json, write_json, write_text
from stackwise.seals import check_hashes, check_seal, sealed, weight_hashes

FORMAT = 1
UNSEALED = ("more", "notes", "history")
"""What `model.json` tells about a fit, and no prediction comes from."""


class Learner(BaseEstimator):
    """The base of all learners.

    Class attributes, read by the catalog:
        tasks: that it serves.
        shared_knobs: functions whose knobs join those of the constructor.
        budget: the knob that says how long it learns; None where one look is enough.
        floor: knob values that every preset has, and a run without one, unless the user gives the
            budget: what few samples need.
        verbs: what it does besides, such as `generate`.
        exporter: where the function is that writes it as ONNX, (learner, path) -> files; or None.
        fitted: the attribute that is there once it has learned.

    Fitted attributes: `seed_`, and `notes_`: what a reader of the result should know.
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    shared_knobs: ClassVar[tuple[Any, ...]] = ()
    budget: ClassVar[str | None] = None
    floor: ClassVar[dict[str, Any]] = {}
    verbs: ClassVar[tuple[str, ...]] = ()
    exporter: ClassVar[str | None] = None
    fitted: ClassVar[str] = "seed_"

    notes_: list[str]
    seed_: int

    def _begin(self) -> None:
        """What comes first in every fit: check the knobs, settle the seed, forget old notes."""
        check_knobs(self, self.get_params(deep=False))
        self.seed_ = seed_of(getattr(self, "random_state", 0))
        self.notes_ = []

    def learned_for(self) -> int | None:
        """How much of `budget` the kept state took, so that a fit which holds nothing out can do as
        much; None where the budget says it already.
        """
        return None

    def save(self, folder: Path | str) -> None:
        """Write the fitted learner into `folder`, as data only (JSON, safetensors, skops, ...)."""
        check_is_fitted(self, self.fitted)
        folder = Path(folder)
        own = self._write(folder)
        record = {
            "format": FORMAT,
            "class": type(self).__name__,
            "knobs": self.kept_knobs(),
            "seed": self.seed_,
            "notes": self.notes_,
        }
        write_record(folder, record | own)

    def push_to_hub(
        self, repository: str, *, private: bool = True, token: str | None = None
    ) -> str:
        """Put the fitted learner and its card on the Hugging Face hub; returns its address.

        Args:
            repository: `owner/name`. private: a repository that is made is private.
            token: of the hub; None takes the one of `hf auth login`.

        Raises:
            ModelError: the hub refused, or cannot be reached.
        """
        from stackwise import hub

        with tempfile.TemporaryDirectory() as place:
            self.save(place)
            card = card_of_learner(type(self).__name__, self.kept_knobs(), self.notes_)
            write_text(Path(place) / "README.md", card)
            return hub.upload(Path(place), repository, private=private, token=token)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read back what `save` wrote; its predictions are the same to the bit.

        Raises:
            RunError: a file is missing, damaged, of a newer format or of another learner.
        """
        folder = Path(folder)
        record = read_record(folder, cls.__name__)
        with believing(folder / "model.json"):
            known = cls._get_param_names()  # a knob that this version no longer has changes nothing
            knobs = {name: value for name, value in record["knobs"].items() if name in known}
            made = cls(**{name: knob_back(value) for name, value in knobs.items()})
            made.seed_ = record.get("seed", 0)
            made.notes_ = record.get("notes", [])
            made._read(folder, record)
        check_seal(folder / "model.json", record, UNSEALED)
        return made

    def kept_knobs(self) -> dict[str, Any]:
        """The knobs, as JSON."""
        return {name: knob_json(value) for name, value in self.get_params(deep=False).items()}

    def _write(self, folder: Path) -> dict[str, Any]:
        """Write what was learned; returns what `model.json` keeps of it."""
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        """The inverse of `_write`; `record` is the content of `model.json`."""


def seed_of(random_state: int | None) -> int:
    """The seed of a fit: `random_state`, or one drawn where that is None."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    return int(random_state)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `model.json`, with the hashes of the weights that lie beside it and its own."""
    hashed = plain(dict(record)) | {"hashes": weight_hashes(folder)}
    write_json(folder / "model.json", sealed(hashed, UNSEALED))


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """The content of `model.json`, of a learner of this class, the weights beside it compared.

    Raises:
        RunError: it is missing, damaged, newer or of another class; or weights are damaged.
    """
    record = read_json(folder / "model.json")
    if not isinstance(record, dict) or record.get("class") != name:
        found = record.get("class") if isinstance(record, dict) else None
        raise RunError(f"{folder} holds a {found}, not a {name}; try stackwise.load")
    if not isinstance(record.get("format"), int):
        raise RunError(f"{folder / 'model.json'} is damaged: it names no format")
    if record["format"] > FORMAT:
        raise RunError(
            f"{folder} was written by a newer stackwise (format {record['format']}, this one "
            f"reads up to {FORMAT})"
        )
    check_hashes(folder, record)
    return record


def knob_json(value: Any) -> Any:
    """A knob as JSON. Its keys are texts, so a mapping (of class weights) is kept as pairs; an
    object, such as a model, is known by its type.
    """
    if isinstance(value, Mapping):
        return {"pairs": [[_scalar(key), _scalar(item)] for key, item in value.items()]}
    value = str(value) if isinstance(value, Path) else _scalar(value)
    try:
        json.dumps(value)
    except TypeError:
        return type(value).__name__
    return value


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def knob_back(value: Any) -> Any:
    """The inverse of `knob_json`."""
    if isinstance(value, dict) and set(value) == {"pairs"}:
        return dict(value["pairs"])
    return value
