"""Every method in the catalog passes every conformance check, and its smoke evidence."""

import json
import time

import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("slug", METHODS)
def test_smoke_evidence_is_measured_in_seconds(slug: str, tmp_path):
    started = time.process_time()
    record = json.loads(evidence.run(slug, "smoke", out=tmp_path).read_text())
    # processor time: what else the machine does meanwhile does not count
    assert time.process_time() - started < 15
    assert record["slug"] == slug and record["scale"] == "smoke"
    assert record["machine"]["cores"] and record["seconds"] > 0
    for claim in record["claims"]:
        assert claim["verdict"] in Verdict.__args__
        assert claim["id"] and claim["statement"]
