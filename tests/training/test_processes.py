"""Language models in two processes, weights whole or in parts: what one process learns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from language_fits import FITS, compared, fit
from peft import PeftModel
from transformers import AutoModelForCausalLM

from stackwise.conformance import small_language_model
from stackwise.runs import Run, load
from stackwise.studies import Study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ALONE = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def launched(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCHER, *arguments], env=os.environ | ALONE | environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("language_fits.py")
    done = launched(str(script), str(folder), small_language_model())
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("alone")
    return {name: fit(name, folder, small_language_model()) for name in FITS}


def curve(run: Run) -> torch.Tensor:
    """(epochs, losses)."""
    lines = [line["metrics"] for line in run.history]
    return torch.tensor([[line["train_loss"], line["validation_loss"]] for line in lines])


@pytest.mark.parametrize("weights", ["whole", "parts"])
@pytest.mark.parametrize("name", FITS)
def test_two_processes_learn_what_one_does(
    name: str, weights: str, together: Path, alone: dict[str, Run]
) -> None:
    run = Run(together / weights / name)
    assert run.finished
    torch.testing.assert_close(curve(run), curve(alone[name]), atol=1e-5, rtol=0)
    one, two = (load(folder).model_ for folder in (alone[name].folder, run.folder))
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    assert not (run.folder / "checkpoint").exists() and not (run.folder / ".lock").exists()
    if name == "adapted":  # peft loads what is beside the base, plain transformers all others
        base = AutoModelForCausalLM.from_pretrained(small_language_model())
        PeftModel.from_pretrained(base, run.folder / "adapter")
    else:
        AutoModelForCausalLM.from_pretrained(run.folder / "model")


@pytest.mark.parametrize(
    ("stopped", "whole"),
    [("stopped/grown", "whole/grown"), ("parts-stopped/grown", "parts/grown"),
     ("parts-stopped/tuned", "parts/tuned")],
)  # fmt: skip
def test_what_was_told_to_stop_goes_on_bit_for_bit(
    stopped: str, whole: str, together: Path
) -> None:
    one, two = (load(together / name).model_.state_dict() for name in (stopped, whole))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(curve(Run(together / stopped)), curve(Run(together / whole)))


def test_a_comparison_ranks_as_in_one_process(together: Path, tmp_path: Path) -> None:
    studies = compared(tmp_path, small_language_model()), Study(together / "compared")
    one, other = (study.ranking().set_index("method") for study in studies)
    assert list(one.index) == list(other.index) and len(one) == 3
    assert other["validation"].to_list() == pytest.approx(one["validation"].to_list(), abs=1e-4)
    assert (together / "compared" / "report.html").is_file()


def test_a_refusal_is_said_once(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a few words\n" * 400, encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    command = ["-m", "stackwise", "fit", "decoder", str(corpus), "--device", "cpu"]
    done = launched(*command, "--out", str(tmp_path / "out"))
    assert done.returncode != 0
    assert done.stderr.count("Error: ") - done.stderr.count("ChildFailedError: ") == 1
    assert f"{tmp_path / 'out'} is not empty" in done.stderr
