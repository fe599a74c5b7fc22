"""Several processes: they learn what one would, and write one set of files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_processes import fit

from stackwise.errors import KnobError
from stackwise.files import read_tensors
from stackwise.training.devices import accelerator, part_of_batch


def test_two_processes_learn_what_one_does(tmp_path: Path):
    # standalone: the launcher finds its own port, which nothing can take before it is used
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("toy_processes.py")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    alone = fit()
    together = read_tensors(tmp_path / "final.safetensors")
    for name, tensor in alone.model.state_dict().items():
        assert torch.allclose(tensor, together[name], atol=1e-6)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_parts_of_a_batch_are_equally_long_and_hold_every_row():
    batch = {"x": torch.arange(7), "y": (torch.arange(14).reshape(7, 2), "name")}
    parts = [part_of_batch(batch, process, 3) for process in range(3)]
    assert [part["x"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]
    assert [part["y"][0].shape for part in parts] == [(3, 2)] * 3
    assert parts[2]["y"][1] == "name"


def test_a_device_number_that_is_not_there_is_refused():
    with pytest.raises(KnobError, match="device 'cpu:7' is not here"):
        accelerator("cpu:7", "float32")
