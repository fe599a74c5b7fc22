"""What a time limit leaves, parted over the work that is still to come."""

import time


class TimeShares:
    """Even shares of a time: what a part does not use is shared on.

    Args:
        parts: pieces of work to come.
        seconds: for all of them; None for no limit.
    """

    def __init__(self, parts: int, seconds: float | None) -> None:
        self.parts = parts
        self.end = None if seconds is None else time.monotonic() + seconds

    def next(self) -> float | None:
        """Seconds for the next part, 0 where all is used up; None without a limit."""
        if self.end is None:
            return None
        share = max(self.end - time.monotonic(), 0.0) / max(self.parts, 1)
        self.parts -= 1
        return share
