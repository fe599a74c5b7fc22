"""A small change that is kept beside a base model: put on, taken off, kept and sent alone.

    delta = Delta.load("legal")             # kilobytes; the base is not in it
    with delta.on(model):                   # put on, and taken off whatever happens
        model(**inputs)
    legal_and_medical = legal + 0.5 * medical

Several may be on at once. When one is taken off, in whatever order, the model is what it would be
had it never been on, and with the last one gone it is the base, bit for bit. What was done
meanwhile to a weight that a delta changes is lost then: train with deltas on only what they leave
alone.

A kind of delta is a subclass with a name of its own:

    class Gain(Delta, kind="gain"):
        ...     # fits, attach, detach, tensors, settings, made_of

and, where they mean something, `scaled`, `plus`, `settle` and `not_mergeable`.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from stackwise.adapt.delta.folders import FORMAT, KINDS, RECORD, kind_of, read_record
from stackwise.adapt.delta.hashes import module_of, state_hash
from stackwise.adapt.delta.standing import all_off, come, deltas_on, go
from stackwise.errors import KnobError, ModelError, StackwiseError
from stackwise.files import read_tensors, write_json, write_tensors
from stackwise.seals import check_hashes, check_seal, file_hash, sealed


class Delta(ABC):
    """A small change beside a base.

    Attributes:
        base: the hash of the model that it was made for (`base_hash`), None where that is unknown.
        method: the slug of the method that made it. knobs: those of the method, as JSON.
        folder: where it was read from, or None.
    """

    kind: ClassVar[str]
    tensors_file: ClassVar[str] = "delta.safetensors"
    foreign: ClassVar[str | None] = None
    """The file by which another library's folder of this kind is known."""
    in_weights: ClassVar[bool] = True
    """Whether it changes weights where it is put on; else it stands beside them."""

    def __init_subclass__(cls, *, kind: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if kind is None:
            return
        known = KINDS.get(kind)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"the kind {kind!r} of deltas is {known.__qualname__} already")
        cls.kind = kind
        KINDS[kind] = cls

    def __init__(
        self,
        *,
        base: str | None = None,
        method: str | None = None,
        knobs: Mapping[str, Any] | None = None,
    ) -> None:
        self.base, self.method, self.knobs = base, method, dict(knobs or {})
        self.folder: Path | None = None

    # ---- what a kind says

    @abstractmethod
    def fits(self, module: nn.Module) -> None:
        """Nothing where it can be put on; called before anything is changed.

        Raises:
            ModelError: a name is missing in the module, or a shape is another.
        """

    @abstractmethod
    def attach(self, module: nn.Module) -> None:
        """Change the module. It may hold other deltas already."""

    @abstractmethod
    def detach(self, module: nn.Module) -> None:
        """Undo `attach`, bit for bit. Others may have come or gone meanwhile."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by the names that its file has."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `made_of` needs beside the tensors, as JSON."""

    @classmethod
    @abstractmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """The inverse of `tensors` and `settings`; `about` is `base`, `method` and `knobs`."""

    def known_by(self, module: nn.Module) -> str:
        """The hash by which it knows its base, of the numbers as they stand: by default of all."""
        return state_hash(module)

    def prepared(self, model: Any) -> Any:
        """What it is put on, made of a model that is named for it: by default the model itself;
        with a part of its own, such as a head, where the model has none. The model is left alone.
        """
        return model

    def not_mergeable(self) -> str | None:
        """Why it cannot be put on for good as plain weights, as the end of a sentence; None where
        it can.
        """
        return "it is no change of weights"

    def as_weights(self, module: nn.Module) -> "Delta":
        """The change of this module's weights that does what this does: itself where it is one.
        Called where `not_mergeable` gives no reason.

        Raises:
            ModelError: this module has no such weights.
        """
        return self

    def settle(self, module: nn.Module) -> None:
        """While it is on: leave it for good. Called where `not_mergeable` gives no reason."""
        if self.in_weights:
            raise NotImplementedError
        if any(one.in_weights for one in deltas_on(module)):
            # what they add would be taken off again without what is multiplied into it here
            raise ModelError(
                f"{self._name} stands beside weights that other deltas change: merge those first"
            )
        weights = self.as_weights(module)
        self.detach(module)
        weights.attach(module)
        weights.settle(module)

    def scaled(self, factor: float) -> Self:
        """`factor` times this."""
        raise ModelError(f"a multiple of a delta of the kind {self.kind!r} means nothing")

    def plus(self, other: Self) -> Self:
        """The sum with another of this kind and base."""
        raise ModelError(
            f"a sum of two deltas of the kind {self.kind!r} means nothing: put both on"
        )

    # ---- what a user does

    def put(self, model: Any, *, check: bool = True) -> Any:
        """Put it on a module or a fitted learner, in place; returns the model.

        Args:
            check: compare the base's hash, which takes about a second a gigabyte.

        Raises:
            ModelError: it is on already, does not fit, or was made for another base.
        """
        module = module_of(model)
        if self._among(module) is not None:
            raise ModelError(f"{self._name} is on this {type(module).__name__} already")
        self.fits(module)
        if check:
            self._check_base(module)
        self.attach(module)
        come(module, self)
        return model

    def take_off(self, model: Any) -> Any:
        """Take it off again, in place; returns the model.

        Raises:
            ModelError: it is not on.
        """
        module = module_of(model)
        found = self._among(module)
        if found is None:
            raise ModelError(f"{self._name} is not on this {type(module).__name__}")
        found.detach(module)
        go(module, found)
        return model

    @contextlib.contextmanager
    def on(self, model: Any, *, check: bool = True) -> Iterator[Any]:
        """Have it on within the block."""
        self.put(model, check=check)
        try:
            yield model
        finally:
            self.take_off(model)

    def merge(self, model: Any, *, check: bool = True) -> Any:
        """Put it on for good, in place, or leave it for good where it is on; returns the model.

        Raises:
            ModelError: this kind cannot be merged; the sentence says why. Or as for `put`.
        """
        self.check_mergeable()
        module = module_of(model)
        found = self._among(module)
        if found is None:
            self.put(module, check=check)
        on = found or self
        try:
            on.settle(module)
        except ModelError:
            if found is None:
                self.take_off(module)
            raise
        go(module, on)
        return model

    @contextlib.contextmanager
    def merged(self, model: Any, *, check: bool = True) -> Iterator[Any]:
        """Have what it does in the weights within the block, as `merge` leaves it.

        Raises:
            ModelError: as for `merge`.
        """
        self.check_mergeable()
        module = module_of(model)
        self.fits(module)
        if check:
            self._check_base(module)
        with self.as_weights(module).on(module, check=False):
            yield model

    def check_mergeable(self) -> None:
        """Nothing where it can be merged.

        Raises:
            ModelError: it cannot; the sentence says why.
        """
        reason = self.not_mergeable()
        if reason is not None:
            raise ModelError(f"{self._name} cannot be merged: {reason}")

    def __add__(self, other: "Delta") -> Self:
        if not isinstance(other, Delta):
            return NotImplemented
        if other.kind != self.kind:
            raise ModelError(
                f"deltas of the kinds {self.kind!r} and {other.kind!r} have no sum: put both on"
            )
        if None not in (self.base, other.base) and self.base != other.base:
            raise ModelError(
                f"deltas for two bases, {self.base} and {other.base}, have no sum: make both for "
                "one base"
            )
        made = self.plus(other)  # type: ignore[arg-type]  # the same kind, as was just seen
        made.base = self.base or other.base
        return made

    def __mul__(self, factor: float) -> Self:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            return NotImplemented
        if not math.isfinite(factor):
            raise KnobError(f"a delta times {factor} is none: give a finite number")
        return self.scaled(float(factor))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Delta) or other.kind != self.kind or self.base != other.base:
            return False
        ours, theirs = self.tensors(), other.tensors()
        return (
            ours.keys() == theirs.keys()
            and self.settings() == other.settings()
            and all(_same(ours[name], theirs[name]) for name in ours)
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.base, tuple(sorted(self.tensors()))))

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # nothing changes it, so that copies of a model share those that are on

    # ---- files

    def save(self, folder: Path | str) -> None:
        """Write `delta.json` and the tensors. The base is not in them.

        The tensors come first: a kill leaves a folder without the record, which is no delta yet.
        """
        folder, tensors = Path(folder), self.tensors()
        write_tensors(folder / self.tensors_file, tensors)
        write_json(folder / RECORD, sealed({
            "format": FORMAT, "kind": self.kind, "method": self.method, "knobs": self.knobs,
            "base": self.base, "settings": self.keep_settings(folder),
            "tensors": {name: list(tensor.shape) for name, tensor in sorted(tensors.items())},
            "hashes": {self.tensors_file: file_hash(folder / self.tensors_file)},
        }))  # fmt: skip

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a delta of any kind (of this one where it is called on a kind).

        The class is looked up by the name of its kind, among those that are imported and those of
        the method that the record names; nothing in the folder is run.

        Raises:
            ModelError: the folder holds no delta, or one of a kind that is unknown here.
            RunError: a file is missing or damaged.
        """
        folder = Path(folder)
        record = read_record(folder)
        found = kind_of(folder, record)
        if not issubclass(found, cls):
            raise ModelError(f"{folder} holds a delta of the kind {found.kind!r}, not a {cls.kind}")
        tensors_file = folder / found.tensors_file
        if not tensors_file.is_file():
            raise ModelError(
                f"{folder} has no {found.tensors_file}, so that its delta is not whole"
            )
        tensors = read_tensors(tensors_file)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        if record and record.get("tensors") != shapes:
            raise ModelError(
                f"{tensors_file} does not hold the tensors that {folder / RECORD} names: copy both "
                "from one place"
            )
        check_hashes(folder, record)
        about = {name: record.get(name) for name in ("base", "method", "knobs")}
        try:
            made = found.made_of(tensors, found.read_settings(folder, record), **about)
        except StackwiseError as error:
            raise ModelError(f"{folder} holds no sound delta: {error}") from error
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
                ValueError) as error:  # fmt: skip
            raise ModelError(f"the delta in {folder} is damaged ({error!r})") from error
        check_seal(folder / RECORD, record)
        made.folder = folder
        return made  # type: ignore[return-value]  # issubclass was asked for

    def keep_settings(self, folder: Path) -> dict[str, Any]:
        """What the record holds of the settings; a kind with a file of its own writes it here."""
        return self.settings()

    @classmethod
    def read_settings(cls, folder: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of a folder; `record` is empty where another library wrote it."""
        settings: Mapping[str, Any] = record["settings"]
        return settings

    # ---- within

    @property
    def _name(self) -> str:
        place = "" if self.folder is None else f" of {self.folder}"
        return f"the {self.kind} delta{place}"

    def _among(self, module: nn.Module) -> "Delta | None":
        """The one that is on and equals this."""
        on = deltas_on(module)
        return next((one for one in on if one is self), None) or next(
            (one for one in on if one == self), None
        )

    def _check_base(self, module: nn.Module) -> None:
        if self.base is None:
            return
        with all_off(module):
            found = self.known_by(module)
        # one that was learned over others is for the model with those on
        if self.base not in (found, self.known_by(module) if deltas_on(module) else found):
            raise ModelError(
                f"{self._name} was made for a base with the hash {self.base}, and this "
                f"{type(module).__name__} has {found}: give the model that it was made for"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
