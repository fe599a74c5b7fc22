"""The text task: parts that share no passage, tokens on disk, scores, baselines, errors."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from stackwise import runs
from stackwise.errors import DataError, KnobError, ModelError, StorageError
from stackwise.tasks import open_task, task_class
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.tokens import TokenBatches, windows
from stackwise.tasks.text.baselines import DecoderLearner, NGram
from stackwise.tasks.text.corpus import open_corpus
from stackwise.tasks.text.task import TextTask
from stackwise.training.session import session

WORDS = ("red", "green", "blue", "grey", "small", "large", "round", "flat")
LINES = [f"the {a} box is under the {b} one, and the {c} fox knows it" for a in WORDS
         for b in WORDS for c in WORDS]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKWISE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task():
    return TextTask.load(LINES, length=16, vocabulary=320)


def tiny(**knobs):
    return DecoderLearner(layers=1, width=16, heads=2, max_epochs=2, **knobs)


def test_parts_share_no_document_and_lose_none(task):
    parts = [list(task.texts(part)) for part in ("train", "validation", "test")]
    assert sorted(line for part in parts for line in part) == sorted(LINES)
    assert [len(part) for part in parts] == [410, 51, 51]


def test_one_long_document_is_cut_at_lines_its_end_for_the_test(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    corpus = open_corpus(tmp_path / "a.txt")
    parts = ["\n".join(corpus.part(p, (0.1, 0.2), 0)) for p in ("train", "validation", "test")]
    assert "\n".join(parts) == "\n".join(LINES)
    assert len(parts[2].splitlines()) == pytest.approx(0.2 * len(LINES), abs=2)


def test_every_document_ends_with_the_end_of_text(task):
    tokens = np.asarray(task.tokens("validation"))
    assert (tokens == task.tokenizer.eos_token_id).sum() == 51
    assert task.tokenizer.decode(tokens, skip_special_tokens=True) == "".join(
        task.texts("validation")
    )


def test_tokens_are_made_once_and_mapped(task, monkeypatch):
    first = task.tokens("train")
    assert isinstance(first, np.memmap) and first.dtype == np.uint16
    again = TextTask.load(LINES, length=16, vocabulary=320)
    again.tokenizer = task.tokenizer
    read = (pytest.fail("read a second time") for _ in range(1))
    monkeypatch.setattr(again, "texts", lambda part: read)
    assert (again.tokens("train") == first).all()


def test_a_cache_that_cannot_be_written_is_told_with_the_way_out(task, tmp_path):
    (tmp_path / "cache").touch()  # no folder can be made below it
    with pytest.raises(StorageError, match=r"cache.* cannot be written: .*STACKWISE_CACHE$"):
        task.tokens("validation")


def test_windows_predict_each_token_but_the_first_once():
    tokens = np.arange(50, dtype=np.uint16)
    rows = windows(tokens, 8)
    assert rows[:, 1:].flatten().tolist() == list(range(1, 50))
    assert rows[:, 0].tolist() == [0, *range(7, 49, 7)]
    assert len(windows(tokens, 8, most=3)) == 3


def test_batches_hold_every_row_once_an_epoch_and_go_on_in_the_middle():
    batches = TokenBatches(np.arange(100, dtype=np.uint16), 10, 3, seed=1)
    epoch = [batch["input_ids"] for batch in batches.epoch(0)]
    assert sorted(torch.cat(epoch).flatten().tolist()) == list(range(100))
    later = [batch["input_ids"] for batch in batches.epoch(0, start=2)]
    assert all(torch.equal(a, b) for a, b in zip(epoch[2:], later, strict=True))
    assert not torch.equal(epoch[0], next(batches.epoch(1))["input_ids"])


def test_bits_per_byte_is_the_models_own_loss_over_the_bytes(task):
    learner = tiny().fit(task)
    judged = task.judge(learner, "test")
    rows = windows(task.tokens("test"), 16, task.most_judged)
    loss = learner.model_(input_ids=rows, labels=rows).loss.item()  # mean of the same predictions
    assert judged.scores["loss"] == pytest.approx(loss, rel=1e-5)
    texts = task.tokenizer.batch_decode(rows[:, 1:], skip_special_tokens=True)
    bytes_ = sum(len(text.encode()) for text in texts)
    expected = loss * rows[:, 1:].numel() / math.log(2) / bytes_
    assert judged.scores["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    means = np.average(judged.samples["value"], weights=judged.samples["weight"])
    assert means == pytest.approx(expected, rel=1e-5)


def test_counts_give_probabilities_that_sum_to_one(task):
    learner = NGram(order=3).fit(task)
    size = len(task.tokenizer)
    start = torch.tensor(np.asarray(task.tokens("test"))[:4].astype(np.int64))
    rows = torch.cat([start.expand(size, 4), torch.arange(size)[:, None]], dim=1)
    logs, _ = learner.token_log_probabilities(rows)
    assert logs[:, -1].double().exp().sum() == pytest.approx(1, abs=1e-5)


def test_counts_of_one_order_are_the_formula_by_hand():
    made = TextTask.load(["ab" * 40, "ac" * 40] * 15, length=8, vocabulary=257)
    learner = NGram(order=1).fit(made)
    tokens = np.asarray(made.tokens("train"))
    kinds, counts = np.unique(tokens, return_counts=True)
    size = len(made.tokenizer)
    row = torch.tensor([[int(kinds[0]), int(kinds[0])]])
    expected = (counts[0] + len(kinds) / size) / (len(tokens) + len(kinds))
    assert learner.token_log_probabilities(row)[0].exp().item() == pytest.approx(expected, rel=1e-6)


def test_a_learner_that_is_cut_off_ends_with_the_same_bits(task, tmp_path):
    from stackwise.errors import Interrupted

    whole = tiny().fit(task)

    def stop(event):
        if event.get("epoch") == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted), session(folder=tmp_path / "run", on_event=stop):
        tiny().fit(task)
    with session(folder=tmp_path / "run", resume=True):
        again = tiny().fit(task)
    for name, value in whole.model_.state_dict().items():
        assert torch.equal(value, again.model_.state_dict()[name]), name


def test_a_run_keeps_a_model_that_plain_transformers_loads(task, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = runs.fit_run("decoder", task, out=tmp_path / "run",
                       knobs={"layers": 1, "width": 16, "heads": 2})  # fmt: skip
    assert next(iter(run.record["scores"]["test"])) == "bits_per_byte"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    rows = torch.tensor([tokenizer("the red box is under")["input_ids"]])
    kept = runs.load(tmp_path / "run")
    expected = token_log_probabilities(kept, rows)[0]
    assert torch.equal(token_log_probabilities(model.eval(), rows)[0], expected)
    (answer,) = kept.generate(["the red box is under"], max_new_tokens=5)
    found = model.generate(rows, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert answer == tokenizer.decode(found[0, rows.shape[1] :], skip_special_tokens=True)
    assert 1 <= len(tokenizer(answer)["input_ids"]) <= 5


def test_prompts_of_a_file_are_continued(task, tmp_path):
    learner = NGram().fit(task)
    (tmp_path / "p.jsonl").write_text('{"prompt": "the red box"}\n{"prompt": "the"}\n')
    assert learner.write_predictions(tmp_path / "o.jsonl", tmp_path / "p.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["the red box", "the"]
    assert lines[0]["completion"].startswith(" is under the")


def test_json_lines_and_folders_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"body": line}) for line in LINES))
    task = TextTask.load(tmp_path / "rows.jsonl", field="body")
    assert task.corpus.counted[0] == len(LINES)
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(LINES[number::3]))
    assert open_corpus(tmp_path).counted[0] == 3
    assert open_corpus(tmp_path, "paragraph").counted[0] == len(LINES)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("absent", {}, "no file, no folder"),
        (["a", 3], {}, "holds texts"),
        (["   "], {}, "holds no text"),
        (LINES, {"tokenizer": "/nowhere"}, "no tokenizer at /nowhere"),
        (LINES, {"length": 2}, "length"),
        (LINES, {"size": 3}, "no option 'size'"),
        (["too short"], {"length": 128}, "too few"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(source, options, words):
    with pytest.raises((DataError, KnobError, ModelError), match=words):
        made = open_task("text", source, options)
        made.tokens("train")
        tiny().fit(made)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        TextTask.load(tmp_path / "a.txt")
    (tmp_path / "b.jsonl").write_text('{"text": "fine"}\n{"test": "no"}\n')
    with pytest.raises(DataError, match="line 2"):
        TextTask.load(tmp_path / "b.jsonl")


def test_a_task_that_is_not_there_is_named():
    assert task_class("text") is TextTask
    with pytest.raises(ValueError, match="Did you mean 'text'"):
        task_class("texts")


def test_records_of_every_kind_are_read_as_the_texts_that_they_are(tmp_path):
    texts = ["12.50", "None", "007", "a\u2028b"]
    frame = pd.DataFrame({"body": texts, "n": range(4)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.json", orient="records")
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.json", "t.parquet"):
        assert list(open_corpus(tmp_path / name, field="body").read()) == texts
        with pytest.raises(DataError, match="has no 'text' .it has body, n.; name the field"):
            list(open_corpus(tmp_path / name).read())
    assert list(open_corpus(frame, field="body").read()) == texts
    with pytest.raises(DataError, match="row 1 has no 'text' .it has body, n."):
        list(open_corpus(frame).read())
    with pytest.raises(DataError, match="the 'n' of row 1 of .* is the number 0"):
        list(open_corpus(tmp_path / "t.parquet", field="n").read())


def test_lines_are_parted_at_line_feeds_alone(tmp_path):
    (tmp_path / "t.txt").write_bytes("one\u2028two\x0cthree\r\nfour\x85five".encode("utf-8-sig"))
    documents = list(open_corpus(tmp_path / "t.txt", "line").read())
    assert documents == ["one\u2028two\x0cthree", "four\x85five"]


def test_the_file_that_was_learned_from_is_gone_on_with(task, tmp_path):
    learner = tiny().fit(task)
    rows = [{"text": "the red box"}, {"text": "the red box is under " * 30}]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("the red box")
    for source, count in ((tmp_path / "t.jsonl", 2), (tmp_path / "folder", 1), (["the red"], 1)):
        assert TextTask.write_predictions(tmp_path / "o.jsonl", learner, source) == count
    TextTask.write_predictions(tmp_path / "o.jsonl", learner, tmp_path / "t.jsonl")
    short, long = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert short["completion"] and "left_out" not in short
    kept = learner.tokenizer_(rows[1]["text"])["input_ids"][long["left_out"] :]
    most = learner.model_.config.max_position_embeddings
    assert long["left_out"] > 0 and len(kept) == most - min(50, most // 2)
