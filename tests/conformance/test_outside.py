"""A method from outside the package: CONTRIBUTING.md's example, as a package of its own."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stackwise.catalog import cards
from stackwise.conformance import CHECKS, check
from stackwise.tasks.table.small import small_table

ROOT = Path(__file__).parents[2]
SLUG = "wide-and-narrow"


def example() -> str:
    """The module that CONTRIBUTING.md shows."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    return next(block for block in blocks if f'"{SLUG}"' in block)


def install(place: Path, module: str, source: str) -> None:
    """Put a package with an entry point into `place`, as an installer would."""
    (place / f"{module}.py").write_text(source)
    info = place / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stackwise.methods]\n{module} = {module}\n")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The example, installed for this process and for those that it starts."""
    place = tmp_path / "site"
    place.mkdir()
    install(place, "wide_and_narrow_example", example())
    monkeypatch.setenv("STACKWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), *sys.path]))
    monkeypatch.syspath_prepend(str(place))
    importlib.invalidate_caches()
    return tmp_path


def stackwise(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stackwise.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_is_in_the_list_and_has_a_card(outside):
    listed = json.loads(stackwise("list", "--json").stdout)
    mine = next(item for item in listed if item["slug"] == SLUG)
    assert mine["verb"] == "build" and mine["kinds"] == ["learner"]
    shown = stackwise("show", SLUG).stdout
    assert "hidden units" in shown and "max_epochs" in shown


def test_a_cache_that_cannot_be_written_hides_no_method(outside):
    (outside / "cache").touch()  # no folder can be made below it
    listed = stackwise("list", "--json")
    assert SLUG in {item["slug"] for item in json.loads(listed.stdout)}


@pytest.mark.slow
def test_its_card_is_kept_so_that_listing_again_imports_nothing(outside):
    assert stackwise("list").returncode == 0
    (kept,) = (outside / "cache" / "methods").glob("*.json")
    assert json.loads(kept.read_text())["methods"][0]["slug"] == SLUG


@pytest.mark.slow
def test_it_fits_and_its_run_loads_again(outside):
    X, y = small_table(rows=200)
    table = outside / "table.csv"
    X.assign(target=y).to_csv(table, index=False)
    run = outside / "run"
    words = ("--target", "target", "--set", "max_epochs=3", "--threads", 1, "--out", run)
    done = stackwise("fit", SLUG, table, *words)
    assert done.returncode == 0, done.stderr
    done = stackwise("predict", run, table, "-o", outside / "predictions.csv")
    assert done.returncode == 0, done.stderr
    assert len((outside / "predictions.csv").read_text().splitlines()) == 201


def test_a_bad_knob_of_it_is_refused_in_one_sentence(outside):
    done = stackwise("fit", SLUG, "diamonds", "--set", "widht=3", "--out", outside / "run")
    assert done.returncode == 2
    assert "width" in done.stderr and "at least 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (outside / "run").exists()


def test_it_passes_every_conformance_check(outside):
    assert check(SLUG) == list(CHECKS)


BROKEN = '''
"""Methods with one fault each."""
import copy
from typing import Annotated
import torch
from stackwise.catalog import Knob, transform

@transform("forgets-its-seed", title="Noise without a seed", verb="shrink")
def forgets_its_seed(model, data=None, *, scale: Annotated[float, Knob("of the noise")] = 0.1):
    """Add noise."""
    network = copy.deepcopy(getattr(model, "network_", model))
    with torch.no_grad():
        next(network.parameters()).add_(torch.randn(()) * scale)
    return model.with_network(network) if hasattr(model, "with_network") else network

@transform("writes-into-its-input", title="Changes its input", verb="shrink")
def writes_into_its_input(model, data=None, *, scale: Annotated[float, Knob("factor")] = 0.5):
    """Scale a weight."""
    network = getattr(model, "network_", model)
    with torch.no_grad():
        next(network.parameters()).mul_(scale)
    return model

@transform("takes-anything", title="Refuses nothing", verb="shrink")
def takes_anything(model, data=None, *, scale: Annotated[float, Knob("factor")] = 0.5):
    """Return the model."""
    return model

@transform("says-nothing", title="No sentence", verb="shrink")
def says_nothing(model, data=None, *, scale: Annotated[float, Knob("factor")] = 0.5):
    """no sentence"""
    return model
'''


BARE = '''
"""A transform that gives a bare module back, and one whose weights cannot be kept."""
import copy
from typing import Annotated
import torch
from stackwise.catalog import Knob, transform
from stackwise.errors import ModelError

def checked(model):
    if not hasattr(model, "network_"):
        raise ModelError("give a fitted learner")

@transform("bare-module", title="A bare module", verb="shrink")
def bare_module(model, data=None, *, scale: Annotated[float, Knob("factor")] = 0.5):
    """Return the network of a learner."""
    checked(model)
    return copy.deepcopy(model.network_)

@transform("reads-no-weights", title="A module that is not kept", verb="shrink")
def reads_no_weights(model, data=None, *, scale: Annotated[float, Knob("factor")] = 0.5):
    """Return a network that reads no weights."""
    checked(model)
    network = torch.nn.Linear(2, 2)
    network.load_state_dict = lambda state: None
    return network
'''


def test_a_bare_module_is_kept_by_its_weights(outside, tmp_path):
    install(outside / "site", "bare_modules", BARE)
    importlib.invalidate_caches()
    CHECKS["survives_a_round_trip"](cards()["bare-module"], tmp_path / "kept")
    with pytest.raises(AssertionError, match="written and read back"):
        CHECKS["survives_a_round_trip"](cards()["reads-no-weights"], tmp_path / "lost")


@pytest.mark.parametrize(
    ("slug", "fault"),
    [
        ("forgets-its-seed", "run twice"),
        ("writes-into-its-input", "the model given to"),
        ("takes-anything", "was not refused"),
        ("says-nothing", "no whole sentence"),
    ],
)
def test_a_faulty_method_is_caught(outside, slug, fault):
    install(outside / "site", "faulty_methods", BROKEN)
    importlib.invalidate_caches()
    with pytest.raises(AssertionError, match=fault):
        check(slug)
