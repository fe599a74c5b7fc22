"""The TabM network: k MLPs in one, which share almost all of their weights.

Equations and initial values are those of arXiv 2410.24210, section 3 and appendix B.

Under autocast the hidden activations between the first layer and the heads keep one 16-bit type:
element-wise work moves half the bytes, and the only casts are of the weights, once a step. The
first layer and the heads stay in float32: 8 bits of a raw number, or of a prediction, are too few.
"""

import copy
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.layers.ensemble import (
    BatchEnsembleLinear,
    EnsembleLinear,
    Init,
    init_scaling_,
    product_on_codes,
)
from stackwise.layers.numeric_embeddings import (
    LinearReLUEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from stackwise.layers.one_hot import hot_places, one_hot
from stackwise.layers.relu_dropout import ReLUDropout

Variant = Literal["tabm", "mini", "packed", "naive", "bad"]
Embedding = Literal["piecewise", "periodic", "periodic-lite", "linear-relu"]

MANY_VALUES = 16
"""Values a category, on average, from which the first layer leaves out the zeros of one-hot rows:
1.5 times as fast there in a training step, ten times at 64 values and 200 columns."""


@keeps_arguments
class TabM(nn.Module):
    """k multi-layer perceptrons with shared weights, (B, d) -> (B, k, n_outputs).

    Args:
        n_numeric: numeric features.
        cardinalities: codes of each category, one-hot encoded; the code beyond them is all zeros.
        n_outputs: outputs of each member.
        k: members.
        variant: `tabm` (every layer has adapters; the first r is random, all others begin at 1),
            `mini` (only the first r), `packed` (nothing is shared), `naive` (every adapter begins
            random), `bad` (naive without the first r).
        width: units of a layer. depth: layers before the heads; None is 3, or 2 with embeddings.
        num_embedding: how numbers are embedded before the k views part; None leaves them raw.
        bins: edges for `piecewise`, from `compute_bins`.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        n_numeric: int,
        cardinalities: Sequence[int] = (),
        n_outputs: int = 1,
        k: int = 32,
        variant: Variant = "tabm",
        width: int = 512,
        depth: int | None = None,
        dropout: float = 0.1,
        num_embedding: Embedding | None = None,
        bins: list[list[float]] | None = None,
        d_embedding: int = 16,
        n_frequencies: int = 48,
        frequency_scale: float = 0.01,
    ) -> None:
        super().__init__()
        if k < 1:
            raise ModelError(f"k must be at least 1, got {k}")
        if n_numeric + len(cardinalities) == 0:
            raise ModelError("a network needs at least one feature, got none")
        self.k, self.variant, self.n_numeric = k, variant, n_numeric
        self.cardinalities = list(cardinalities)
        self.embedding = self._embedding() if n_numeric and num_embedding else None
        per_number = 1 if self.embedding is None else d_embedding
        chunks = [per_number] * n_numeric + self.cardinalities
        first: Init = "signs" if self.embedding is None else "normal"
        layers = depth or (3 if self.embedding is None else 2)
        self.r = (
            nn.Parameter(init_scaling_(torch.empty(k, sum(chunks)), first, chunks))
            if variant == "mini"
            else None
        )
        widths = [sum(chunks), *[width] * layers]
        self.blocks = nn.ModuleList(
            nn.Sequential(self._layer(index, before, after, first, chunks), ReLUDropout(dropout))
            for index, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.head = EnsembleLinear(widths[-1], n_outputs, k=k)

    def _embedding(self) -> nn.Module:
        given = self.arguments
        kind, count, d = given["num_embedding"], given["n_numeric"], given["d_embedding"]
        if kind == "piecewise":
            if given["bins"] is None or len(given["bins"]) != count:
                found = 0 if given["bins"] is None else len(given["bins"])
                raise ModelError(f"piecewise embeddings need bins for {count} columns, got {found}")
            return PiecewiseLinearEmbedding(given["bins"], d)
        if kind == "linear-relu":
            return LinearReLUEmbedding(count, d)
        return PeriodicEmbedding(
            count, d, n_frequencies=given["n_frequencies"],
            frequency_scale=given["frequency_scale"], lite=kind == "periodic-lite",
        )  # fmt: skip

    def _layer(
        self, index: int, before: int, after: int, first: Init, chunks: list[int]
    ) -> nn.Module:
        if self.variant == "mini":
            return nn.Linear(before, after)
        if self.variant == "packed":
            return EnsembleLinear(before, after, k=self.k)
        is_first = index == 0
        rest: Init = "ones" if self.variant == "tabm" else "signs"
        return BatchEnsembleLinear(
            before, after, k=self.k, init=(first if is_first else rest, rest),
            chunks=chunks if is_first else None,
            scale_input=not (is_first and self.variant == "bad"),
        )  # fmt: skip

    def features(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Embed and join: (B, n_numeric), (B, n_categorical) -> (B, d_in); also with (B, k, .)."""
        if numeric.shape[-1] != self.n_numeric:
            raise ModelError(
                f"numeric has {numeric.shape[-1]} columns, the model was built for {self.n_numeric}"
            )
        if numeric.ndim == 3 and numeric.shape[1] != self.k:
            raise ModelError(f"input has {numeric.shape[1]} members, the model has k={self.k}")
        parts = []
        if self.n_numeric:
            parts.append(self._numbers(numeric))
        if self.cardinalities:
            parts.append(one_hot(categorical, self.cardinalities))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _numbers(self, numeric: Tensor) -> Tensor:
        """(..., n_numeric) -> (..., d) embedded numbers."""
        if self.embedding is None or not self.n_numeric:
            return numeric
        embedded: Tensor = self.embedding(numeric)
        return embedded.flatten(-2)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Outputs of every member.

        Args:
            numeric: (B, n_numeric), or (B, k, n_numeric) for rows of each member's own.
            categorical: (B, n_categorical) int64 codes, or (B, k, n_categorical).

        Returns:
            (B, k, n_outputs)
        """
        first, *others = self.blocks
        with _full_precision(numeric.device):
            if self._mostly_zeros and categorical.ndim == 2:
                x = self._first_on_codes(numeric, categorical)
            else:
                x = self.features(numeric, categorical)
                if x.ndim == 2:
                    x = x[:, None].expand(-1, self.k, -1)
                if self.r is not None:
                    x = x * self.r
                x = first(x)
        kept = x.dtype
        x = x.to(_activation_type(x))
        for block in others:
            x = block(x)
        with _full_precision(numeric.device):
            output: Tensor = self.head(x.to(kept))
        return output

    @property
    def _mostly_zeros(self) -> bool:
        """Whether categories have so many values that their zeros are not worth multiplying."""
        values = sum(self.cardinalities)
        return self.variant != "packed" and values >= MANY_VALUES * max(1, len(self.cardinalities))

    def _first_on_codes(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The first block, (B, k, width): the same as on one-hot features, without their zeros."""
        layer, activation = self.blocks[0].children()
        dense = self._numbers(numeric)
        places = hot_places(categorical, self.cardinalities)
        if isinstance(layer, BatchEnsembleLinear):
            x = layer.on_codes(dense, places)
        else:
            assert isinstance(layer, nn.Linear)
            x = product_on_codes(dense, places, self.r, layer.weight, self.k) + layer.bias
        output: Tensor = activation(x)
        return output

    def prune(self, members: Sequence[int]) -> "TabM":
        """A network of these members alone, in this order. Their outputs do not change."""
        picked = list(members)
        if not picked or min(picked) < 0 or max(picked) >= self.k:
            raise ModelError(f"members must be among 0..{self.k - 1}, got {picked}")
        smaller = TabM(**self.arguments | {"k": len(picked)})
        state = {
            name: tensor[picked] if self._by_member(name) else tensor
            for name, tensor in self.state_dict().items()
        }
        smaller.load_state_dict(state)
        return smaller.train(self.training)

    def _by_member(self, name: str) -> bool:
        """Whether a parameter's first dimension counts members."""
        if name.startswith("embedding."):
            return False
        if self.variant == "packed" or name.startswith("head."):
            return True
        if self.variant == "mini":
            return name == "r"
        return not name.endswith(".weight")

    def member(self, index: int) -> nn.Module:
        """Member `index` as a plain MLP with merged weights, (numeric, categorical) -> (B, C).

        W_i = W * (s_i r_i^T) and b_i, so that its output is slice `index` of this network's.
        """
        one = self.prune([index])
        layers: list[nn.Module] = []
        for block in one.blocks:
            linear, *rest = block.children()
            layers += [_merged(linear), *copy.deepcopy(rest)]
        if one.r is not None:
            first = layers[0]
            assert isinstance(first, nn.Linear)
            first.weight = nn.Parameter((first.weight * one.r[0]).detach())
        layers.append(_merged(one.head))
        return Member(one, nn.Sequential(*layers)).train(self.training)


def _activation_type(x: Tensor) -> torch.dtype:
    """The type of hidden activations: that of an open autocast, or the one that x has."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in float32, also within an open autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class Member(nn.Module):
    """One member of a `TabM` as a plain MLP behind the shared features."""

    def __init__(self, features: TabM, layers: nn.Sequential) -> None:
        super().__init__()
        self.embedding = features.embedding
        self._features = features.features
        self.layers = layers

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, n_numeric) and (B, n_categorical) -> (B, n_outputs)."""
        output: Tensor = self.layers(self._features(numeric, categorical))
        return output


def _merged(layer: nn.Module) -> nn.Linear:
    """An ensemble layer of one member as a plain linear layer."""
    if isinstance(layer, nn.Linear):
        return copy.deepcopy(layer)
    if isinstance(layer, BatchEnsembleLinear):
        weight = layer.weight * layer.s[0][:, None]
        weight = weight if layer.r is None else weight * layer.r[0]
        bias = layer.bias[0]
    else:
        assert isinstance(layer, EnsembleLinear)
        weight, bias = layer.weight[0].T, layer.bias[0]
    plain = nn.Linear(weight.shape[1], weight.shape[0])
    plain.weight = nn.Parameter(weight.detach().clone())
    plain.bias = nn.Parameter(bias.detach().clone())
    return plain
