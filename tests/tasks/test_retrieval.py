"""The task of retrieval: what is read, how rankings are measured, what the baselines find."""

import json

import numpy as np
import pytest

from beir_files import beir
from stackwise.errors import DataError
from stackwise.tasks import choose_task
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.collection import Document, pairs_of_documents
from stackwise.tasks.retrieval.measures import ndcg, recall, reciprocal_rank
from stackwise.tasks.retrieval.porter import stem
from stackwise.tasks.retrieval.small import small_collection
from stackwise.tasks.retrieval.task import RetrievalTask


def test_measures_are_those_of_ir_measures_on_random_runs_with_ties():
    ir = pytest.importorskip("ir_measures")
    generator = np.random.default_rng(0)
    qrels, run = {}, {}
    for query in range(40):
        ids = [f"d{n}" for n in generator.permutation(60)]
        qrels[f"q{query}"] = {one: int(generator.integers(0, 4)) for one in ids[:20]}
        shown = ids[10:50]
        run[f"q{query}"] = {one: float(generator.integers(0, 6)) for one in shown}  # many ties
    names = {"nDCG@10": ndcg, "RR@10": reciprocal_rank, "R@20": recall}
    for name, own in names.items():
        measure = ir.parse_measure(name)
        theirs = {one.query_id: one.value for one in ir.iter_calc([measure], qrels, run)}
        k = int(name.partition("@")[2])
        for query, found in run.items():
            mine = own(list(found), list(found.values()), qrels[query], k)
            assert mine == pytest.approx(theirs[query], abs=1e-9), (name, query)


def test_every_layout_is_the_same_collection(tmp_path):
    folder = beir(tmp_path / "c")
    whole = RetrievalTask.load(folder)
    apart = RetrievalTask.load(
        folder / "corpus.jsonl", queries=folder / "queries.jsonl", judgements=folder / "qrels.tsv"
    )
    found = small_collection()
    listed = RetrievalTask.load(
        found["documents"], queries=found["queries"], judgements=found["judgements"]
    )
    assert whole.data_hash == apart.data_hash == listed.data_hash
    assert whole.rows() == {"train": 18, "validation": 6, "test": 6}
    assert choose_task(folder).name == "retrieval"
    assert choose_task(folder / "corpus.jsonl").name == "retrieval"
    rows = (f"{q} 0 {d} {s}\n" for q, d, s in found["judgements"])
    (tmp_path / "qrels.txt").write_text("".join(rows))
    trec = RetrievalTask.load(
        found["documents"], queries=found["queries"], judgements=tmp_path / "qrels.txt"
    )
    assert trec.data_hash == whole.data_hash


def test_parts_that_files_name_are_the_parts(tmp_path):
    folder = beir(tmp_path)
    lines = (folder / "qrels.tsv").read_text().splitlines()
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    for name, rows in (("train", lines[1:21]), ("dev", lines[21:26]), ("test", lines[26:])):
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join([lines[0], *rows]) + "\n")
    task = RetrievalTask.load(folder)
    assert task.rows() == {"train": 20, "validation": 5, "test": 5}
    assert [query.id for _, query in task.queries_of("test")] == [f"q{n}" for n in range(25, 30)]


def test_a_folder_of_texts_and_a_csv_are_documents(tmp_path):
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    (tmp_path / "texts" / "one.txt").write_text("Tails wag. Dogs do so when they are glad.")
    (tmp_path / "texts" / "deep" / "two.md").write_text("Cats purr. They do so at night.")
    (tmp_path / "texts" / "empty.txt").write_text(" \n")
    (tmp_path / "texts" / "broken.txt").write_bytes(b"\xff\xfe\x00\xd8")
    for n in range(6):
        (tmp_path / "texts" / f"{n}.txt").write_text(f"Number {n}. It is a number.")
    task = RetrievalTask.load(tmp_path / "texts")
    assert {"one.txt", "deep/two.md"} <= {one.id for one in task.documents}
    assert any("2 files left out" in note and "empty.txt" in note for note in task.notes)
    (tmp_path / "a.csv").write_text(
        "id,text,year\na,red boxes. they are red,1990\nb,blue sky,2001\n"
    )
    rows = RetrievalTask.load(tmp_path / "a.csv", pairs="titles").documents
    assert [(one.id, one.fields) for one in rows] == [
        ("a", {"year": "1990"}),
        ("b", {"year": "2001"}),
    ]


def test_without_queries_pairs_are_made_and_there_is_no_score():
    task = RetrievalTask.load(small_collection()["documents"])
    assert len(task.pairs("train")) + len(task.pairs("validation")) == 30
    assert task.pairs("train")[0].asked.startswith("The ")
    assert "no judged queries" in task.unscored
    judged = task.judge(BM25Retriever().fit(task), "test")
    assert judged.scores == {} and not len(judged.samples)
    (made,) = pairs_of_documents([Document("a", "Tails wag. Dogs do so.")])
    assert (made.asked, made.positive) == ("Tails wag.", "Dogs do so.")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["documents"].append({"_id": "x", "text": " "}), "document 'x' .* is empty"),
        (lambda c: c["documents"].append(c["documents"][0]), "two documents .* the id 'd0'"),
        (lambda c: c["queries"].append(c["queries"][0]), "two queries .* the id 'q0'"),
        (lambda c: c["judgements"].append(("q99", "d0", 1)), "the query 'q99', which is not there"),
        (lambda c: c["judgements"].append(("q1", "d99", 1)), "the document 'd99', which is not"),
        (lambda c: c["judgements"].append(("q1", "d1", "much")), "the score 'much'"),
    ],
)
def test_what_does_not_hold_together_is_refused_in_a_sentence(change, sentence):
    found = small_collection()
    change(found)
    with pytest.raises(DataError, match=sentence):
        RetrievalTask.load(
            found["documents"], queries=found["queries"], judgements=found["judgements"]
        )


def test_queries_alone_are_refused(tmp_path):
    with pytest.raises(DataError, match="queries without judgements"):
        RetrievalTask.load(["one text", "another"], queries=["what?"])
    with pytest.raises(DataError, match="has no words"):
        BM25Retriever().fit(["one text", "another"]).rank(["?!"])


def test_answers_are_written_as_json_and_as_a_run(tmp_path):
    task = RetrievalTask.small()
    learner = task.fit(BM25Retriever())
    (tmp_path / "asked.txt").write_text("where is the red fox?\n\nwhere is the blue box?\n")
    assert task.write_predictions(tmp_path / "a.jsonl", learner, tmp_path / "asked.txt", k=3) == 2
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["query"] == "where is the red fox?" and len(first["results"]) == 3
    task.write_predictions(tmp_path / "a.run", learner, tmp_path / "asked.txt", k=3)
    assert (tmp_path / "a.run").read_text().split()[:4:3] == ["0", "1"]
    assert learner.search("where is the red fox?", k=1).ids == [first["results"][0]["id"]]


def test_bm25_finds_the_rare_word_first():
    learner = BM25Retriever().fit(["the dog wags", "the cat", "the bird sings of cats"])
    assert learner.rank(["the wagging of tails"])[0][0][0] == "0"
    assert learner.rank(["unheard"])[0][0] == []
    scores = learner.score_pairs(["cats", "cats"], ["the cat", "the dog wags"])
    assert scores[0] > scores[1] == 0


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("caresses", "caress"), ("ponies", "poni"), ("agreed", "agre"), ("motoring", "motor"),
     ("conflated", "conflat"), ("hopping", "hop"), ("filing", "file"), ("happy", "happi"),
     ("relational", "relat"), ("vietnamization", "vietnam"), ("triplicate", "triplic"),
     ("adoption", "adopt"), ("controll", "control"), ("roll", "roll"), ("running", "run"),
     ("generalizations", "gener"), ("naïve", "naïve"), ("is", "is")],
)  # fmt: skip
def test_stems_are_porters(word, wanted):
    assert stem(word) == wanted


def test_docstrings_are_parsed_and_not_imported(tmp_path):
    import ast

    from stackwise.data.search_sets import _of_tree

    text = '"""Add two numbers together.\n\nThey may be of any size, and the sum is exact."""'
    ((place, asked, rest),) = _of_tree(ast.parse(text), "a.py")
    assert (place, asked) == ("a.py:1:", "Add two numbers together.") and rest.startswith("They")


def test_the_bookmarks_have_tags_as_queries():
    from stackwise import data

    if data.lacking("semanlink-search", "retrieval"):
        pytest.skip("cherche is not installed")
    found = data.search("semanlink-search")
    assert len(found["documents"]) > 7000 and len(found["queries"]) > 700
