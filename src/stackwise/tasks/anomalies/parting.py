"""Which moments are learned from, which choose, and which test: spans that follow each other.

train        said to be normal: up to `normal_until`, else a share of all, and never beyond the
             first anomaly that is labelled
validation   what follows, up to a moment between two events
test         the rest
"""

from itertools import pairwise

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.anomalies.metrics import runs_of
from stackwise.tasks.anomalies.reading.moments import moment_named
from stackwise.tasks.anomalies.series import Series


def normal_span(series: Series, until: str | None, share: float) -> tuple[int, str]:
    """How many moments are learned from, and a sentence that says why.

    Raises:
        DataError: there are none, or an anomaly is labelled among those that were named.
    """
    labels = series.labels
    first = int(np.argmax(labels)) if labels is not None and labels.any() else len(series)
    if until is None:
        until = series.attrs.get("normal_until")
    if until is not None:
        stop = int(
            np.searchsorted(series.moments, moment_named(str(until), series.moments, series.zone))
        )
        if stop == 0:
            raise DataError(f"no moment lies before {until}, so nothing is left to learn from")
        if stop > first:
            raise DataError(
                f"the moments before {until} are said to be normal, and {int(labels[:stop].sum())} "  # type: ignore[index]
                "of them are labelled as anomalies: name an earlier moment"
            )
        return stop, f"the {stop:,} moments before {until} are taken as normal"
    wanted = round(share * len(series))
    if first < wanted:
        return first, f"the {first:,} moments before the first labelled anomaly are taken as normal"
    return wanted, f"the first {share:.0%} of the moments, {wanted:,}, are taken as normal"


def validation_stop(series: Series, start: int, share: float) -> int:
    """Where validation ends and the test begins: near a share of what was not learned from, between
    two events where there are two.

    Args:
        start: the moments that were learned from.
    """
    stop = start + round(share * (len(series) - start))
    if series.labels is None:
        return stop
    events = runs_of(series.labels[start:]) + start
    if len(events) < 2:
        inside = [(a, b) for a, b in events if a < stop < b or b <= stop]
        return int(inside[0][0]) if inside else stop
    between = [(int(a[1]), int(b[0])) for a, b in pairwise(events)]
    return min((min(max(stop, a), b) for a, b in between), key=lambda one: abs(one - stop))
