"""Every learner that trains learns in two processes what it learns in one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from process_fits import fitted, learners

from stackwise.conformance import small_language_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("process fits")]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fits of two processes: one pair for all learners."""
    folder = tmp_path_factory.mktemp("together")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("process_fits.py")
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), small_language_model()],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


NO_GRADIENT = {"AstroformerClassifier", "SConvKANClassifier"}
"""A bias before a batch norm changes nothing in training: its gradient is rounding alone, which
Adam takes for a direction. In prediction, where the running mean lags behind, it changes a little.
"""
OWN_ROWS = {"BranchedViTClassifier": 4}
"""The column of a number that each process measures on its own rows."""
OWN_STATISTICS = {"SortedNetImageClassifier"}
"""Each sub-model's statistics of prediction are taken anew from batches, by each process from its
own: training is the same, and what is measured in evaluation mode differs by a few thousandths.
"""


@pytest.mark.parametrize("name", learners())
def test_two_processes_learn_what_one_does(name: str, together: Path) -> None:
    alone = fitted(*learners()[name], small_language_model())
    with np.load(together / f"{name}.npz") as found:
        assert sorted(found) == sorted(alone)
        if name in NO_GRADIENT:  # all steps of the first epoch, which that bias does not move
            np.testing.assert_allclose(found["curve"][0, 0], alone["curve"][0, 0], rtol=1e-5)
            return
        if name in OWN_STATISTICS:
            np.testing.assert_allclose(found["curve"][:, 0], alone["curve"][:, 0], rtol=1e-4)
            return
        shared = [
            column for column in range(alone["curve"].shape[1]) if column != OWN_ROWS.get(name)
        ]
        # sums in another order: rounding, which Adam makes larger where a gradient is nearly 0,
        # epoch by epoch
        np.testing.assert_allclose(
            found["curve"][:, shared], alone["curve"][:, shared], rtol=5e-4, atol=1e-5
        )
        for key, values in ((key, alone[key]) for key in alone if key != "curve"):
            np.testing.assert_allclose(found[key], values, rtol=1e-3, atol=1e-3, err_msg=key)
