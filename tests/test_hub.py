"""A model's card, and the way to the Hugging Face hub and back; the hub is a folder here."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import stackwise
from stackwise import runs
from stackwise.errors import ModelError
from stackwise.tasks.table.task import TableTask


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=90), "a|b`<c>": rng.normal(size=90)})
    frame["price"] = frame["x"] * 2 + 0.1 * rng.normal(size=90)
    task = TableTask.load(frame, target="price")
    return runs.fit_run("linear", task, out=tmp_path_factory.mktemp("hub") / "run")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's client, with a folder in place of the network."""
    import huggingface_hub

    place = tmp_path / "hub"
    told = SimpleNamespace(place=place, private=None)

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, name, private, exist_ok):
            if name.startswith("nobody/"):
                raise OSError("403 Forbidden: you have no rights there\nmore")
            told.private = private
            return SimpleNamespace(repo_id=name, __str__=lambda self: name)

        def upload_folder(self, folder_path, repo_id, ignore_patterns, commit_message):
            for path in sorted(Path(folder_path).rglob("*")):
                name = str(path.relative_to(folder_path))
                if path.is_file() and not any(fnmatch(name, one) for one in ignore_patterns):
                    (place / repo_id / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place / repo_id / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: str(place / name))
    return told


def test_a_run_has_a_card_with_data_scores_and_the_way_to_open_it(run):
    card = (run.folder / "README.md").read_text()
    front, _, text = card.removeprefix("---\n").partition("---\n")
    assert "library_name: stackwise" in front and "- regression" in front
    for words in ("# linear on", "| predicted | price |", "54 train, 18 validation, 18 test",
                  "| rmse |", "stackwise.load(", "## Limits", "## Licence"):  # fmt: skip
        assert words in text
    rmse = run.record["scores"]["test"]["rmse"]
    assert f"{rmse:.5g}" in text
    assert run.record["size_bytes"] > 0


def test_a_name_in_a_card_is_no_markup():
    from stackwise.cards import card_of_learner

    card = card_of_learner("Linear", {"a|b": "`<c>\n# title`"}, ["a note\n## of two lines\x1b[2J"])
    assert "`a\\|b='&lt;c> # title'`" in card and "\n## of two" not in card and "\x1b" not in card


def test_a_run_comes_back_from_the_hub_and_leaves_the_rows_at_home(run, hub):
    new = run_rows(run)
    run.push_to_hub("me/prices")
    names = {path.name for path in (hub.place / "me/prices").iterdir()}
    assert {"README.md", "run.json", "model.skops"} <= names and hub.private is True
    assert not {name for name in names if name.endswith(".parquet")}
    back = stackwise.load("hf://me/prices")
    assert (back.predict(new) == stackwise.load(run.folder).predict(new)).all()


def test_an_estimator_is_pushed_with_a_card(run, hub):
    stackwise.load(run.folder).push_to_hub("me/linear", private=False)
    assert "LinearRegressor" in (hub.place / "me/linear/README.md").read_text()
    new = run_rows(run)
    assert (
        stackwise.load("hf://me/linear").predict(new) == stackwise.load(run.folder).predict(new)
    ).all()
    assert hub.private is False


def test_a_language_model_is_pushed_as_a_plain_model_folder(hub, tmp_path):
    from stackwise.conformance import small_language_model

    made = runs.derive_run("transform", "gstack", small_language_model(), out=tmp_path / "r",
                           knobs={"factor": 2})  # fmt: skip
    made.push_to_hub("me/deeper")
    pushed = hub.place / "me/deeper"
    assert (pushed / "config.json").is_file() and "gstack" in (pushed / "README.md").read_text()
    assert stackwise.load("hf://me/deeper").config.num_hidden_layers == 8


def test_what_the_hub_refuses_is_one_sentence(run, hub):
    with pytest.raises(ModelError, match="nobody/x cannot be written to the hub: 403 Forbidden"):
        run.push_to_hub("nobody/x")


def run_rows(run):
    features = [c["column"] for c in pd.read_json(run.folder / "columns.json").to_dict("records")]
    return pd.DataFrame({name: np.linspace(-1, 1, 7) for name in features if name != "price"})
