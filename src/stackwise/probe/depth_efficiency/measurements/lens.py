"""How near the model is to its answer at every depth, read with its own head (P7).

    p_l = softmax(head(h_l)),     KL_l = mean_t sum_v p_l (log p_l - log y)
                                  overlap_l = mean_t |top5(p_l) & top5(y)| / 5

h_l is the input of block l, so l = 0 is the bare stem and l = L is the output itself. Early
layers may hold the answer in a rotated basis: a high KL there does not mean that nothing is known.

Source: arXiv 2505.13898, section 3.3 (the logit lens). Differs from the authors' code: all tokens
count alike, where it averages each prompt first; L is shown as well. A stack with fewer than ten
classes is compared by its top-1 class.
"""

import pandas as pd
import torch
from torch import Tensor

from stackwise.errors import ModelError
from stackwise.probe.depth_efficiency.clean_run import CleanRun
from stackwise.probe.depth_efficiency.tally import Tally

TOP = 5


def lens(run: CleanRun, protect: int = 1) -> tuple[Tensor, Tensor]:
    """Divergence and overlap of the answer at every depth, for each token.

    Only a few layers' distributions are held at once.

    Returns:
        (kl, overlap), each (L + 1, B * T'): nats, and a share of 0 to 1.

    Raises:
        ModelError: the model has no class probabilities.
    """
    if run.kind != "probabilities":
        raise ModelError(
            "the lens reads class probabilities, and this model's output has none; give a model "
            "with its language-model or classification head"
        )
    first = run.guarded(protect) if run.per_token else 0
    clean = run.output[:, first:]
    top = TOP if clean.shape[-1] >= 2 * TOP else 1
    answer = clean.topk(top).indices  # (B, T', top)
    divergences, overlaps = [], []
    for _, read in run.heads(torch.cat(run.hidden)):
        read = torch.unflatten(read[:, first:], 0, (-1, run.batch))  # (layers, B, T', C)
        logs = read.clamp_min(1e-30).log() - clean.clamp_min(1e-30).log()
        divergences.append((read * logs).sum(-1).flatten(1).clamp_min(0).cpu())
        chosen = read.topk(top).indices  # (layers, B, T', top)
        shared = (chosen.unsqueeze(-1) == answer.unsqueeze(-2)).any(-1)
        overlaps.append(shared.float().mean(-1).flatten(1).cpu())
    return torch.cat(divergences), torch.cat(overlaps)


class Lens:
    """`lens`, summed up over prompts."""

    def __init__(self) -> None:
        self._divergence, self._overlap = Tally(), Tally()

    @property
    def empty(self) -> bool:
        """Nothing was added."""
        return self._divergence.empty

    def add(self, run: CleanRun, protect: int = 1) -> None:
        """Add the tokens of one clean run."""
        divergence, overlap = lens(run, protect)
        self._divergence.add(divergence)
        self._overlap.add(overlap)

    def table(self) -> pd.DataFrame:
        """L + 1 rows; columns `kl` and `overlap`, means over tokens."""
        columns = {"kl": self._divergence.mean.numpy(), "overlap": self._overlap.mean.numpy()}
        return pd.DataFrame(columns).rename_axis("layer")
