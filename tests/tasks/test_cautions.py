"""What makes a score doubtful is said before anybody trains; ordinary tables stay silent."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from stackwise.tasks.table.task import TableTask

ROWS = 400
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(50, 10, ROWS).round(3),
        "b": RNG.normal(size=ROWS).round(3),
        "c": RNG.choice(["x", "y", "z"], ROWS),
    }
)
FRAME["y"] = (FRAME.a + 5 * RNG.normal(size=ROWS)).round(3)
HIGH = np.where(FRAME.y > 50, "high", "low")
SOME = np.arange(ROWS) % 25 == 0

CASES = {
    "copies": (pd.concat([FRAME, FRAME.head(60)]), "rows also stand in the training part"),
    "a sentinel": (FRAME.assign(a=FRAME.a.where(~SOME, 999)), "'a' is 999 in"),
    "a sentinel below": (FRAME.assign(a=FRAME.a.where(~SOME, -999)), "'a' is -999 in"),
    "a sentinel in the target": (FRAME.assign(y=FRAME.y.where(~SOME, 9999)), "'y' is 9999 in"),
    "units": (
        FRAME.assign(w=[f"{v:.1f}kg" if i % 2 else f"{v:.1f}" for i, v in enumerate(FRAME.a)]),
        "'w' holds numbers with units in [45].%",
    ),
    "the target in other units": (FRAME.assign(z=FRAME.y * 2.54 + 1), "'z' gives 'y' away"),
    "its parts": (
        FRAME.assign(tax=20 * (TAX := RNG.normal(size=ROWS)), net=FRAME.y - 20 * TAX),
        "'(?:net|tax)' and '(?:net|tax)' give 'y' away together",
    ),
    "a class by another name": (
        FRAME.assign(y=HIGH, z=np.where(HIGH == "high", "A", "B")),
        "'z' gives 'y' away: each of its values has one class",
    ),
    "a class cut from a number": (
        FRAME.assign(y=HIGH, z=FRAME.y), "'z' gives 'y' away: each class is one stretch",
    ),
    "a gap that is a class": (
        FRAME.assign(y=HIGH, z=FRAME.b.where(HIGH == "high")), "missing just in rows of one class",
    ),
    "a heavy tail": (FRAME.assign(y=np.exp(2.5 * FRAME.b)), "so skewed that 3 of"),
    "postcodes": (
        FRAME.assign(place=RNG.integers(10_000, 99_999, 90)[RNG.integers(0, 90, ROWS)]),
        "'place' holds whole numbers of 5 digits",
    ),
    "codes by name": (
        FRAME.assign(zip_code=RNG.integers(1010, 1990, ROWS)), "'zip_code' holds whole numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_doubtful_table_is_said_to_be_one(case: str) -> None:
    frame, says = CASES[case]
    notes = TableTask.load(frame, target="y").notes
    assert any(pd.Series([note]).str.contains(says).all() for note in notes), notes


def test_values_that_training_lacks_get_one_note_a_column() -> None:
    test = FRAME.head(50).assign(c=["new"] * 20 + ["x"] * 30)
    notes = TableTask.load(FRAME, target="y", test=test).notes
    assert [note for note in notes if "training lacks" in note] == [
        "column 'c': 20 of 50 test rows hold a value that training lacks, such as 'new'"
    ]


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_iris, load_wine])
def test_ordinary_tables_are_passed_in_silence(load) -> None:
    assert TableTask.load(load(as_frame=True).frame, target="target").notes in (
        [], ["target 'target' has 2 values and is taken as classes; problem='regression' takes it "
             "as a number"],
        ["target 'target' has 3 values and is taken as classes; problem='regression' takes it "
         "as a number"],
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 7, 11])
def test_an_ordinary_noisy_table_is_passed_in_silence(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frame = FRAME.assign(
        year=generator.integers(1950, 2020, ROWS),
        salary=generator.lognormal(10.5, 0.4, ROWS).round(),
        door=generator.choice(["2door", "4door"], ROWS),
        age=generator.integers(18, 100, ROWS),
    )
    assert TableTask.load(frame, target="y").notes == []
