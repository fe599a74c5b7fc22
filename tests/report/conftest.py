"""A small study that was run, and a large one that is made of its files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackwise.files import write_json
from stackwise.report import compare
from stackwise.studies import Study

TINY = {"tabm": {"k": 2, "width": 16, "max_epochs": 2}, "mlp": {"width": 16, "max_epochs": 2}}
METHODS = ("tabm", "mlp", "linear", "hopular", "masknet", "skan", "gradient-boosting", "lightgbm",
           "xgboost", "regularized-meta-learning")  # fmt: skip


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Study:
    """Two seeds of four methods on two classes, one of which is a word of HTML."""
    frame = pd.DataFrame({"x": range(200), "kind": list("ab") * 100})
    frame["x"] = (frame["x"] * 37 % 101) / 10
    frame["label"] = ((frame["x"] > 5) ^ (frame.index % 7 == 0)).map({True: "y<es", False: "no"})
    folder = tmp_path_factory.mktemp("study") / "out"
    return compare(frame, target="label", out=folder, methods=[*TINY, "linear", "lightgbm"],
                   preset="quick", seeds=2, knobs=TINY, threads=1)  # fmt: skip


@pytest.fixture(scope="session")
def large_study(study: Study, tmp_path_factory) -> Path:
    """Ten methods and three seeds, 300 epochs each, in clusters of scores and of seconds."""
    folder = tmp_path_factory.mktemp("large") / "out"
    plan, record = study.plan, study.record
    metric = record["metric"]["name"]
    of_slug = {run.record["slug"]: run for run in study.runs}
    luck = np.random.default_rng(0)
    plan["seeds"], plan["runs"] = [0, 1, 2], []
    for seed in plan["seeds"]:
        for place, slug in enumerate(METHODS):
            name = f"{slug}-seed{seed}"
            plan["runs"].append(name)
            like = of_slug.get(slug, of_slug["mlp"])
            out = Path(shutil.copytree(like.folder, folder / "runs" / name))
            of = like.record | {"slug": slug, "seed": seed}
            if slug == "regularized-meta-learning":
                of["variant"] = "all runs"
            for scores in of["scores"].values():
                scores[metric] = 0.3 + 0.02 * (place // 3) + 0.004 * luck.random()
            of["seconds"]["fit"] = 10.0 ** (place % 2) * (1 + luck.random() / 10)
            write_json(out / "run.json", of)
            if like.history:
                losses = np.geomspace(1, 0.3, 300) + luck.random(300) / 10
                lines = (f'{{"epoch": {epoch}, "metrics": {{"validation_loss": {loss}}}}}\n'
                         for epoch, loss in enumerate(losses))  # fmt: skip
                (out / "metrics.jsonl").write_text("".join(lines))
    write_json(folder / "plan.json", plan)
    made = Study(folder)
    record["ranking"] = made.ranking().to_dict("records")
    for row in record["ranking"]:
        row["low"], row["high"] = row["mean"] - 0.01, row["mean"] + 0.01
    best = record["ranking"][0]
    record["winner"] = {"slug": best["slug"], "method": best["method"],
                        "folder": f"runs/{best['slug']}-seed0"}  # fmt: skip
    record["importance"] = [
        {"column": f"a column with a rather long name, number {n}", "mean": 1 / (n + 1), "std": 0.1}
        for n in range(25)
    ]
    write_json(folder / "study.json", record)
    return folder
