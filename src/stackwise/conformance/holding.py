"""How a check holds a method to something: a sentence where it does not."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stackwise.adapt import Delta
from stackwise.findings import Findings
from stackwise.protocols import Task


def model_state(model: Any) -> dict[str, np.ndarray]:
    """The weights of a module or of a fitted network, copied."""
    network = getattr(model, "network_", model)
    return {
        name: value.detach().float().numpy().copy() for name, value in network.state_dict().items()
    }


def result_state(result: Any, data: Any = None) -> dict[str, np.ndarray]:
    """The numbers that stand for a result: tables, a learner's answers on a task, or weights."""
    if isinstance(result, Findings):
        return {name: table.to_numpy(dtype=float) for name, table in result.tables.items()}
    if isinstance(result, Delta):
        return {name: value.float().numpy() for name, value in sorted(result.tensors().items())}
    if isinstance(data, Task) and hasattr(result, "save"):
        samples = data.judge(result, "test").samples.select_dtypes("number")
        return {str(name): samples[name].to_numpy(dtype=float) for name in samples}
    return model_state(result)


def hold(condition: Any, sentence: str) -> None:
    """Raise the sentence where the condition does not hold."""
    if not condition:
        raise AssertionError(sentence)


def same(
    one: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    what: str,
    tolerance: float = 0.0,
) -> None:
    """Hold two sets of numbers to being the same, to a relative tolerance."""
    hold(list(one) == list(other), f"{what}: {sorted(set(one) ^ set(other))} are on one side only")
    hold(one, f"{what}: there is nothing to compare")
    for name, values in one.items():
        hold(values.shape == other[name].shape, f"{what}: {name} has another shape")
        hold(
            np.allclose(values, other[name], rtol=tolerance, atol=0, equal_nan=True),
            f"{what}: {name} differs by up to {np.nanmax(np.abs(values - other[name])):.3g}",
        )


def refused(what: str, action: Callable[..., Any], *given: Any, **named: Any) -> None:
    """Hold an action to being refused as the caller's mistake."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action(*given, **named)
    except (ValueError, TypeError) as error:
        hold(str(error), f"{what}: the error says nothing")
        return
    except Exception as error:
        raise AssertionError(f"{what}: a {type(error).__name__}, no ValueError") from error
    raise AssertionError(f"{what} was not refused")
