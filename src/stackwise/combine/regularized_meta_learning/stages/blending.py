"""Stage 4: weight the meta-models by how small their error is.

    omega_g = e_g^-p / sum_h e_h^-p        (Algorithm 4 with p = 1)

p is the `sharpness`: 0 is the plain mean, and a large one takes the best alone. The errors of the
three meta-models differ in their fourth digit, so that with p = 1 the blend *is* their mean to
about 1e-4. By the triangle inequality (of the root mean squared error) and by convexity (of the
log loss) the blend is never worse than the weighted mean of the errors, and so never worse than
the worst member; that it beats the best one is not true in general.
"""

import numpy as np


def inverse_error_weights(
    errors: np.ndarray, *, sharpness: float = 1.0, floor: float = 0.0
) -> np.ndarray:
    """Weights that fall with the error.

    Args:
        errors: (G,) not negative.
        sharpness: the power p, 0 or more.
        floor: errors below it count as it.

    Returns:
        (G,) positive, summing to 1; equal for equal errors.
    """
    errors = np.maximum(np.asarray(errors, dtype=np.float64), max(floor, np.finfo(float).tiny))
    relative = (errors / errors.min()) ** -float(sharpness)
    return relative / relative.sum()


def near_the_best(errors: np.ndarray, drop_worse: float | None) -> np.ndarray:
    """(G,) bool: members whose error is at most (1 + drop_worse) times the best."""
    errors = np.asarray(errors, dtype=np.float64)
    if drop_worse is None:
        return np.ones(len(errors), dtype=bool)
    return np.asarray(errors <= errors.min() * (1 + drop_worse))
