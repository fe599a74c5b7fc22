"""Fit AutoGluon on the parts that beside_autogluon.py wrote, in an environment of its own.

    python scripts/fit_autogluon.py FOLDER SECONDS

It sees the training and validation rows, chooses by itself, and answers for the test rows.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor, __version__
from cpu_time import cpu_seconds

METRICS = {"rmse": "root_mean_squared_error", "log_loss": "log_loss", "auc": "roc_auc"}


def main(folder: Path, seconds: float) -> None:
    """Each table and split once; a finished one is left as it is."""
    for about_file in sorted(folder.glob("*/about.json")):
        here, about = about_file.parent, json.loads(about_file.read_text())
        if (here / "autogluon.json").is_file():
            continue
        learned = pd.concat([pd.read_parquet(here / f"{part}.parquet") for part in
                             ("train", "validation")], ignore_index=True)  # fmt: skip
        test = pd.read_parquet(here / "test.parquet").drop(columns=about["target"])
        began, used = time.monotonic(), cpu_seconds()
        predictor = TabularPredictor(
            about["target"], problem_type=about["problem"], eval_metric=METRICS[about["metric"]],
            path=str(here / "autogluon"), verbosity=0,
        )  # fmt: skip
        predictor.fit(learned, presets="medium_quality", time_limit=seconds, num_cpus=1)
        took, used = time.monotonic() - began, cpu_seconds() - used
        if about["problem"] == "regression":
            answers = predictor.predict(test).to_frame("prediction")
        else:
            answers = predictor.predict_proba(test)
            answers.columns = [str(name) for name in answers.columns]
        answers.reset_index(drop=True).to_parquet(here / "autogluon.parquet")
        record = {"seconds": took, "cpu_seconds": used, "model": predictor.model_best,
                  "models": list(predictor.model_names()), "version": __version__}  # fmt: skip
        (here / "autogluon.json").write_text(json.dumps(record))
        print(here.name, predictor.model_best, f"{took:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
