"""Whether this processor multiplies bfloat16 faster than float32.

Tiles (AMX) do: with them a training step took half the time of one in float32. Of processors that
have the instruction alone (avx512_bf16) some do and some do not: a fit of 9.4 s was seen to take
5.4 s on one, and an Intel server core whose tiles are switched off takes 1.8 times as long for a
product as in float32 (benchmarks/tabm.py). No flag tells the two apart, and so it is measured once
a process, in some hundredths of a second. They are so far apart that other work on the machine does
not turn the answer: the least of several turns is compared, and the border lies between them.
"""

import functools
import time

import torch
from torch import Tensor

LEAST_GAIN = 1.25
"""By how much a product in bfloat16 has to be faster; what lies around it costs some of that."""
ROWS, WIDTH, TURNS = 1024, 256, 9


@functools.cache
def bfloat16_is_faster() -> bool:
    """Whether a matrix product in bfloat16 is worth its rounding on this CPU."""
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    if has.get("amx_bf16"):  # known from torch 2.10 on
        return True
    return bool(has.get("avx512_bf16")) and measured_gain() > LEAST_GAIN


def measured_gain() -> float:
    """Seconds of a product in float32 over those in bfloat16, on one thread; above 1 it is faster.

    Ones are multiplied: no random state is touched.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        least = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        rows, weight = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, WIDTH)
        pairs = {kind: (rows.to(kind), weight.to(kind)) for kind in least}
        for _ in range(TURNS):
            for kind, pair in pairs.items():
                least[kind] = min(least[kind], _seconds(*pair))
    finally:
        torch.set_num_threads(threads)
    return least[torch.float32] / least[torch.bfloat16]


def _seconds(rows: Tensor, weight: Tensor) -> float:
    started = time.perf_counter()
    torch.nn.functional.linear(rows, weight)
    return time.perf_counter() - started
