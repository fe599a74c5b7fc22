"""Labelled texts are known by marks alone, and read from every kind of source as they stand."""

import json
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks import choose_task
from stackwise.tasks.labels.marks import recognises
from stackwise.tasks.labels.reading import find_texts
from stackwise.tasks.labels.task import LabelsTask

TEXTS = [f"the {thing} number {n}" for n in range(10) for thing in ("cat", "dog")]
CLASSES = ["cat", "dog"] * 10
RECORDS = [{"text": text, "label": name} for text, name in zip(TEXTS, CLASSES, strict=True)]


def lines(path, records):
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def folders(root):
    for number, record in enumerate(RECORDS):
        place = root / record["label"] / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(record["text"])
    return root


def saved(path, *parts):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    whole = datasets.Dataset.from_list(
        [one | {"label": int(one["label"] == "dog")} for one in RECORDS], features=features
    )
    (datasets.DatasetDict(dict.fromkeys(parts, whole)) if parts else whole).save_to_disk(path)
    return path


@pytest.mark.parametrize(
    ("record", "task"),
    [
        ({"text": "a", "label": "x"}, "labels"),
        ({"review": "a", "rating": 3, "id": 7}, "labels"),
        ({"sentence": "a", "intent": "x"}, "labels"),
        ({"text": "a"}, "text"),
        ({"prompt": "a", "response": "b"}, "instructions"),
        ({"messages": [], "label": "x"}, "instructions"),
        ({"question": "a", "choices": ["a", "b"], "answer": "a", "subject": "x"}, "choices"),
        ({"text": "a", "price": 0.5}, "table"),
        ({"text": 5, "label": "x"}, "table"),
    ],
)
def test_lines_of_json_are_the_task_that_their_first_record_says(tmp_path, record, task):
    assert choose_task(lines(tmp_path / "a.jsonl", [record])).name == task


def test_other_sources_are_the_task_that_they_look_like(tmp_path):
    assert choose_task(folders(tmp_path / "classes")).name == "labels"
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("a text")
    assert choose_task(tmp_path / "corpus").name == "text"
    assert choose_task(saved(tmp_path / "saved")).name == "labels"
    assert choose_task(saved(tmp_path / "parts", "train", "test")).name == "labels"
    assert choose_task((TEXTS, CLASSES)).name == "labels"
    assert choose_task("drug-ratings").name == "labels"
    pd.DataFrame(RECORDS).to_csv(tmp_path / "a.csv", index=False)
    assert choose_task(tmp_path / "a.csv").name == "table"  # a csv says nothing of what it is
    assert choose_task(tmp_path / "a.csv", ["field", "target"]).name == "labels"
    assert recognises("no such thing") == 0.0


def test_nothing_heavy_is_imported_to_know_texts(tmp_path):
    folders(tmp_path)
    code = (
        "import sys; from stackwise.tasks.labels.marks import recognises; "
        f"assert recognises({str(tmp_path)!r}) == 0.85; "
        "print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_texts_come_out_of_every_kind_of_source(tmp_path):
    frame = pd.DataFrame(RECORDS)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(RECORDS))
    sources = [
        lines(tmp_path / "a.jsonl", RECORDS), tmp_path / "a.csv", tmp_path / "a.parquet",
        tmp_path / "a.json", saved(tmp_path / "saved"), frame, RECORDS, (TEXTS, CLASSES),
    ]  # fmt: skip
    for source in sources:
        found = find_texts(source)
        assert list(found.samples) == TEXTS and found.labels.tolist() == CLASSES
    found = find_texts(folders(tmp_path / "classes"))
    pairs = sorted(zip(found.samples, found.labels, strict=True))
    assert pairs == sorted(zip(TEXTS, CLASSES, strict=True))


def test_the_parts_of_a_source_are_the_parts(tmp_path):
    task = LabelsTask.load(saved(tmp_path / "parts", "train", "validation", "test"))
    assert {part: len(task.part(part)[1]) for part in ("train", "validation", "test")} == {
        "train": 20, "validation": 20, "test": 20,
    }  # fmt: skip
    assert any("letter for letter" in note for note in task.notes)  # the parts hold the same
    for part in ("train", "test"):
        folders(tmp_path / "folders" / part)
    task = LabelsTask.load(tmp_path / "folders")
    assert len(task.part("test")[1]) == 20
    assert len(task.part("train")[1]) + len(task.part("validation")[1]) == 20


def test_a_group_stays_in_one_part(tmp_path):
    told = [one | {"author": n // 4} for n, one in enumerate(RECORDS)]
    task = LabelsTask.load(lines(tmp_path / "a.jsonl", told), group="author")
    authors = [
        {told[row]["author"] for row in task.part(part)[0].index}
        for part in ("train", "validation", "test")
    ]
    assert sum(map(len, authors)) == len(set.union(*authors)) == 5


def test_labels_are_classes_of_one_type():
    numbers = find_texts([{"text": t, "label": float(n % 2)} for n, t in enumerate(TEXTS)])
    assert numbers.labels.tolist() == [0, 1] * 10
    task = LabelsTask.load((TEXTS, [0, 1] * 10))
    assert task.classes.tolist() == [0, 1] and task.classes.dtype == np.int64


def test_blank_texts_and_missing_labels_are_left_out_and_said():
    rows = [*RECORDS, {"text": "  ", "label": "cat"}, {"text": "a cow", "label": None}]
    task = LabelsTask.load(rows)
    assert sum(task.describe()["rows"].values()) == 20
    assert "1 blank text left out" in task.notes
    assert "1 text without a label, left out" in task.notes


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ([{"body": "a", "label": "x"}], {}, "which of its fields is the text .it has body, label"),
        ([{"text": "a", "y": "x"}], {}, "which of its fields is the label .* --target"),
        (RECORDS, {"target": "lable"}, "has no field 'lable'. Did you mean 'label'"),
        (RECORDS, {"target": "text"}, "cannot be the text and the label"),
        ([{"text": "a", "label": 0.5}], {}, "the 'label' of record 1 is 0.5, and a label is a"),
        ([{"text": 7, "label": "x"}], {}, "the 'text' of record 1 is the number 7 and no text"),
        ((TEXTS, CLASSES[1:]), {}, "20 texts and 19 labels"),
        ((TEXTS, ["cat"] * 20), {}, r"all texts are of one class \(cat\)"),
        ((["  "] * 20, CLASSES), {}, "every text of this source is blank"),
        (TEXTS, {}, "has no labels"),
        ("nowhere.jsonl", {}, "no folder, file or set of labelled texts 'nowhere.jsonl'"),
        ((TEXTS, CLASSES), {"max_rows": 3}, "too few to train on"),
        (RECORDS, {"test": 1.5}, "no share of the rows"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(source, options, words):
    with pytest.raises(DataError, match=words):
        LabelsTask.load(source, **options)


def test_equal_texts_have_equal_hashes_and_others_have_not():
    one, other = LabelsTask.load((TEXTS, CLASSES)), LabelsTask.load((TEXTS, CLASSES[::-1]))
    assert one.data_hash == LabelsTask.load((TEXTS, CLASSES)).data_hash != other.data_hash
    assert LabelsTask.load((TEXTS, CLASSES), **{"max_length": 9}).data_hash != one.data_hash
