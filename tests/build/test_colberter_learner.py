"""The retriever: its index on disk, its search, why it found what it found, and its pages."""

import json
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from beir_files import beir
from stackwise import ColBERTerRetriever, cli, compare
from stackwise.build.colberter.encoding import encode_queries
from stackwise.build.colberter.index import folder as index_folder
from stackwise.build.colberter.index.folder import Index
from stackwise.build.colberter.model.states import pooled_states
from stackwise.errors import DataError, KnobError, RunError, StudyError
from stackwise.tasks.retrieval.small import small_collection
from stackwise.tasks.retrieval.task import RetrievalTask
from stackwise.training.session import session

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
SMALL = {
    "encoder": None, "layers": 1, "width": 32, "heads": 2, "vocabulary": 300, "cls_dim": 16,
    "token_dim": 8, "max_epochs": 3, "stored": "float32", "threads": 1,
}  # fmt: skip
ASKED = "where is the red fox?"
TEXTS = [f"{one['title']}. {one['text']}" for one in small_collection()["documents"]]
QUERIES = [one["text"] for one in small_collection()["queries"]]


@pytest.fixture(scope="module")
def fitted():
    return RetrievalTask.small().fit(ColBERTerRetriever(**SMALL))


@pytest.fixture(scope="module")
def exact():
    made = ColBERTerRetriever(**SMALL | {"exact_match": True, "final_dim": 1})
    return RetrievalTask.small().fit(made)


def brute(learner, query: str) -> dict[str, float]:
    """The score of every document by one joint pass."""
    reading, network = learner.reading_, learner.network_
    documents = [learner.document(name) for name in learner.index_.places()]
    with torch.no_grad():
        sides = [
            pooled_states(network.encoder, reader, texts, half=False)
            for reader, texts in (
                (reading.queries, [query]), (reading.passages, [one.whole for one in documents])
            )
        ]  # fmt: skip
        found = network.score_all(
            network.queries(sides[0].padded([0])),
            network.documents(sides[1].padded(np.arange(len(documents)))),
        )
    scores = found.total[0].tolist()
    return dict(zip([one.id for one in documents], scores, strict=True))


@pytest.mark.parametrize("which", ["fitted", "exact"])
def test_what_the_index_scores_is_what_the_network_scores(which, request):
    learner = request.getfixturevalue(which)
    wanted = brute(learner, ASKED)
    ((ids, scores),) = learner.rank([ASKED], 30)
    assert len(ids) == 30
    for name, score in zip(ids, scores, strict=True):
        assert score == pytest.approx(wanted[name], abs=2e-5)
    assert list(scores) == sorted(scores, reverse=True)


def test_workflows_with_all_candidates_agree_and_need_equal_words(fitted, exact):
    whole = exact.search(ASKED, k=30)
    for way in ("bow+cls", "hybrid"):
        found = exact.search(ASKED, k=30, workflow=way)
        assert dict(zip(found.ids, found.scores)) == pytest.approx(
            dict(zip(whole.ids, whole.scores)), abs=1e-5
        )
        with pytest.raises(KnobError, match="needs exact_match"):
            fitted.search(ASKED, workflow=way)
    (asked,) = encode_queries(exact.reading_, exact.network_, [ASKED])
    merged = {}
    for way, weight in (("cls", asked.weight), ("bow", 1 - asked.weight)):
        found = exact.search(ASKED, k=30, workflow=way)
        for name, score in zip(found.ids, found.scores):
            merged[name] = merged.get(name, 0.0) + weight * score
    assert merged == pytest.approx(dict(zip(whole.ids, whole.scores)), abs=1e-4)


def test_kept_and_read_back_it_scores_the_same_to_the_bit(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    again = ColBERTerRetriever.load(tmp_path / "kept")
    ((ids, scores),), ((others, same),) = fitted.rank([ASKED]), again.rank([ASKED])
    assert ids == others and np.array_equal(scores, same)
    place = next((tmp_path / "kept" / "index").glob("*/vectors.npy"))
    whole = place.read_bytes()
    place.unlink()  # it may be a second name of the file that another index has
    place.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(RunError, match="is damaged"):
        ColBERTerRetriever.load(tmp_path / "kept")
    place.write_bytes(whole[:-40])
    with pytest.raises(RunError, match="missing or cut off"):
        ColBERTerRetriever.load(tmp_path / "kept")


def test_what_was_deleted_and_added_again_ranks_alike(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    learner = ColBERTerRetriever.load(tmp_path / "kept")
    before = dict(zip(*learner.rank([ASKED], 30)[0]))
    gone = ["d3", "d11"]
    documents = [learner.document(name) for name in gone]
    learner.delete(gone)
    without = dict(zip(*learner.rank([ASKED], 30)[0]))
    assert without == {name: score for name, score in before.items() if name not in gone}
    learner.compact()
    assert dict(zip(*learner.rank([ASKED], 30)[0])) == without
    learner.add(documents)
    again = dict(zip(*learner.rank([ASKED], 30)[0]))
    assert again == pytest.approx(before, abs=1e-5)
    with pytest.raises(DataError, match="there is a document 'd3' already"):
        learner.add(documents)
    with pytest.raises(DataError, match="no document 'nobody'"):
        learner.delete(["nobody"])
    opened = ColBERTerRetriever.load(tmp_path / "kept")
    assert dict(zip(*opened.rank([ASKED], 30)[0])) == again


def test_a_documents_score_does_not_depend_on_the_others(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    learner = ColBERTerRetriever.load(tmp_path / "kept")
    wanted = dict(zip(*learner.rank([ASKED], 30)[0]))
    learner.index([learner.document("d7"), learner.document("d2")], out=tmp_path / "two")
    assert dict(zip(*learner.rank([ASKED], 30)[0])) == pytest.approx(
        {name: wanted[name] for name in ("d7", "d2")}, abs=1e-5
    )


def test_indexing_that_was_killed_goes_on_to_the_same_index(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(index_folder, "A_SEGMENT", 10)
    documents = [fitted.document(name) for name in fitted.index_.places()]
    fitted.save(tmp_path / "kept")
    learner = ColBERTerRetriever.load(tmp_path / "kept")
    learner.index(documents, out=tmp_path / "whole")
    encode, calls = learner._encode, []

    def killed(part):
        calls.append(len(part))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(part)

    monkeypatch.setattr(learner, "_encode", killed)
    with pytest.raises(KeyboardInterrupt):
        learner.index(documents, out=tmp_path / "cut")
    assert len(Index.open(tmp_path / "cut")) == 10
    (tmp_path / "cut" / "000007").mkdir()  # a segment that no manifest names
    learner.index(documents, out=tmp_path / "cut")
    assert calls == [10, 10, 10, 10]  # the first segment was not made again
    names = sorted(p.relative_to(tmp_path / "cut") for p in (tmp_path / "cut").rglob("*.npy"))
    assert names == sorted(
        p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.npy")
    )
    for name in names:
        one, other = ((tmp_path / place / name).read_bytes() for place in ("cut", "whole"))
        assert one == other


def test_an_index_of_another_reader_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "kept")
    manifest = tmp_path / "kept" / "index" / "manifest.json"
    record = json.loads(manifest.read_text())
    record["made_with"]["normalise"] = "lower"
    manifest.unlink()
    manifest.write_text(json.dumps(record))
    with pytest.raises(RunError, match="was made with normalise=lower, not stem"):
        ColBERTerRetriever.load(tmp_path / "kept")


@pytest.mark.parametrize("place", ["segments", "files"])
def test_a_manifest_names_nothing_outside_of_its_index(fitted, place, tmp_path):
    fitted.save(tmp_path / "kept")
    manifest = tmp_path / "kept" / "index" / "manifest.json"
    record = json.loads(manifest.read_text())
    first = record["segments"][0]
    if place == "segments":
        first["name"] = "../../elsewhere"
    else:
        first["files"] = {"../../../elsewhere": [1, "0"]}
    manifest.unlink()
    manifest.write_text(json.dumps(record))
    with pytest.raises(RunError, match="leads out of that folder"):
        ColBERTerRetriever.load(tmp_path / "kept")


@pytest.mark.parametrize("which", ["fitted", "exact"])
def test_what_words_gave_adds_up_to_the_score(which, request):
    learner = request.getfixturevalue(which)
    first = learner.search(ASKED, k=1)[0]
    table = learner.explain(ASKED, first["id"])
    assert table["score"].sum() == pytest.approx(first["score"], abs=1e-4)
    assert table["share"].sum() == pytest.approx(1)
    assert {"red", "fox"} <= set(table["query_word"])


def test_a_page_shades_words_and_runs_nothing_of_a_text(fitted, tmp_path):
    learner = fitted
    learner.save(tmp_path / "kept")
    learner = ColBERTerRetriever.load(tmp_path / "kept")
    learner.add(["<script>alert(1)</script> the red fox"], ["<b>"])
    page = learner.search("<i>the red fox</i>", k=31, explain=True).page()
    assert "<mark" in page and "<script>" not in page and "<i>" not in page
    assert "&lt;b&gt;" in page


def test_it_learns_from_texts_with_negatives_and_a_teachers_scores():
    made = ColBERTerRetriever(**SMALL)
    scores = np.column_stack([np.full(30, 3.0), np.zeros(30)])
    made.fit(QUERIES, TEXTS, negatives=TEXTS[1:] + TEXTS[:1], teacher_scores=scores)
    with pytest.raises(DataError, match="no documents are indexed"):
        made.search(ASKED)
    made.index(TEXTS, ids=[f"t{n}" for n in range(30)])
    assert made.search(ASKED, k=2).ids[0].startswith("t")
    with pytest.raises(DataError, match=r"teacher_scores are of the shape \(3, 2\)"):
        made.fit(QUERIES, TEXTS, negatives=TEXTS, teacher_scores=scores[:3])
    with pytest.raises(DataError, match="do not go together"):
        made.fit(QUERIES, TEXTS[:3])


def test_bm25_and_a_fitted_retriever_teach(fitted):
    for teacher, negatives in (("bm25", "bm25"), (fitted, "random")):
        made = ColBERTerRetriever(**SMALL | {"teacher": teacher, "negatives": negatives,
                                             "max_epochs": 1})  # fmt: skip
        made.fit(QUERIES, TEXTS)
        assert np.isfinite(made.history_[-1]["metrics"]["train_loss"])


def test_few_numbers_without_equal_words_are_warned_of():
    with pytest.warns(UserWarning, match="exact_match=true lets only equal ones match"):
        ColBERTerRetriever(**SMALL | {"final_dim": 1, "max_epochs": 1}).fit(QUERIES, TEXTS)


def test_one_vector_a_token_is_there_too():
    made = ColBERTerRetriever(**SMALL | {"whole_words": False, "max_epochs": 1})
    found = RetrievalTask.small().fit(made).search(ASKED, k=2, explain=True)
    assert found.page().count("<section") == 2


def command(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["stackwise", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    assert not ended.value.code, out.err
    return out.out


@pytest.mark.slow
def test_from_files_to_answers_on_the_command_line(tmp_path, monkeypatch, capsys):
    beir(tmp_path)
    monkeypatch.chdir(tmp_path)
    command(
        monkeypatch, capsys, "fit", "colberter", "corpus.jsonl", "--queries", "queries.jsonl",
        "--judgements", "qrels.tsv", "--preset", "quick", "--out", "runs/search",
    )  # fmt: skip
    out = command(monkeypatch, capsys, "search", "runs/search", ASKED, "-k", "3", "--explain")
    assert out.count(" -> ") > 10 and "d" in out
    command(monkeypatch, capsys, "search", "runs/search", ASKED, "--explain", "-o", "why.html")
    assert "<mark" in (tmp_path / "why.html").read_text()
    command(monkeypatch, capsys, "predict", "runs/search", "queries.jsonl", "-o", "found.run")
    assert len((tmp_path / "found.run").read_text().splitlines()) == 300
    again = command(monkeypatch, capsys, "search", "runs/search", ASKED, "-k", "2", "--json")
    assert len(json.loads(again)["answer"]) == 2


def test_without_judgements_a_comparison_says_why_it_cannot_be(tmp_path):
    with pytest.raises(StudyError, match="has no judged queries"):
        compare(RetrievalTask.load(TEXTS), out=tmp_path / "study")


def test_answers_over_http_are_bounded(fitted):
    fastapi = pytest.importorskip("fastapi.testclient")
    from stackwise.build.colberter.pages.server import search_app

    client = fastapi.TestClient(search_app(fitted))
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["documents"] == 30
    assert "<form" in client.get("/").text
    found = client.get("/search", params={"q": ASKED, "k": 2}).json()
    assert [one["rank"] for one in found["hits"]] == [1, 2] and found["hits"][0]["spans"]
    assert client.get("/search", params={"q": "x" * 2001}).status_code == 422
    refused = client.get("/search", params={"q": ASKED, "k": 1000})
    assert refused.status_code == 422 and "k a number from 1 to 100" in refused.json()["detail"]
    assert "<h1>30 documents</h1>" in client.get("/").text
    blank = client.get("/search", params={"q": "?!"})
    assert blank.status_code == 422 and "has no words" in blank.json()["detail"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_searches_in_a_browser(fitted, tmp_path):
    uvicorn = pytest.importorskip("uvicorn")
    from stackwise.build.colberter.pages.server import search_app

    server = uvicorn.Server(
        uvicorn.Config(search_app(fitted), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--virtual-time-budget=8000", "--dump-dom", f"http://127.0.0.1:{port}/?q=the+red+fox"],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    server.should_exit = True
    thread.join(timeout=10)
    assert "10 documents" in done.stdout and done.stdout.count('class="hit"') == 10
    assert "<mark" in done.stdout


def test_of_a_time_limit_so_much_is_left_as_indexing_takes():
    with session(time_limit=1e-3), pytest.warns(UserWarning, match="more than the limit leaves"):
        learner = RetrievalTask.small().fit(ColBERTerRetriever(**SMALL))
    assert len(learner.rank([ASKED], 3)[0][0]) == 3  # all are indexed nevertheless
