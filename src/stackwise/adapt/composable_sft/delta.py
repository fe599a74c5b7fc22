"""A sparse fine-tuning beside its base: entries of an encoder's weights, and a head of the job.

    sft = Delta.load("sft/task")
    with sft.on(model): ...                   any model on the same encoder, whatever its head
    both = task + language                    entries that both change add up

The encoder's weights have names without the prefix of a head's class, and its hash alone says
whether a model is the base, so that what was learned on one job is put on a model for another. The
head goes along where the model has one of the same names and sizes for the same classes; on a
model for another job it stays away. `prepared` makes the head where the model has none.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from stackwise.adapt.composable_sft.places import encoder_hash, prefix_of
from stackwise.adapt.composable_sft.selection import Masks
from stackwise.adapt.delta.parts import Dense, Part, Sparse
from stackwise.adapt.delta.standing import deltas_on
from stackwise.adapt.delta.weights import WeightDelta
from stackwise.errors import ModelError
from stackwise.findings import Findings

if TYPE_CHECKING:
    pass


class SparseFineTuning(WeightDelta, kind="sparse-fine-tuning"):
    """theta0 + phi at a few entries, and a head of its own.

    Args:
        parts: of the encoder, by names within it.
        head: of the head, by full names. classes: those that it tells apart, where it does.
        entries: of the encoder that could have been selected.
        head_names: full names of the head's weights where it was learned, which are no part of its
            base.
        cut: whether a time limit ended training before the selected entries were trained alone.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        *,
        head: Mapping[str, Part] | None = None,
        classes: Sequence[str] | None = None,
        pad: int | None = None,
        entries: int = 0,
        head_names: Sequence[str] = (),
        cut: bool = False,
        **about: Any,
    ) -> None:
        every = {**parts, **{f"{HEAD}{name}": part for name, part in (head or {}).items()}}
        super().__init__(dict(sorted(every.items())), **about)
        self.classes = None if classes is None else [str(one) for one in classes]
        self.pad, self.entries = pad, int(entries)
        self.head_names = tuple(str(name) for name in head_names)
        self.cut = bool(cut)

    @property
    def encoder(self) -> dict[str, Part]:
        """The parts of the encoder."""
        return {name: part for name, part in self.parts.items() if not name.startswith(HEAD)}

    @property
    def head(self) -> dict[str, Part]:
        """The parts of the head."""
        return {k.removeprefix(HEAD): v for k, v in self.parts.items() if k.startswith(HEAD)}

    @property
    def count(self) -> int:
        """Entries of the encoder that it changes."""
        return sum(len(indices_of(part)) for part in self.encoder.values())

    @property
    def density(self) -> float:
        """The share of the entries that could have been selected."""
        return self.count / self.entries if self.entries else 0.0

    def additions(self, module: nn.Module) -> dict[str, Part]:
        """What is added to each weight of this module: the head too where it has the same one."""
        prefix = prefix_of(module)
        found = {prefix + name: part for name, part in self.encoder.items()}
        return found | (self.head if self._heads_alike(module) else {})

    def fits(self, module: nn.Module) -> None:
        """Every weight is there, and no other fine-tuning that is on brought the same head.

        Raises:
            ModelError: a weight is missing or has another shape; or two heads are one too many.
        """
        super().fits(module)
        if not self._heads_alike(module):
            return
        for other in deltas_on(module):
            twice = isinstance(other, SparseFineTuning) and set(other.head) & set(self.head)
            if twice and other._heads_alike(module):
                raise ModelError(
                    f"{self._name} and {other._name}, which is on, both bring the head "
                    f"{min(twice)}: put on one of them by without_head()"
                )

    def _heads_alike(self, module: nn.Module) -> bool:
        """Whether the module has this head's weights, for as many classes."""
        weights = dict(module.named_parameters(remove_duplicate=False))
        return bool(self.head) and all(
            name in weights and tuple(weights[name].shape) == tuple(part.shape)
            for name, part in self.head.items()
        )

    def known_by(self, module: nn.Module) -> str:
        """The hash of the encoder, whatever head stands on it."""
        return encoder_hash(module, self.head_names)

    def prepared(self, model: Any) -> Any:
        """The model with this head's place in it: itself where it has that, or needs none."""
        if self.classes is None or not hasattr(model, "config") or self._heads_alike(model):
            return model
        from stackwise.tasks.labels.heads import with_head

        return with_head(model, self.classes, pad=self.pad)

    def without_head(self) -> "SparseFineTuning":
        """The encoder's part alone: for a model on another job, or to be added to another."""
        return self._with(self.encoder)

    def restricted(self, *pieces: str) -> "SparseFineTuning":
        """The encoder's part in the weights whose names have one of these pieces."""
        kept = {n: p for n, p in self.encoder.items() if any(piece in n for piece in pieces)}
        if not kept:
            raise ModelError(f"{self._name} changes no weight named with {' or '.join(pieces)}")
        return self._with(kept)

    def overlap(self, other: "SparseFineTuning") -> int:
        """Entries of the encoder that both change."""
        both = self.encoder.keys() & other.encoder.keys()
        return sum(_shared(self.encoder[name], other.encoder[name]) for name in both)

    def plus(self, other: Self) -> Self:
        """Both changes added up, with the head of the one that has one.

        Raises:
            ModelError: both have one.
        """
        if self.head and other.head:
            raise ModelError(
                f"{self._name} and {other._name} both bring the head of a job "
                f"({min(self.head)}, {min(other.head)}): choose one, by without_head() of the other"
            )
        made = super().plus(other)
        owner = self if self.head else other
        made.classes, made.pad = owner.classes, owner.pad
        made.entries = max(self.entries, other.entries)
        return made

    def _with(self, parts: Mapping[str, Part]) -> Self:
        made = type(self)({}, entries=self.entries, head_names=self.head_names, base=self.base,
                          method=self.method)  # fmt: skip
        made.parts = dict(sorted(parts.items()))
        if made.head:
            made.classes, made.pad = self.classes, self.pad
        return made

    def settings(self) -> dict[str, Any]:
        """Those of the parts, and what is known of the head."""
        more: dict[str, Any] = {"classes": self.classes, "pad": self.pad, "entries": self.entries}
        more |= {"head_names": list(self.head_names), "cut": self.cut}
        return super().settings() | more

    @classmethod
    def made_of(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **about: Any
    ) -> Self:
        """From the tensors of its parts and what `settings` said."""
        made = super().made_of(tensors, settings, **about)
        classes, pad = settings["classes"], settings["pad"]
        made.classes = None if classes is None else [str(one) for one in classes]
        made.pad = None if pad is None else int(pad)
        made.entries = int(settings["entries"])
        made.head_names = tuple(str(name) for name in settings["head_names"])
        made.cut = bool(settings["cut"])
        return made


HEAD = "head:"
"""Before the names of parts that are the head's."""


def learned(
    begin: Mapping[str, Tensor], end: Mapping[str, Tensor], masks: Masks | None, *, exact: bool
) -> dict[str, Part]:
    """end - begin of each weight, at the entries that were selected and moved.

    Args:
        masks: None takes every entry.
        exact: keep differences in float64, which hold those of two float32 numbers, so that what
            is put on gives the trained weights bit for bit; else in float32.
    """
    parts: dict[str, Part] = {}
    for name, first in begin.items():
        difference = end[name].detach().double().cpu() - first.detach().double().cpu()
        if masks is not None:
            difference = torch.where(masks[name].cpu(), difference, 0.0)
        values = difference if exact else difference.float()
        count = int(values.count_nonzero())
        if 2 * count < values.numel():
            parts[name] = Sparse.where_not_zero(values)
        elif count:
            parts[name] = Dense(values)
    return {name: part for name, part in parts.items() if not _is_empty(part)}


def overlap_report(fine_tunings: Mapping[str, SparseFineTuning]) -> Findings:
    """How dense fine-tunings are in each weight, and how many entries each two share.

    Args:
        fine_tunings: of one base, by a name for each.

    Returns:
        Tables `density` (a row a weight, a column a fine-tuning) and `overlap` (a row a pair:
        `shared` entries, `share` of the smaller one, and `chance`, the share that masks drawn at
        random would have).
    """
    import itertools

    import pandas as pd

    bases = {one.base for one in fine_tunings.values() if one.base is not None}
    if len(bases) > 1:
        raise ModelError(f"these fine-tunings are for {len(bases)} bases, so nothing is shared")
    names = sorted({name for one in fine_tunings.values() for name in one.encoder})
    density: pd.DataFrame = pd.DataFrame(
        {key: [_density(one.encoder.get(name)) for name in names]
         for key, one in fine_tunings.items()},
        index=pd.Index(names, name="weight"),
    )  # fmt: skip
    rows = []
    for (first, one), (second, other) in itertools.combinations(fine_tunings.items(), 2):
        shared, least = one.overlap(other), max(min(one.count, other.count), 1)
        chance = max(one.count, other.count) / max(one.entries, other.entries, 1)
        rows.append({"one": first, "other": second, "shared": shared, "share": shared / least,
                     "chance": chance})  # fmt: skip
    columns = ["one", "other", "shared", "share", "chance"]
    totals = {key: one.count for key, one in fine_tunings.items()}
    return Findings(
        {"density": density, "overlap": pd.DataFrame(rows, columns=columns)},
        summary={"entries": totals},
    )


def indices_of(part: Part) -> Tensor:
    """(n,) int64 flat indices that a part changes."""
    entries = part.entries
    if entries is not None:
        return entries
    return part.dense(torch.empty(0)).reshape(-1).nonzero()[:, 0]


def _shared(one: Part, other: Part) -> int:
    return int(torch.isin(indices_of(one), indices_of(other)).sum())


def _density(part: Part | None) -> float:
    if part is None:
        return 0.0
    size = 1
    for side in part.shape:
        size *= side
    return len(indices_of(part)) / max(size, 1)


def _is_empty(part: Part) -> bool:
    return isinstance(part, Sparse) and not len(part.indices)
