"""Linear layers of an ensemble: k of them applied side by side to (B, k, a).

`EnsembleLinear` holds k independent layers. `BatchEnsembleLinear` shares one matrix W among the k
and gives each member vectors r, s and a bias of its own (Wen et al., arXiv 2002.06715),

    l_i(x) = s_i * (W (r_i * x)) + b_i            so that W_i = W * (s_i r_i^T)

which costs k (a + 2 b) parameters more than one layer.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["signs", "normal", "ones"]


def uniform_(tensor: Tensor, fan_in: int) -> Tensor:
    """Fill with U(-1/sqrt(fan_in), 1/sqrt(fan_in)), in place."""
    bound = fan_in**-0.5
    with torch.no_grad():
        return tensor.uniform_(-bound, bound)


def init_scaling_(scaling: Tensor, init: Init, chunks: Sequence[int] | None = None) -> Tensor:
    """Fill (k, a) with ones, random signs or N(0, 1), in place.

    Args:
        chunks: sizes of groups of neighbouring columns, summing to a; a member's columns of one
            group get the same value.
    """
    with torch.no_grad():
        if init == "ones":
            return scaling.fill_(1.0)
        groups = list(chunks) if chunks is not None else [1] * scaling.shape[1]
        if sum(groups) != scaling.shape[1]:
            raise ValueError(
                f"chunks sum to {sum(groups)}, the layer has {scaling.shape[1]} inputs"
            )
        shape = (scaling.shape[0], len(groups))
        values = torch.randint(0, 2, shape) * 2.0 - 1.0 if init == "signs" else torch.randn(shape)
        sizes = torch.tensor(groups)
        return scaling.copy_(values.repeat_interleave(sizes, dim=1, output_size=scaling.shape[1]))


class EnsembleLinear(nn.Module):
    """k independent linear layers: (B, k, a) -> (B, k, b)."""

    def __init__(self, in_features: int, out_features: int, *, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform_(torch.empty(k, in_features, out_features), in_features))
        self.bias = nn.Parameter(uniform_(torch.empty(k, out_features), in_features))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return torch.baddbmm(bias[:, None], x.transpose(0, 1), weight).transpose(0, 1)


class BatchEnsembleLinear(nn.Module):
    """k linear layers that share their matrix: (B, k, a) -> (B, k, b).

    Args:
        init: how r and s begin.
        chunks: see `init_scaling_`, for r.
        scale_input: False leaves r out.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        k: int,
        init: tuple[Init, Init],
        chunks: Sequence[int] | None = None,
        scale_input: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform_(torch.empty(out_features, in_features), in_features))
        r = init_scaling_(torch.empty(k, in_features), init[0], chunks) if scale_input else None
        self.r = nn.Parameter(r) if r is not None else None
        self.s = nn.Parameter(init_scaling_(torch.empty(k, out_features), init[1]))
        row = uniform_(torch.empty(out_features), in_features)
        self.bias = nn.Parameter(row.expand(k, -1).clone())  # the k biases begin equal

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        if self.r is not None:
            x = x * self.r.to(dtype)
        return self._finish(nn.functional.linear(x, self.weight.to(dtype)))

    def on_codes(self, dense: Tensor, places: Tensor) -> Tensor:
        """The layer on numbers and one-hot codes; see `product_on_codes`."""
        return self._finish(product_on_codes(dense, places, self.r, self.weight, self.s.shape[0]))

    def _finish(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias.to(x.dtype), x, self.s.to(x.dtype))


def product_on_codes(
    dense: Tensor, places: Tensor, r: Tensor | None, weight: Tensor, k: int
) -> Tensor:
    """W (r_i * x) for rows that are mostly zeros: numbers, then one-hot codes.

        W (r_i * x) = W_d (r_id * dense) + sum_c r_i[place_c] W[:, place_c]

    With C columns of codes this costs B k C b products in place of B k a, where a counts every
    value of every column.

    Args:
        dense: (B, d) the first d inputs.
        places: (B, C) which of the other a - d inputs are 1; a - d is none of them.
        r: (k, a) or None for ones.
        weight: (b, a).

    Returns:
        (B, k, b)
    """
    d = dense.shape[1]
    scaling = weight.new_ones(k, weight.shape[1]) if r is None else r
    x = nn.functional.linear(dense[:, None] * scaling[:, :d], weight[:, :d])
    columns = nn.functional.pad(weight[:, d:].T, (0, 0, 0, 1))  # a last one of zeros: unseen
    scales = nn.functional.pad(scaling[:, d:].T, (0, 0, 0, 1))
    picked = nn.functional.embedding(places, columns)
    scaled = nn.functional.embedding(places, scales)
    return torch.baddbmm(x, scaled.transpose(1, 2), picked)
