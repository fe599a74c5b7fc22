"""Questions about small pictures, on which a method is tried in a second."""

from typing import Any

import numpy as np


def small_questions(count: int = 15, seed: int = 0) -> list[dict[str, Any]]:
    """Questions about `count` pictures of 16 x 16: which half is bright, and whether it is the
    upper one.
    """
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for number in range(count):
        picture = rng.integers(0, 60, (16, 16), dtype=np.uint8)
        upper = number % 2 == 0
        picture[slice(0, 8) if upper else slice(8, 16)] += 150
        half = "the upper" if upper else "the lower"
        found.append({"image": picture, "question": "which half is bright?", "answer": half,
                      "kind": "which"})  # fmt: skip
        found.append({"image": picture, "question": "is it the upper half?",
                      "answer": "yes" if upper else "no", "kind": "is"})  # fmt: skip
    return found
