"""Small series on which a method is tried in a second."""

import numpy as np


def small_series(
    problem: str | None = None, count: int = 60, seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Waves of two channels and 18 to 24 moments, with a gap now and then, and what each is.

    Args:
        problem: regression for how quick a wave is; else its form, of three.
    """
    generator = np.random.default_rng(seed)
    series, target = [], []
    for row in range(count):
        length = int(generator.integers(18, 25))
        speed = generator.uniform(0.4, 1.2)
        phase = speed * np.arange(length) + generator.uniform(0, 6)
        wave = (np.sin(phase), np.sign(np.sin(phase)), phase % 2 - 1)[row % 3]
        one = np.stack([wave, np.roll(wave, 3)]) + generator.normal(0, 0.1, (2, length))
        if row % 5 == 0:
            one[1, generator.integers(1, length - 1)] = np.nan
        series.append(one)
        target.append(speed if problem == "regression" else ("sine", "square", "saw")[row % 3])
    return series, np.array(target, dtype=float if problem == "regression" else object)
