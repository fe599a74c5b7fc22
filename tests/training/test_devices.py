"""Several processes: they learn what one would, and write one set of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_processes import FITS, not_stopped

from stackwise.errors import KnobError
from stackwise.files import read_tensors
from stackwise.training.distribution.devices import (
    accelerator,
    part_of_batch,
    part_of_rows,
    rows_of,
)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fits of two processes."""
    folder = tmp_path_factory.mktemp("toys")
    # standalone: the launcher finds its own port, which nothing can take before it is used
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("toy_processes.py")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["metrics"] for line in lines]


@pytest.mark.parametrize("name", FITS)
@pytest.mark.xdist_group("toys")
def test_two_processes_learn_what_one_does(name: str, together: Path):
    alone = FITS[name]()
    found = read_tensors(together / name / "final.safetensors")
    own = alone.model.state_dict()
    assert sorted(found) == sorted(own)
    for key, tensor in own.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-5, rtol=1e-5, msg=key)
    curve = history(together / name)  # written once
    assert len(curve) == len(alone.history)
    for one, line in zip(curve, alone.history, strict=True):
        assert one == pytest.approx(line["metrics"], rel=1e-5, abs=1e-5)
    kinds = (together / name / "kinds.txt").read_text(encoding="utf-8")
    assert kinds == " ".join(sorted({type(module).__name__ for module in alone.model.modules()}))


@pytest.mark.xdist_group("toys")
def test_a_stop_within_an_accumulation_loses_no_gradient(together: Path):
    stopped, whole = (
        read_tensors(together / name / "final.safetensors") for name in ("stopped", "not_stopped")
    )
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)
    for key, tensor in not_stopped().model.state_dict().items():
        torch.testing.assert_close(whole[key], tensor, atol=1e-5, rtol=1e-5)
    (one,), (other,) = (history(together / name) for name in ("stopped", "not_stopped"))
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.xdist_group("toys")
def test_what_would_learn_from_a_part_of_a_batch_alone_is_refused(together: Path):
    forgot, strange = (together / "refusals.txt").read_text(encoding="utf-8").splitlines()
    assert "AdamW was stepped in 2 processes before loop.average_gradients" in forgot
    assert "'1' is a OtherNorm, whose batch statistics several processes cannot gather" in strange


@pytest.mark.xdist_group("toys")
def test_weights_in_parts_are_kept_after_an_epoch_that_is_not_the_best(together: Path):
    assert len(history(together / "parts")) == 3
    assert (together / "parts" / "checkpoint" / "0.safetensors").is_file()


@pytest.mark.xdist_group("toys")
def test_a_rule_that_reaches_into_a_model_in_parts_is_refused(together: Path):
    said = (together / "reached.txt").read_text(encoding="utf-8")
    assert "reaches into its model beside calling it" in said and "STACKWISE_SHARD" in said


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 9])
def test_the_parts_of_a_batch_hold_every_row_as_often(processes: int):
    batch = {"x": torch.arange(7), "y": (torch.arange(14).reshape(7, 2), "name")}
    parts = [part_of_batch(batch, process, processes) for process in range(processes)]
    places = [part_of_rows(7, process, processes) for process in range(processes)]
    assert rows_of(batch) == 7 and rows_of(({}, 3, [torch.zeros(2, 5)])) == 2
    weight = torch.zeros(7)
    for part, (_, share) in zip(parts, places, strict=True):
        assert torch.equal(part["y"][0][:, 0], 2 * part["x"]) and part["y"][1] == "name"
        weight[part["x"]] += share / len(part["x"])  # what a mean of the part's rows gives each
    torch.testing.assert_close(weight, torch.full((7,), 1 / 7))
    assert max(len(part["x"]) for part in parts) - min(len(part["x"]) for part in parts) <= 1


def test_what_holds_no_tensor_has_no_rows():
    assert rows_of("words") is None and rows_of(torch.tensor(1.0)) is None and rows_of({}) is None


def test_a_device_number_that_is_not_there_is_refused():
    with pytest.raises(KnobError, match="device 'cpu:7' is not here"):
        accelerator("cpu:7", "float32")
