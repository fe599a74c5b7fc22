"""Every method in the catalog passes every conformance check, and its smoke evidence."""

import json
import time
from collections.abc import Callable

import pytest
import torch

from stackwise import evidence
from stackwise.catalog import card, cards, task_card, tasks
from stackwise.conformance import CHECKS, TASK_CHECKS
from stackwise.evidence.claims import Verdict

ALL = sorted(cards())
METHODS = sorted(cards(baselines=False))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "slug", [pytest.param(slug, marks=pytest.mark.xdist_group(slug)) for slug in ALL]
)  # in one process, where the checks share what they look at
def test_conforms(slug: str, check: str, tmp_path):
    lacking = card(slug).lacking
    if lacking:
        pytest.skip(lacking)
    CHECKS[check](card(slug), tmp_path)


@pytest.mark.parametrize("check", TASK_CHECKS)
@pytest.mark.parametrize("name", sorted(tasks()))
def test_a_task_conforms(name: str, check: str, tmp_path):
    TASK_CHECKS[check](task_card(name), tmp_path)


def a_fixed_piece_of_work() -> None:
    """Half of it Python, half of it arithmetic, as evidence is: how slow is this machine now?"""
    for _ in range(48):
        sum(number * number for number in range(100_000))
    square = torch.ones(256, 256)
    for _ in range(240):
        square = square @ square / 256


def seconds_of(work: Callable[[], None]) -> float:
    """Its processor time: what else the machine does meanwhile does not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.slow
@pytest.mark.parametrize("slug", METHODS)
def test_smoke_evidence_is_measured_in_seconds(slug: str, tmp_path):
    unit = seconds_of(a_fixed_piece_of_work)
    record = {}
    spent = seconds_of(
        lambda: record.update(json.loads(evidence.run(slug, "smoke", out=tmp_path).read_text()))
    )
    assert spent < 80 * unit  # some twenty seconds where that work takes a quarter of one
    assert record["slug"] == slug and record["scale"] == "smoke"
    assert record["machine"]["cores"] and record["seconds"] > 0
    for claim in record["claims"]:
        assert claim["verdict"] in Verdict.__args__
        assert claim["id"] and claim["statement"]
