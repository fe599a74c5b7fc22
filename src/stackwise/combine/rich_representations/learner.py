"""The estimator: members of one learner, their features side by side, and a probe on these."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags

from stackwise.catalog import Knob, learner
from stackwise.combine.rich_representations.clock import Clock
from stackwise.combine.rich_representations.distilling import train_student
from stackwise.combine.rich_representations.member_knobs import probe_knobs, sharing_knobs
from stackwise.combine.rich_representations.members import (
    MemberFits,
    Rows,
    base_learner,
    seeds_of,
    train_apart,
    with_knobs,
)
from stackwise.combine.rich_representations.representation import Representation
from stackwise.combine.rich_representations.snapshots import train_snapshots
from stackwise.combine.rich_representations.together import is_faster, train_together
from stackwise.errors import KnobError
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.network import computing_with, told
from stackwise.learning.targets import class_knobs

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric
    from stackwise.tasks.table.reading.columns import Column

CARD: dict[str, Any] = {
    "title": "The features of several seeds, side by side",
    "paper": "2212.07346",
    "cost": "trains and keeps as many networks as members; distilled, one is kept",
    "presets": {
        "quick": {"n": 3, "member_preset": "quick", "epochs": 3},
        "standard": {},
        "best": {"n": 10, "member_preset": "best"},
    },
}


@learner("rich-representations", tasks=("images", "table"), problem="classification", **CARD)
class RichRepresentation(Representation):
    """Train a learner from several seeds and use the features of all of them side by side.

    `transform` gives the features, `predict` what a linear probe makes of them, and `probed` the
    same representation with a probe for other classes or other data.

    Fitted attributes: `members_` (fitted learners), `network_` (a `Joined`), `C_`, `classes_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (probe_knobs, class_knobs, sharing_knobs)
    budget: ClassVar[str | None] = "member_epochs"
    exporter: ClassVar[str | None] = None
    standardises: ClassVar[bool] = False

    def __init__(
        self,
        base: Annotated[
            Any, Knob("the learner: a name or an estimator; none: residual-cnn, of tables mlp")
        ] = None,
        n: Annotated[int, Knob("members", ge=1, le=256, search=(2, 8))] = 5,
        *,
        mode: Annotated[
            Literal["cat", "distill", "snapshots", "distill-snapshots"],
            Knob("members from seeds or from one run, side by side or distilled into one"),
        ] = "cat",
        member_epochs: Annotated[
            int | None, Knob("most epochs of a member; none is the learner's own", ge=1)
        ] = None,
        weight_decay: Annotated[
            float, Knob("of the members: it helps where they learn, and hurts elsewhere", ge=0)
        ] = 0.0,
        member: Annotated[
            dict[str, Any] | None, Knob("further knobs of the members, such as {\"width\": 16}")
        ] = None,
        member_preset: Annotated[
            Literal["quick", "standard", "best"], Knob("preset of a learner that is named")
        ] = "standard",
        seeds: Annotated[
            Sequence[int] | None, Knob("a seed for each member; none: drawn from the seed")
        ] = None,
        temperature: Annotated[float, Knob("of distillation", gt=0, search=(1.0, 10.0))] = 4.0,
        targets: Annotated[
            Literal["soft", "labels", "features"], Knob("what of the members is distilled")
        ] = "soft",
        snapshot_step: Annotated[
            float, Knob("learning rate of a run of snapshots, over the learner's own", gt=0)
        ] = 3.0,
        layer: Annotated[
            str | None, Knob("last layer of a member, where it is not the last with weights")
        ] = None,
        pooling: Annotated[
            Literal["auto", "mean", "first"], Knob("of features that are (B, T, d)")
        ] = "auto",
    ) -> None:  # fmt: skip
        """Members, and a probe on their features."""

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
        columns: "Sequence[Column] | None" = None,
        keep: Iterable[str] = (),
    ) -> Self:
        """Train the members and the probe.

        Args:
            X: pictures or rows of a table, as the members' learner takes them; or a loaded task,
                and nothing else.
            y: (n,) classes.
            sample_weight: (n,) how much each sample counts.
            validation: (X, y) that stop the members and choose C, in place of a part of the rows.
            metric: the score that stops members; by default their loss.
            columns, keep: what a task knows of a table's columns; see `TableEstimator.fit`.

        Raises:
            DataError: nothing can be learned from this input. KnobError: a knob is out of range.
        """
        return self._fit_samples(
            X, y, sample_weight, validation=validation, metric=metric, columns=columns, keep=keep
        )

    def _base(self, X: Any) -> Any:
        kind = "images" if _are_pictures(X) else "table"
        base = self.base
        if base is not None and not isinstance(base, str):
            kind = base.tasks[0] if getattr(base, "tasks", ()) else kind
        made = base_learner(base, kind, self.member_preset)
        known = made.get_params(deep=False)
        given: dict[str, Any] = {
            "weight_decay": self.weight_decay, "threads": self.threads, "device": self.device,
        }  # fmt: skip
        if self.member_epochs is not None:
            given["max_epochs"] = self.member_epochs
        elif isinstance(base, str | None) and made.budget not in (self.member or {}):
            given |= made.floor  # few samples need more epochs, unless it was said how many
        return with_knobs(
            made, {k: v for k, v in given.items() if k in known} | (self.member or {})
        )

    def _read_samples(self, X: Any, *, fit: bool) -> Any:
        """As the members' learner reads them."""
        if fit:
            self._reader = self._base(X)
            self._reader._begin()
        samples = self._reader._read_samples(X, fit=fit)
        if fit:
            self._take_form()
        return samples

    def _learn_features(
        self,
        train: LabelledRows,
        *,
        whole: bool,
        columns: "Sequence[Column] | None" = None,
        keep: Iterable[str] = (),
        **told: Any,
    ) -> None:
        """What a task knows of a table, which the members learn with."""
        self._told_of_data: dict[str, Any] = {"metric": self._watched}
        if "table" in self._reader.tasks:
            self._told_of_data |= {"columns": columns if whole else None, "keep": keep}

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        one_run, distilled = "snapshots" in self.mode, "distill" in self.mode
        if one_run and self.seeds is not None:
            raise KnobError(f"mode={self.mode} is one run and has one seed: leave out seeds")
        weight = None if (train.weight == train.weight[0]).all() else train.weight
        stop = None if held is None else (held.samples, self.classes_[held.target])
        rows = Rows(train.samples, self.classes_[train.target], weight, stop, self._told_of_data)
        del self._told_of_data
        drawn = seeds_of(self.seed_, self.n + 1, None)
        seeds = drawn[:-1] if self.seeds is None else seeds_of(self.seed_, self.n, self.seeds)
        clock = Clock.of(self.time_limit)

        def unfitted(seed: int, share: float = 1.0) -> Any:
            own = {"random_state": seed, "time_limit": clock.left(share)}
            if held is None:
                own["validation"] = 0.0
            return with_knobs(clone(self._reader, safe=False), own)

        fits = 1 if one_run else self.n
        share = fits / (fits + 1) if distilled else 1.0
        with computing_with(self.threads), told(self.verbose):
            if one_run:
                learner = unfitted(seeds[0], share)
                members = train_snapshots(learner, rows, self.n, self.snapshot_step)
            else:
                learners = [unfitted(seed, share) for seed in seeds]
                members = self._train_members(learners, rows, clock.left(share))
            self._settle(members)
            if distilled:
                student = train_student(
                    unfitted(drawn[-1]), members, rows, self.network_.representation,
                    lambda samples: self._inputs(self._features(samples, quietly=True)),
                    targets=self.targets, temperature=self.temperature,
                )  # fmt: skip
                self._settle([student])
            self.network_.head, self.C_ = self._probe(train, held, self.C)
            self.network_.eval()
        if distilled and self.targets == "features":
            self._give_head()

    def _train_members(self, learners: list[Any], rows: Rows, limit: float | None) -> list[Any]:
        apart = self.workers > 1 or self.on is not None
        if self.together is True and apart:
            raise KnobError("together=true is one fit: leave out workers and on")
        at_once = self.together is True
        if self.together == "auto" and not apart:
            at_once = is_faster(clone(learners[0], safe=False), rows, len(learners))
        if at_once:
            return train_together(learners, rows)
        fits = MemberFits(
            names=[f"member {place + 1}" for place in range(len(learners))], rows=rows,
            learners=[one.set_params(time_limit=None) for one in learners], threads=self.threads,
            workers=self.workers, on=self.on,
        )  # fmt: skip
        return train_apart(fits, limit)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        base = base_learner(None, "table") if self.base is None else self.base
        if isinstance(base, LabelledNetwork):
            own = get_tags(base).input_tags
            for what in ("allow_nan", "string", "categorical"):
                setattr(tags.input_tags, what, getattr(own, what))
        return tags


def _are_pictures(X: Any) -> bool:
    """Whether samples are pictures: of three or four axes. Rows of numbers are a table."""
    if hasattr(X, "columns"):
        return False
    if hasattr(X, "hashes"):  # pictures that a task has read
        return True
    return (np.ndim(X) if isinstance(X, list) else getattr(X, "ndim", 2)) > 2
