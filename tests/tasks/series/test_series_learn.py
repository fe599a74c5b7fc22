"""Baselines on series, MiniRocket beside aeon's, bare modules, and the command line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stackwise.errors import DataError
from stackwise.learning.trainable import trainable
from stackwise.tasks.series.baselines.dummy import DummySeriesClassifier, DummySeriesRegressor
from stackwise.tasks.series.baselines.linear import LinearSeriesClassifier, summary
from stackwise.tasks.series.baselines.mini_rocket import MiniRocketClassifier, MiniRocketRegressor
from stackwise.tasks.series.baselines.rocket_features import Rocket, dilations_of, fit_rocket
from stackwise.tasks.series.small import small_series
from stackwise.tasks.series.task import SeriesTask
from stackwise.tasks.series.writing import answer_rows

RECORD = load_file(Path(__file__).parents[2] / "data" / "parity" / "mini-rocket.safetensors")


def recorded(case: str, name: str) -> torch.Tensor:
    return RECORD[f"{case}/{name}"]


def rocket_of(case: str) -> Rocket:
    """aeon's own dilations, channels and biases in ours."""
    dilations, counts = recorded(case, "dilations"), recorded(case, "counts")
    width = recorded(case, "new").shape[1]
    channels = torch.zeros(len(dilations) * 84, width, dtype=torch.bool)
    listed = iter(recorded(case, "channel_indices").tolist())
    for row, count in enumerate(recorded(case, "channels_per").tolist()):
        channels[row, [next(listed) for _ in range(count)]] = True
    return Rocket(dilations, counts, channels.view(len(dilations), 84, width),
                  recorded(case, "biases"))  # fmt: skip


@pytest.mark.parametrize("case", ["one", "several"])
def test_features_are_those_of_aeon(case):
    new, wanted = recorded(case, "new"), recorded(case, "features")
    length = new.shape[2]
    found = rocket_of(case).features(new, torch.full((len(new),), length))
    apart = (found - wanted).abs()
    # a value may stand just at its bias, and round to the other side
    assert (apart < 1e-5).float().mean() > 0.999 and apart.max() <= 2 / length


@pytest.mark.parametrize(("case", "features"), [("one", 840), ("several", 420)])
def test_dilations_and_biases_are_those_of_aeon(case, features):
    train = recorded(case, "train")
    dilations, counts = dilations_of(train.shape[2], features)
    assert dilations.tolist() == recorded(case, "dilations").tolist()
    assert counts.tolist() == recorded(case, "counts").tolist()
    if case == "one":  # of a single series nothing is drawn
        made = fit_rocket(train, torch.tensor([train.shape[2]]), features, 0)
        assert torch.allclose(made.biases, recorded(case, "biases"), atol=1e-4)


def test_a_series_that_ends_earlier_is_judged_by_its_own_moments():
    rocket, new = rocket_of("one"), recorded("one", "new")
    longer = nn.functional.pad(new, (0, 30))
    lengths = torch.full((len(new),), new.shape[2])
    assert torch.allclose(
        rocket.features(longer, lengths), rocket.features(new, lengths), atol=1e-6
    )


@pytest.fixture(scope="module")
def task():
    return SeriesTask.small()


def test_answers_do_not_depend_on_the_others_and_survive_a_round_trip(task, tmp_path):
    X, _ = task.part("train")
    for build in (DummySeriesClassifier(), LinearSeriesClassifier(penalty=1.0),
                  MiniRocketClassifier(features=168)):  # fmt: skip
        made = task.fit(build)
        whole = made.predict(X)
        assert np.array_equal(whole[5:7], made.predict(X[5:7]))
        made.save(tmp_path / type(made).__name__)
        again = type(made).load(tmp_path / type(made).__name__)
        assert np.array_equal(again.predict(X), whole)
    margins = made.decision_function(X)
    assert np.array_equal(margins[3:4], made.decision_function(X[3:4]))


def test_the_baselines_learn_what_is_there(task):
    scores = {
        name: task.judge(task.fit(build), "test").scores["accuracy"]
        for name, build in (("dummy", DummySeriesClassifier()),
                            ("rocket", MiniRocketClassifier(features=840)))
    }  # fmt: skip
    assert scores["dummy"] < 0.5 and scores["rocket"] > 0.8


def test_a_dummy_forecasts_by_the_last_value_where_that_is_nearer():
    generator = np.random.default_rng(0)
    walk = generator.normal(0, 1, 300).cumsum()
    task = SeriesTask.load(pd.DataFrame({"load": walk}), target="load", horizon=1, window=8)
    made = task.fit(DummySeriesRegressor())
    X, _ = task.part("test")
    assert made.channel_ == 0 and made.predict(X)[0] == X[0][0, -1]
    noise = pd.DataFrame({"load": generator.normal(0, 1, 300)})
    task = SeriesTask.load(noise, target="load", horizon=1, window=8)
    assert task.fit(DummySeriesRegressor()).channel_ is None


def test_a_summary_says_what_it_says():
    line = np.arange(5.0)[None]
    found = summary(np.array([[0, 1, np.nan, 3, 4.0]]), line)
    assert np.allclose(found[[0, 2, 3, 4, 5, 6, 7, 9, 10]], [2, 0, 4, 0, 4, 1, 1, 0.2, 5])


class Plain(nn.Module):
    """The mean over time and a linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(2, outputs)

    def forward(self, values, lengths):
        return self.head(values.sum(2) / lengths[:, None].clamp(min=1))


@pytest.mark.parametrize(("problem", "outputs"), [("classification", 3), ("regression", 1)])
def test_any_module_is_trained_and_judged(problem, outputs):
    task = SeriesTask.small(problem)
    module = Plain(outputs)
    joined = trainable(module, task)
    batch = next(iter(joined.batches.epoch(0)))
    assert batch["values"].shape[1] == 2 and batch["lengths"].max() <= batch["values"].shape[2]
    joined.loss(module, batch).backward()
    assert np.isfinite(next(iter(task.judge(module, "test").scores.values())))


def test_regressions_and_other_channels(task):
    numbers = SeriesTask.small("regression")
    made = numbers.fit(MiniRocketRegressor(features=840))
    assert numbers.judge(made, "test").scores["rmse"] < 0.2
    with pytest.raises(DataError, match="series of 3 channels, but .* was fitted on 2 channels"):
        made.predict([np.ones((3, 20))])
    with pytest.raises(DataError, match="a forecast is a number"):
        SeriesTask.load(np.ones((1, 1, 99)), horizon=2, problem="classification")


def test_commands_fit_and_predict_a_long_table(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    series, forms = small_series(count=30)
    frame = pd.concat(
        [
            pd.DataFrame({"unit": f"u{row}", "a": one[0], "b": one[1], "form": form})
            for row, (one, form) in enumerate(zip(series, forms, strict=True))
        ]
    )
    frame.to_parquet("machines.parquet")
    words = ["fit", "dummy", "machines.parquet", "--task", "series", "--target", "form"]
    code, _, error = command(*words, "--out", "run")
    assert not code, error
    for source in ("machines.parquet", "new.csv"):  # what was learned from, and without a target
        frame.drop(columns="form").to_csv("new.csv", index=False)
        code, _, error = command("predict", "run", source, "-o", "answers.csv")
        assert not code, error
        answers = pd.read_csv("answers.csv")
        assert answers["series"].tolist() == [f"u{row}" for row in range(30)]
        assert answers.filter(like="probability_").shape[1] == 3


def test_a_forecast_has_a_row_a_moment(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hours = pd.date_range("2026-01-01", periods=120, freq="h").astype(str)
    frame = pd.DataFrame({"hour": hours, "load": np.sin(np.arange(120) / 4)})
    frame.to_csv("load.csv", index=False)
    words = ["fit", "linear", "load.csv", "--task", "series", "--target", "load", "--time", "hour"]
    code, _, error = command(*words, "--horizon", 2, "--window", 12, "--out", "run")
    assert not code, error
    code, _, error = command("predict", "run", "load.csv", "-o", "ahead.csv")
    assert not code, error
    ahead = pd.read_csv("ahead.csv")
    assert len(ahead) == 120 and ahead["prediction"].isna().sum() == 11
    assert ahead["moment"].tolist() == frame["hour"].tolist()


def test_a_series_without_a_value_has_a_row_without_an_answer(task):
    made = task.fit(DummySeriesClassifier())
    rows = answer_rows(made, [np.ones((2, 5)), np.full((2, 5), np.nan), np.ones((2, 3))])
    assert rows["prediction"].isna().tolist() == [False, True, False]
