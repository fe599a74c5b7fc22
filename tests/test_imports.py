"""Looking at the catalog is quick: nothing heavy is imported before a command needs it."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "transformers", "pandas", "sklearn", "matplotlib", "scipy")


def seconds_of(*command: str) -> float:
    """Wall-clock seconds of the best of three calls, so that a busy machine counts less."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return min(taken)


def test_importing_stackwise_imports_nothing_heavy():
    code = (
        "import sys, json, stackwise; dir(stackwise);"
        "print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(HEAVY) & set(json.loads(done.stdout))


def test_importing_stackwise_takes_less_than_a_second_and_a_half():
    assert seconds_of(sys.executable, "-X", "importtime", "-c", "import stackwise") < 1.5


@pytest.mark.parametrize("command", ["list", "show"])
def test_the_catalog_is_shown_within_two_seconds(command: str):
    words = ["list"] if command == "list" else ["show", "tabm"]
    assert seconds_of(sys.executable, "-m", "stackwise.cli", *words) < 2


def test_listing_imports_no_method():
    code = (
        "import sys; sys.argv = ['stackwise', 'list'];\n"
        "from stackwise.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'stackwise.build.tabm' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.split() == ["False", "False"]


def test_every_name_at_the_top_is_there():
    import stackwise

    for name in ("TabMRegressor", "TabMClassifier", "Stack", "gradual_pruning", "depth_efficiency",
                 "load", "compare", "Findings"):  # fmt: skip
        assert getattr(stackwise, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = stackwise.no_such_name
