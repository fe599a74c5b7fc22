"""Series are read from .ts files, tables and arrays; bad input is one sentence."""

import numpy as np
import pandas as pd
import pytest

from stackwise import data
from stackwise.errors import DataError
from stackwise.marks import is_named
from stackwise.tasks import choose_task
from stackwise.tasks.series.baselines.linear import (
    LinearSeriesClassifier,
    LinearSeriesRegressor,
)
from stackwise.tasks.series.estimators.values import Values, bridged
from stackwise.tasks.series.marks import recognises
from stackwise.tasks.series.reading.find import Reading, found_bare
from stackwise.tasks.series.reading.ts_format import read_ts
from stackwise.tasks.series.series import Series, as_values
from stackwise.tasks.series.small import small_series
from stackwise.tasks.series.task import SeriesTask
from stackwise.tasks.series.writing import answer_rows, write_predictions

TS = """# engines
@problemName Engines
@timeStamps false
@univariate false
@dimensions 2
@classLabel true good worn
@data
"""


def write(path, text):
    path.write_text(text)
    return path


def engines(path, rows=30):
    """A file of two channels, unequal lengths, gaps and a label each."""
    generator = np.random.default_rng(0)
    lines = []
    for row in range(rows):
        length = 12 + row % 5
        values = generator.normal(row % 2, 1, (2, length)).round(3).astype(str)
        values[0, 3] = "?"
        cells = [",".join(channel) for channel in values]
        lines.append(":".join([*cells, ("good", "worn")[row % 2]]))
    return write(path, TS + "\n".join(lines))


def test_a_ts_file_is_read_with_its_gaps_lengths_and_labels(tmp_path):
    read = read_ts(engines(tmp_path / "engines.ts"))
    assert [one.shape for one in read.values[:3]] == [(2, 12), (2, 13), (2, 14)]
    assert np.isnan(read.values[0][0, 3]) and read.labels[:2] == ["good", "worn"]
    task = SeriesTask.load(tmp_path / "engines.ts")
    assert task.problem == "binary" and task.classes.tolist() == ["good", "worn"]
    assert task.describe()["rows"] == {"train": 18, "validation": 6, "test": 6}
    assert task.metric.name == "accuracy"


def test_channels_of_one_series_may_end_at_different_moments(tmp_path):
    text = TS + "1,2,3:1,?,3,4,?:good\n"
    (one,) = read_ts(write(tmp_path / "a.ts", text)).values
    assert np.array_equal(one, [[1, 2, 3, np.nan], [1, np.nan, 3, 4]], equal_nan=True)


def test_moments_beside_values_are_left_out_and_said(tmp_path):
    text = TS.replace("timeStamps false", "timeStamps true").replace("@dimensions 2\n", "")
    text += "(2004-10-01 00:00:00,1.5),(2004-10-01 01:00:00,2):(0,7),(1,?):good\n"
    read = read_ts(write(tmp_path / "a.ts", text))
    assert np.array_equal(read.values[0], [[1.5, 2], [7, np.nan]], equal_nan=True)
    assert "moments of the file are not used" in read.notes[0]


def test_targets_of_a_ts_file_are_numbers(tmp_path):
    text = TS.replace("@classLabel true good worn", "@targetLabel true")
    rows = "\n".join(f"{n},2,3:1,2,{n}:{n / 3}" for n in range(20))
    task = SeriesTask.load(write(tmp_path / "a.ts", text + rows))
    assert task.problem == "regression" and task.metric.name == "rmse"


def test_a_test_file_beside_is_the_test_part(tmp_path):
    engines(tmp_path / "Engines_TRAIN.ts", 20)
    engines(tmp_path / "Engines_TEST.ts", 7)
    for source in (tmp_path / "Engines_TRAIN.ts", tmp_path):
        task = SeriesTask.load(source)
        assert len(task.part("test")[1]) == 7
        assert "Engines_TEST.ts beside it is the test part" in task.notes[0]
    alone = SeriesTask.load(engines(tmp_path / "b.ts", 20), test=str(tmp_path / "Engines_TEST.ts"))
    assert len(alone.part("test")[1]) == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TS + "1,2:3,4:good\n1,2:good\n", "line 9: this series has 1 channels and those before"),
        (TS + "1,x:3,4:good\n", "line 8: 'x' is no number; write"),
        (TS + "1,inf:3,4:good\n", "line 8: a value is infinite"),
        (TS, "holds no series behind @data"),
        ("1,2,3\n", "line 1: a .ts file begins with lines of @"),
        ("@problemName x\n", "has no line @data"),
        (TS + "1,2:3,4:5,6:good\n", "says @dimensions 2 and its series have 3 channels"),
        (TS.replace("classLabel", "targetLabel") + "1:2:x\n", "the target 'x' is no number"),
    ],
)
def test_a_broken_ts_file_is_told_by_its_line(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        read_ts(write(tmp_path / "a.ts", text))


def long_table(rows=12, length=9):
    generator = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {"machine": f"m{row}", "cycle": np.arange(length + row % 3), "heat": 1.0 * row,
             "shake": generator.normal(row % 2, 1, length + row % 3),
             "fault": ("no", "yes")[row % 2], "site": row // 4}
        )
        for row in range(rows)
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_long_table_is_a_row_a_moment(tmp_path, ending):
    order = long_table().assign(at=lambda table: table["cycle"])
    frame = order.sort_values("at", ascending=False, kind="stable").drop(columns="at")
    path = tmp_path / f"machines{ending}"
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    task = SeriesTask.load(path, target="fault", group="site", test=0.3, validation=0.3)
    X, y = task.part("train")
    assert X.channels == ["heat", "shake"] and set(y) == {"no", "yes"}
    assert any("'machine' names the series" in note for note in task.notes)
    assert any("'cycle' says the order" in note for note in task.notes)
    wanted = frame.sort_values("cycle").groupby("machine")["shake"]
    for series in X.values:
        name = f"m{int(series[0, 0])}"
        assert np.allclose(series[1], wanted.get_group(name), atol=1e-12)
    sites = {
        part: {int(series[0, 0]) // 4 for series in task.part(part)[0].values}
        for part in ("train", "validation", "test")
    }
    assert not sites["train"] & sites["test"] and not sites["train"] & sites["validation"]


def test_a_wide_table_is_a_row_a_series_and_numbered_names_are_channels():
    generator = np.random.default_rng(0)
    columns = {
        f"{name}_{n}": generator.normal(size=20) for name in ("acc", "gyr") for n in range(6)
    }
    frame = pd.DataFrame(columns | {"note": "x", "weight": 1.0, "class": ["a", "b"] * 10})
    frame.loc[0, ["acc_5", "gyr_5", "acc_4", "gyr_4"]] = np.nan
    bare = found_bare(frame, Reading())
    assert bare.channels == ["acc", "gyr"] and bare.found.samples[0].shape == (2, 4)
    assert bare.found.samples[1].shape == (2, 6)
    assert any("no moments by their names: weight" in note for note in bare.found.notes)
    one = pd.DataFrame({str(n): np.arange(12.0) for n in range(5)} | {"class": list("ab") * 6})
    assert found_bare(one, Reading()).channels == ["value"]


def test_cells_that_hold_lists_are_channels():
    frame = pd.DataFrame(
        {"x": [[1, 2, 3], [1, 2]], "y": [[0, 0, 0], [1, None]], "label": ["a", "b"]}
    )
    bare = found_bare(frame, Reading())
    assert bare.channels == ["x", "y"] and bare.found.samples[1].shape == (2, 2)


def test_arrays_of_any_lengths_come_in_and_the_end_is_cut():
    X = np.ones((3, 2, 6))
    X[1, :, 4:] = np.nan
    X[2, 0, 5] = np.nan
    assert [one.shape[1] for one in as_values(X)] == [6, 4, 6]
    assert as_values([np.ones(4), np.ones((1, 7))])[1].shape == (1, 7)
    for wrong, sentence in (
        (np.ones(3), r"\(n, channels, length\) or \(n, length\), not \(3,\)"),
        ([np.ones((2, 3)), np.ones((3, 3))], "series 1 has 3 channels and series 0 has 2"),
        ([np.array([1, np.inf])], "series 0 holds an infinite value"),
        ("abc", "this is a str"),
    ):
        with pytest.raises(DataError, match=sentence):
            as_values(wrong)


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_arrays_are_read_from_files(tmp_path, form):
    X, y = np.random.default_rng(0).normal(size=(20, 2, 8)), np.arange(20) % 2
    if form == "npz":
        np.savez(tmp_path / "s.npz", X_train=X[:12], y_train=y[:12], X_test=X[12:], y_test=y[12:])
        task = SeriesTask.load(tmp_path / "s.npz")
        assert len(task.part("test")[1]) == 8
    else:
        np.save(tmp_path / "X.npy", X)
        np.save(tmp_path / "y.npy", y)
        assert SeriesTask.load(tmp_path).part("train")[0].shape == (12, 2, 8)
        with pytest.raises(DataError, match=r"X.npy has no labels: name the column"):
            SeriesTask.load(tmp_path / "X.npy")


def test_a_forecast_looks_back_and_the_parts_follow_in_time():
    heat = np.sin(np.arange(200) / 5)
    frame = pd.DataFrame({"hour": np.arange(200), "heat": heat, "wind": 1.0 * np.arange(200)})
    task = SeriesTask.load(frame, target="heat", time="hour", horizon=3, window=10)
    ends = {}
    for part in ("train", "validation", "test"):
        X, y = task.part(part)
        assert X.shape[1:] == (2, 10)
        ends[part] = [one[1, -1] for one in X.values]
        assert np.allclose(y, [heat[int(end) + 3] for end in ends[part]])
    assert max(ends["train"]) < min(ends["validation"])
    assert max(ends["validation"]) < min(ends["test"])
    assert task.part("train")[0].nbytes == 2 * 200 * 8  # windows are views
    with pytest.raises(DataError, match="take 303 moments, and the longest series has 200"):
        SeriesTask.load(frame, target="heat", horizon=3, window=300)
    with pytest.raises(DataError, match="say with --target which channel is forecast: heat, wind"):
        SeriesTask.load(frame, time="hour", horizon=3)


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"fault": None}, {"target": "fault"}, "has no column 'fault'"),
        ({}, {"target": "shake", "series": "machine"}, "'shake' changes within the series 'm0'"),
        ({}, {"target": "fault", "series": "machin"}, "no column 'machin'.*machine"),
        ({"cycle": 1}, {"target": "fault"}, "the moment 1 of series 'm0' stands there twice"),
        ({"heat": np.inf}, {"target": "fault"}, "channel 'heat' holds an infinite value"),
        ({"heat": np.nan}, {"target": "fault"}, "channel 'heat' is missing throughout"),
        ({"fault": "no"}, {"target": "fault"}, "one class"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_a_sentence(change, options, sentence):
    from stackwise.tasks.series.baselines.dummy import DummySeriesClassifier

    frame = long_table()
    for name, value in change.items():
        frame = frame.drop(columns=name) if value is None else frame.assign(**{name: value})
    with pytest.raises(DataError, match=sentence):
        SeriesTask.load(frame, **options).fit(DummySeriesClassifier())


def test_gaps_are_bridged_and_ends_go_on():
    nan = np.nan
    found = bridged(np.array([[nan, 1, nan, nan, 4, nan], [nan] * 6]))
    assert np.allclose(found, [[1, 1, 2, 3, 4, 4], [0] * 6])
    values = Values([np.array([[2.0, nan, 6.0]])], np.array([2.0]), np.array([2.0]), 5)
    assert values[0:1].tolist() == [[[0, 1, 2, 0, 0]]]
    each = Values([np.array([[2.0, 4.0, 6.0]])], np.zeros(1), np.ones(1), 3, each=True)
    assert (
        abs(float(each[0:1].mean())) < 1e-6 and abs(float(each[0:1].std(correction=0)) - 1) < 1e-6
    )


def test_it_is_known_by_its_marks(tmp_path):
    path = engines(tmp_path / "engines.ts")
    assert choose_task(path).name == "series"
    assert choose_task(tmp_path).name == "series"
    assert recognises(np.ones((3, 2, 9))) > 0 and recognises("sales.csv") == 0
    table = tmp_path / "m.csv"
    long_table().to_csv(table, index=False)
    assert choose_task(table, ["target"]).name == "table"
    assert choose_task(table, ["target", "horizon"]).name == "series"


def test_rows_know_their_numbers_and_equal_ones_have_equal_hashes():
    values, _ = small_series()
    series = Series(values)
    part = series.only(np.array([4, 2]))
    assert part.index.tolist() == [4, 2] and np.array_equal(part[0], values[4], equal_nan=True)
    again = Series.joined([part, series.only(np.array([2]))])
    assert again.hashes[1] == again.hashes[2] != again.hashes[0]
    task = SeriesTask.load(([*values, values[0]] * 2, list("abc") * 40 + ["a", "a"]))
    assert any("value for value" in note for note in task.notes)


@pytest.mark.parametrize("name", ["basic-motions", "japanese-vowels"])
def test_sets_that_a_package_carries_are_read(name):
    if data.lacking(name, "series"):
        pytest.skip("the package aeon is not here")
    task = SeriesTask.load(name)
    assert is_named(name, "series") and task.problem == "multiclass"
    assert {len(task.part("test")[1])} <= {40, 370}


def machines(rows=40, moments=5):
    """A long table: a row a moment of a machine, of which each has one label."""
    return pd.DataFrame({
        "serial": [f"m{row}" for row in range(rows) for _ in range(moments)],
        "temp": np.arange(rows * moments) * 0.5, "rpm": 100.0,
        "fault": [("ok", "bearing")[row % 2] for row in range(rows) for _ in range(moments)],
    })  # fmt: skip


def test_rows_that_are_hardly_series_are_no_series():
    with pytest.raises(DataError, match="each row would be a series of 2 moments, temp, rpm"):
        SeriesTask.load(machines(), target="fault")
    task = SeriesTask.load(machines(), target="fault", series="serial")
    assert sum(task.describe()["rows"].values()) == 40


def test_a_label_that_changes_within_a_usual_name_of_series_is_told():
    frame = machines().rename(columns={"serial": "machine"})
    frame.loc[3, "fault"] = "bearing"
    with pytest.raises(DataError, match="'fault' changes within the series 'm0' of 'machine'"):
        SeriesTask.load(frame, target="fault")


def test_a_file_without_the_column_of_the_series_is_refused_by_its_name(tmp_path):
    frame = machines().rename(columns={"serial": "machine"})
    task = SeriesTask.load(frame, target="fault")
    learner = task.fit(LinearSeriesClassifier())
    with pytest.raises(DataError, match="there is no column 'machine'"):
        write_predictions(tmp_path / "p.csv", learner, machines())


def test_a_channel_that_lacks_in_a_whole_series_is_refused(tmp_path):
    frame = machines()
    task = SeriesTask.load(frame, target="fault", series="serial")
    learner = task.fit(LinearSeriesClassifier())
    frame.loc[5:9, "temp"] = np.nan
    for act in (
        lambda: SeriesTask.load(frame, target="fault", series="serial"),
        lambda: write_predictions(tmp_path / "p.csv", learner, frame),
        lambda: learner.predict([np.stack([[np.nan] * 3, [1.0, 2.0, 3.0]])]),
    ):
        with pytest.raises(DataError, match="the channel '.*' (has no value|is missing)"):
            act()


def test_a_word_among_the_numbers_of_a_channel_is_told():
    frame = machines().astype({"temp": object})
    frame.loc[7, "temp"] = "n/a?"
    with pytest.raises(DataError, match=r"'temp' holds 'n/a\?' in row 8"):
        SeriesTask.load(frame, target="fault", series="serial")


def test_forecasts_stand_in_the_order_of_their_rows_and_gaps_are_said(tmp_path):
    hours = pd.date_range("2024-01-01", periods=60, freq="h")
    hours = hours[:30].append(hours[40:])
    frame = pd.DataFrame({"time": hours, "load": np.sin(np.arange(50) / 3)})
    task = SeriesTask.load(frame, target="load", time="time", horizon=1, window=6)
    assert any("jumps 1 times, first behind 2024-01-02 05:00:00" in one for one in task.notes)
    learner = task.fit(LinearSeriesRegressor())
    turned = frame.iloc[::-1].reset_index(drop=True)
    answers = answer_rows(learner, turned)
    assert answers["moment"].tolist() == turned["time"].tolist()
    forward = answer_rows(learner, frame)
    np.testing.assert_array_equal(answers["prediction"], forward["prediction"][::-1])
    with pytest.raises(DataError, match="looks back on 6 moments, and the longest series has 4"):
        answer_rows(learner, frame[:4])


def test_a_label_beside_those_of_the_header_is_told(tmp_path):
    with pytest.raises(DataError, match="line 9: the label 'oops' is none of those"):
        read_ts(write(tmp_path / "a.ts", TS + "1,2:3,4:good\n1,2:3,4:oops\n"))
