"""Keep a stack as data only: the four stages as JSON, base models each in its own form.

A learner of this library is kept in a folder of its own; an estimator of scikit-learn with skops,
of which only types that skops trusts by itself and those listed load.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from stackwise.catalog import cards
from stackwise.combine.regularized_meta_learning.class_pipeline import ClassPipeline
from stackwise.combine.regularized_meta_learning.library import TABLES
from stackwise.combine.regularized_meta_learning.number_pipeline import NumberPipeline
from stackwise.combine.regularized_meta_learning.out_of_fold import Reader
from stackwise.combine.regularized_meta_learning.own_members import EstimatorMember
from stackwise.errors import ModelError, RunError
from stackwise.files import plain, replacing, write_json
from stackwise.tasks.table.estimator import read_record
from stackwise.tasks.table.kept import read_skops

FORMAT = 1
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


def refuse_unkept(models: Mapping[str, Any], meta: Sequence[Any]) -> None:
    """Refuse, before anything is trained, a model that could not be kept.

    Raises:
        ModelError: it is named, with the type that is not data.
    """
    own = {f"meta-model {type(item).__name__}": item for item in meta if not isinstance(item, str)}
    for name, model in [*((f"base model {n!r}", m) for n, m in models.items()), *own.items()]:
        if not _is_ours(model):
            _packed(name, model if name in own else clone(model, safe=False))


def write_stack(stack: Any, folder: Path) -> None:
    """Write a fitted stack; see `RegularizedStacking.save`."""
    bases = []
    for place, (name, models) in enumerate(zip(stack.kept_, stack.estimators_, strict=True)):
        each = models if isinstance(models, list) else [models]
        reader = stack.readers_[name]
        bases.append(
            {
                "name": name,
                "ours": [type(model).__name__ if _is_ours(model) else None for model in each],
                "folds": isinstance(models, list),
                "method": reader.method,
                "scale": reader.scale,
            }
        )
        for number, model in enumerate(each):
            _write_model(f"base model {name!r}", model, folder / "base" / f"{place}-{number}")
    pipeline = stack.pipeline_
    members = {}
    for place, (name, member) in enumerate(pipeline.members_.items()):
        if isinstance(member, EstimatorMember):
            _write_model(f"meta-model {name!r}", member.estimator, folder / "meta" / str(place))
            members[name] = {"own": place, "mean": member.mean, "scale": member.scale}
        else:
            members[name] = member.as_dict()
    knobs = {
        name: value
        for name, value in stack.get_params(deep=False).items()
        if name not in ("estimators", "final_estimator", "meta", "cv", "meta_cv")
    }
    record = {
        "format": FORMAT,
        "class": type(stack).__name__,
        "knobs": knobs | {name: _words(getattr(stack, name)) for name in ("cv", "meta_cv")},
        "features_in": getattr(stack, "n_features_in_", None),
        "names_in": list(getattr(stack, "feature_names_in_", [])) or None,
        "seed": stack.seed_,
        "notes": stack.notes_,
        "target": stack._target_json(),
        "meta": [item if isinstance(item, str) else None for item in stack.meta],
        "final": stack.final_estimator is not None,
        "bases": bases,
        "members": members,
        "pipeline": pipeline._record(),
    }
    write_json(folder / "model.json", plain(record))


def read_stack(cls: Any, folder: Path) -> Any:
    """Read a stack of class `cls`; see `RegularizedStacking.load`."""
    record = read_record(folder, cls.__name__, FORMAT)
    bases: list[Any] = []
    for place, base in enumerate(record["bases"]):
        each = [
            _read_model(ours, folder / "base" / f"{place}-{number}")
            for number, ours in enumerate(base["ours"])
        ]
        bases.append(each if base["folds"] else each[0])
    names = [base["name"] for base in record["bases"]]
    members: dict[str, Any] = {}
    plain_members: dict[str, Any] = {}
    for name, item in record["members"].items():
        if "own" in item:
            members[name] = EstimatorMember(
                _read_model(None, folder / "meta" / str(item["own"])), np.array(item["mean"]),
                np.array(item["scale"]), cls._by_class,
            )  # fmt: skip
        else:
            plain_members[name] = item
    known = cls._get_param_names()
    first = [models[0] if isinstance(models, list) else models for models in bases]
    made = cls(
        **{name: value for name, value in record["knobs"].items() if name in known},
        estimators=[(name, clone(model)) for name, model in zip(names, first, strict=True)],
    )
    own = [clone(member.estimator) for member in members.values()]
    if record["final"]:
        made.final_estimator = own.pop()
    made.meta = [own.pop(0) if item is None and own else item for item in record["meta"]]
    if record["features_in"] is not None:
        made.n_features_in_ = record["features_in"]
    if record["names_in"] is not None:
        made.feature_names_in_ = np.array(record["names_in"], dtype=object)
    made.seed_, made.notes_ = record["seed"], record["notes"]
    made._read_target_json(record["target"])
    kind = ClassPipeline if cls._by_class else NumberPipeline
    made.pipeline_ = kind.from_dict(record["pipeline"] | {"members": plain_members}, members)
    made.readers_ = {
        base["name"]: Reader(base["method"], base["scale"]) for base in record["bases"]
    }
    made.estimators_ = bases
    made.named_estimators_ = Bunch(**dict(zip(names, bases, strict=True)))
    return made


def _is_ours(model: Any) -> bool:
    return hasattr(model, "save") and type(model).__name__ in (*TABLES, *_learners())


def _learners() -> dict[str, Any]:
    return {
        entry.name: entry
        for of in cards().values()
        for entry in of.entries
        if entry.kind == "learner"
    }


def _words(value: Any) -> Any:
    """A splitter is kept as the number of its folds: nothing is fitted with it again."""
    if isinstance(value, (int, str)):
        return value
    return int(getattr(value, "n_splits", 5))


def _write_model(what: str, model: Any, folder: Path) -> None:
    if _is_ours(model):
        model.save(folder)
        return
    packed = _packed(what, model)
    with replacing(folder / "model.skops") as beside:
        beside.write_bytes(packed)


def _packed(what: str, model: Any) -> bytes:
    from skops import io

    why = ""
    try:
        packed = bytes(io.dumps(model))
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


def _read_model(ours: str | None, folder: Path) -> Any:
    if ours is not None:
        if ours in TABLES:
            return TABLES[ours].load(folder)  # type: ignore[attr-defined]
        entry = _learners().get(ours)
        if entry is None:
            raise RunError(
                f"{folder} holds the learner {ours!r}, which this installation does not have"
            )
        return entry.load().load(folder)
    return read_skops(folder, TRUSTED)
