"""What every detector promises: causal scores, streams, pieces, files, channels by name."""

import json

import numpy as np
import pandas as pd
import pytest

from stackwise import load
from stackwise.build.stackvae_g import StackVAEGDetector
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.tasks.anomalies.baselines.isolation_forest import IsolationForestDetector
from stackwise.tasks.anomalies.baselines.lstm_vae import LSTMVAEDetector
from stackwise.tasks.anomalies.baselines.pca import PCADetector
from stackwise.tasks.anomalies.baselines.z_score import ZScoreDetector
from stackwise.tasks.anomalies.detectors.scoring import Scorer, span_errors
from stackwise.tasks.anomalies.detectors.windows import WindowBatches
from stackwise.tasks.anomalies.reading.pieces import pieces
from stackwise.tasks.anomalies.small import small_series
from stackwise.tasks.anomalies.task import AnomaliesTask
from stackwise.tasks.anomalies.writing import write_predictions

FRAME = small_series()
X = FRAME[["x0", "x1", "x2", "x3"]]
SMALL = {"max_epochs": 2, "threads": 1}
MADE = {
    "z-score": lambda: ZScoreDetector(),
    "pca": lambda: PCADetector(components=2),
    "forest": lambda: IsolationForestDetector(window=4, trees=10),
    "lstm": lambda: LSTMVAEDetector(window=8, hidden=4, latent=2, **SMALL),
    "stack": lambda: StackVAEGDetector(
        window=8, hidden=8, latent=3, neighbours=2, init_scale=0.2, **SMALL
    ),
}


@pytest.fixture(scope="module", params=MADE)
def detector(request):
    return MADE[request.param]().fit(X[:200])


@pytest.fixture(scope="module")
def stack():
    return MADE["stack"]().fit(X[:200])


def test_the_first_window_has_no_score_and_every_other_moment_has_one(detector):
    scores = detector.score_samples(X)
    assert np.isnan(scores[: detector.reach - 1]).all()
    assert np.isfinite(scores[detector.reach - 1 :]).all() and len(scores) == len(X)
    assert set(detector.predict(X)) <= {0, 1}


def test_a_score_depends_on_no_later_moment(detector):
    changed = X.copy()
    changed.iloc[120:] += 5.0
    np.testing.assert_array_equal(
        detector.score_samples(X)[:120], detector.score_samples(changed)[:120]
    )


def test_a_stream_is_scored_as_the_series_is(detector):
    wanted = detector.score_samples(X)[:40]
    rows = X.to_numpy()[:40]
    found = np.array([detector.restart().update(rows[0]).score,
                      *(detector.update(row).score for row in rows[1:])])  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    named = detector.restart().update(dict(X.iloc[0]))
    assert np.isnan(named.score) == (detector.reach > 1)
    with pytest.raises(DataError, match="'x2' is missing from the row"):
        detector.update({"x0": 1.0, "x1": 1.0, "x3": 1.0})
    detector.restart()


@pytest.mark.parametrize("rows", [6, 50])
def test_pieces_are_scored_as_the_series_is(detector, rows):
    scorer = Scorer(detector)
    found = [scorer.errors(piece) for piece in pieces(X, detector.reading_, rows=rows)]
    wanted = detector.score_samples(X)
    np.testing.assert_allclose(
        detector.total(np.concatenate(found)), wanted, rtol=1e-5, atol=1e-6
    )  # fmt: skip


def test_no_window_crosses_a_gap(detector):
    task = AnomaliesTask.load(
        FRAME.drop(index=range(300, 340)), time="timestamp", label="fault", max_gap=5
    )
    errors = span_errors(detector, task.series, 250, 330)
    reach = detector.reach
    assert np.isfinite(errors[:50]).all() and np.isnan(errors[50 : 50 + reach - 1]).all()
    assert np.isfinite(errors[50 + reach - 1 :]).all()


def test_channels_add_up_to_the_score_or_are_not_told_apart(detector):
    if not detector.tells_channels:
        with pytest.raises(ModelError, match="does not tell channels apart"):
            detector.channel_scores(X)
        return
    by_channel = detector.channel_scores(X)
    assert by_channel.shape == X.shape
    np.testing.assert_allclose(by_channel.sum(1), detector.score_samples(X), rtol=1e-6)
    swapped = X[["x2", "x0", "x3", "x1"]]
    np.testing.assert_array_equal(detector.channel_scores(swapped), by_channel)


def test_it_is_written_and_read_back(detector, tmp_path):
    detector.save(tmp_path)
    again = type(detector).load(tmp_path)
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))
    assert again.threshold_ == detector.threshold_ and again.channels_ == detector.channels_
    np.testing.assert_array_equal(load(tmp_path).predict(X), detector.predict(X))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (X.assign(x1=np.nan), "NaN in channel 'x1' at step 0"),
        (X.drop(columns="x3"), "channel 'x3' is missing"),
        (X.to_numpy()[:, :3], "got 3 channels, fitted on 4"),
        (X.assign(y=1.0), "'y' is no channel"),
    ],
)
def test_bad_input_is_one_sentence(stack, given, says):
    with pytest.raises(DataError, match=says):
        stack.score_samples(given)


def test_what_is_shorter_than_a_window_is_refused(stack):
    with pytest.raises(DataError, match="the series has 5 moments, window is 8"):
        stack.score_samples(X[:5])
    with pytest.raises(DataError, match="5 normal moments in a row, window is 8"):
        MADE["stack"]().fit(X[:5])
    with pytest.raises(DataError, match="holds no moment"):
        ZScoreDetector().fit(X[:0])


def test_scores_are_combined_as_asked():
    errors = ZScoreDetector().fit(X[:200]).channel_scores(X)
    for combine, wanted in (("max", errors.max(1)), (2, np.sort(errors)[:, -2:].sum(1))):
        found = ZScoreDetector(combine=combine).fit(X[:200])
        np.testing.assert_allclose(found.score_samples(X), wanted)
    with pytest.raises(KnobError, match="combine=9 channels is more than the 4"):
        ZScoreDetector(combine=9).fit(X[:200])


def test_the_first_window_is_scored_at_all_its_moments_where_asked(stack):
    padded = MADE["stack"]().set_params(pad="first").fit(X[:200])
    scores = padded.score_samples(X)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[7:], stack.score_samples(X)[7:])


def test_a_constant_channel_is_told_and_scaled_by_one():
    made = ZScoreDetector().fit(X[:200].assign(still=3.0))
    assert "'still'" in made.notes_[0] and made.scaling_.scale[-1] == 1.0


def test_a_series_with_fewer_windows_than_a_batch_still_teaches():
    before = MADE["stack"]().set_params(max_epochs=1, lr=1e-9).fit(X[:20]).network_
    after = MADE["stack"]().set_params(max_epochs=1).fit(X[:20]).network_
    assert any(not np.allclose(a.detach(), b.detach()) for a, b in
               zip(before.parameters(), after.parameters(), strict=True))  # fmt: skip


def test_windows_stay_within_stretches():
    values = [np.full((9, 2), 1.0, np.float32), np.full((6, 2), 2.0, np.float32)]
    batches = WindowBatches(values, 4, 5)
    seen = [batch["windows"] for batch in batches.epoch(0)]
    assert sum(map(len, seen)) == 6 + 3 and len(batches) == 2
    assert all((one == one[:1, :1]).all() for batch in seen for one in batch)


def test_an_alarm_is_explained(stack):
    errors = np.array([9.0, 8.0, 0.0, 0.0]) * stack.channel_thresholds_.max()
    why = stack.explain_errors(errors)
    assert why.alarm and why.channels.index[0] == "x0"
    joined = (stack.adjacency_[0] > 0) & (np.arange(4) > 0)
    assert set(why.neighbours.index) == set(np.array(stack.channels_)[joined])
    assert why.verdict == ("systematic" if joined[1] else "sensor")
    np.testing.assert_allclose(stack.adjacency_.sum(1), 1, rtol=1e-6)
    place = int(np.nanargmax(stack.score_samples(X)))
    assert stack.explain(X, place).score == pytest.approx(np.nanmax(stack.score_samples(X)))
    with pytest.raises(DataError, match="no score"):
        stack.explain(X, 2)


def test_verdicts_of_a_known_graph():
    from stackwise.build.stackvae_g.diagnosis import verdicts

    graph = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    errors = np.array([[3.0, 0, 0], [3, 2, 0], [3, 0, 2], [0, 0, 4], [np.nan] * 3])
    assert list(verdicts(errors, np.ones(3), graph)) == [
        "sensor", "systematic", "sensor", "sensor", ""
    ]  # fmt: skip


def test_the_task_says_what_it_has(tmp_path):
    task = AnomaliesTask.load(FRAME, time="timestamp", label="fault")
    assert task.spans["train"] == (0, 210) and task.unscored is None
    start, stop = task.spans["validation"]
    assert task.series.labels[start:stop].any() and not task.series.labels[stop]
    named = AnomaliesTask.load(
        FRAME, time="timestamp", label="fault", normal_until="2024-01-01 00:01:40"
    )
    assert named.spans["train"] == (0, 100)
    with pytest.raises(DataError, match="are labelled as anomalies: name an earlier moment"):
        AnomaliesTask.load(
            FRAME, time="timestamp", label="fault", normal_until="2024-01-01 00:06:00"
        )
    bare = AnomaliesTask.load(FRAME.drop(columns="fault"), time="timestamp")
    fitted = bare.fit(ZScoreDetector())
    assert bare.judge(fitted, "test").scores == {} and "nothing can be scored" in bare.unscored
    few = AnomaliesTask.load(FRAME, time="timestamp", label="fault", max_rows=60)
    assert 40 <= sum(map(len, few.normal().stretches)) <= 60
    assert json.dumps(task.describe())


def test_events_are_joined_over_pieces(tmp_path, monkeypatch):
    from stackwise.tasks.anomalies import writing

    detector = ZScoreDetector(threshold=14.0).fit(X[:200])
    FRAME.drop(columns="fault").to_csv(tmp_path / "new.csv", index=False)
    task = AnomaliesTask.load(FRAME, time="timestamp", label="fault")
    detector.reading_ = task.series.reading
    tables = []
    for rows in (1_000, 37):
        whole = writing.pieces
        monkeypatch.setattr(
            writing, "pieces", lambda source, how, n=rows, f=whole: f(source, how, rows=n)
        )
        assert write_predictions(tmp_path / f"{rows}.csv", detector, tmp_path / "new.csv") == 420
        monkeypatch.setattr(writing, "pieces", whole)
        tables.append([pd.read_csv(tmp_path / f"{rows}{part}.csv") for part in ("", "-events")])
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one, other)
    events = tables[0][1]
    assert len(events) and (events["moments"] >= 1).all()
    assert events["moments"].sum() == tables[0][0]["alarm"].sum()


@pytest.mark.parametrize("joint", [" ", "T"])
def test_moments_are_written_as_the_source_writes_them(tmp_path, joint):
    detector = ZScoreDetector(threshold=14.0).fit(X[:200])
    detector.reading_ = AnomaliesTask.load(FRAME, time="timestamp", label="fault").series.reading
    texts = FRAME["timestamp"].astype(str).str.replace(" ", joint)
    FRAME.assign(timestamp=texts).to_csv(tmp_path / "new.csv", index=False)
    write_predictions(tmp_path / "out.csv", detector, tmp_path / "new.csv")
    found = pd.read_csv(tmp_path / "out.csv")["timestamp"]
    assert found.tolist() == texts.tolist()
