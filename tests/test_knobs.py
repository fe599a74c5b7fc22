"""A signature is a configuration: what knobs are read off it, and which values they take."""

from typing import Annotated, Any, Literal

import numpy as np
import pytest

from stackwise.errors import KnobError
from stackwise.knobs import Knob, KnobSpec, ModelRef, check_values, knobs_of


def method(
    model: Any,
    data: Any = None,
    *,
    k: Annotated[int, Knob("members", ge=1, le=64)] = 32,
    lr: Annotated[float, Knob("learning rate", gt=0, log=True)] = 1e-3,
    schedule: Annotated[Literal["constant", "cosine"], Knob("how it falls")] = "constant",
    batch_size: Annotated[int | Literal["auto"], Knob("rows a step", ge=1)] = "auto",
    patience: Annotated[int | None, Knob("epochs to wait", ge=1)] = None,
    names: Annotated[list[str] | None, Knob("columns")] = None,
    shared: Annotated[bool, Knob("one batch for all")] = True,
    teacher: Annotated[ModelRef, Knob("the larger model")] = None,
    members: Annotated[list[ModelRef] | None, Knob("the others")] = None,
    loss: Any = None,
) -> None: ...


SPECS = knobs_of(method)


def test_only_annotated_arguments_are_knobs() -> None:
    assert list(SPECS) == [
        "k", "lr", "schedule", "batch_size", "patience", "names", "shared", "teacher", "members",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("k", "16", 16),
        ("lr", "1e-2", 0.01),
        ("schedule", "cosine", "cosine"),
        ("batch_size", "auto", "auto"),
        ("batch_size", "64", 64),
        ("patience", "none", None),
        ("names", "a,b", ["a", "b"]),
        ("shared", "false", False),
        ("teacher", "runs/big", "runs/big"),
        ("members", "runs/1,7, runs/c", ["runs/1", "7", "runs/c"]),
        ("members", "runs/a", ["runs/a"]),
    ],
)
def test_words_of_the_command_line_are_read_as_their_type(name: str, text: str, value: Any) -> None:
    read = check_values("method", SPECS, {name: text}, texts=True)[name]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("k", 0, "k must be at least 1 and at most 64, got 0"),
        ("k", 2.5, "k must be int, at least 1, at most 64, got 2.5"),
        ("k", True, "k must be int"),
        ("k", None, "k must be int"),
        ("lr", 0.0, "lr must be above 0, got 0.0"),
        ("lr", float("nan"), "lr must be float"),
        ("schedule", "cosin", "schedule must be constant, cosine, got 'cosin'"),
        ("shared", 1, "shared must be bool"),
    ],
)
def test_a_bad_value_is_named_with_its_range(name: str, value: Any, words: str) -> None:
    with pytest.raises(KnobError) as caught:
        check_values("method", SPECS, {name: value})
    assert words in str(caught.value)


def test_an_unknown_knob_names_the_nearest_one_and_its_range() -> None:
    with pytest.raises(KnobError, match=r"'patiense'.*'patience'.*epochs to wait.*at least 1"):
        check_values("method", SPECS, {"patiense": 3})


def test_numpy_numbers_become_plain_ones() -> None:
    checked = check_values("method", SPECS, {"k": np.int64(4), "lr": np.float32(0.5)})
    assert type(checked["k"]) is int
    assert type(checked["lr"]) is float


def test_a_spec_survives_json() -> None:
    for spec in SPECS.values():
        assert KnobSpec.from_dict(spec.as_dict()) == spec
    assert KnobSpec.from_dict(SPECS["lr"].as_dict()).knob.gt == 0
