"""Which later blocks read what block s wrote, directly (P6).

Nothing propagates: each later block l gets its clean input without one contribution,

    hbar_l = h_l - c_s   for every l > s,      D[s, l] = max_t ||c_l[t] - cbar_l[t]|| / ||c_l[t]||

In the future form c_s is taken away at tokens before a split only, and blocks are measured from
the split on: block l then reads block s through its attention. A bright point far from the
diagonal is a circuit, an induction head for example.

Source: arXiv 2505.13898, section 3.3. The cost is L (L - 1) / 2 block calls, batched over s; no
full pass is run. For part "attention" or "mlp", a_s or m_s is taken away instead of c_s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stackwise.probe.depth_efficiency.clean_run import CleanRun, relative_change, tiled
from stackwise.probe.depth_efficiency.measurements.skip import changed_tokens, unmeasured_to_nan
from stackwise.probe.depth_efficiency.sublayers import Part


def local(
    run: CleanRun,
    splits: Sequence[int | None] = (None,),
    *,
    protect: int = 1,
    part: Part = "layer",
) -> Tensor:
    """Direct effect of each block on each later one.

    Args:
        splits, protect, part: as for `skip`.

    Returns:
        (K splits, L source, L reader, B * T), zero for l <= s, NaN where not measured.

    Raises:
        ModelError: a split in a stack that is not causal, or a part of a block that is no sum.
    """
    changed = [changed_tokens(run, split, protect) for split in splits]
    found = torch.zeros(len(splits), run.depth, run.depth, run.batch, run.tokens)
    taken: list[Tensor] = []  # rows (s, split, example of the batch)
    for index in range(run.depth):
        if index:
            stream, contribution = run.hidden[index], run.contribution(index)
            edited = tiled(stream, index * len(splits)) - torch.cat(taken)
            written = run.block(index, edited) - edited
            change = relative_change(written - tiled(contribution, written), contribution)
            change = torch.unflatten(change, 0, (index, len(splits), run.batch)).transpose(0, 1)
            found[:, :index, index] = change.cpu()
        source = run.contribution(index) if part == "layer" else run.sublayers.of(part)[index]
        for tokens in changed:
            taken.append(source * tokens[:, None] if run.is_sequence else source)
    return unmeasured_to_nan(run, found, splits, protect).flatten(-2)
