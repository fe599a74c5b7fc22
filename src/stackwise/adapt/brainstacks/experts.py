"""One stack beside one layer: low-rank experts, of which each token takes a few.

    l      = W_r x (+ softplus(W_n x) * eps, eps ~ N(0, I), while it learns)
    g      = softmax of the K largest of l, the others 0                     K gates that sum to 1
    delta  = s * sum_e g_e B_e A_e x,         s = alpha / sqrt(r)            (rsLoRA)

B begins at zero, so that a fresh stack changes nothing. The gates are applied between A and B, so
that there are two products of all experts together, whatever their number.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Experts(NamedTuple):
    """The numbers of a stack that is done: a (N, r, d_in), b (N, d_out, r), router (N, d_in)."""

    a: Tensor
    b: Tensor
    router: Tensor

    def to(self, *where: object) -> "Experts":
        """The same on another device or in another type."""
        return Experts(*(tensor.to(*where) for tensor in self))  # type: ignore[call-overload]


def gates(logits: Tensor, top_k: int) -> Tensor:
    """(..., N) -> (..., N): a softmax over the `top_k` largest, exact zeros elsewhere."""
    kept, where = logits.topk(top_k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, where, kept.softmax(-1).to(logits.dtype))


def mixture(x: Tensor, gate: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * sum_e g_e B_e A_e x: (..., d_in), gates (..., N) or None for ones -> (..., d_out)."""
    inner = functional.linear(x, a.flatten(0, 1))
    if gate is not None:
        inner = (inner.unflatten(-1, a.shape[:2]) * gate[..., None]).flatten(-2)
    return functional.linear(inner, b.transpose(0, 1).flatten(1)) * scale


def stack_scale(alpha: float, rank: int, *, rslora: bool) -> float:
    """alpha / sqrt(r), or LoRA's alpha / r."""
    return alpha / (math.sqrt(rank) if rslora else rank)


class ExpertStack(nn.Module):
    """The stack that is being learned beside one layer; (..., d_in) -> (..., d_out).

    Args:
        experts: N. top_k: how many a token takes. rank: r of each expert.
        scale: s. noisy: whether the choice is noisy in training.
        directions: (d_out, K), orthonormal columns V; what it adds is then made orthogonal to them:
            delta - (delta V) V^T. None for none.
        always: project in evaluation too, as it will be once `folded`; False does it in training
            alone, as the authors' release does.

    Attributes:
        balance: of the last pass in training, N sum_e P(e) f(e): P the mean probability of expert e
            over the tokens, f the share of tokens that took it. K where all are used alike.
    """

    directions: Tensor | None

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        experts: int = 4,
        top_k: int = 2,
        rank: int = 16,
        scale: float = 4.0,
        noisy: bool = True,
        directions: Tensor | None = None,
        always: bool = True,
    ) -> None:
        super().__init__()
        self.top_k, self.scale, self.noisy, self.always = top_k, scale, noisy, always
        bound = 1 / math.sqrt(d_in)  # Kaiming-uniform with a = sqrt(5)
        self.a = nn.Parameter(torch.empty(experts, rank, d_in).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(experts, d_out, rank))
        self.router = nn.Parameter(0.02 * torch.randn(experts, d_in))
        self.noise = nn.Parameter(torch.zeros(experts, d_in))
        self.register_buffer("directions", directions)
        self.balance: Tensor | None = None

    def forward(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """`eps` (..., N) is the noise of training, drawn here where it is not given."""
        x = x.to(self.a.dtype)
        gate = None
        if len(self.a) > 1:  # a single expert is always taken: LoRA
            logits = self.logits(x, eps)
            gate = gates(logits, self.top_k)
            self.balance = load_balance(logits, gate) if self.training else None
        added = mixture(x, gate, self.a, self.b, self.scale)
        if self.directions is not None and (self.always or self.training):
            added = added - (added @ self.directions) @ self.directions.T
        return added

    def logits(self, x: Tensor, eps: Tensor | None = None) -> Tensor:
        """(..., d_in) -> (..., N), noisy in training."""
        logits = functional.linear(x, self.router)
        if not (self.training and self.noisy):
            return logits
        eps = torch.randn_like(logits) if eps is None else eps
        return logits + functional.softplus(functional.linear(x, self.noise)) * eps

    def done(self, dtype: torch.dtype, *, fold: bool) -> Experts:
        """What stays: no noise, and with `fold` B <- (I - V V^T) B, so that no projection is left
        to be made. AdamW scales each entry by itself and leaves the space that plain gradient
        descent would stay in, so that without folding what was projected away in training comes
        back in use.
        """
        b = self.b.detach()
        if fold and self.directions is not None:
            b = b - self.directions @ (self.directions.T @ b)
        found = Experts(self.a.detach(), b, self.router.detach())
        return Experts(*(tensor.to("cpu", dtype).contiguous() for tensor in found))


def load_balance(logits: Tensor, gate: Tensor) -> Tensor:
    """N sum_e P(e) f(e), a scalar with a gradient through P: what pushes towards equal use."""
    chance = logits.float().softmax(-1).flatten(0, -2).mean(0)
    taken = (gate > 0).flatten(0, -2).float().mean(0)
    return logits.shape[-1] * (chance * taken).sum()
