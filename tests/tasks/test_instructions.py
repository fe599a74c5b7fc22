"""The task of instructions: forms of chats, what is learned of them, what is refused."""

import json

import pandas as pd
import pytest
import torch

from stackwise.conformance import small_language_model
from stackwise.errors import DataError
from stackwise.models import open_model
from stackwise.tasks.instructions.encode import PLAIN, encode, with_template
from stackwise.tasks.instructions.packing import effective_batch, spread
from stackwise.tasks.instructions.source import read_chats
from stackwise.tasks.instructions.task import InstructionsTask
from stackwise.tasks.language.reading import tokenizer_of

PAIRS = [{"prompt": f"say {n}", "response": f"{n} it is"} for n in range(20)]
CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "red or blue?"},
    {"role": "assistant", "content": "red"},
    {"role": "user", "content": "why?"},
    {"role": "assistant", "content": "it is large"},
]


@pytest.fixture(scope="module")
def model():
    return open_model(small_language_model())


@pytest.fixture
def tokenizer(model):
    return with_template(tokenizer_of(model))[0]


def learned_text(found, tokenizer):
    return tokenizer.decode([label for label in found.labels if label != -100])


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"prompt": "q", "response": "a"}, {"prompt": "q", "completion": "a"},
        {"question": "q", "answer": "a"}, {"instruction": "q", "input": "", "output": "a"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    ],
)  # fmt: skip
def test_the_forms_that_people_have_are_one_chat(row):
    (chat,) = read_chats([row])
    assert chat.messages == (("user", "q"), ("assistant", "a"))


def test_a_folder_has_a_phase_a_file(tmp_path):
    for place, name in enumerate(("01-easy", "02-hard")):
        (tmp_path / f"{name}.jsonl").write_text(
            "\n".join(json.dumps(row) for row in PAIRS[10 * place : 10 * place + 10])
        )
    task = InstructionsTask.load(tmp_path)
    assert task.phases == ["01-easy", "02-hard"] and len(task.chats) == 20
    assert InstructionsTask.load({"a": PAIRS[:10], "b": PAIRS[10:]}).phases == ["a", "b"]


def test_a_table_and_a_packaged_set_are_read(tmp_path):
    (tmp_path / "c.csv").write_text("prompt,response\n" + "a,b\n" * 5)
    assert len(InstructionsTask.load(tmp_path / "c.csv").chats) == 5
    assert len(InstructionsTask.load("chatterbot").chats) == 2025


@pytest.mark.parametrize("template", [PLAIN, CHATML])
def test_answers_and_their_end_marks_are_learned_and_nothing_else(tokenizer, template):
    tokenizer.chat_template = template
    (chat,) = read_chats([{"messages": TALK}])
    found = encode(chat, tokenizer)
    end = tokenizer.eos_token
    assert learned_text(found, tokenizer).replace(" ", "") == f"red{end}itislarge{end}"
    assert sum(label == tokenizer.eos_token_id for label in found.labels) == 2
    assert len(found.ids) == len(found.labels)


def test_what_follows_the_last_answer_is_left_out_and_counted():
    thanks = {"messages": [*TALK, {"role": "user", "content": "thanks"}]}
    task = InstructionsTask.load([thanks, *PAIRS])
    assert task.chats[0].messages[-1] == ("assistant", "it is large")
    assert "1 chats go on after the last answer; that is left out" in task.notes


def test_a_token_that_reaches_into_the_answer_is_learned(tokenizer):
    tokenizer.chat_template = PLAIN.replace("'Assistant:' }}", "'Assistant: ' }}")
    (chat,) = read_chats([{"messages": TALK}])
    assert "red" in learned_text(encode(chat, tokenizer), tokenizer)


def test_unmasked_chats_learn_the_users_turns_too_but_not_the_systems(tokenizer):
    tokenizer.chat_template = CHATML
    (chat,) = read_chats([{"messages": TALK, "unmask": True}])
    text = learned_text(encode(chat, tokenizer), tokenizer)
    assert "red or blue?" in text and "be brief" not in text


def test_a_template_that_hides_the_end_of_an_answer_is_refused(tokenizer):
    (chat,) = read_chats([{"messages": TALK}])
    tokenizer.chat_template = CHATML.replace("eos_token + ", "'<end>' + ")
    with pytest.raises(DataError, match="not with the tokenizer's end token"):
        encode(chat, tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] if loop.last else '' }}{{ m['content'] + eos_token }}"
        "{% endfor %}"
    )
    with pytest.raises(DataError, match="does not say where answer 3"):
        encode(chat, tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no end token"):
        with_template(tokenizer)


def test_rows_are_spread_longest_first_into_the_least_loaded():
    assert spread([5, 9, 3, 1], 10) == [[1], [0, 2, 3]]
    assert spread([30, 1], 10) == [[0], [1]]
    rows = spread(list(range(1, 40)), 64)
    assert sorted(i for row in rows for i in row) == list(range(39))
    assert all(sum(i + 1 for i in row) <= 64 for row in rows)


def test_seen_and_left_out_add_up(model, tokenizer):
    task = InstructionsTask.load([*PAIRS, {"prompt": "x " * 300, "response": "y"}], split_seed=1)
    counts = [len(task.encoded(part, tokenizer, 256)) for part in ("train", "validation", "test")]
    notes = [note for note in task.notes if "left out" in note]
    assert sum(counts) == 20 and len(notes) == 1 and notes[0].endswith("left out: 21")
    with pytest.raises(DataError, match="samples of the train part exceed 3 tokens"):
        task.encoded("train", tokenizer, 3)


def test_the_score_is_the_models_own_loss_over_answers(model):
    task = InstructionsTask.load(PAIRS, written=1)
    judged = task.judge(model, "test")
    tokenizer, _ = with_template(tokenizer_of(model))
    samples = task.encoded("test", tokenizer)
    batch = effective_batch(samples, most_tokens=4096, packed=False)
    with torch.no_grad():
        expected = float(model(**batch.rows[0]).loss)
    assert judged.scores["loss"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= judged.scores["exact_match"] <= 1
    (batch,) = task.batches("test", model=model).epoch(0)
    assert float(task.loss(model, batch).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no chats"),
        ([{"messages": [{"role": "user", "content": "q"}]}], "sample 1 has no assistant turn"),
        ([{"messages": [{"role": "cook", "content": "q"}]}], "a turn of 'cook'"),
        ([{"text": "q"}], "neither messages nor a prompt"),
        (["q"], "is a str"),
        (PAIRS[:2], "too few to part"),
        ("absent", "no file, no folder"),
    ],
)
def test_what_cannot_be_learned_from_is_said(rows, words):
    with pytest.raises(DataError, match=words):
        InstructionsTask.load(rows)


PARTS = [{"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": PARTS}]},
        {"conversations": [{"from": "Human", "value": "q"}, {"from": "GPT", "value": "a"}],
         "messages": None},
        {"prompt": "q", "response": None, "output": "a"},
    ],
)  # fmt: skip
def test_parts_and_blank_fields_are_read_as_meant(row):
    (chat,) = read_chats([row])
    assert chat.messages == (("user", "q"), ("assistant", "a"))


@pytest.mark.parametrize("name", ["c.csv", "c.parquet", "c.jsonl"])
def test_an_answer_is_the_text_that_the_file_has(tmp_path, name):
    answers = ["12.50", "007", "None", "NA", "True", "1e5"]
    frame = pd.DataFrame({"prompt": ["?"] * 6, "response": answers})
    path = tmp_path / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert [chat.messages[-1][1] for chat in read_chats(path)] == answers
    assert read_chats(frame) == read_chats(path)


def test_turns_are_read_from_parquet_and_from_a_saved_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    frame = pd.DataFrame({"messages": [TALK] * 3, "unmask": [True, False, None]})
    frame.to_parquet(tmp_path / "c.parquet")
    datasets.Dataset.from_list([{"messages": TALK}] * 3).save_to_disk(tmp_path / "saved")
    expected = tuple((turn["role"], turn["content"]) for turn in TALK)
    for source in (tmp_path / "c.parquet", tmp_path / "saved"):
        assert [chat.messages for chat in read_chats(source)] == [expected] * 3
    assert [chat.unmask for chat in read_chats(tmp_path / "c.parquet")] == [True, False, False]


def test_a_table_of_texts_says_in_words_what_is_unmasked(tmp_path):
    (tmp_path / "c.csv").write_text("prompt,response,unmask\na,b,False\na,b,1\na,b,\n")
    assert [chat.unmask for chat in read_chats(tmp_path / "c.csv")] == [False, True, False]
    with pytest.raises(DataError, match="'unmask' of sample 1 is 'perhaps'"):
        read_chats([{"prompt": "a", "response": "b", "unmask": "perhaps"}])


def turns(content):
    return {"messages": [{"role": "user", "content": "q"}, content]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (turns({"role": "assistant", "content": None}), "content of turn 2 of sample 1 is missing"),
        (turns({"role": "assistant", "content": 5}), "the number 5"),
        (turns({"role": "assistant", "content": [{"type": "image"}]}), "a part of type 'image'"),
        (turns({"content": "a"}), "turn 2 of sample 1 has no role"),
        (turns("a"), "turn 2 of sample 1 is a str"),
        ({"messages": "q"}, "the 'messages' of sample 1 is a str, not a list of turns"),
        ({"prompt": "q", "response": 12.5}, "the 'response' of sample 1 is the number 12.5"),
        ({"prompt": ["q"], "response": "a"}, "the 'prompt' of sample 1 is a list"),
        ({"prompt": "q", "response": "", "n": 1}, "it has prompt, a blank response, n"),
    ],
)
def test_what_is_no_text_is_not_learned_as_one(row, words):
    with pytest.raises(DataError, match=words):
        read_chats([row])


def test_a_sample_is_named_with_its_line(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"prompt": "q", "response": "a"}\n\n{"prompt": "q"}\n')
    with pytest.raises(DataError, match=r"sample 2 \(line 3 of .*c.jsonl\) has neither"):
        read_chats(tmp_path / "c.jsonl")


REFUSES = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
LEAVES_OUT = (
    "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + CHATML
)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (REFUSES, r"refuses sample 1 \(System role not supported\); give --fold-system"),
        (LEAVES_OUT, "leaves out what the system says in sample 1; give --fold-system"),
    ],
)
def test_a_template_without_a_turn_of_the_system_is_refused_or_given_folded_chats(
    tokenizer, template, words
):
    tokenizer.chat_template = template
    chats = [{"messages": TALK}, *PAIRS]
    with pytest.raises(DataError, match=words):
        encode(InstructionsTask.load(chats).chats[0], tokenizer)
    task = InstructionsTask.load(chats, fold_system=True)
    assert task.chats[0].messages[0] == ("user", "be brief\n\nred or blue?")
    assert task.options["fold_system"] and len(encode(task.chats[0], tokenizer).ids)
    assert "fold_system" not in InstructionsTask.load(chats).options


def answers(tmp_path, model, source, **options):
    count = InstructionsTask.write_predictions(tmp_path / "o.jsonl", model, source, **options)
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().split("\n") if line]
    assert len(lines) == count
    return lines


def test_the_file_that_was_learned_from_is_answered(model, tmp_path):
    rows = [
        {"messages": TALK}, {"messages": TALK[:2]}, {"instruction": "say", "input": "x",
         "output": "y"}, {"prompt": "say"}, {"prompt": "x " * 300, "response": "z"},
    ]  # fmt: skip
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    lines = answers(tmp_path, model, tmp_path / "c.jsonl")
    assert [line["prompt"] for line in lines[:4]] == ["why?", "red or blue?", "say\n\nx", "say"]
    assert lines[0]["messages"] == TALK[:4] and "messages" not in lines[3]
    assert all(isinstance(line["completion"], str) for line in lines[:4])
    assert lines[4]["completion"] is None and "the model takes 256" in lines[4]["note"]
    (tmp_path / "c.txt").write_text("say x\n\nsay y\n")
    said = answers(tmp_path, model, tmp_path / "c.txt")
    assert [line["prompt"] for line in said] == ["say x", "say y"]
    assert answers(tmp_path, model, [{"messages": TALK}]) == lines[:1]


def test_a_question_without_words_is_refused_where_it_is_answered(model, tmp_path):
    with pytest.raises(DataError, match="sample 1 asks nothing"):
        answers(tmp_path, model, [{"messages": TALK[2:3]}])
