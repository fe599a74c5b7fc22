"""Write a fitted network, kept trees or a linear model on a table as ONNX, with its preprocessing.

What is in the graph: filling of missing numbers, quantile or standard scaling, the sine and cosine
parts of dates, the categories that say where a number was missing, the network, the mean over an
ensemble's members, and the target's own unit. What is left to the caller, because it reads text, is
written beside the model as `<name>.json`: which column goes to which place of which input, and the
code of every category.

    inputs    numbers (rows, a) float64, NaN where missing; dates as days since 1970
              codes   (rows, b) int64
              texts   (rows, c) float32, hashed word counts, where a column is free text
    output    prediction (rows,) float64       or       probability (rows, C) float64

An input without columns is left out.
"""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.learning.outputs import margin_head
from stackwise.tasks.labelled import values
from stackwise.tasks.labelled.onnx_file import WrittenWhole, answered, export_whole
from stackwise.tasks.table.estimators.learner import TableLearner
from stackwise.tasks.table.features.contract import _CYCLES as CYCLES
from stackwise.tasks.table.features.contract import FeatureContract
from stackwise.tasks.table.reading.columns import Column

LARGEST = torch.finfo(torch.float32).max / 4
EDGE = 1e-7
"""Shares below this and above one minus it are one: the same limit as scikit-learn's."""

# Wichura (1988), algorithm AS 241 (PPND16): rational functions of the normal quantile, to 1e-16.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959,
     1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187,
     1.0),
)  # fmt: skip


def export(reference: Any, path: Path | str) -> list[Path]:
    """Write a fitted neural table learner (or a run that holds one) as an ONNX file.

    Args:
        reference: the learner, or the folder of its run.
        path: the file to write, such as `model.onnx`; `model.json` is written beside it.

    Returns:
        The two files.

    Raises:
        ModelError: the model is none that can be written; it is named.
    """
    return export_whole(reference, path, _whole)


def _whole(learner: Any) -> WrittenWhole:
    if not isinstance(learner, TableLearner) and not hasattr(learner, "as_tensors"):
        raise ModelError(
            f"a {type(learner).__name__} cannot be written as ONNX here: networks, kept trees and "
            "linear models on tables can, each by itself; of an ensemble export the members"
        )
    if learner.contract_._several:
        name = learner.contract_._several[0].name
        raise ModelError(
            f"column {name!r} holds several values in a cell, which cannot be written as ONNX here"
        )
    whole = WholeModel(learner)
    return WrittenWhole(whole, whole.example(), whole.output_name, description(learner, whole))


class WholeModel(nn.Module):
    """Raw numbers and codes in, prediction out: scaling, network and mean in one module."""

    quantiles: Tensor
    references: Tensor
    units: Tensor
    mean: Tensor
    scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, learner: Any) -> None:
        super().__init__()
        kept = not isinstance(learner, TableLearner)
        self.network = learner.as_tensors() if kept else copy.deepcopy(learner.network_).cpu()
        self.by_class = learner.problem == "classification"
        if not kept and margin_head(self.network) is not None:
            raise ModelError(
                f"a {type(learner).__name__} that gives margins is not written as ONNX"
            )
        self.output_name = "probability" if self.by_class else "prediction"
        # kept trees and linear models learn the target in its own unit
        read = ("target_shift_", "target_unit_") if kept else ("target_mean_", "target_scale_")
        for name, attribute, plain in zip(
            ("target_mean", "target_scale"), read, (0.0, 1.0), strict=True
        ):
            known = getattr(learner, attribute, plain)
            self.register_buffer(name, torch.tensor(known, dtype=torch.float64))
        contract = learner.contract_
        self.scaling = contract.scaler.scaling
        self.keep_missing = contract.scaler.keep_missing
        for name, tensor in contract.scaler.tensors.items():
            self.register_buffer(name, tensor.T.contiguous() if name == "quantiles" else tensor)
        places = {column.name: place for place, column in enumerate(contract._scaled)}
        self.cycles = [(places[column.name], CYCLES[part]) for column, part in contract._cycles]
        self.flags = [places[column.name] for column in contract._flagged]
        self.widths = {
            "numbers": len(contract._scaled),
            "codes": len(contract._coded),
            "texts": sum(column.detail["width"] for column in contract._texts),
        }

    def example(self) -> dict[str, Tensor]:
        """Two rows of zeros for each input that the model has."""
        types = {"numbers": torch.float64, "codes": torch.int64, "texts": torch.float32}
        return {
            name: torch.zeros((2, width), dtype=types[name])
            for name, width in self.widths.items()
            if width
        }

    def forward(self, *given: Tensor) -> Tensor:
        """The inputs that there are, in the order numbers, codes, texts."""
        inputs = dict(
            zip((name for name, width in self.widths.items() if width), given, strict=True)
        )
        like = given[0]
        parts, codes = [], []
        if "numbers" in inputs:
            numbers = inputs["numbers"]
            numbers = torch.where(torch.isinf(numbers), torch.full_like(numbers, math.nan), numbers)
            parts.append(self.scaled(numbers))
            for place, period in self.cycles:
                parts.append(_waves(numbers[:, place], period))
        if "texts" in inputs:
            parts.append(inputs["texts"])
        if "codes" in inputs:
            codes.append(inputs["codes"])
        for place in self.flags:
            codes.append(torch.isnan(numbers[:, place : place + 1]).long())
        numeric = torch.cat(parts, 1) if parts else like[:, :0].float()
        categorical = torch.cat(codes, 1) if codes else like[:, :0].long()
        output: Tensor = self.network(numeric, categorical).double()
        output = answered(output, classes=self.by_class)
        return output if self.by_class else output[:, 0] * self.target_scale + self.target_mean

    def scaled(self, numbers: Tensor) -> Tensor:
        """(B, a) float64 with NaN -> (B, a) float32, as `NumberScaler.transform` does it."""
        missing = torch.isnan(numbers)
        known = torch.where(missing, torch.zeros_like(numbers), numbers)
        rest: Any = 0.0
        if self.scaling == "quantile":
            known = normal_quantile(self.share_below(known * self.units))
        elif self.scaling == "standard":
            known = (self._counted(known) - self.mean) / self.scale
        else:
            known = self._counted(known)
            rest = self.mean
        if self.keep_missing:
            rest = math.nan
        filled = torch.where(missing, torch.zeros_like(known) + rest, known)
        return filled.clamp(-LARGEST, LARGEST).float()

    def _counted(self, numbers: Tensor) -> Tensor:
        units = getattr(self, "units", None)
        return numbers if units is None else numbers * units

    def share_below(self, numbers: Tensor) -> Tensor:
        """Which share of the training values lies below: linear between the kept quantiles.

        At a value that several quantiles have, the middle of their shares.
        """
        count = self.quantiles.shape[1]
        below = self._count(numbers, strict=True)
        up_to = self._count(numbers, strict=False)
        low = (torch.minimum(below, up_to - 1)).clamp(0, count - 1)
        high = torch.maximum(below, up_to - 1).clamp(0, count - 1)
        exact = up_to > below
        q_low, q_high = self._at(low), self._at(high)
        r_low, r_high = self.references[low], self.references[high]
        gap = torch.where(q_high > q_low, q_high - q_low, torch.ones_like(q_low))
        between = r_low + (numbers - q_low) / gap * (r_high - r_low)
        share = torch.where(exact, 0.5 * (r_low + r_high), between)
        first, last = self.quantiles[:, 0], self.quantiles[:, -1]
        edge = numbers.new_tensor(EDGE)
        share = torch.where(numbers - edge < first, torch.zeros_like(share), share)
        return torch.where(numbers + edge > last, torch.ones_like(share), share)

    def _count(self, numbers: Tensor, *, strict: bool) -> Tensor:
        """How many quantiles of its column lie below a number (or at it), found by halving."""
        count = self.quantiles.shape[1]
        found = torch.zeros_like(numbers, dtype=torch.int64)
        step = 1 << (count.bit_length() - 1)
        while step:
            tried = found + step
            value = self._at((tried - 1).clamp(max=count - 1))
            lower = value < numbers if strict else value <= numbers
            found = torch.where((tried <= count) & lower, tried, found)
            step //= 2
        return found

    def _at(self, places: Tensor) -> Tensor:
        """The quantile of each number's own column at these places, (B, a)."""
        count = self.quantiles.shape[1]
        starts = torch.arange(self.quantiles.shape[0]) * count
        return self.quantiles.flatten()[places + starts]


def _waves(day: Tensor, period: float) -> Tensor:
    """(B,) days -> (B, 2) float32: sine and cosine of the place in the period, 0 where missing."""
    known = ~torch.isnan(day)
    turns = torch.where(known, day, torch.zeros_like(day)) / day.new_tensor(period)
    angle = (turns - turns.floor()) * day.new_tensor(2 * math.pi)
    return (torch.stack([angle.sin(), angle.cos()], 1) * known[:, None]).float()


def normal_quantile(share: Tensor) -> Tensor:
    """The normal distribution's quantile, float64, with the ends cut at `EDGE` (AS 241)."""
    # constants are tensors because the exporter rounds plain numbers to float32
    low, high, half, offset, turn, start = share.new_tensor(
        [EDGE, 1 - EDGE, 0.5, 0.180625, 0.425, 1.6]
    )
    share = torch.minimum(torch.maximum(share, low), high)
    centred = share - half
    centre = centred * _ratio(_CENTRE, offset - centred * centred)
    outer = torch.minimum(share, 1 - share).log().neg().sqrt() - start
    tail = _ratio(_TAIL, outer)
    tail = torch.where(centred < 0, -tail, tail)
    return torch.where(centred.abs() <= turn, centre, tail)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    """A polynomial over another, highest power first."""
    above, below = torch.zeros_like(x), torch.zeros_like(x)
    for upper, lower in zip(*(x.new_tensor(row) for row in coefficients), strict=True):
        above, below = above * x + upper, below * x + lower
    return above / below


def description(learner: Any, whole: WholeModel) -> dict[str, Any]:
    """What the caller does to a table before the model, as JSON."""
    contract: FeatureContract = learner.contract_
    record: dict[str, Any] = {
        "model": type(learner).__name__,
        "inputs": {},
        "output": {"name": whole.output_name, "type": "float64"},
        "in_the_graph": [
            "missing numbers", f"scaling of numbers: {contract.scaler.scaling}",
            "parts of dates", "mean over members", "unit of the target",
        ],
    }  # fmt: skip
    if whole.by_class:
        record["output"]["classes"] = learner.classes_.tolist()
    if whole.widths["numbers"]:
        record["inputs"]["numbers"] = {
            "type": "float64",
            "columns": [
                {"name": column.name, "holds": _holds(column.kind, column.detail)}
                for column in contract._scaled
            ],
        }
    if whole.widths["codes"]:
        record["inputs"]["codes"] = {
            "type": "int64",
            "spelled": "texts without blanks around them, whole numbers as 1 and not 1.0",
            "columns": [
                {"name": name} | code_table(column, cardinality)
                for name, column, cardinality in zip(
                    contract.categorical_names,
                    contract._coded,
                    contract.cardinalities,
                    strict=False,
                )
            ],
        }
    if whole.widths["texts"]:
        record["inputs"]["texts"] = {
            "type": "float32",
            "columns": [
                {
                    "name": column.name,
                    "width": column.detail["width"],
                    "how": "scikit-learn's HashingVectorizer(n_features=width); missing: zeros",
                }
                for column in contract._texts
            ],
        }
    return record


def code_table(column: Column, cardinality: int) -> dict[str, Any]:
    """The code of each category, of a missing value and of one that training did not see."""
    detail = column.detail
    levels = detail.get("levels", [])
    pooled = bool(detail.get("other"))
    absent = bool(detail["missing"] or detail.get("infinite"))
    if detail.get("buckets"):
        return {
            "bucket": f"blake2b(text in UTF-8, 8 bytes), little endian, modulo {detail['buckets']}",
            "codes": {str(bucket): code for code, bucket in enumerate(detail["filled"])},
            "missing": cardinality - 1 if absent else cardinality,
            "any_other": cardinality,
        }
    codes = {level: code for code, level in enumerate(levels)}
    if column.kind == "boolean":
        codes = _truths(detail.get("words"))
    return {
        "codes": codes,
        "missing": cardinality - 1 if absent else cardinality,
        "any_other": len(levels) if pooled else cardinality,
    }


def _truths(words: list[str] | None) -> dict[str, int]:
    """The code of each spelling of no and yes: first those of training, then all that are read."""
    known = ["0", "1"] if words is None else words
    known = [*known, *(["False", "True"] if "true" in known else [])]
    known = [*known, *sorted(values.FALSE_WORDS), *sorted(values.TRUE_WORDS)]
    read = values.truths(known, words).tolist()
    return {word: code for word, code in zip(known, read, strict=True) if code >= 0}


def _holds(kind: str, detail: dict[str, Any]) -> str:
    if kind == "date":
        read = f", read as {detail['format']}" if detail.get("format") else ""
        return f"days since 1970-01-01 in UTC{read}, NaN where missing"
    if detail.get("values") == "text":
        return (
            f"the number without currency and thousands signs, decimal sign {detail['decimal']!r}, "
            "NaN where missing"
        )
    return "the number, NaN where missing"
