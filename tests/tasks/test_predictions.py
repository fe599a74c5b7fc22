"""Predictions of a file have its rows in their order, however it is cut up."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from stackwise.errors import DataError
from stackwise.tasks.labelled.counted import CountedRows, UnseenCategories
from stackwise.tasks.table.features.contract import FeatureContract
from stackwise.tasks.table.task import TableTask, write_predictions

ROWS = 150
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "size": RNG.normal(size=ROWS),
        "zip": RNG.choice(["007", "012", "100"], ROWS),
        "colour": RNG.choice(["red", "blue"], ROWS),
    }
)
LABEL = np.where(FRAME["size"] + (FRAME.zip == "007") > 0.3, "high", "low")


class Linear:
    """A linear model on the numbers and one-hot codes of a feature contract."""

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> "Linear":
        self.contract_ = FeatureContract().fit(X)
        self.longest = 0
        model = Ridge() if y.dtype.kind == "f" else LogisticRegression()
        self.model_ = model.fit(self._features(X), y)
        if y.dtype.kind != "f":
            self.classes_ = self.model_.classes_
            self.predict_proba = lambda X: self.model_.predict_proba(self._features(X))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.model_.predict(self._features(X))

    def _features(self, X: pd.DataFrame) -> np.ndarray:
        self.longest = max(getattr(self, "longest", 0), len(X))
        arrays = self.contract_.transform(X)
        hot = [
            np.eye(n + 1)[arrays.categorical[:, i]][:, :n]
            for i, n in enumerate(self.contract_.cardinalities)
        ]
        return np.hstack([arrays.numeric, *hot])


CLASSIFIER = Linear().fit(FRAME, LABEL)


def write(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("rows", [7, 1000])
def test_rows_keep_their_order_and_count_in_every_format(
    tmp_path: Path, kind: str, rows: int
) -> None:
    source = write(tmp_path / f"new{kind}", FRAME)
    out = tmp_path / f"out{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert write_predictions(out, CLASSIFIER, source, rows=rows) == ROWS
    written = read(out)
    assert list(written.columns) == ["prediction", "probability_high", "probability_low"]
    assert written["prediction"].tolist() == CLASSIFIER.predict(FRAME).tolist()
    expected = CLASSIFIER.predict_proba(FRAME)
    np.testing.assert_allclose(written.iloc[:, 1:], expected, atol=1e-9)


def test_regression_writes_one_column(tmp_path: Path) -> None:
    model = Linear().fit(FRAME, FRAME["size"].to_numpy() * 2.0)
    write_predictions(tmp_path / "out.csv", model, FRAME)
    written = read(tmp_path / "out.csv")
    assert list(written.columns) == ["prediction"]
    np.testing.assert_allclose(written["prediction"], model.predict(FRAME))


def test_a_file_is_never_held_whole(tmp_path: Path) -> None:
    model = Linear().fit(FRAME.head(10), LABEL[:10])
    model.longest = 0
    write_predictions(tmp_path / "out.csv", model, write(tmp_path / "new.csv", FRAME), rows=20)
    assert model.longest == 20


def test_the_input_may_be_kept_beside_the_predictions(tmp_path: Path) -> None:
    write_predictions(tmp_path / "out.csv", CLASSIFIER, FRAME, keep_columns=True, rows=40)
    written = read(tmp_path / "out.csv")
    assert list(written.columns[:4]) == ["size", "zip", "colour", "prediction"]
    np.testing.assert_allclose(written["size"], FRAME["size"])


def test_unseen_categories_are_counted_once_over_all_pieces(tmp_path: Path) -> None:
    new = FRAME.assign(colour=np.where(np.arange(ROWS) % 5 == 0, "purple", FRAME.colour))
    with pytest.warns(UnseenCategories) as caught:
        write_predictions(tmp_path / "out.csv", CLASSIFIER, new, rows=10)
    assert len(caught) == 1
    assert caught[0].message.counts == {"colour": 30}  # type: ignore[union-attr]


def test_every_warning_of_a_learner_is_given_on_once_a_column(tmp_path: Path) -> None:
    class OddRows(CountedRows):
        what = "odd rows"

    class Anxious:
        def predict(self, X: pd.DataFrame) -> np.ndarray:
            warnings.warn(OddRows({"size": len(X), "zip": 1}), stacklevel=1)
            warnings.warn("slow", RuntimeWarning, stacklevel=1)
            return np.zeros(len(X))

    with pytest.warns() as caught:
        write_predictions(tmp_path / "out.csv", Anxious(), FRAME, rows=50)
    said = [str(item.message) for item in caught]
    assert said == ["slow", f"odd rows: 'size' in {ROWS} rows", "odd rows: 'zip' in 3 rows"]


def test_an_error_in_a_late_piece_leaves_no_file_and_the_old_one_alone(tmp_path: Path) -> None:
    bad = FRAME.astype({"size": object})
    bad.loc[140, "size"] = "huge"
    source = write(tmp_path / "new.csv", bad)
    with pytest.raises(DataError, match="now holds 'huge'"):
        write_predictions(tmp_path / "out.csv", CLASSIFIER, source, rows=10)
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(DataError):
        write_predictions(tmp_path / "out.csv", CLASSIFIER, source, rows=10)
    assert (tmp_path / "out.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("content", "says"),
    [("size,zip,colour\n", "has a header and no rows"),
     ("size,zip\n1,2\n", "lacks the column 'colour'"), ("", "is empty")],
)  # fmt: skip
def test_a_table_that_cannot_be_predicted_is_named(tmp_path: Path, content: str, says: str) -> None:
    source = tmp_path / "new.csv"
    source.write_text(content)
    with pytest.raises(DataError, match=says):
        write_predictions(tmp_path / "out.csv", CLASSIFIER, source)
    assert not (tmp_path / "out.csv").exists()


def test_the_input_is_not_overwritten_and_the_ending_must_be_known(tmp_path: Path) -> None:
    source = write(tmp_path / "new.csv", FRAME)
    with pytest.raises(DataError, match="is the input"):
        write_predictions(source, CLASSIFIER, str(source))
    with pytest.raises(DataError, match="must end in one of .csv"):
        write_predictions(tmp_path / "out.xlsx", CLASSIFIER, source)


def test_a_task_writes_the_predictions_of_new_rows(tmp_path: Path) -> None:
    task = TableTask.load(FRAME.assign(label=LABEL), target="label")
    model = Linear().fit(*task.part("train"))
    X, y = task.part("test")
    scores = task.score(y, model.predict(X), model.predict_proba(X))
    assert scores["accuracy"] > 0.8
    assert task.write_predictions(tmp_path / "out.csv", model, FRAME) == ROWS
