"""Print the folder of a study's best neural network, by validation score.

The winner of a comparison may be gradient boosting, which has no weights to prune.
"""

import sys
from pathlib import Path

from stackwise.studies import Study


def best_network(folder: Path) -> Path:
    """The run with the best validation score among those that hold a network."""
    runs = [run for run in Study(folder).runs if (run.folder / "model.safetensors").is_file()]
    if not runs:
        sys.exit(f"{folder} holds no neural network")
    metric = runs[0].record["metric"]
    choose = min if metric["mode"] == "min" else max
    return choose(runs, key=lambda run: run.record["scores"]["validation"][metric["name"]]).folder


if __name__ == "__main__":
    print(best_network(Path(sys.argv[1])))
