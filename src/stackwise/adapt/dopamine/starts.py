"""Where thresholds begin, by what the network's units are on a few batches.

zero        0: with a ReLU the network is changed by at most 0.2785 / s a unit
open        below all that was seen, so that every gate is open to 1 - 1e-6
0 < q < 1   the q-quantile of each unit: this share of its firings is shut
auto        zero where the activation is 0 below 0; else the quantile 0.02, since a GELU or SiLU
            says something below 0 that a gate at 0 would cut off
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stackwise.adapt.dopamine.hooks import Onlooker, Passing, attach, detach
from stackwise.adapt.dopamine.sites import Site
from stackwise.errors import KnobError

Start = float | Literal["auto", "zero", "open"]
SMOOTH = 0.02
"""The quantile at which `auto` begins where an activation says something below 0."""
OPEN = 13.9
"""s (z - tau) at which a gate is open to 1 - 1e-6."""
KEPT = 2048
"""Values of a unit of which quantiles are taken, the first that are seen."""


def thresholds(
    network: nn.Module,
    sites: Sequence[Site],
    start: Start,
    passes: Iterable[Callable[[], object]],
    sharpness: float,
) -> dict[str, Tensor]:
    """(n,) thresholds by site.

    Args:
        passes: each runs a batch through the network. sharpness: that of the beginning.

    Raises:
        KnobError: a quantile is not between 0 and 1.
    """
    if isinstance(start, float) and not 0 < start < 1:
        raise KnobError(f"init is a quantile between 0 and 1, not {start}; or auto, zero or open")
    zero = {site.name: torch.zeros(site.width) for site in sites}
    if start == "zero":
        return zero
    seen = _Seen(sites)
    owner = Onlooker()
    attach(network, owner, sites, lambda name, z: None, biased=False, watch=seen)
    try:
        with torch.no_grad():
            for run in passes:
                run()
    finally:
        detach(network, owner)
    found = {}
    for site in sites:
        if start == "auto" and seen.silent_below_zero[site.name]:
            found[site.name] = zero[site.name]
        elif start == "open":
            found[site.name] = seen.least[site.name] - OPEN / sharpness
        else:
            found[site.name] = seen.quantile(site, start if isinstance(start, float) else SMOOTH)
    return found


class _Seen:
    """What units were before their activations, and whether those give 0 below 0."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.least = {site.name: torch.full((site.width,), torch.inf) for site in sites}
        self.values: dict[str, dict[tuple[int, int], list[Tensor]]] = {s.name: {} for s in sites}
        self.silent_below_zero = dict.fromkeys(self.least, True)

    def __call__(self, passing: Passing) -> None:
        rows, units = passing.rows(passing.z).float().cpu(), passing.units
        least = self.least[passing.site]
        least[units] = torch.minimum(least[units], rows.min(0).values)
        speaks = (passing.z < 0) & (passing.h != 0)
        self.silent_below_zero[passing.site] &= not bool(speaks.any())
        kept = self.values[passing.site].setdefault((units.start, units.stop), [])
        left = KEPT - sum(map(len, kept))
        if left > 0:
            kept.append(rows[:left])

    def quantile(self, site: Site, share: float) -> Tensor:
        """(n,) the quantile of each unit, of the form of call in which it was met first."""
        found = torch.full((site.width,), torch.nan)
        for (start, stop), rows in self.values[site.name].items():
            new = found[start:stop].isnan()
            found[start:stop][new] = torch.cat(rows).quantile(share, dim=0)[new]
        return found
