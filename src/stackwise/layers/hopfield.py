"""The continuous modern Hopfield network: look stored patterns up by their likeness to a state.

    Hop(R, Y) = concat_h softmax(beta (R W_Q^h) (Y W_K^h)^T) (Y W_V^h)  W_O
    beta = scaling / sqrt(a)

R is the state that asks, Y the stored patterns, h the heads, a their width (arXiv 2008.02217; here
as in arXiv 2206.00664, with one update and no norm inside). Three ways to compute the softmax over
n stored patterns:

- `full`: all scores at once, n numbers a query and head;
- `chunked`: a stretch of patterns after the other, the same result; scores are made again in the
  backward pass, so that memory does not grow with n;
- `nearest`: over the k patterns of the highest score alone.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Lookup = Literal["full", "chunked", "nearest"]
CHUNK = 1024
"""Stored patterns of a stretch."""


def look_up(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: float,
    *,
    own: Tensor | None = None,
    dropout: float = 0.0,
    how: Lookup = "full",
    neighbours: int = 256,
    chunk: int = CHUNK,
) -> Tensor:
    """softmax(beta q k^T) v.

    Args:
        q: (H, B, a) states. k: (H, n, a), v: (H, n, b) stored patterns; or all with a further
            first dimension, for `full` alone.
        own: (B,) int64, the pattern that a state must not look at (itself), or -1 for none.
        dropout: probability that a weight of the lookup is dropped.
        neighbours: patterns that `nearest` keeps.

    Returns:
        (H, B, b)
    """
    if how == "chunked":
        return _chunked(q, k, v, beta, own, dropout, chunk)
    if how == "nearest" and neighbours < k.shape[-2]:
        return _nearest(q, k, v, beta, own, dropout, neighbours, chunk)
    others = None
    if own is not None:
        others = own[:, None] != torch.arange(k.shape[-2], device=k.device)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=others, dropout_p=dropout, scale=beta
    )


def weights_of(q: Tensor, k: Tensor, beta: float) -> Tensor:
    """softmax(beta q k^T): (..., B, n)."""
    return _scores(q, k, beta, None, 0).softmax(-1)


def _scores(q: Tensor, k: Tensor, beta: float, own: Tensor | None, first: int) -> Tensor:
    """beta q k^T for the patterns from number `first` on, -inf where a state would see itself."""
    scores = beta * (q @ k.transpose(-2, -1))
    if own is None:
        return scores
    places = torch.arange(first, first + k.shape[-2], device=k.device)
    return scores.masked_fill(own[:, None] == places, -torch.inf)


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, beta: float, own: Tensor | None, dropout: float, chunk: int
) -> Tensor:
    """The same softmax, a stretch of patterns at a time.

    The largest score is only there to keep exp from overflowing; it falls out of the quotient, and
    needs no gradient.
    """
    stretches = list(range(0, k.shape[-2], chunk))
    with torch.no_grad():
        top = torch.stack(
            [_scores(q, k[:, i : i + chunk], beta, own, i).amax(-1) for i in stretches]
        ).amax(0)[..., None]

    def part(q: Tensor, k: Tensor, v: Tensor, first: int) -> tuple[Tensor, Tensor]:
        weights = (_scores(q, k, beta, own, first) - top).exp()
        # dropping after the softmax: the sum below keeps all of them
        return functional.dropout(weights, dropout) @ v, weights.sum(-1, keepdim=True)

    above: Tensor | float = 0.0
    below: Tensor | float = 0.0
    for i in stretches:
        given = (q, k[:, i : i + chunk], v[:, i : i + chunk], i)
        found = checkpoint(part, *given, use_reentrant=False) if q.requires_grad else part(*given)
        above, below = above + found[0], below + found[1]
    return torch.as_tensor(above / below)


def _nearest(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: float,
    own: Tensor | None,
    dropout: float,
    count: int,
    chunk: int,
) -> Tensor:
    """The softmax over the `count` patterns of the highest score."""
    places = nearest_places(q, k, beta, own, count, chunk)  # (H, B, count)
    heads = torch.arange(len(k), device=k.device)[:, None, None]
    scores = beta * torch.einsum("hba,hbca->hbc", q, k[heads, places])
    if own is not None:
        scores = scores.masked_fill(places == own[:, None], -torch.inf)
    weights = functional.dropout(scores.softmax(-1), dropout)
    return torch.einsum("hbc,hbcd->hbd", weights, v[heads, places])


@torch.no_grad()
def nearest_places(
    q: Tensor, k: Tensor, beta: float, own: Tensor | None, count: int, chunk: int = CHUNK
) -> Tensor:
    """(H, B, count) int64: which patterns score highest, found a stretch at a time.

    On a CPU, and without patterns to leave out, faiss searches where it is installed.
    """
    if own is None and k.device.type == "cpu" and k.shape[-2] > chunk:
        found = _by_faiss(q, k, count)
        if found is not None:
            return found
    best: Tensor | None = None
    places: Tensor | None = None
    for i in range(0, k.shape[-2], chunk):
        scores = _scores(q, k[:, i : i + chunk], beta, own, i)
        here = torch.arange(i, i + scores.shape[-1], device=k.device).expand_as(scores)
        if best is not None and places is not None:
            scores, here = torch.cat([best, scores], -1), torch.cat([places, here], -1)
        best, picked = scores.topk(min(count, scores.shape[-1]), dim=-1)
        places = here.gather(-1, picked)
    assert places is not None
    return places


def _by_faiss(q: Tensor, k: Tensor, count: int) -> Tensor | None:
    try:
        import faiss
    except ImportError:
        return None
    found = []
    for states, patterns in zip(q, k, strict=True):
        index = faiss.IndexFlatIP(patterns.shape[-1])
        index.add(patterns.detach().float().contiguous().numpy())
        found.append(index.search(states.detach().float().contiguous().numpy(), count)[1])
    return torch.stack([torch.as_tensor(places) for places in found])


class HopfieldAssociation(nn.Module):
    """Hop(R, Y): states (..., B, d) and stored patterns (..., n, d) -> (..., B, d).

    Args:
        d: numbers of a state and of a pattern.
        heads: H. width: a, numbers of a head; None takes d / H, at least 1.
        scaling: of beta. Large: the nearest pattern's value alone; 0: the mean of all values.
        dropout: probability that a weight of the lookup is dropped.
    """

    def __init__(
        self, d: int, heads: int, *, width: int | None = None, scaling: float = 1.0,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.width = heads, width or max(1, d // heads)
        self.beta = scaling / math.sqrt(self.width)
        self.dropout = dropout
        inner = heads * self.width
        self.query, self.key, self.value = (nn.Linear(d, inner) for _ in range(3))
        self.out = nn.Linear(inner, d)

    def stored(self, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of patterns (..., n, d): each (..., H, n, a)."""
        return self._split(self.key(patterns)), self._split(self.value(patterns))

    def forward(
        self,
        state: Tensor,
        stored: tuple[Tensor, Tensor],
        *,
        own: Tensor | None = None,
        how: Lookup = "full",
        neighbours: int = 256,
    ) -> Tensor:
        """Look the states up among what `stored` made of the patterns; see `look_up`."""
        found = look_up(
            self._split(self.query(state)), *stored, self.beta, own=own, how=how,
            neighbours=neighbours, dropout=self.dropout if self.training else 0.0,
        )  # fmt: skip
        answer: Tensor = self.out(found.transpose(-3, -2).flatten(-2))
        return answer

    def weights(self, state: Tensor, stored: tuple[Tensor, Tensor]) -> Tensor:
        """(..., H, B, n) how much each state takes from each pattern."""
        return weights_of(self._split(self.query(state)), stored[0], self.beta)

    def _split(self, x: Tensor) -> Tensor:
        """(..., n, H a) -> (..., H, n, a)."""
        return x.unflatten(-1, (self.heads, self.width)).transpose(-3, -2)
