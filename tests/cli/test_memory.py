"""Memory that runs out is one sentence, of a command and of a run of a study."""

import sys

import numpy as np
import pytest
import torch

from stackwise.cli import entry
from stackwise.errors import DataError, RunError
from stackwise.learning.memory import ran_out
from stackwise.studies.jobs import problem_of

TOO_MUCH = {
    "numpy": lambda: np.empty(2**58),
    "torch": lambda: torch.empty(2**55),
    "python": lambda: bytearray(2**62),
}


def reading():
    """What a reader makes of it."""
    try:
        np.empty(2**58)
    except MemoryError as error:
        raise RunError("weights.safetensors is damaged") from error


@pytest.mark.parametrize("work", [*TOO_MUCH.values(), reading], ids=[*TOO_MUCH, "a reader"])
def test_memory_that_ran_out_is_one_sentence(work, tmp_path, monkeypatch, capsys):
    assert str(problem_of(work, tmp_path)).startswith("memory ran out")
    monkeypatch.setattr(entry, "_command", lambda stopping: work())
    monkeypatch.setattr(sys, "argv", ["stackwise"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    (said,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert said.startswith("Error: memory ran out")
    assert "use a smaller network" in said


def test_other_errors_are_not_taken_for_it():
    assert ran_out(DataError("the column 'memory' is constant")) is None
    assert ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
