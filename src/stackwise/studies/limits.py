"""A time limit of a whole comparison: what each part may take, and what is said of it.

fits                     most of it, cheap methods first, all methods of a seed before the next
ensemble, importance,    what is kept back for them; they do less where it is short
page
refit                    where asked for, as much as the longest fit may take on more rows
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stackwise.progress import spoken

KEPT_BACK = 0.15
FOR_AN_ENSEMBLE = 0.1
FOR_A_REFIT = 0.35
MORE_ROWS = 0.6
"""What a fit may take of the time that is kept for its repetition on all rows: the default split
trains on three of five.
"""
PAGE = 5.0
"""Seconds for the page and for what else comes last, of a limit that is long enough."""
ENOUGH = 3.0
"""Seconds a fit below which networks are hardly trained."""


@dataclass(frozen=True)
class Limit:
    """A limit on everything, from `began` (`time.monotonic()`) on; None for no limit.

    Attributes:
        ensemble, refit: whether the runs are joined, and whether the winner is fitted again, which
            time is kept for.
    """

    seconds: float | None
    began: float
    ensemble: bool = False
    refit: bool = False

    @property
    def fits_end(self) -> float | None:
        """When the last fit has to end."""
        if self.seconds is None:
            return None
        share = KEPT_BACK + (FOR_AN_ENSEMBLE if self.ensemble else 0.0)
        back = max(share * self.seconds, min(PAGE, 0.3 * self.seconds))
        return self.began + self.seconds - back - self._for_a_refit

    @property
    def longest(self) -> float | None:
        """Seconds that a fit may take, so that what is kept for a refit is enough for any of them;
        None where nothing is kept.
        """
        return MORE_ROWS * self._for_a_refit or None

    @property
    def _for_a_refit(self) -> float:
        return FOR_A_REFIT * self.seconds if self.refit and self.seconds is not None else 0.0

    def left(self, share: float = 1.0) -> float | None:
        """Seconds for what comes after the fits, but for a refit and the page; or a share of
        them.
        """
        if self.seconds is None:
            return None
        page = min(PAGE, 0.1 * self.seconds) + self._for_a_refit
        return max(self.began + self.seconds - page - time.monotonic(), 0.0) * share

    def too_little(self, contenders: int, fits: int, workers: int) -> str | None:
        """A sentence where a fit gets too few seconds: said before the first of them.

        Args:
            contenders: methods and variants. fits: of each with one seed, its copies counted.
        """
        if self.seconds is None or self.fits_end is None:
            return None
        each = (self.fits_end - self.began) * workers / max(contenders * fits, 1)
        if each >= ENOUGH:
            return None
        wanted = self.seconds * ENOUGH / each
        copies = f", each fitted {fits} times to judge it" if fits > 1 else ""
        return (
            f"a time limit of {spoken(self.seconds)} is short for {contenders} "
            f"contenders{copies}: about {each:.2g} s a fit, which will cut the slower ones; "
            f"{spoken(wanted)} would allow for one seed, and fewer methods take less"
        )


def not_begun(failures: Mapping[str, str], reason: str) -> tuple[dict[str, str], list[str]]:
    """Failures, and apart from them the runs that the limit left out."""
    left_out = [name for name, why in failures.items() if why == reason]
    return {n: why for n, why in failures.items() if why != reason}, left_out


def said_of(left_out: Sequence[str]) -> str | None:
    """A sentence about the runs that a limit left out."""
    if not left_out:
        return None
    return f"The time limit left no time for {', '.join(left_out)}; --resume goes on with them"
