"""The retriever: searches that leave nothing out agree, and what is cut, kept and resumed is the
same.
"""

import json

import numpy as np
import pytest
import torch

from beir_files import beir
from stackwise import MatryoshkaRetriever, data, runs
from stackwise.errors import DataError, KnobError
from stackwise.stack.saved import rebuild_saved
from stackwise.tasks.retrieval.baselines.bm25 import BM25Retriever
from stackwise.tasks.retrieval.baselines.dense import DenseRetriever
from stackwise.tasks.retrieval.collection import Pair
from stackwise.tasks.retrieval.estimators.batches import PairBatches
from stackwise.tasks.retrieval.estimators.pairs import training_pairs
from stackwise.tasks.retrieval.small import small_collection
from stackwise.tasks.retrieval.task import RetrievalTask
from stackwise.train.matryoshka import MatryoshkaLoss, contrastive_loss
from stackwise.train.matryoshka.searching.documents import Way
from stackwise.train.matryoshka.searching.losses import NestedPairLoss
from stackwise.train.matryoshka.searching.network import MappedMeans, SquareMap
from stackwise.train.matryoshka.searching.reading import MeansOfTexts

pytest.importorskip("faiss")
SMALL = {"model": None, "layers": 1, "width": 32, "heads": 2, "vocabulary": 300, "max_epochs": 3,
         "threads": 1}  # fmt: skip
ASKED = "where is the red fox?"
TEXTS = [f"{one['title']}. {one['text']}" for one in small_collection()["documents"]]
QUERIES = [one["text"] for one in small_collection()["queries"]]


@pytest.fixture(scope="module")
def fitted() -> MatryoshkaRetriever:
    return RetrievalTask.small().fit(MatryoshkaRetriever(**SMALL))


@pytest.fixture(scope="module")
def encoder(fitted, tmp_path_factory) -> str:
    """A pretrained encoder in a folder."""
    place = tmp_path_factory.mktemp("pretrained")
    fitted.save(place)
    fitted.encoder_.tokenizer.save_pretrained(place / "model")
    return str(place / "model")


def same(one, other) -> bool:
    return all(
        ids == others and np.allclose(scores, found, atol=1e-6)
        for (ids, scores), (others, found) in zip(one, other, strict=True)
    )


def test_a_full_search_by_all_numbers_is_the_exact_cosine(fitted):
    documents = [fitted.document(f"d{n}").whole for n in range(30)]
    for dim in (None, 8, 13):
        cosines = fitted.encode(QUERIES[:5], dim=dim) @ fitted.encode(documents, dim=dim).T
        for (ids, scores), row in zip(
            fitted.rank(QUERIES[:5], 30, dim=dim, workflow="full"), cosines
        ):
            assert np.allclose(scores, np.sort(row)[::-1], atol=1e-5)
            assert [row[int(one[1:])] for one in ids] == pytest.approx(scores, abs=1e-5)


def test_a_shortlist_of_everything_is_the_full_search(fitted):
    whole = fitted.rank(QUERIES, 7, workflow="full")
    made = MatryoshkaRetriever(**SMALL | {"shortlist_dim": 8, "shortlist": 30})
    made.__dict__.update({k: v for k, v in vars(fitted).items() if k not in made.get_params()})
    assert same(made.rank(QUERIES, 7), whole)
    for dim in (16, 20):
        exact = fitted.rank(QUERIES, 7, workflow="full", dim=dim)
        assert same(made.rank(QUERIES, 7, dim=dim), exact)
    assert same(
        made.set_params(shortlist=1).rank(QUERIES, 30), fitted.rank(QUERIES, 30)
    )  # k is more


def test_a_funnel_narrows_through_the_sizes_between(fitted):
    way = Way("funnel", (8, 16, 32, 64), 200, 8)
    assert way.stages(64, 10) == [(16, 200), (32, 100), (64, 50)]
    assert way.stages(20, 150) == [(16, 200), (20, 150)]
    assert Way("adaptive", (8, 16, 32), 50, 8).stages(32, 10) == [(32, 50)]
    made = MatryoshkaRetriever(**SMALL | {"shortlist_dim": 8, "workflow": "funnel"})
    made.__dict__.update({k: v for k, v in vars(fitted).items() if k not in made.get_params()})
    assert same(made.rank(QUERIES, 30), fitted.rank(QUERIES, 30, workflow="full"))


def test_a_small_shortlist_is_what_few_numbers_find_in_the_order_of_all(fitted):
    made = MatryoshkaRetriever(**SMALL | {"shortlist_dim": 4, "shortlist": 6})
    made.__dict__.update({k: v for k, v in vars(fitted).items() if k not in made.get_params()})
    for query in QUERIES[:4]:
        ((near, _),) = fitted.rank([query], 6, dim=4, workflow="full")
        ((order, _),) = fitted.rank([query], 30, workflow="full")
        ((found, _),) = made.rank([query], 6)
        assert found == [one for one in order if one in near]


def test_untrained_it_is_the_frozen_encoders_own_search(encoder):
    made = MatryoshkaRetriever(model=encoder, max_epochs=1, threads=1)
    task = RetrievalTask.small()
    task.fit(made)
    learned = made.network_.map.linear.weight
    assert not torch.equal(learned, torch.eye(32))
    made.network_.map.reset()
    made.index(task.documents)
    dense = task.fit(DenseRetriever(model=encoder))
    assert np.array_equal(made.vectors_, dense.vectors_)
    assert same(made.rank(QUERIES, 30), dense.rank(QUERIES, 30))


def test_a_frozen_encoder_stays_and_its_last_blocks_learn_where_asked(encoder, tmp_path):
    deep = rebuild_saved(encoder, [0, 0], tmp_path / "deep")
    before = DenseRetriever(model=str(deep)).fit(TEXTS).encoder_.model.base_model.state_dict()
    for blocks, wanted in ((0, set()), (1, {"1"}), (None, {"0", "1"})):
        made = MatryoshkaRetriever(model=str(deep), blocks=blocks, max_epochs=1, lr=1e-3)
        made.fit(QUERIES, TEXTS)
        assert made.encoder_.learns == (blocks != 0)
        model = made.encoder_.model if blocks == 0 else made.network_.encoder.model
        after = model.base_model.state_dict()
        moved = {n for n in before if not torch.equal(before[n], after[n]) and ".layer." in n}
        assert {name.split(".layer.")[1][0] for name in moved} == wanted
    with pytest.raises(KnobError, match="has 2 blocks, and 3 are to learn"):
        made.set_params(blocks=3).fit(QUERIES, TEXTS)
    with pytest.raises(KnobError, match="blocks=1 is for a pretrained encoder"):
        MatryoshkaRetriever(**SMALL | {"blocks": 1}).fit(QUERIES, TEXTS)


@pytest.mark.parametrize("frozen", [False, True])
def test_kept_and_read_back_it_scores_the_same_to_the_bit(fitted, encoder, frozen, tmp_path):
    made = fitted
    if frozen:
        made = RetrievalTask.small().fit(MatryoshkaRetriever(model=encoder, max_epochs=1))
    made.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "model").is_dir() != frozen
    again = MatryoshkaRetriever.load(tmp_path / "kept")
    for dim in (None, 8):
        for (ids, scores), (others, found) in zip(
            made.rank(QUERIES, 30, dim=dim), again.rank(QUERIES, 30, dim=dim), strict=True
        ):
            assert ids == others and np.array_equal(scores, found)
    assert again.search(ASKED, k=1)[0]["text"] == made.search(ASKED, k=1)[0]["text"]


def test_it_learns_from_lists_and_indexes_texts_by_name():
    made = MatryoshkaRetriever(**SMALL).fit(QUERIES, TEXTS, negatives=TEXTS[1:] + TEXTS[:1])
    with pytest.raises(DataError, match="no documents are indexed"):
        made.search(ASKED)
    made.index(TEXTS, ids=[f"t{n}" for n in range(30)])
    found = made.search(ASKED, k=100)
    assert len(found) == 30 and found.ids[0].startswith("t")
    assert found.scores == sorted(found.scores, reverse=True)
    made.index(TEXTS[:1])
    assert made.search(ASKED, k=5, dim=8).ids == ["0"]
    assert made.search(ASKED, workflow="funnel")[0]["text"] == TEXTS[0]
    with pytest.raises(DataError, match="2 documents and 1 ids do not go together"):
        made.index(TEXTS[:2], ids=["a"])


def test_what_cannot_be_is_refused_in_a_sentence(fitted):
    with pytest.raises(DataError, match="has no words"):
        fitted.search("?!")
    with pytest.raises(DataError, match="dim must be from 1 to the embedding size 32, got 33"):
        fitted.search(ASKED, dim=33)
    with pytest.raises(KnobError, match="end at the embedding size 32, got"):
        MatryoshkaRetriever(**SMALL | {"dims": (8, 64)}).fit(QUERIES, TEXTS)
    with pytest.raises(KnobError, match="batch_size=1 leaves a query nothing to choose among"):
        MatryoshkaRetriever(**SMALL | {"batch_size": 1}).fit(QUERIES, TEXTS)


def test_negatives_are_drawn_and_a_batch_may_then_be_one_pair():
    made = MatryoshkaRetriever(**SMALL | {"negatives": "bm25", "batch_size": 1, "max_epochs": 1})
    made.fit(QUERIES[:6], TEXTS[:6])
    assert np.isfinite(made.history_[-1]["metrics"]["train_loss"])
    left = MatryoshkaRetriever(**SMALL | {"batch_size": 5, "max_epochs": 1})
    left.fit(QUERIES[:6], TEXTS[:6])  # the last batch is one pair, which teaches nothing
    assert np.isfinite(left.history_[-1]["metrics"]["train_loss"])


@pytest.fixture
def pairs() -> PairBatches:
    """Five pairs with negatives; the first two queries are one, the last two documents are."""
    asked, right = ("a", "a", "b", "c", "d"), ("u", "v", "w", "x", "x")
    both = zip(asked, right, strict=True)
    found = training_pairs([Pair(q, p, n) for (q, p), n in zip(both, "vwxuu", strict=True)], 99, 0)
    generator = np.random.default_rng(0)
    sides = [
        MeansOfTexts(generator.normal(size=(len(texts), 8)).astype(np.float32))
        for texts in (found.queries, found.documents)
    ]
    return PairBatches(found, *sides, 5, both_ways=True)


def test_the_loss_is_the_contrast_of_each_size_without_those_that_are_right_too(pairs):
    batch = pairs.batch(np.arange(5))
    network = MappedMeans(SquareMap(width=8))
    torch.nn.init.normal_(network.map.linear.weight)
    weights = (2.0, 0.5)
    loss = NestedPairLoss((4, 8), weights, 0.1)(network, batch)
    asked, shown = (network.queries(batch[side]) for side in ("query", "positive"))
    wrong = network.queries(batch["negative"])
    wanted = torch.zeros(())
    queries, documents = "aabcd", "uvwxx" + "vwxuu"
    answers = {"a": "uv", "b": "w", "c": "x", "d": "x"}
    for m, weight in zip((4, 8), weights, strict=True):
        every = torch.cat([shown, wrong])[:, :m]
        table = torch.cosine_similarity(asked[:, None, :m], every[None], dim=-1) / 0.1
        for i in range(5):
            among = [j for j in range(10) if j == i or documents[j] not in answers[queries[i]]]
            askers = [j for j in range(5) if j == i or documents[i] not in answers[queries[j]]]
            there = table[i, i] - table[i, among].logsumexp(0)
            back = table[i, i] - table[askers, i].logsumexp(0)
            wanted = wanted - weight * (there + back) / 10
    torch.testing.assert_close(loss, wanted)


def test_the_parts_of_a_batch_teach_together_what_the_batch_does(pairs):
    batch = pairs.batch(np.arange(5))
    network, loss = MappedMeans(SquareMap(width=8)), NestedPairLoss((4, 8), (1.0, 1.0), 0.1)
    parts = [loss(network, batch | {"right": rows}) for rows in torch.arange(5).split([2, 3])]
    torch.testing.assert_close((2 * parts[0] + 3 * parts[1]) / 5, loss(network, batch))


def test_without_anything_known_it_is_the_plain_contrastive_loss():
    torch.manual_seed(0)
    one, other = torch.randn(6, 8), torch.randn(6, 8)
    plain = contrastive_loss(one, other)
    nobody, everyone = torch.zeros(6, 6, dtype=torch.bool), torch.arange(6)
    torch.testing.assert_close(contrastive_loss(one, other, known=nobody, rows=everyone), plain)
    nested = MatryoshkaLoss(contrastive_loss, (4, 8))(one, other)
    torch.testing.assert_close(nested, plain + contrastive_loss(one[:, :4], other[:, :4]))


def test_going_on_after_a_stop_learns_the_same_bits(tmp_path):
    task = RetrievalTask.small()
    knobs = {name: value for name, value in SMALL.items() if name != "threads"}
    whole = runs.fit_run("matryoshka", task, out=tmp_path / "whole", knobs=knobs, threads=1)

    def stopped(event: dict) -> None:
        if event.get("metrics") and event["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.fit_run("matryoshka", task, out=tmp_path / "cut", knobs=knobs, threads=1,
                     on_event=stopped)  # fmt: skip
    runs.fit_run("matryoshka", task, out=tmp_path / "cut", knobs=knobs, threads=1, resume=True)
    one, other = (runs.load(tmp_path / name) for name in ("whole", "cut"))
    assert np.array_equal(one.vectors_, other.vectors_)
    assert whole.record["scores"]["test"]["bytes_per_document"] == 4 * 32


@pytest.mark.slow
@pytest.mark.skipif(data.lacking("minilm", "model") is not None, reason="MiniLM is not here")
def test_the_packaged_encoder_is_the_one_that_is_taken_by_itself():
    made = MatryoshkaRetriever(max_epochs=1, threads=1).fit(QUERIES, TEXTS)
    assert made.dims_ == (12, 24, 48, 96, 192, 384) and not made.encoder_.learns
    assert made.index(TEXTS).search(ASKED, k=1, dim=24)[0]["text"].startswith("The red fox")


def test_a_ranking_by_fewer_numbers_is_written_and_refused_where_nothing_can_be_cut(
    fitted, tmp_path
):
    RetrievalTask.write_predictions(tmp_path / "found.jsonl", fitted, QUERIES[:3], k=4, dim=8)
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [[one["id"] for one in line["results"]] for line in lines] == [
        ids for ids, _ in fitted.rank(QUERIES[:3], 4, dim=8)
    ]
    with pytest.raises(KnobError, match="a BM25Retriever compares no vectors that could be cut"):
        words = BM25Retriever().fit(TEXTS)
        RetrievalTask.write_predictions(tmp_path / "no.jsonl", words, QUERIES, dim=8)


@pytest.mark.slow
def test_from_files_to_answers_on_the_command_line(tmp_path, monkeypatch, command):
    def said_by(words: list[str]) -> str:
        code, out, err = command(*words)
        assert code == 0, err
        return out

    beir(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = "corpus.jsonl --queries queries.jsonl --judgements qrels.tsv"
    fit = f"fit matryoshka {given} --task retrieval --out runs/mrl --preset quick".split()
    said = said_by(fit)
    assert "ndcg@10" in said and said_by([*fit, "--resume"]) == said
    asked = ["search", "runs/mrl", "-k", "10", "--dim", "16", "why do tails wag"]
    assert len(said_by(asked).splitlines()) == 10
    said_by(["predict", "runs/mrl", "queries.jsonl", "--dim", "8", "-k", "3", "-o", "found.run"])
    assert len((tmp_path / "found.run").read_text().splitlines()) == 90
    compare = f"compare {given} --preset quick --method matryoshka --method bm25 --out study"
    said = said_by(compare.split())
    assert "matryoshka" in said and "bm25" in said
