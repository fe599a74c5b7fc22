"""A scikit-learn estimator behind the columns of a table, kept with skops.

A skops file holds arrays and the names of types; only types that skops trusts by itself and those
listed here are made from it, so that a foreign file runs nothing.
"""

import contextlib
import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import threadpoolctl

from stackwise.errors import ModelError, RunError
from stackwise.files import replacing
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.tasks.table.estimators.estimator import TableEstimator

TRUSTED = (
    "functools.partial",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(f"sklearn.gaussian_process.kernels.{name}" for name in (
        "ConstantKernel", "DotProduct", "Matern", "Product", "RBF", "RationalQuadratic", "Sum",
        "WhiteKernel",
    )),
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree", "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)  # fmt: skip
"""Types of scikit-learn in fitted models that skops does not trust by itself."""


MOST_UNPACKED = 1 << 24
"""Bytes that a skops file may unpack to, beside ten times its own."""


class SkopsKept(LabelledEstimator):
    """A scikit-learn estimator behind samples that are read. Fitted: `estimator_`."""

    def _write(self, folder: Path) -> dict[str, Any]:
        write_skops(folder, _packed(self.estimator_))
        return super()._write(folder)

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        self.estimator_ = read_skops(folder)


class SkopsLearner(SkopsKept, TableEstimator):
    """A scikit-learn estimator behind the columns of a table. Fitted: `estimator_`."""


def packed_as_data(what: str, model: Any) -> bytes:
    """The content of a skops file that `read_skops` will read.

    Args:
        what: what the model is to its owner, for the error.

    Raises:
        ModelError: the model holds a type that is not trusted, or is no data at all.
    """
    from skops import io

    try:
        packed = _packed(model)
        strange = sorted(set(io.get_untrusted_types(data=packed)) - set(TRUSTED))
        if not strange:
            return packed
        why = f"it holds {strange[0]}"
    except Exception as error:
        why = str(error)
    raise ModelError(
        f"the {what} ({type(model).__name__}) cannot be kept as data: {why}; use it in Python "
        "without saving, or another model"
    )


def _packed(model: Any) -> bytes:
    """The content of a skops file, which follows from the model alone.

    skops names objects by their addresses and some parts by chance, and notes the time: equal
    models would have other bytes, and so other hashes. Here they are numbered as they come.
    """
    from skops import io

    made = BytesIO()
    with zipfile.ZipFile(BytesIO(io.dumps(model))) as given, zipfile.ZipFile(made, "w") as packed:
        schema = json.loads(given.read("schema.json"))
        names = dict.fromkeys(given.namelist())
        _number(schema, itertools.count(), {}, names)
        for old, new in names.items():
            if new is not None:
                packed.writestr(zipfile.ZipInfo(new), given.read(old))
        packed.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=1))
    return made.getvalue()


def _number(
    node: Any, numbers: Iterator[int], objects: dict[int, int], names: dict[str, str | None]
) -> None:
    """Number objects and parts of a skops file in the order of its schema, which is changed.

    Args:
        objects: the number of each address so far. names: the new name of each part, once known.
    """
    if isinstance(node, list):
        for item in node:
            _number(item, numbers, objects, names)
    if not isinstance(node, dict):
        return
    if "__id__" in node:
        # whether two equal constants are one object is an accident of the interpreter
        alone = node.get("__loader__") == "JsonNode"
        known = None if alone else objects.get(node["__id__"])
        own = next(numbers) if known is None else known
        if not alone:
            objects[node["__id__"]] = own
        node["__id__"] = own
    part = node.get("file")
    if isinstance(part, str) and part in names:
        new = names[part] or f"{next(numbers)}{Path(part).suffix}"
        node["file"] = names[part] = new
    for item in node.values():
        _number(item, numbers, objects, names)


def write_skops(folder: Path, packed: bytes) -> None:
    """Write what was packed as `model.skops`."""
    with replacing(folder / "model.skops") as beside:
        beside.write_bytes(packed)


def read_skops(folder: Path) -> Any:
    """The estimator of `model.skops`, made of types that skops trusts and of `TRUSTED` alone.

    Raises:
        RunError: the file is missing, damaged, or holds another type.
    """
    from skops import io

    path = folder / "model.skops"
    if not path.is_file():
        raise RunError(f"{path} does not exist; the folder is not a finished stackwise run")
    try:
        _check_unpacked(path)
        return io.load(path, trusted=list(TRUSTED))
    except Exception as error:
        raise RunError(
            f"{path} is damaged or holds types that are not trusted ({error})"
        ) from error


def _check_unpacked(path: Path) -> None:
    """The parts of the archive are about as large as the file: skops packs without compressing.

    Raises:
        ValueError: a small file would unpack to a large one.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > MOST_UNPACKED + 10 * path.stat().st_size:
        raise ValueError(f"its {path.stat().st_size:,} bytes would unpack to {unpacked:,}")


@contextlib.contextmanager
def computing_with(count: int | None) -> Iterator[None]:
    """Compute with this many threads; None leaves the number as it is."""
    with threadpoolctl.threadpool_limits(count) if count else contextlib.nullcontext():
        yield
