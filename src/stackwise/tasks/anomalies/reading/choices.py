"""What a reader is told of a series, and what it found out: a fitted detector reads new ones so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from stackwise.errors import DataError


@dataclass(frozen=True)
class Reading:
    """How the columns of a source are read.

    Attributes:
        time: the column of the moments; None: rows are numbered.
        label: the column that is 1 at an anomaly; None where nobody knows.
        channel, value: the columns of a long table: a row a moment and channel.
        ignore: columns that are no channels.
        step: the step onto which moments are brought, such as 1s; None leaves them as they are.
        max_gap: steps without a row that do not end a stretch.
        fill: moments for which a missing value is replaced by the last one of its channel.
        usual: the usual distance of two moments, as it was found where the detector learned.
    """

    time: str | None = None
    label: str | None = None
    channel: str | None = None
    value: str | None = None
    ignore: list[str] = field(default_factory=list)
    step: str | None = None
    max_gap: int = 10
    fill: int = 0
    usual: float | None = None

    def __post_init__(self) -> None:
        if (self.channel is None) != (self.value is None):
            raise DataError(
                "a long table has a column of channels and one of values: give --channel and "
                "--value together"
            )
        if self.channel is not None and self.time is None:
            raise DataError("a long table has a moment in each row: name its column with --time")
        if self.step is not None and self.time is None:
            raise DataError(f"--step {self.step} needs the column of the moments: give --time")

    @property
    def special(self) -> list[str]:
        """The columns that are no channels."""
        named = (self.time, self.label, self.channel, self.value)
        return [*(name for name in named if name is not None), *self.ignore]

    def as_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [])}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Reading":
        """The inverse of `as_json`."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    def said_by(self, attrs: Mapping[str, Any]) -> "Reading":
        """With the columns that a named series says it has, where none is given."""
        own = {name: attrs[name] for name in ("time", "label") if name in attrs}
        return replace(self, **{n: v for n, v in own.items() if getattr(self, n) is None})
