"""What a transform cost and saved: the model as it was beside the one that came out.

Both are judged on the same held-out parts, where there are data, and measured without any: the
bytes of their weights, those bytes where zeros are packed (`stackwise.sparse_files`), and the time
of a pass over a made-up input, where the model says what it reads.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stackwise.learning.measuring import made_up_inputs, milliseconds
from stackwise.protocols import Part, Task
from stackwise.sparse_files import pack

MUCH = 0.1
"""Share of the deciding score whose loss is warned of."""
PARTS: tuple[Part, ...] = ("validation", "test")


def knows_classes(model: Any, task: Task) -> bool:
    """Whether a model answers with the classes of a task, where both have some: one that was taken
    to other classes has no score as it was.
    """
    own, wanted = getattr(model, "classes_", None), getattr(task, "classes", None)
    return own is None or wanted is None or set(own) == set(wanted)


def judged_before(model: Any, task: Task) -> dict[str, Any]:
    """What a record holds of the model as it was, judged on both held-out parts."""
    began = time.perf_counter()
    judged = {part: task.judge(model, part) for part in PARTS}
    test = judged["test"]
    network = network_in(model)
    sized = () if network is None else network.parameters()
    return {
        "slug": "the model as it was",
        "scores": {part: one.scores for part, one in judged.items()},
        "size_bytes": sum(p.numel() * p.element_size() for p in sized),
        "seconds": {
            "fit": 0.0,
            "judge": time.perf_counter() - began,
            "predict_per_1000_rows": test.seconds / max(len(test.samples), 1) * 1000,
        },
    }


def measured(model: Any) -> dict[str, float | None]:
    """`bytes` of the weights, `packed_bytes` with zeros packed, and `milliseconds` of a pass; None
    where that is not known.
    """
    network = network_in(model)
    if network is None:
        return {"bytes": None, "packed_bytes": None, "milliseconds": None}
    weights: dict[str, torch.Tensor] = dict(network.named_parameters())  # tied ones once
    kept = getattr(model, "stored_dtype", None)
    if kept is not None:
        weights = {name: tensor.detach().to(kept) for name, tensor in weights.items()}
    return {
        "bytes": _bytes(weights),
        "packed_bytes": _bytes(pack(weights)[0]),
        "milliseconds": _milliseconds(network),
    }


def network_in(model: Any) -> nn.Module | None:
    """The module that a model is or that a fitted learner holds."""
    network = getattr(model, "network_", model)
    return network if isinstance(network, nn.Module) else None


def _bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _milliseconds(network: nn.Module) -> float | None:
    """The time of a pass; None where the inputs are not known."""
    inputs = made_up_inputs(network)
    return None if inputs is None else milliseconds(network, inputs)


def lines_of(record: Mapping[str, Any]) -> list[str]:
    """What is said of a transform at its end: before, after, a warning where much is lost."""
    lines = []
    before = record.get("before") or {}
    for part in PARTS:
        if (both := _both(record, part)) is not None:
            name, (old, new) = record["metric"]["name"], both
            lines.append(f"{part} {name}: {old:.5g} before, {new:.5g} after")
    sizes = record.get("measured") or {}
    if sizes:
        lines += _said(sizes["before"], sizes["after"], sizes.get("delta_bytes"))
    times = [(one.get("seconds") or {}).get("predict_per_1000_rows") for one in (before, record)]
    if before and None not in times:
        lines.append(f"a thousand samples: {times[0]:.3g} s before, {times[1]:.3g} s after")
    if warning := lost(record):
        lines.append(f"Warning: {warning}")
    return lines


def _both(record: Mapping[str, Any], part: Part) -> tuple[float, float] | None:
    """The deciding score on a part, before and after; None where one is not known."""
    name = (record.get("metric") or {}).get("name")
    old, new = (
        ((one.get("scores") or {}).get(part) or {}).get(name)
        for one in (record.get("before") or {}, record)
    )
    return None if old is None or new is None else (old, new)


def _said(
    before: Mapping[str, Any], after: Mapping[str, Any], delta: int | None = None
) -> list[str]:
    lines = []
    if delta is not None:
        whole = "" if before["bytes"] is None else f", of a model of {before['bytes']:,}"
        lines.append(f"bytes: {delta:,} of the change{whole}")
    elif None not in (before["bytes"], after["bytes"]):
        packed = f", {after['packed_bytes']:,} with zeros packed"
        smaller = after["packed_bytes"] < 0.9 * after["bytes"]
        lines.append(
            f"bytes: {before['bytes']:,} before, {after['bytes']:,} after" + packed * smaller
        )
    if None not in (before["milliseconds"], after["milliseconds"]):
        lines.append(
            f"a pass: {before['milliseconds']:.3g} ms before, {after['milliseconds']:.3g} ms after"
        )
    return lines


def lost(record: Mapping[str, Any]) -> str | None:
    """A sentence where the deciding score on the validation part got much worse; else None."""
    both = _both(record, "validation")
    if both is None or not both[0]:
        return None
    (old, new), metric = both, record["metric"]
    name = metric["name"]
    worse = (new - old if metric["mode"] == "min" else old - new) / abs(old)
    if worse <= MUCH:
        return None
    return (
        f"much is lost: {name} is {worse:.0%} worse than before ({old:.5g}, now {new:.5g}); change "
        "the model less, or train it longer"
    )
