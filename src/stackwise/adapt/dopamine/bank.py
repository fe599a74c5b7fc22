"""Several modes on one base, switched by name: no weight is copied or written.

    modes = Modes(model, [legal, medical])
    with modes.on("legal"):
        model(**inputs)                         every row in the mode
    with modes.on(["legal", None, "medical"]):
        model(**inputs)                         a mode a row; None is the base, bit for bit

What is on is known to one thread (or task of asyncio) alone, so that several may answer at once,
each in its own mode. Outside of `on` the model is the base.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stackwise.adapt.delta import base_hash, deltas_on
from stackwise.adapt.delta.hashes import module_of
from stackwise.adapt.dopamine.gate import ROLES, Numbers
from stackwise.adapt.dopamine.hooks import attach, detach
from stackwise.adapt.dopamine.mode import TauGate
from stackwise.adapt.dopamine.sites import Site
from stackwise.errors import ModelError, nearest

Name = str | None


class Modes:
    """A bank of modes on a model.

    Args:
        model: a module or a fitted learner.
        modes: for it; their names differ.
        check: compare the base's hash.

    Raises:
        ModelError: two have one name or do not fit together, or one is for another base.
    """

    def __init__(self, model: Any, modes: Iterable[TauGate], *, check: bool = True) -> None:
        self.model, self._network = model, module_of(model)
        self._modes: dict[str, TauGate] = {}
        self._sites: dict[str, Site] = {}
        self._now: ContextVar[Name | tuple[Name, ...]] = ContextVar("stackwise_mode", default=None)
        if any(not one.in_weights for one in deltas_on(self._network)):
            raise ModelError("a mode is on this model: take it off, and give it to the bank")
        found = base_hash(self._network) if check else None
        for mode in modes:
            if mode.name in self._modes:
                raise ModelError(f"two modes are called {mode.name!r}: give each a name of its own")
            if found is not None and mode.base not in (None, found):
                raise ModelError(
                    f"{mode} was made for a base with the hash {mode.base}, and this "
                    f"{type(self._network).__name__} has {found}: give the model that it was made "
                    "for"
                )
            mode.fits(self._network)
            for name, site in mode.sites.items():
                if self._sites.setdefault(name, site).width != site.width:
                    raise ModelError(
                        f"{mode} expects {site.width} units at layer {name}, and another mode has "
                        f"{self._sites[name].width} there"
                    )
            self._modes[mode.name] = mode
        attach(self._network, self, list(self._sites.values()), self._at)

    def __str__(self) -> str:
        return f"the bank of {', '.join(self._modes) or 'no modes'}"

    def __deepcopy__(self, memo: Any) -> "Modes":
        return self  # copies of the model share the bank, as they share deltas

    @property
    def names(self) -> list[str]:
        """The names of the modes."""
        return list(self._modes)

    @contextlib.contextmanager
    def on(self, mode: Name | Sequence[Name]) -> Iterator[Any]:
        """Have a mode on within the block, in this thread; a list has one for each row of a batch.

        Raises:
            ModelError: there is no such mode, or modes of rows are of several forms.
        """
        now = mode if mode is None or isinstance(mode, str) else tuple(mode)
        wanted = now if isinstance(now, tuple) else (now,)
        for name in wanted:
            if name is not None and name not in self._modes:
                raise ModelError(
                    f"there is no mode {name!r}; the bank has {', '.join(self._modes)}."
                    f"{nearest(name, self._modes)}"
                )
        if isinstance(now, tuple):
            self._check_rows(now)
        token = self._now.set(now)
        try:
            yield self.model
        finally:
            self._now.reset(token)

    def close(self) -> Any:
        """Take the bank off the model for good; returns the model."""
        detach(self._network, self)
        return self.model

    def _check_rows(self, wanted: tuple[Name, ...]) -> None:
        if not wanted:
            raise ModelError("a list of modes has one for each row of a batch; this one is empty")
        chosen = [self._modes[name] for name in wanted if name is not None]
        # the base among them is a gate that is open always
        if len({(mode.hard, mode.sharpness) for mode in chosen if mode.gated}) > 1:
            raise ModelError(
                "modes of the rows of one batch have one form: harden them all, or give all one "
                "sharpness"
            )
        if any(one.down is not None for mode in chosen for one in mode.numbers.values()):
            raise ModelError("thresholds that depend on the input go over whole batches, not rows")

    def _at(self, place: str, like: Tensor) -> Numbers | None:
        now = self._now.get()
        if now is None:
            return None
        if isinstance(now, str):
            mode = self._modes[now]
            return mode.at(place, like) if place in mode.sites else None
        if like.shape[0] != len(now):
            raise ModelError(
                f"{len(now)} rows have a mode, and {place} sees {like.shape[0]}: give one mode for "
                "each row of the batch, or one for all"
            )
        return self._rows(place, now, like)

    def _rows(self, place: str, names: tuple[Name, ...], like: Tensor) -> Numbers:
        """The numbers of each row, side by side; where a row has none, those that do nothing."""
        there = {
            name: self._modes[name].at(place, like) for name in set(names)
            if name is not None and place in self._modes[name].sites
        }  # fmt: skip
        width, nothing = self._sites[place].width, {"tau": -torch.inf, "gain": 1.0, "bias": 0.0}
        made: dict[str, Any] = {}
        for role in ROLES:
            held = {n: t for n, one in there.items() if (t := getattr(one, role)) is not None}
            if held:
                plain = torch.full((width,), nothing[role]).to(like)
                made[role] = torch.stack([held.get(name, plain) for name in names])  # type: ignore[arg-type]
        shaped = next((one for one in there.values() if one.tau is not None), Numbers())
        return replace(Numbers(**made), sharpness=shaped.sharpness, form=shaped.form)
