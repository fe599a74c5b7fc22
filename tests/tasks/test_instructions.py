"""The task of instructions: forms of chats, what is learned of them, what is refused."""

import json

import pytest
import torch

from stackwise.conformance import small_language_model
from stackwise.errors import DataError
from stackwise.models import open_model
from stackwise.tasks.instructions.encode import PLAIN, encode, with_template
from stackwise.tasks.instructions.packing import effective_batch, spread
from stackwise.tasks.instructions.source import read_chats
from stackwise.tasks.instructions.task import InstructionsTask
from stackwise.tasks.text_batches import tokenizer_of

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
    task = InstructionsTask.load([*PAIRS, {"prompt": "x " * 300, "response": "y"}], seed=1)
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
    assert float(task.loss(model, next(task.batches("test"))).detach()) == pytest.approx(
        expected, rel=1e-5
    )


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
