"""Keep a stack as data only: one JSON record of the four stages, and a folder for each model.

A learner of this library is kept in its own form, an estimator of scikit-learn with skops.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from stackwise.catalog import cards
from stackwise.combine.regularized_meta_learning.out_of_fold import Reader
from stackwise.combine.regularized_meta_learning.stages.meta_models import OwnMember
from stackwise.combine.regularized_meta_learning.stages.pipeline import Pipeline
from stackwise.files import believing
from stackwise.learning.learner import FORMAT, UNSEALED, read_record, write_record
from stackwise.models import load_learner
from stackwise.places import inside
from stackwise.seals import check_seal
from stackwise.tasks.table.estimators.kept import packed_as_data, read_skops, write_skops

NO_DATA = ("estimators", "final_estimator", "meta", "cv", "meta_cv")
"""Knobs that may hold estimators or splitters."""


def refuse_unkept(models: Mapping[str, Any], meta: Sequence[Any]) -> None:
    """Refuse, before anything is trained, a model that could not be kept.

    Raises:
        ModelError: it is named, with the type that is not data.
    """
    for name, model in models.items():
        if not _is_ours(model):
            packed_as_data(f"base model {name!r}", clone(model, safe=False))
    for item in meta:
        if not isinstance(item, str):
            packed_as_data(f"meta-model {type(item).__name__}", item)


def write_stack(stack: Any, folder: Path) -> None:
    """Write a fitted stack; see `RegularizedStacking.save`."""
    bases = []
    for place, (name, models) in enumerate(zip(stack.kept_, stack.estimators_, strict=True)):
        folds = isinstance(models, list)
        for number, model in enumerate(models if folds else [models]):
            _write_model(f"base model {name!r}", model, folder / "base" / f"{place}-{number}")
        reader = stack.readers_[name]
        bases.append({"name": name, "folds": folds, "method": reader.method, "scale": reader.scale})
    own = {}
    for place, (name, member) in enumerate(stack.pipeline_.members_.items()):
        if isinstance(member, OwnMember):
            _write_model(f"meta-model {name!r}", member.estimator, folder / "meta" / str(place))
            own[name] = {"own": place, "mean": member.mean, "scale": member.scale}
    knobs = {k: v for k, v in stack.get_params(deep=False).items() if k not in NO_DATA}
    record = {
        "format": FORMAT,
        "class": type(stack).__name__,
        # a splitter is kept as the number of its folds: nothing is fitted with it again
        "knobs": knobs | {name: _words(getattr(stack, name)) for name in ("cv", "meta_cv")},
        "features_in": getattr(stack, "n_features_in_", None),
        "names_in": list(getattr(stack, "feature_names_in_", [])) or None,
        "seed": stack.seed_,
        "notes": stack.notes_,
        "target": stack._target_json(),
        "meta": [item if isinstance(item, str) else None for item in stack.meta],
        "final": stack.final_estimator is not None,
        "bases": bases,
        "members": own,
        "pipeline": stack.pipeline_.as_dict(own),
    }
    write_record(folder, record)


def read_stack(cls: Any, folder: Path) -> Any:
    """Read a stack of class `cls`; see `RegularizedStacking.load`."""
    record = read_record(folder, cls.__name__)
    with believing(folder / "model.json"):
        made = _stack_of(cls, folder, record)
    check_seal(folder / "model.json", record, UNSEALED)
    return made


def _stack_of(cls: Any, folder: Path, record: Mapping[str, Any]) -> Any:
    bases: dict[str, Any] = {}
    for place, base in enumerate(record["bases"]):
        count = len(list((folder / "base").glob(f"{place}-*")))
        each = [_read_model(folder / "base" / f"{place}-{number}") for number in range(count)]
        bases[base["name"]] = each if base["folds"] else each[0]
    own = {
        name: OwnMember(
            _read_model(inside(folder / "meta", str(item["own"]))), np.array(item["mean"]),
            np.array(item["scale"]), cls._by_class,
        )
        for name, item in record["members"].items() if "own" in item
    }  # fmt: skip
    known = cls._get_param_names()
    made = cls(
        **{name: value for name, value in record["knobs"].items() if name in known},
        estimators=[
            (name, clone(models[0] if isinstance(models, list) else models))
            for name, models in bases.items()
        ],
    )
    fresh = [clone(member.estimator) for member in own.values()]
    if record["final"]:
        made.final_estimator = fresh.pop()
    made.meta = [fresh.pop(0) if item is None and fresh else item for item in record["meta"]]
    if record["features_in"] is not None:
        made.n_features_in_ = record["features_in"]
    if record["names_in"] is not None:
        made.feature_names_in_ = np.array(record["names_in"], dtype=object)
    made.seed_, made.notes_ = record["seed"], record["notes"]
    made._read_target_json(record["target"])
    # format 1 kept the meta-models beside the pipeline
    made.pipeline_ = Pipeline.from_dict({"members": record["members"], **record["pipeline"]}, own)
    made.readers_ = {
        base["name"]: Reader(base["method"], base["scale"]) for base in record["bases"]
    }
    made.estimators_ = list(bases.values())
    made.named_estimators_ = Bunch(**bases)
    return made


def _is_ours(model: Any) -> bool:
    name = type(model).__name__
    return hasattr(model, "save") and any(
        entry.kind == "learner" and entry.name == name
        for of in cards().values()
        for entry in of.entries
    )


def _words(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else int(getattr(value, "n_splits", 5))


def _write_model(what: str, model: Any, folder: Path) -> None:
    if _is_ours(model):
        model.save(folder)
        return
    write_skops(folder, packed_as_data(what, model))


def _read_model(folder: Path) -> Any:
    if (folder / "model.json").is_file():
        return load_learner(folder)
    return read_skops(folder)
