"""100,000 rows of 200 category columns: each learner fits them within 8 GiB, or says what would."""

import json
import subprocess
import sys

import pytest

from stackwise.catalog import cards

GIB = 2**30
MADE_OF_OTHERS = "regularized-meta-learning"
"""Its base models are the others here, fitted six times each: hours on a table of this size."""
LEARNERS = [
    slug for slug, of in cards().items()
    if "learner" in of.kinds and "table" in of.tasks and of.package == "stackwise"
    and slug != MADE_OF_OTHERS and of.lacking is None
]  # fmt: skip
FIT = """
import json, resource, sys, warnings
import numpy as np
import pandas as pd
from stackwise.catalog import card
from stackwise.errors import DataError
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
rows, columns = 100_000, 200
frame = pd.DataFrame({
    f"c{i}": pd.Categorical.from_codes(
        rng.integers(0, levels, rows).astype("int16"), [f"v{j}" for j in range(levels)])
    for i, levels in enumerate(rng.choice([5, 20, 50, 200], columns))
})
target = np.where(rng.random(rows) < 0.3, "yes", "no")
entry = card(sys.argv[1]).entry("learner", "binary", task="table")
knobs = {entry.budget: 1, "threads": 1}
knobs |= {"time_limit": 5.0} if "time_limit" in entry.knobs else {}
said = None
try:
    learner = entry.load()(**knobs).fit(frame, target)
    learner.predict_proba(frame[:500])
except DataError as error:
    said = str(error)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "said": said}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("slug", LEARNERS)
def test_a_wide_table_of_categories_does_not_exhaust_8_gib(slug):
    done = subprocess.run(
        [sys.executable, "-c", FIT, slug], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] < 8 * GIB
    if found["said"] is not None:
        assert "GiB" in found["said"] or "GB" in found["said"]
