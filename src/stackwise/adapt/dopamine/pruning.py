"""Cut the units that never fire in a mode out of the network.

In a hard gate a unit with z <= tau says 0. One that never fires on calibration data gives nothing
there, so that its row in what feeds it and its column in what reads it can go, and its numbers in
the mode with them. What is left says the same on that data, and wherever those units would not have
fired; it is a smaller, plain network with a mode of its own.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.adapt.delta import base_hash, deltas_on
from stackwise.adapt.dopamine.around import keep_columns, keep_rows
from stackwise.adapt.dopamine.gate import ROLES, Numbers
from stackwise.adapt.dopamine.hooks import Passing, attach, detach
from stackwise.adapt.dopamine.mode import TauGate
from stackwise.adapt.dopamine.passes import Run, first_batches, passes, passes_of
from stackwise.adapt.dopamine.sites import Site
from stackwise.errors import ModelError
from stackwise.learning.trainable import of_the_same_kind

WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "encoder_ffn_dim")
"""What configs of transformers call the units of an MLP."""
REPEATS = 5
CLOSE = 1e-4


@dataclass(frozen=True)
class Pruned:
    """What cutting made.

    Attributes:
        model: of the kind that was given, smaller. mode: the mode for it.
        table: a row a layer: units `before` and `after`, and how many were `silent`.
        seconds: the median time of a pass before and after, each with its mode on.
    """

    model: Any
    mode: TauGate
    table: pd.DataFrame
    seconds: tuple[float, float]

    @property
    def faster(self) -> float:
        """Time before over time after."""
        return self.seconds[0] / self.seconds[1]


def prune_silent(
    model: Any,
    mode: TauGate,
    data: Any,
    *,
    batches: int = 32,
    even: bool = False,
    loss: Callable[..., Tensor] | None = None,
) -> Pruned:
    """Cut the units that never fire in a hard mode.

    Args:
        model: a module or a fitted learner, without the mode; it is not changed.
        mode: a hard one for it. data: calibration data, as for `dopamine`; `batches` of it.
        even: cut as many units of each layer, as many as the layer with the fewest silent ones
            has: then the config of a model of transformers says the new width, and
            `save_pretrained` and `from_pretrained` work.

    Raises:
        ModelError: the mode is soft; no layer is known whose units can be cut; or what is left says
            something else, since units are used in a way that was not found.
    """
    if not mode.hard or not mode.gated:
        raise ModelError(
            f"{mode} is soft, and in a soft gate no unit is silent: give mode.hardened()"
        )
    joined, network, runs = passes_of(model, data, batches, loss)
    if deltas_on(network):
        raise ModelError("deltas are on this model: take them off, or merge them, before cutting")
    cut = [site for site in mode.sites.values() if site.into and site.out_of and site.uses == 1]
    if not cut:
        raise ModelError(
            f"of no layer of {mode} it is known which rows and columns its units have, so that "
            "none can be cut"
        )
    mode.fits(network)
    fires = _fires(network, mode, runs)
    kept = {site.name: _kept(fires[site.name]) for site in cut}
    if even:
        kept = _evenly(kept, fires)
    new = copy.deepcopy(network)
    for site in cut:
        for name in site.out_of:
            keep_rows(new.get_submodule(name), kept[site.name])
        for name in site.into:
            keep_columns(new.get_submodule(name), kept[site.name], site.width)
    if even:
        _tell_config(new, cut[0].width, len(kept[cut[0].name]))
    smaller = _smaller(mode, kept, base_hash(new))
    first = first_batches(joined, 1)
    before, after = passes(joined, first)[0], passes(replace(joined, model=new), first)[0]
    with mode.on(network), smaller.on(new, check=False):
        seconds = _side_by_side(mode, before, after)
    table = pd.DataFrame(
        {
            "before": [site.width for site in cut],
            "after": [len(kept[site.name]) for site in cut],
            "silent": [int((~fires[site.name]).sum()) for site in cut],
        },
        index=[site.name for site in cut],
    )
    return Pruned(of_the_same_kind(model, joined, new), smaller, table, seconds)


def _fires(network: nn.Module, mode: TauGate, runs: list[Run]) -> dict[str, Tensor]:
    """(n,) whether a unit fires at all."""
    found = {name: torch.zeros(site.width, dtype=torch.bool) for name, site in mode.sites.items()}

    def watch(passing: Passing) -> None:
        found[passing.site][passing.units] |= passing.rows(passing.share > 0).any(0).cpu()

    attach(network, mode, list(mode.sites.values()), mode.at, watch=watch)
    try:
        for run in runs:
            run()
    finally:
        detach(network, mode)
    return found


def _kept(fires: Tensor) -> Tensor:
    """The units that stay: at least one, for a layer of none cannot be built."""
    kept = fires.nonzero()[:, 0]
    return kept if len(kept) else torch.zeros(1, dtype=torch.int64)


def _evenly(kept: dict[str, Tensor], fires: dict[str, Tensor]) -> dict[str, Tensor]:
    """As many of each layer: silent units stay where others have fewer of them."""
    most = max(len(units) for units in kept.values())
    found = {}
    for name, units in kept.items():
        silent = (~fires[name]).nonzero()[:, 0]
        silent = silent[~torch.isin(silent, units)]
        found[name] = torch.cat([units, silent[: most - len(units)]]).sort().values
    if len({len(units) for units in found.values()}) > 1:
        raise ModelError("layers of several widths cannot be cut evenly: leave out even=True")
    return found


def _tell_config(network: nn.Module, before: int, after: int) -> None:
    config = getattr(network, "config", None)
    for name in WIDTHS if config is not None else ():
        if hasattr(config, name) and getattr(config, name) in (before, None):
            setattr(config, name, after)


def _smaller(mode: TauGate, kept: dict[str, Tensor], base: str) -> TauGate:
    """The mode of what is left."""
    sites: list[Site] = []
    numbers: dict[str, Numbers] = {}
    for name, site in mode.sites.items():
        one = mode.numbers[name]
        if name in kept:
            axes = {role: -1 if role == "down" else 0 for role in ROLES}
            held = {role: t for role in ROLES if (t := getattr(one, role)) is not None}
            one = Numbers(**{r: t.index_select(axes[r], kept[name]) for r, t in held.items()})
            site = replace(site, width=len(kept[name]))
        sites.append(site)
        numbers[name] = one
    return TauGate(mode.name, sites, numbers, hard=True, sharpness=mode.sharpness, base=base,
                   method=mode.method, knobs=mode.knobs)  # fmt: skip


def _side_by_side(mode: TauGate, before: Run, after: Run) -> tuple[float, float]:
    """The median seconds of both, in turns; what they say is the same.

    Raises:
        ModelError: it is not.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        said = []
        for run, seconds in zip((before, after), times, strict=True):
            began = time.perf_counter()
            try:
                said.append(run())
            except RuntimeError as error:
                raise ModelError(
                    f"the units of {mode} are used in a way that was not found ({error}): they "
                    "cannot be cut"
                ) from error
            seconds.append(time.perf_counter() - began)
        if not torch.allclose(said[0], said[1], rtol=CLOSE, atol=CLOSE):
            raise ModelError(
                f"what is left of {mode} says {float(said[1]):.6g} where it said "
                f"{float(said[0]):.6g}: its units are used in a way that was not found"
            )
    return statistics.median(times[0]), statistics.median(times[1])
