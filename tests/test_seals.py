"""Kept weights are compared with the hash that was written with them."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stackwise.adapt import Delta
from stackwise.adapt.delta.lora import LoraDelta
from stackwise.adapt.delta.parts import Dense, LowRank
from stackwise.adapt.delta.weights import WeightDelta
from stackwise.catalog import card
from stackwise.conformance.small_models import small_language_model
from stackwise.errors import ModelError, RunError
from stackwise.files import write_json
from stackwise.models import load_learner, open_model
from stackwise.runs import load
from stackwise.seals import file_hash, weight_hashes
from stackwise.stack.saved import SavedModel
from stackwise.training.checkpoints import read, write

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(size=80), "b": RNG.choice(["x", "y"], 80)})
TARGET = FRAME["a"].to_numpy() * 2 + RNG.normal(0, 0.1, 80)


def flips(path: Path, count: int = 24):
    """The file with one bit turned over, at places from its first to its last byte."""
    whole = path.read_bytes()
    places = {0, 1, 8, 9, len(whole) - 1, len(whole) - 2}
    places |= set(np.linspace(0, len(whole) - 1, count).astype(int).tolist())
    for place in sorted(p for p in places if 0 <= p < len(whole)):
        for bit in (0, 6):
            turned = bytearray(whole)
            turned[place] ^= 1 << bit
            path.write_bytes(bytes(turned))
            yield
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("slug", "knobs"),
    [
        ("mlp", {"max_epochs": 1, "width": 4}),
        ("linear", {"penalty": 1.0}),
        ("lightgbm", {"max_trees": 3}),
        ("xgboost", {"max_trees": 3}),
    ],
)
def test_a_bit_that_turned_over_is_never_loaded(tmp_path: Path, slug, knobs):
    entry = card(slug).entry("learner", "regression", task="table")
    fitted = entry.load()(**knobs).fit(FRAME, TARGET)
    fitted.save(tmp_path)
    kept = json.loads((tmp_path / "model.json").read_text())["hashes"]
    assert len(kept) == 2 and all((tmp_path / name).is_file() for name in kept)
    for name in kept:
        for _ in flips(tmp_path / name):
            with pytest.raises(RunError, match=name):
                load_learner(tmp_path)
    assert (load_learner(tmp_path).predict(FRAME) == fitted.predict(FRAME)).all()


def test_a_number_that_changed_in_the_record_is_seen(tmp_path: Path):
    card("linear").entry("learner", "regression").load()(penalty=1.0).fit(FRAME, TARGET).save(
        tmp_path
    )
    path = tmp_path / "model.json"
    record = json.loads(path.read_text())
    record["target"]["mean"] += 1e-9
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"model.json is damaged"):
        load_learner(tmp_path)


def test_a_learner_that_was_kept_without_hashes_still_loads(tmp_path: Path):
    fitted = card("linear").entry("learner", "regression").load()(penalty=1.0).fit(FRAME, TARGET)
    fitted.save(tmp_path)
    path = tmp_path / "model.json"
    record = json.loads(path.read_text())
    del record["hashes"], record["seal"]
    path.write_text(json.dumps(record))
    assert (load_learner(tmp_path).predict(FRAME) == fitted.predict(FRAME)).all()


@pytest.mark.parametrize("kind", ["weights", "lora"])
def test_a_delta_with_a_turned_bit_is_refused(tmp_path: Path, kind):
    parts = {"weight": Dense(torch.randn(4, 3))}
    low = {"layer.weight": LowRank(torch.randn(2, 3), torch.randn(4, 2))}
    delta = WeightDelta(parts) if kind == "weights" else LoraDelta(low)
    delta.save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        for _ in flips(path, count=40):
            with pytest.raises((RunError, ModelError)):
                _refused_or_same(Delta.load(tmp_path), delta)
    assert Delta.load(tmp_path) == delta


def _refused_or_same(loaded, delta):
    """White space, and the base's place that peft may write anew, carry nothing."""
    assert loaded == delta and loaded.base == delta.base
    raise RunError("the same")


def test_a_checkpoint_with_a_turned_bit_is_refused(tmp_path: Path):
    path = tmp_path / "0.safetensors"
    tensors = {"model/w": torch.randn(30, 3), "random/cpu": torch.arange(4, dtype=torch.uint8)}
    place = {"phase": 0, "sums": {}, "seconds": 1.0, "groups": [], "history": [], "epoch": 3}
    write(path, tensors, place)
    for _ in flips(path, count=60):
        with pytest.raises(RunError, match="damaged"):
            read(path)
    found, place = read(path)
    assert torch.equal(found["model/w"], tensors["model/w"]) and place["epoch"] == 3


def test_a_model_of_transformers_within_a_run_is_compared_by_whoever_opens_it(tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(small_language_model(), run / "model")
    record = {
        "format": 1, "status": "finished", "kind": "transform", "slug": "any", "title": "Any",
        "seed": 0, "command": "", "threads": 1, "versions": {}, "machine": {}, "size_bytes": 1,
        "seconds": {"fit": 1.0}, "hashes": weight_hashes(run),
    }  # fmt: skip
    write_json(run / "run.json", record)
    assert {"model/config.json", "model/model.safetensors"} <= set(record["hashes"])
    for name in ("config.json", "model.safetensors"):
        for _ in flips(run / "model" / name, count=4):
            for opened in (
                lambda: load(run),
                lambda: open_model(run / "model"),
                lambda: SavedModel(run / "model"),
            ):
                with pytest.raises(RunError, match=name):
                    opened()
    assert load(run).config.model_type


def test_a_file_that_is_gone_is_named(tmp_path: Path):
    card("linear").entry("learner", "regression").load()(penalty=1.0).fit(FRAME, TARGET).save(
        tmp_path
    )
    (tmp_path / "features.safetensors").unlink()
    with pytest.raises(RunError, match="features.safetensors does not exist"):
        load_learner(tmp_path)


def test_hashing_costs_less_than_a_second_a_gigabyte(tmp_path: Path):
    path = tmp_path / "large.safetensors"
    path.write_bytes(b"\1\2\3\4" * (1 << 24))
    took = []
    for _ in range(3):
        began = time.process_time()  # others may compute here meanwhile
        file_hash(path)
        took.append(time.process_time() - began)
    assert min(took) < path.stat().st_size / 1e9
