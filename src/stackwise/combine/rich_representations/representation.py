"""Fitted members and a head on their features, as an estimator: what it answers, its features,
another probe on these, and how it is kept.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.combine.rich_representations.features import (
    Concatenated,
    Pooling,
    head_of,
    refuse_equal,
)
from stackwise.combine.rich_representations.heads import Head, Joined, SlicedHead
from stackwise.combine.rich_representations.probing import (
    Norm,
    choose_penalty,
    fit_head,
    fit_sliced,
)
from stackwise.combine.rich_representations.probing import Rows as FeatureRows
from stackwise.errors import DataError, KnobError, ModelError, RunError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.learning.labelled_network import AUTO_BATCH_SIZES, PredictsClasses
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.outputs import as_tensors, margin_head
from stackwise.learning.row_blocks import outputs_of
from stackwise.models import load_learner

FORM = ("n_features_in_", "feature_names_in_", "image_shape_")
"""What a fitted estimator says of the samples that it takes, as far as its kind has it."""


class Representation(TransformerMixin, PredictsClasses):
    """Members, and a head on their features.

    Each member reads samples by itself, as it learned to; the network is called with what all of
    them make of these, `<place>.<name>`.

    Fitted attributes: `members_` (fitted learners), `network_` (a `Joined`), `C_`, `classes_`.
    """

    if TYPE_CHECKING:  # knobs of those who derive from it

        def __init__(self, **knobs: Any) -> None: ...

        base: Any
        head: str
        layer: str | None
        norm: Norm
        pooling: Pooling

    members_: list[Any]
    C_: float | None
    _reader: Any
    _sizes: list[int] | None = None

    def _read_samples(self, X: Any, *, fit: bool) -> Any:
        """As the members' learner reads them."""
        return self._reader._read_samples(X, fit=fit)

    def _settle(self, members: list[Any], head: nn.Module | None = None) -> None:
        """Take members, and put them into one network, whose head is still to be learned."""
        self.members_, self._sizes = members, None
        networks = [member.network_ for member in members]
        refuse_equal(networks)
        if any(margin_head(network) is not None for network in networks):
            raise ModelError(
                f"a {type(members[0]).__name__} with margins cannot be a member; give it a softmax"
            )
        layers = [head_of(network, self.layer)[0] for network in networks]
        representation = Concatenated(
            networks, layers, pooling=self.pooling, frozen=False, own_inputs=True
        )
        self.network_: Any = Joined(representation, nn.Identity() if head is None else head)
        self.network_.eval()
        for place, member in enumerate(members, 1):
            several = f"member {place}: " if len(members) > 1 else ""
            self.notes_ += [f"{several}{note}" for note in member.notes_]
        self.notes_ = list(dict.fromkeys(self.notes_))
        lines = [line for member in members for line in member.history_]
        self.history_ = list({id(line): line for line in lines}.values())  # some have one fit
        self.best_epoch_ = 0

    def _probe(
        self, train: LabelledRows, held: LabelledRows | None, C: float | None,
        environments: np.ndarray | None = None, beta: float = 0.0,
    ) -> tuple[nn.Module, float | None]:  # fmt: skip
        """The probe on the members' features, and its C; None where each member has its own."""
        rows = self.feature_rows(train)
        out = None if held is None else self.feature_rows(held)
        count, norm = len(self.classes_), self.norm
        if self.head == "sub":
            return fit_sliced(rows, out, self.sizes_, count, C=C, norm=norm), C
        chosen = choose_penalty(rows, out, count, norm=norm) if C is None else C
        head = fit_head(rows, count, C=chosen, norm=norm, environments=environments, beta=beta)
        return head, chosen

    def _give_head(self) -> None:
        """Let the one member answer as the probe does, where it learned no classes by itself."""
        head, (member,) = self.network_.head, self.members_
        own = member.network_.get_submodule(self.network_.representation.layers[0])
        if isinstance(head, Head) and isinstance(own, nn.Linear):
            with torch.no_grad():
                own.weight.copy_(head.linear.weight / head.scale)
                own.bias.copy_(head.linear.bias - own.weight @ head.mean)

    @property
    def sizes_(self) -> list[int]:
        """d_i: how many features each member has."""
        check_is_fitted(self, "network_")
        return list(self._sizes or ())

    def features(self, samples: Any) -> np.ndarray:
        """(n, sum d) float32 features of samples that are read already."""
        representation = self.network_.representation
        inputs = dict(self._inputs(self._features(samples, quietly=True)))
        representation.eval()
        with torch.no_grad():
            if self._sizes is None:
                few = {name: torch.as_tensor(rows[:2]) for name, rows in inputs.items()}
                place = next(representation.parameters()).device
                each = representation.each(**{k: v.to(place) for k, v in few.items()})
                self._sizes = [z.shape[1] for z in each]
            blocks = outputs_of(representation, as_tensors(inputs))
            found = [z[:rows].clone() for z, rows in blocks]
        return np.asarray(torch.cat(found).numpy())

    def parts_of(self, data: Any) -> tuple[LabelledRows, LabelledRows | None]:
        """The training rows of a loaded task or of (X, y), and those held out."""
        return self._parts_of(data)

    def feature_rows(self, part: LabelledRows) -> FeatureRows:
        """(n, sum d) features, (n,) codes and (n,) weights of rows."""
        return self.features(part.samples), part.target, part.weight

    def transform(self, X: Any) -> np.ndarray:
        """(n, sum d) float32: the features of the members, side by side."""
        check_is_fitted(self, "network_")
        return self.features(self._read_samples(X, fit=False))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of what `transform` returns."""
        names = [f"member{i}_{j}" for i, size in enumerate(self.sizes_) for j in range(size)]
        return np.array(names, dtype=object)

    def probed(
        self, X: Any, y: Any, *, validation: tuple[Any, Any] | None = None, C: float | None = None,
        environments: Any = None, beta: float = 0.0,
    ) -> Self:  # fmt: skip
        """The same representation with a new probe: other classes, other data, few labels.

        Args:
            X, y: samples of the same form as in `fit`, and their classes.
            validation: (X, y) by which C is chosen; by default the share of `fit`, where there
                are enough rows.
            C: inverse penalty. environments: (n,) of the rows: the probe of (eq. 2), with `beta`.

        Returns:
            a copy; the members are shared.
        """
        check_is_fitted(self, "network_")
        made = copy.copy(self)
        made.notes_ = []
        samples = made._read_samples(X, fit=False)
        labels = np.asarray(made._read_target(y))
        if len(labels) != len(samples):
            raise DataError(f"X has {len(samples)} rows and y has {len(labels)}; they must agree")
        made._learn_target(labels)
        known = LabelledRows(samples, made._encode(labels), made._class_weights(labels))
        if environments is not None and (C is None or made.head == "sub"):
            raise KnobError(
                "a probe over environments needs C, since rows held out by chance are of the same "
                "environments, and head=cat"
            )
        train, held = known, None
        if C is None:
            train, held = made._split(known, validation)
        groups = None if environments is None else np.asarray(environments)
        head, made.C_ = made._probe(train, held, C, groups, beta)
        made.network_ = Joined(made.network_.representation, head).eval()
        return made

    @classmethod
    def of_members(
        cls, members: Sequence[Any], classes: np.ndarray, top: nn.Module | None = None, **knobs: Any
    ) -> Self:
        """A representation of learners that are fitted already.

        Args:
            members: of one kind of samples. classes: that it answers.
            top: the head on their features; None leaves it for later.

        Raises:
            DataError: members read samples of different forms.
        """
        made = cls(n=len(members), **knobs)
        made._begin()
        made.classes_ = classes
        made._take(members)
        made._settle(list(members), top)
        made.C_ = None
        return made

    def _take(self, members: Sequence[Any]) -> None:
        """Read samples as the first member does; all must take the same."""
        first = members[0]
        forms = [_form_of(member) for member in members]
        for place, form in enumerate(forms[1:], 2):
            if form != forms[0]:
                raise DataError(
                    f"member 1 takes {forms[0]} and member {place} takes {form}: members must take "
                    "the same samples"
                )
        self._reader = copy.copy(first)
        self._take_form()

    def _take_form(self) -> None:
        """Say what samples the reader takes."""
        for name in FORM:
            self.__dict__.pop(name, None)
            if hasattr(self._reader, name):
                setattr(self, name, getattr(self._reader, name))

    def with_network(self, network: nn.Module) -> Self:
        """A copy that answers with another network, whose members are the members."""
        made = super().with_network(network)
        networks = made.network_.representation.members
        made.members_ = [
            member.with_network(own) for member, own in zip(self.members_, networks, strict=True)
        ]
        return made

    def whole_knobs(self) -> dict[str, Any] | None:
        """None: members stop by themselves."""
        return LabelledEstimator.whole_knobs(self)

    def learned_for(self) -> int | None:
        """None: members stop by themselves."""
        return None

    def _features(self, samples: Any, *, quietly: bool = False) -> list[Any]:
        """What each member's network takes, member by member."""
        return [member._features(samples, quietly=quietly) for member in self.members_]

    def _inputs(self, features: list[Any]) -> Mapping[str, Any]:
        return {
            f"{place}.{name}": rows
            for place, (member, own) in enumerate(zip(self.members_, features, strict=True))
            for name, rows in member._inputs(own).items()
        }

    def _batch_size(self, rows: int) -> int:
        return next((size for size, most in AUTO_BATCH_SIZES if rows <= most), 1024)

    def _write(self, folder: Path) -> dict[str, Any]:
        for place, member in enumerate(self.members_):
            member.save(folder / "members" / str(place))
        head = self.network_.head
        tensors = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
        write_tensors(folder / "head.safetensors", tensors)
        return LabelledEstimator._write(self, folder) | {
            "members": len(self.members_), "sliced": isinstance(head, SlicedHead), "C": self.C_,
            "sizes": self.sizes_, "features_in": self.n_features_in_,
            "base": self.base if isinstance(self.base, str | None) else "of_members",
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        LabelledEstimator._read(self, folder, record)
        members = [load_learner(folder / "members" / str(i)) for i in range(record["members"])]
        tensors, outputs = read_tensors(folder / "head.safetensors"), len(self.classes_)
        # the sizes are those of the tensors: a record could name any
        widths = {name: t.shape[-1] for name, t in tensors.items() if name.endswith(".weight")}
        sizes = [widths[name] for name in sorted(widths, key=_number)]
        sliced = record["sliced"]
        head: nn.Module = SlicedHead(sizes, outputs) if sliced else Head(sum(sizes), outputs)
        try:
            head.load_state_dict(tensors)
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise RunError(f"{folder / 'head.safetensors'} is of another head ({why})") from error
        if record["base"] == "of_members":  # an estimator, of which the knob keeps the name alone
            self.base = clone(members[0], safe=False)
        notes = self.notes_
        self._take(members)
        self._settle(members, head.eval())
        self.notes_, self._sizes, self.C_ = notes, record["sizes"], record["C"]
        self.n_features_in_ = self._reader.n_features_in_ = record["features_in"]


def _number(name: str) -> int:
    """The place of a head in a sliced one, of a tensor's name."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "heads" else 0


def _form_of(member: Any) -> str:
    """What a fitted member takes, in words."""
    shape = getattr(member, "image_shape_", None)
    if shape is not None:
        return "pictures of " + " x ".join(map(str, shape))
    names = getattr(member, "feature_names_in_", None)
    if names is not None:
        return f"columns {', '.join(map(str, names[:5]))}{' ...' if len(names) > 5 else ''}"
    return f"rows of {member.n_features_in_} numbers"
