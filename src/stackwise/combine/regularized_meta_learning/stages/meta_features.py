"""Stage 2: what the ensemble as a whole says of a row, beside what each model says.

From the predictions Z of the m kept models follow, row by row, the mean mu, the standard deviation
sigma (of the population), the median, the range rho = max - min, and two interactions:

    A = [Z, mu, sigma, median, rho, mu sigma, rho sigma]        (n, m + 6)

Nothing is fitted here. mu is an exact linear combination of Z, so that A is always singular: only
the penalty of stage 3 makes its weights well defined.
"""

import numpy as np

STATISTICS = ("mean", "std", "median", "range")
INTERACTIONS = ("mean x std", "range x std")


def augment(
    predictions: np.ndarray, *, statistics: bool = True, interactions: bool = True
) -> np.ndarray:
    """Add statistics over the models, and their interactions.

    Args:
        predictions: (..., m), the models last: (n, m) numbers, or (n, C, m) a class at a time.
        statistics: add mean, standard deviation, median and range.
        interactions: add mean times, and range times, standard deviation.

    Returns:
        (..., m + 4 + 2), or less where a part is off.
    """
    # row by row in memory: a sum over a row then does not depend on the rows beside it
    rows = np.ascontiguousarray(predictions)
    parts = [rows]
    if statistics or interactions:
        mean, deviation = rows.mean(-1, keepdims=True), rows.std(-1, keepdims=True)
        reach = rows.max(-1, keepdims=True) - rows.min(-1, keepdims=True)
        if statistics:
            parts += [mean, deviation, np.median(rows, axis=-1, keepdims=True), reach]
        if interactions:
            parts += [mean * deviation, reach * deviation]
    return np.concatenate(parts, axis=-1)


def feature_names(
    models: list[str], *, statistics: bool = True, interactions: bool = True
) -> list[str]:
    """The names of what `augment` returns."""
    return [*models, *(STATISTICS if statistics else ()), *(INTERACTIONS if interactions else ())]
