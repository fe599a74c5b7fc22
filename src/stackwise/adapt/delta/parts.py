"""What is added to one weight: every number, a few of them, or a product of two thin matrices.

    Dense(values)               theta + values
    Sparse(indices, values)     theta with values added at flat indices
    LowRank(a, b, scale)        theta + scale * b @ a

A part does not change once it is made, so that models and their copies may share it.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from stackwise.errors import ModelError

MOST_INT32 = 2**31


class Part(ABC):
    """An addition to one weight.

    Attributes:
        form: what a file calls it. shape: that of the weight.
    """

    form: ClassVar[str]
    shape: tuple[int, ...]

    @property
    def entries(self) -> Tensor | None:
        """The flat indices that it changes, ascending; None where that may be all."""
        return None

    @abstractmethod
    def dense(self, like: Tensor) -> Tensor:
        """All of it, in the shape of the weight, on the device and in the type of `like`."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """`factor` times this."""

    @abstractmethod
    def joined(self, other: Self) -> Self:
        """The sum of two of this form and shape."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by name."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `of` needs beside the tensors, as JSON."""

    @classmethod
    @abstractmethod
    def of(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """The inverse of `tensors` and `settings`."""

    def plus(self, other: "Part") -> "Part":
        """The sum, in the same form where both have it, else dense.

        Raises:
            ModelError: the weights have other shapes.
        """
        if self.shape != other.shape:
            raise ModelError(f"parts of shapes {self.shape} and {other.shape} have no sum")
        if type(self) is type(other):
            return self.joined(other)
        numbers = torch.empty(0, dtype=torch.float32)
        return Dense(self.dense(numbers) + other.dense(numbers))

    def __deepcopy__(self, memo: Any) -> Self:
        return self


@dataclass(frozen=True, eq=False)
class Dense(Part):
    """A number for every number of the weight."""

    values: Tensor
    form: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        _check_numbers(self.values)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """That of the weight."""
        return tuple(self.values.shape)

    def dense(self, like: Tensor) -> Tensor:
        """The values."""
        return self.values.to(like)

    def scaled(self, factor: float) -> Self:
        """`factor` times this."""
        return dataclasses.replace(self, values=self.values * factor)

    def joined(self, other: Self) -> Self:
        """The sum of the values."""
        return dataclasses.replace(self, values=self.values + other.values)

    def tensors(self) -> dict[str, Tensor]:
        """The values."""
        return {"values": self.values}

    def settings(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """From its values."""
        return cls(tensors["values"])


@dataclass(frozen=True, eq=False)
class Sparse(Part):
    """Numbers for a few entries of the weight.

    Attributes:
        indices: (n,) integers, ascending, of the weight laid out row after row.
        values: (n,) numbers.
    """

    indices: Tensor
    values: Tensor
    shape: tuple[int, ...]
    form: ClassVar[str] = "sparse"

    def __post_init__(self) -> None:
        _check_numbers(self.values)
        size = math.prod(self.shape)
        if self.indices.shape != self.values.shape or self.indices.dim() != 1:
            raise ModelError(
                f"{tuple(self.indices.shape)} indices and {tuple(self.values.shape)} values of a "
                "sparse part do not go together: give one of each for every entry"
            )
        if self.indices.is_floating_point() or self.indices.dtype == torch.bool:
            raise ModelError(f"indices of a sparse part are integers, not {self.indices.dtype}")
        steps = torch.diff(self.indices)
        ends = self.indices[[0, -1]].tolist() if len(self.indices) else [0, 0]
        if (len(steps) and int(steps.min()) < 1) or ends[0] < 0 or ends[1] >= max(size, 1):
            raise ModelError(
                f"indices of a sparse part must ascend within 0 and {size - 1}, each once"
            )

    @classmethod
    def where_not_zero(cls, values: Tensor) -> "Sparse":
        """The entries of `values` that are not zero."""
        flat = values.reshape(-1)
        indices = flat.nonzero()[:, 0]
        kept = indices.int() if len(flat) < MOST_INT32 else indices
        return cls(kept, flat[indices], tuple(values.shape))

    @property
    def entries(self) -> Tensor:
        """The indices."""
        return self.indices.long()

    def at(self, entries: Tensor, like: Tensor) -> Tensor:
        """The values at ascending `entries`, which hold all of its own; 0 elsewhere."""
        found = torch.zeros(len(entries), device=like.device, dtype=like.dtype)
        places = torch.searchsorted(entries, self.entries.to(entries.device))
        found[places] = self.values.to(like)
        return found

    def dense(self, like: Tensor) -> Tensor:
        """The values at their places, 0 elsewhere."""
        found = torch.zeros(self.shape, device=like.device, dtype=like.dtype)
        return found.put_(self.entries.to(like.device), self.values.to(like))

    def scaled(self, factor: float) -> Self:
        """`factor` times this."""
        return dataclasses.replace(self, values=self.values * factor)

    def joined(self, other: Self) -> Self:
        """The sum; where both have an entry, the values add."""
        both = torch.cat([self.entries, other.entries]).unique()
        values = self.at(both, self.values) + other.at(both, self.values)
        return dataclasses.replace(self, indices=both.to(self.indices), values=values)

    def tensors(self) -> dict[str, Tensor]:
        """Indices and values."""
        return {"indices": self.indices, "values": self.values}

    def settings(self) -> dict[str, Any]:
        """The shape."""
        return {"shape": list(self.shape)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """From indices, values and a shape."""
        return cls(tensors["indices"], tensors["values"], tuple(map(int, settings["shape"])))


@dataclass(frozen=True, eq=False)
class LowRank(Part):
    """scale * b @ a, of rank r.

    Attributes:
        a: (r, in). b: (out, r).
        transposed: the weight is (in, out), as that of an embedding or of GPT-2's layers.
    """

    a: Tensor
    b: Tensor
    scale: float = 1.0
    transposed: bool = False
    form: ClassVar[str] = "low-rank"

    def __post_init__(self) -> None:
        _check_numbers(self.a, self.b)
        if self.a.dim() != 2 or self.b.dim() != 2 or self.a.shape[0] != self.b.shape[1]:
            raise ModelError(
                f"matrices of shapes {tuple(self.a.shape)} and {tuple(self.b.shape)} make no "
                "low-rank part: give (rank, in) and (out, rank)"
            )
        if not math.isfinite(self.scale):
            raise ModelError(f"the scale of a low-rank part is {self.scale}, not a finite number")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """That of the weight."""
        found = self.b.shape[0], self.a.shape[1]
        return found[::-1] if self.transposed else found

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return int(self.a.shape[0])

    def dense(self, like: Tensor) -> Tensor:
        """The product."""
        product = self.b.to(like) @ self.a.to(like)
        return (product.T if self.transposed else product) * self.scale

    def scaled(self, factor: float) -> Self:
        """`factor` times this."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def joined(self, other: Self) -> Self:
        """The sum: the ranks add, nothing is lost."""
        ours, theirs = self, other
        if ours.transposed != theirs.transposed:
            theirs = dataclasses.replace(
                theirs, a=theirs.b.T, b=theirs.a.T, transposed=ours.transposed
            )
        # equal scales stay one; unequal ones go into b
        scale = ours.scale if ours.scale == theirs.scale else 1.0
        factors = [1.0 if one.scale == scale else one.scale for one in (ours, theirs)]
        return dataclasses.replace(
            ours, a=torch.cat([ours.a, theirs.a]), scale=scale,
            b=torch.cat([ours.b * factors[0], theirs.b * factors[1]], dim=1),
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Both matrices."""
        return {"a": self.a, "b": self.b}

    def settings(self) -> dict[str, Any]:
        """The scale, and how the weight lies."""
        return {"scale": self.scale, "transposed": self.transposed}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """From both matrices, a scale and how the weight lies."""
        return cls(tensors["a"], tensors["b"], float(settings["scale"]),
                   bool(settings["transposed"]))  # fmt: skip


FORMS: dict[str, type[Part]] = {part.form: part for part in (Dense, Sparse, LowRank)}


def _check_numbers(*tensors: Tensor) -> None:
    for tensor in tensors:
        if not tensor.is_floating_point():
            raise ModelError(f"numbers that are added to weights are {tensor.dtype}, not floats")
        if not bool(tensor.isfinite().all()):
            raise ModelError("numbers that are added to weights must be finite")
