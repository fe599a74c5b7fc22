"""The time that a fit has, over several trainings."""

import time
from dataclasses import dataclass

from stackwise.training.session import current_session


@dataclass(frozen=True)
class Clock:
    """The time that a fit has, over several trainings.

    Attributes:
        ends: on the monotonic clock; None without a limit.
    """

    ends: float | None

    @classmethod
    def of(cls, limit: float | None) -> "Clock":
        """By a limit in seconds, and by the one of the open session."""
        limits = [s for s in (limit, current_session().seconds_left()) if s is not None]
        return cls(time.monotonic() + min(limits) if limits else None)

    def left(self, share: float = 1.0) -> float | None:
        """Seconds that are left, or a share of them."""
        return None if self.ends is None else max((self.ends - time.monotonic()) * share, 0.5)
