"""What a stranger wrote is read as data: it names no code, no large size and no place outside."""

import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stackwise.catalog import card
from stackwise.conformance.small_models import small_language_model
from stackwise.errors import DataError, RunError
from stackwise.files import read_json, write_json, write_tensors
from stackwise.findings import Findings
from stackwise.models import load_learner, open_model
from stackwise.places import check_contained, inside
from stackwise.runs import load
from stackwise.sparse_files import load_sparse
from stackwise.studies.study import Study
from stackwise.studies.tables import Benchmark, read_sources

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": RNG.normal(size=60), "b": RNG.choice(["x", "y"], 60)})


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    made = card("mlp").entry("learner", "classification", task="table").load()
    made(max_epochs=1, width=4).fit(FRAME, np.where(FRAME["a"] > 0, "up", "down")).save(folder)
    return folder


def changed(kept: Path, to: Path, change) -> Path:
    """A copy whose record a stranger wrote anew, seal and all."""
    shutil.copytree(kept, to)
    record = read_json(to / "model.json")
    del record["seal"]
    change(record)
    (to / "model.json").write_text(json.dumps(record))
    return to


@pytest.mark.parametrize(
    "place",
    ["stackwise.__main__:main", "stackwise.learning.learner:nn.Linear", "torch.nn:Linear",
     "stackwise.tasks.table.estimators.learner:nn.Linear", "os.path:join", 3, None, ["a"]],
)  # fmt: skip
def test_a_network_is_looked_up_and_never_imported_by_its_name(kept, tmp_path, place, capsys):
    def change(record):
        record["network"]["class"] = place

    with pytest.raises(RunError, match="outside of those that methods"):
        load_learner(changed(kept, tmp_path / "run", change))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["n_numeric", "n_outputs", "width", "n_blocks"])
@pytest.mark.parametrize("size", [10**9, 10**400, 50_000, 2.0**70, -4, "many"])
def test_a_size_that_the_weights_do_not_have_is_refused_before_memory_is_taken(
    kept, tmp_path, name, size
):
    def change(record):
        record["network"]["arguments"][name] = size

    folder = changed(kept, tmp_path / "run", change)
    tracemalloc.start()
    try:
        with pytest.raises(RunError) as said:
            load_learner(folder)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(said.value) and len(str(said.value)) < 600


@pytest.mark.parametrize(
    "target",
    [{"dtype": "<U400000000", "classes": ["up", "down"]}, {"dtype": "|V9", "classes": [1, 2]},
     {"dtype": "|O", "classes": [["up"], ["down"]]}, {"dtype": "<U4", "classes": 5}, {}],
)  # fmt: skip
def test_classes_are_a_list_of_plain_values_in_their_own_type(kept, tmp_path, target):
    with pytest.raises(RunError):
        load_learner(changed(kept, tmp_path / "run", lambda record: record.update(target=target)))


@pytest.mark.parametrize("key", ["network", "contract", "target", "knobs", "format"])
@pytest.mark.parametrize("value", [None, [], "x", float("inf")])
def test_a_record_of_another_form_is_one_sentence(kept, tmp_path, key, value):
    folder = changed(kept, tmp_path / "run", lambda record: record.update({key: value}))
    with pytest.raises(RunError, match="run") as said:
        load_learner(folder)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": 1e999}', '{"a": NaN}', '{"a": ' + "9" * 5000 + "}", "\ufeff{"]
)
def test_json_that_no_program_wrote_for_us_is_damaged(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(RunError, match=r"model\.json is damaged"):
        read_json(tmp_path / "model.json")


def test_a_small_file_makes_no_large_tensor(tmp_path):
    path = tmp_path / "model.safetensors"
    values = {"w#gaps": torch.zeros(3, dtype=torch.int16), "w#values": torch.zeros(3)}
    forms = {"w": {"form": "gaps", "shape": [10**6, 10**6]}}
    write_tensors(path, values, metadata={"sparse": json.dumps(forms)})
    with pytest.raises(RunError, match="more than its bytes can fill"):
        load_sparse(path)


def test_a_small_archive_unpacks_to_no_large_one(tmp_path):
    card("linear").entry("learner", "regression").load()(penalty=1.0).fit(
        FRAME, FRAME["a"].to_numpy()
    ).save(tmp_path)
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", b"\0" * (1 << 26))
    record = read_json(tmp_path / "model.json")
    del record["hashes"], record["seal"]
    write_json(tmp_path / "model.json", record)
    with pytest.raises(RunError, match="would unpack to"):
        load_learner(tmp_path)


OUTSIDE = ["../secret", "/etc", "a/../../b", "..", "C:\\x", "\\\\host\\x", "", "a\0b", 3, None]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_out_of_a_file_leads_out_of_its_folder(tmp_path, name):
    with pytest.raises(RunError, match="a file in"):
        inside(tmp_path, name)


def test_a_link_out_of_a_folder_is_no_way_either(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "home" / "link").symlink_to(tmp_path / "away")
    with pytest.raises(RunError, match="leads out"):
        inside(tmp_path / "home", "link/x")
    with pytest.raises(RunError, match="is a link that leads out"):
        check_contained(tmp_path / "home")
    assert inside(tmp_path / "home", "a/b") == tmp_path / "home" / "a" / "b"


def test_a_snapshot_in_the_cache_of_the_hub_is_links_to_blobs_and_opens(tmp_path, kept):
    cache = tmp_path / "models--me--x"
    snapshot = cache / "snapshots" / "abc"
    shutil.copytree(kept, cache / "blobs")
    snapshot.mkdir(parents=True)
    for path in kept.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs", path.name))
    check_contained(snapshot)
    assert (load(snapshot).predict(FRAME) == load_learner(kept).predict(FRAME)).all()
    (snapshot / "more").symlink_to(tmp_path)
    with pytest.raises(RunError, match="leads out"):
        check_contained(snapshot)


def test_records_of_studies_findings_and_bags_stay_in_their_folders(tmp_path, kept):
    home, name = tmp_path / "home", "../kept"
    home.mkdir()
    shutil.copytree(kept, tmp_path / "kept")
    (tmp_path / "kept.csv").write_text("a,b\n1,2\n")
    write_json(
        home / "study.json",
        {"format": 1, "winner": {"slug": "mlp", "folder": name}, "ranking": [], "failures": {},
         "importance": [], "metric": {"name": "auc", "mode": "max"}},
    )  # fmt: skip
    write_json(
        home / "plan.json",
        {"runs": [name], "seeds": [0], "preset": None, "command": None, "tables": [name],
         "task": {"name": "t", "problem": "binary", "notes": [],
                  "rows": {"train": 1, "validation": 1, "test": 1}}},
    )  # fmt: skip
    write_json(home / "findings.json", {"format": 1, "tables": [name], "summary": {}})
    write_json(
        home / "model.json",
        {"format": 1, "class": "Bagged", "members": [name], "classes": None, "dtype": None,
         "notes": []},
    )  # fmt: skip
    for read in (
        lambda: load(home), lambda: Study(home).runs, lambda: Study(home).winner,
        lambda: Benchmark(home).studies, lambda: Findings.load(home), lambda: load_learner(home),
    ):  # fmt: skip
        with pytest.raises(RunError, match="leads out of that folder"):
            read()


@pytest.mark.parametrize("source", ["../a.csv", "{home}/a.csv"])
def test_a_list_of_tables_names_files_beside_it(tmp_path, source):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    listed = tmp_path / "lists" / "tables.toml"
    listed.parent.mkdir()
    for text in (f"source = '{source}'", f"source = 'iris'\ntest = '{source}'"):
        listed.write_text(f"[[table]]\n{text.format(home=tmp_path)}\n")
        with pytest.raises(DataError, match="outside of its folder"):
            read_sources([str(listed)], None, {})


@pytest.mark.parametrize(
    ("name", "size"),
    [("num_hidden_layers", 10**9), ("num_hidden_layers", 3000), ("hidden_size", 10**9),
     ("vocab_size", 10**8), ("intermediate_size", 10**7)],
)  # fmt: skip
def test_a_model_folder_makes_no_larger_model_than_its_weights(tmp_path, name, size):
    folder = shutil.copytree(small_language_model(), tmp_path / "model")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {name: size, "layer_types": None})
    with pytest.raises(RunError, match=r"config\.json says"):
        open_model(folder)
