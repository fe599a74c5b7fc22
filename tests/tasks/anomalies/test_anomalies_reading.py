"""A series read from files and frames: times, gaps, holes, long tables; and what is refused."""

import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks.anomalies.reading.choices import Reading
from stackwise.tasks.anomalies.reading.moments import written
from stackwise.tasks.anomalies.reading.pieces import pieces
from stackwise.tasks.anomalies.series import read_series
from stackwise.tasks.anomalies.small import small_series

TIMED = Reading(time="timestamp", label="fault")


def frame_of(seconds: list[float], **columns) -> pd.DataFrame:
    stamps = pd.Timestamp("2024-03-01") + pd.to_timedelta(seconds, unit="s")
    values = columns or {"a": np.arange(len(seconds), dtype=float)}
    return pd.DataFrame({"t": stamps.astype(str), **values})


def test_csv_parquet_and_frame_are_the_same_series(tmp_path):
    frame = small_series()
    frame.to_csv(tmp_path / "s.csv", index=False)
    frame.to_parquet(tmp_path / "s.parquet")
    found = [read_series(one, TIMED) for one in
             (frame, tmp_path / "s.csv", tmp_path / "s.parquet")]  # fmt: skip
    assert len({one.digest() for one in found}) == 1
    assert found[0].channels == ["x0", "x1", "x2", "x3"] and found[0].labels.sum() == 32


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_pieces_of_any_size_are_the_series(rows):
    frame = small_series().drop(index=[40, 41, *range(100, 140)])
    whole = read_series(frame, TIMED)
    parts = list(pieces(frame, whole.reading, rows=rows))
    for name in ("values", "moments", "begins", "missing", "labels"):
        joined = np.concatenate([getattr(one, name) for one in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)


def test_a_gap_parts_the_series_and_a_short_one_does_not():
    frame = small_series().drop(index=[40, 41, *range(100, 140)])
    found = list(read_series(frame, TIMED).stretches())
    assert found == [(0, 98), (98, 378)]
    assert len(list(read_series(frame, Reading("timestamp", "fault", max_gap=0)).stretches())) == 3
    assert len(list(read_series(frame, Reading("timestamp", "fault", max_gap=50)).stretches())) == 1


@pytest.mark.parametrize("rows", [2, 3, 100])
def test_irregular_moments_are_brought_onto_steps(rows):
    frame = frame_of([0.0, 0.4, 1.0, 2.2, 5.0, 20.0, 20.5], a=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    parts = list(pieces(frame, Reading(time="t", step="1s", max_gap=2), rows=rows))
    seconds = (np.concatenate([one.moments for one in parts]) / 1e9) % 86_400
    assert seconds.tolist() == [0, 1, 2, 3, 4, 5, 20, 21]
    assert np.concatenate([one.values for one in parts])[:, 0].tolist() == [
        1.0, 3.0, 3.0, 4.0, 4.0, 5.0, 6.0, 7.0
    ]  # fmt: skip
    assert np.flatnonzero(np.concatenate([one.begins for one in parts])).tolist() == [0, 6]
    assert sum(one.filled for one in parts) == 2


def test_the_zone_of_the_moments_is_kept():
    frame = pd.DataFrame(
        {"t": ["2024-05-01T12:00:00+02:00", "2024-05-01T12:00:01+02:00"], "a": [1, 2]}
    )
    found = read_series(frame, Reading(time="t"))
    assert written(found.moments, found.zone) == [
        "2024-05-01 12:00:00+02:00", "2024-05-01 12:00:01+02:00"
    ]  # fmt: skip
    berlin = frame.assign(t=pd.to_datetime(frame["t"]).dt.tz_convert("Europe/Berlin"))
    assert read_series(berlin, Reading(time="t")).zone == "Europe/Berlin"


def test_a_long_table_is_the_wide_one():
    frame = small_series()
    long = frame.melt(["timestamp", "fault"], var_name="sensor", value_name="reading")
    reading = Reading("timestamp", "fault", channel="sensor", value="reading")
    a, b = read_series(long, reading), read_series(frame, TIMED)
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(a.labels, b.labels)
    by_time = long.sort_values("timestamp", kind="stable")
    np.testing.assert_array_equal(read_series(by_time, reading).values, b.values)


@pytest.mark.parametrize("rows", [3, 100])
def test_the_last_value_stands_for_missing_ones(rows):
    frame = frame_of(list(range(9)), a=[1, np.nan, np.nan, 4, np.nan, np.nan, np.nan, 8, 9],
                     b=np.arange(9.0))  # fmt: skip
    parts = list(pieces(frame, Reading(time="t", fill=2), rows=rows))
    missing = np.concatenate([one.missing for one in parts])
    assert np.flatnonzero(missing).tolist() == [6]
    assert np.concatenate([one.values for one in parts])[:6, 0].tolist() == [1, 1, 1, 4, 4, 4]
    whole = read_series(frame, Reading(time="t", fill=2))
    assert list(whole.stretches()) == [(0, 6), (7, 9)] and whole.filled == 4


REFUSED = {
    "time goes backwards at row 3": (frame_of([0, 2, 1]), Reading(time="t")),
    "rows 2 and 3 have the same time": (frame_of([0, 1, 1]), Reading(time="t")),
    "no value \\(NaN\\) in row 2": (frame_of([0, 1, 2], a=[1, np.nan, 2.0]), Reading(time="t")),
    "'b' has no value in rows 1 to 2: leave it out": (
        frame_of([0, 1], a=[1.0, 2.0], b=[np.nan, np.nan]), Reading(time="t")
    ),
    "is infinite in row 2": (frame_of([0, 1], a=[1.0, np.inf]), Reading(time="t")),
    "'on', which is no number": (frame_of([0, 1], a=["on", "off"]), Reading(time="t")),
    "there is no column 'when'": (frame_of([0, 1]), Reading(time="when")),
    "'soon'.*which is no time": (frame_of([0, 1]).assign(t=["soon", "late"]), Reading(time="t")),
    "label column 'a' holds 2.0": (
        frame_of([0, 1, 2]).assign(b=1.0), Reading(time="t", label="a")
    ),
    "--step often is no step": (frame_of([0, 1]), Reading(time="t", step="often")),
    "has two values at": (
        pd.DataFrame({"t": [0, 0], "c": ["a", "a"], "v": [1.0, 2.0]}),
        Reading(time="t", channel="c", value="v"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_bad_input_is_one_sentence(says):
    with pytest.raises(DataError, match=says):
        read_series(*REFUSED[says])


def test_a_missing_channel_is_refused_and_others_are_left_out_with_a_word():
    frame = small_series()
    wanted = ["x0", "x1", "x2", "x3"]
    with pytest.raises(DataError, match="channel 'x1' is missing"):
        read_series(frame.drop(columns="x1"), TIMED, wanted)
    with pytest.warns(UserWarning, match="did not learn are left out: x9"):
        more = read_series(frame.assign(x9=0.0), TIMED, wanted)
    np.testing.assert_array_equal(more.values, read_series(frame, TIMED).values)
    swapped = read_series(frame[["x3", "x1", "timestamp", "x0", "x2", "fault"]], TIMED, wanted)
    np.testing.assert_array_equal(swapped.values, read_series(frame, TIMED).values)


def test_half_a_long_table_and_a_step_without_time_are_refused():
    with pytest.raises(DataError, match="--channel and --value together"):
        Reading(time="t", channel="c")
    with pytest.raises(DataError, match="needs the column of the moments"):
        Reading(step="1s")
    with pytest.raises(DataError, match="no file or series 'nothing'"):
        read_series("nothing", Reading())


def test_many_values_are_mapped_from_the_disk(monkeypatch):
    from stackwise.tasks.anomalies import series

    held = read_series(small_series(), TIMED)
    monkeypatch.setattr(series, "HELD", 1_000)
    mapped = read_series(small_series(), TIMED)
    assert isinstance(mapped.values, np.memmap) and mapped.digest() == held.digest()
    np.testing.assert_array_equal(mapped.block(3, 90), held.block(3, 90))
    np.testing.assert_array_equal(mapped.block(3, 90), mapped.values[3:90])


def test_times_with_and_without_a_zone_are_not_mixed():
    frame = pd.DataFrame({
        "t": ["2024-01-01 00:00:00Z", "2024-01-01 00:01:00", "2024-01-01 00:02:00Z"],
        "a": [1.0, 2.0, 3.0],
    })  # fmt: skip
    with pytest.raises(DataError, match="with a zone, 2024-01-01 00:00:00Z, and without"):
        read_series(frame, Reading(time="t"))


def test_a_column_of_times_that_nobody_named_is_offered_as_the_time():
    frame = pd.DataFrame({"timestamp": ["2024-01-01 00:00", "2024-01-01 00:01"], "a": [1.0, 2.0]})
    with pytest.raises(DataError, match="--time timestamp"):
        read_series(frame, Reading())
