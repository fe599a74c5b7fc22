"""A scikit-learn estimator behind the columns of a table, kept with skops.

A skops file holds arrays and the names of types; only types that skops trusts by itself and those
listed here are made from it, so that a foreign file runs nothing.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import threadpoolctl

from stackwise.errors import RunError
from stackwise.files import replacing
from stackwise.tasks.table.estimator import TableEstimator

TRUSTED = [
    "functools.partial",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
]
"""Types of scikit-learn in a kept model that skops does not trust by itself."""


class SkopsLearner(TableEstimator):
    """A scikit-learn estimator behind the columns of a table. Fitted: `estimator_`."""

    uses_training_loop: ClassVar[bool] = False
    trusted: ClassVar[list[str]] = TRUSTED

    def _write(self, folder: Path) -> dict[str, Any]:
        from skops import io

        with replacing(folder / "model.skops") as beside:
            io.dump(self.estimator_, beside)
        return {}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.estimator_ = read_skops(folder, self.trusted)


def read_skops(folder: Path, trusted: Sequence[str]) -> Any:
    """The estimator of `model.skops`, made of types that skops trusts and of these alone.

    Raises:
        RunError: the file is missing, damaged, or holds another type.
    """
    from skops import io

    path = folder / "model.skops"
    if not path.is_file():
        raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
    try:
        return io.load(path, trusted=list(trusted))
    except Exception as error:
        raise RunError(
            f"{path} is damaged or holds types that are not trusted ({error})"
        ) from error


@contextlib.contextmanager
def computing_with(count: int | None) -> Iterator[None]:
    """Compute with this many threads; None leaves the number as it is."""
    with threadpoolctl.threadpool_limits(count) if count else contextlib.nullcontext():
        yield
