"""Tagged texts come in from every form, their places exact, and what is wrong is one sentence."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stackwise.errors import DataError
from stackwise.tasks import choose_task
from stackwise.tasks.tags.reading.source import How, find_tagged
from stackwise.tasks.tags.task import TagsTask

ROWS = ["I take Xanax", "Abilify Maintena helps", "no drug here", "Xanax or Zoloft?"]
SPANS = [[[7, 12, "drug"]], [[0, 16, "drug"]], [], [[0, 5, "drug"], [9, 15, "drug"]]]


def spans_in(source, **how) -> list:
    found = find_tagged(source, How(**how))
    return [[tuple(span) for span in one.spans] for one in found.samples]


def written(path: Path, text: str, **options) -> Path:
    path.write_bytes(text.encode(**options))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_columns_are_read_with_any_line_end_and_mark(tmp_path, end, mark):
    lines = ["-DOCSTART- -X- O", "", "Éva NN B-per", "took VB O", "", "", "-DOCSTART- -X- O", "",
             "日本 NN B-loc"]  # fmt: skip
    path = written(tmp_path / "a.conll", mark + end.join(lines))
    assert spans_in(path) == [[(0, 1, "per")], [(0, 1, "loc")]]
    assert find_tagged(path, How()).columns["document"].tolist() == [0, 1]
    rows = ["token\ttag", "New York\tB-loc", "\t", "a\tO"]
    tabs = written(tmp_path / "b.tsv", mark + end.join(rows))
    assert spans_in(tabs) == [[(0, 1, "loc")], []]
    assert choose_task(tabs).name == choose_task(path).name == "tags"


def test_records_of_doccano_and_label_studio_say_the_same(tmp_path):
    wanted = [[(2, 3, "drug")], [(0, 2, "drug")], [], [(0, 1, "drug"), (2, 3, "drug")]]
    doccano = [{"text": t, "label": s} for t, s in zip(ROWS, SPANS, strict=True)]
    studio = [
        {"data": {"text": t}, "annotations": [{"result": [
            {"type": "labels", "value": {"start": a, "end": b, "text": t[a:b], "labels": [k]}}
            for a, b, k in s] + [{"type": "relation", "from_id": "x"}]}]}
        for t, s in zip(ROWS, SPANS, strict=True)
    ]  # fmt: skip
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in doccano))
    whole = tmp_path / "b.json"
    whole.write_text(json.dumps(studio))
    assert spans_in(lines) == spans_in(whole) == wanted
    assert choose_task(lines).name == choose_task(whole).name == "tags"
    plain = [{"tokens": ["a", "b"], "ner_tags": ["O", "B-x"]}]
    assert spans_in(plain) == [[(1, 2, "x")]]
    frame = pd.DataFrame({"sentence_id": [1, 1, 2], "token": ["a", "b", "c"], "tag": [0, 1, 0]})
    assert spans_in(frame) == [[(1, 2, "entity")], []]


def test_a_folder_of_datasets_names_its_classes_and_its_parts(tmp_path):
    datasets = pytest.importorskip("datasets")
    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "I-x"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")),
                                  "ner_tags": tags})  # fmt: skip
    rows = {"tokens": [["a", "b"], ["c"]], "ner_tags": [[1, 2], [0]]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "kept")
    found = find_tagged(tmp_path / "kept", How())
    assert [list(map(tuple, one.spans)) for one in found.samples] == [[(0, 2, "x")], []] * 2
    assert found.parts.tolist() == ["train"] * 2 + ["test"] * 2
    assert choose_task(tmp_path / "kept").name == "tags"


def record(text, *spans):
    return [{"text": text, "entities": list(spans)}]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (record("abc", [0, 9, "x"]), "lies beside its text, which has 3 characters"),
        (record("ab cd", [0, 4, "x"], [3, 5, "x"]), "overlap; a word has one tag"),
        (record("ab cd", {"start": 0, "end": 2, "label": "x", "text": "cd"}), "but says 'cd'"),
        (record("ab", [0, "1", "x"]), "give whole numbers"),
        (record("ab cd"), "no token is labelled as an entity"),
        (([["a", "b"]], [["O"]]), "sentence 1 has 2 tokens but 1 tags"),
        ([{"tokens": ["a"], "tags": ["O", "O"]}], "record 1 has 1 tokens but 2 tags"),
        ([{"tokens": ["a"], "tags": [7]}], "a number stands for a tag only where"),
        (([["a", "b"]], [["O", "I-x"]]), 'tag "I-x" follows "O" in sentence 1'),
        (([["a"]], [["drug"]]), 'unknown tag "drug" in sentence 1'),
        ("no-such-thing", "there is no file or set of tagged words"),
    ],
)
def test_bad_input_is_one_sentence(source, said):
    with pytest.raises(DataError, match=said):
        TagsTask.load(source)


def test_bad_columns_are_one_sentence(tmp_path):
    path = written(tmp_path / "a.conll", "a O\nb\n")
    with pytest.raises(DataError, match="line 2 of .* has 1 column, and a word and a tag"):
        TagsTask.load(path)
    with pytest.raises(DataError, match="no column 'x'"):
        TagsTask.load(path, tags="x")
    with pytest.raises(DataError, match="no sentences"):
        TagsTask.load(written(tmp_path / "b.conll", "\n\n"))
    with pytest.raises(DataError, match="UTF-8"):
        TagsTask.load(written(tmp_path / "c.conll", "Éva B-x\n", encoding="latin-1"))


def test_places_inside_of_words_take_the_words_and_are_said():
    rows = [*record("nonXanaxlike a", [3, 8, "x"]), *record("b Zoloft", [2, 8, "x"])] * 10
    task = TagsTask.load(rows)
    assert "10 names begin or end inside of a word, which is taken whole" in task.notes


def many(names):
    return [{"text": f"we met {name} number {n}", "entities": [[7, 7 + len(name), "x"]]}
            for n in range(4) for name in names]  # fmt: skip


def test_parts_by_names_share_no_name_with_the_test_part():
    names = [f"Name{chr(97 + n)}" for n in range(20)]
    task = TagsTask.load(many(names), unseen=0.3)
    held = {task.sentences[row].tokens[2] for row in task.rows_of("test")}
    known = {task.sentences[row].tokens[2] for row in task.rows_of("train")}
    assert len(held) == 6 and not held & known
    again = TagsTask.load(many(names), unseen=0.3, split_seed=1)
    assert again.data_hash != task.data_hash


def test_documents_and_groups_stay_in_one_part(tmp_path):
    blocks = []
    for document in range(12):
        rows = [f"word{document} O\nname{document}x{n} B-x\n" for n in range(3)]
        blocks.append("-DOCSTART- O\n\n" + "\n".join(rows))
    task = TagsTask.load(written(tmp_path / "a.conll", "\n".join(blocks)))
    parts = [
        {task.sentences[row].tokens[0] for row in task.rows_of(part)}
        for part in ("train", "validation", "test")
    ]
    assert sum(map(len, parts)) == 12 and "the sentences of each of 12 documents" in task.notes[0]
    rows = [row | {"by": n % 10} for n, row in enumerate(many([f"N{n}" for n in range(10)]))]
    grouped = TagsTask.load(rows, group="by")
    assert {r % 10 for r in grouped.rows_of("test")}.isdisjoint(
        {r % 10 for r in grouped.rows_of("train")}
    )


def test_plain_texts_are_tagged_by_a_list_of_names(tmp_path):
    lines = [f"I take Xanax {n} and rest" if n % 2 else f"nothing {n} today" for n in range(40)]
    (tmp_path / "notes.txt").write_text("\n".join(lines))
    (tmp_path / "names.txt").write_text("Xanax\nthe\n")
    task = TagsTask.load(tmp_path / "notes.txt", names=tmp_path / "names.txt", label="drug")
    assert task.types == ["drug"] and sum(task.describe()["names"].values()) == 20
    with pytest.raises(DataError, match="plain text with --names"):
        TagsTask.load(tmp_path / "notes.txt")


def test_named_sets_are_what_they_say():
    task = TagsTask.load("drug-names")
    described = task.describe()
    assert described["rows"] == {"train": 539, "validation": 131, "test": 309}
    assert sum(described["names"].values()) == 908 and task.types == ["drug"]
    new = [s for row in task.rows_of("test") for s in task.sentences[row].spans]
    assert len(new) > 400 and any("Plan B" in note for note in task.notes)
    for one in task.sentences[:200]:
        for start, end, _ in one.spans:
            place = one.places[start][0], one.places[end - 1][1]
            assert one.text[slice(*place)].split() == one.tokens[start:end] or end - start > 1
    tweets = TagsTask.load("tweet-entities")
    assert len(tweets.sentences) == 2394 and len(tweets.types) == 10
