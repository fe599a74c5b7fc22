"""The task of questions: what is read, how it is asked, what is refused."""

import pytest
import torch

from stackwise.conformance import small_language_model
from stackwise.errors import DataError
from stackwise.models import open_model
from stackwise.tasks.choices.source import read_questions
from stackwise.tasks.choices.task import ChoicesTask, letter_logits, same_answer
from stackwise.tasks.text_batches import tokenizer_of

PLAIN = [
    {"question": f"which is {n}?", "choices": [str(n), str(n + 1), "none"], "answer": "A"}
    for n in range(20)
]


@pytest.fixture(scope="module")
def model():
    return open_model(small_language_model())


def read(rows):
    return read_questions(rows, "question", "choices", "answer")


@pytest.mark.parametrize("answer", [1, "1", "B", "b", "two"])
def test_an_answer_is_a_letter_a_number_or_the_choice(answer):
    (one,) = read([{"question": "?", "choices": ["one", "two"], "answer": answer}])
    assert one.answer == 1


def test_columns_and_public_forms_are_read(tmp_path):
    (tmp_path / "q.csv").write_text("question,A,B,answer\nwhich?,x,y,B\nagain?,x,z,A\n")
    assert [(q.choices, q.answer) for q in read(tmp_path / "q.csv")] == [
        (("x", "y"), 1), (("x", "z"), 0)]  # fmt: skip
    (one,) = read([{"question": "?", "choices": {"label": ["A", "B"], "text": ["x", "y"]},
                    "answer": "A"}])  # fmt: skip
    assert one.choices == ("x", "y")
    (written,) = read([{"question": "2 + 2?", "answer": "4"}])
    assert written.choices == () and written.answer == "4"


def test_parts_hold_every_question_once():
    task = ChoicesTask.load(PLAIN)
    found = [one.row for part in ("train", "validation", "test") for one in task.part(part)[0]]
    assert sorted(found) == list(range(20))
    assert len(task.part("test")[0]) == 8


def test_a_letter_is_chosen_by_the_logits_after_the_prompt(model):
    task, tokenizer = ChoicesTask.load(PLAIN), tokenizer_of(model)
    questions = task.part("test")[0]
    judged = task.judge(model, "test")
    letters = task.letters(tokenizer, 3)
    for one, said in zip(questions, judged.samples["said"], strict=True):
        ids = torch.tensor([tokenizer(task.prompt(one, tokenizer))["input_ids"]])
        with torch.no_grad():
            row = model(input_ids=ids).logits[0, -1, letters]
        assert "ABC"[int(row.argmax())] == said
    assert judged.scores["accuracy"] == judged.samples["value"].mean()
    assert judged.scores["chance"] == pytest.approx(1 / 3)
    assert judged.scores["majority"] == 1.0  # the answer always is A here


def test_padding_changes_no_answer(model):
    rows = [[1, 2, 3], [4, 5, 6, 7, 8, 9], [3]]
    with torch.no_grad():
        together = letter_logits(model, rows)
        for row, logits in zip(rows, together, strict=True):
            assert torch.allclose(letter_logits(model, [row])[0], logits, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_letters(model):
    task = ChoicesTask.load(PLAIN)
    batch = next(task.batches("train"))
    assert task.loss(model, batch).item() == pytest.approx(
        sum(task.judge(model, "train").samples["log_loss"][:8]) / 8, rel=1e-4
    )


def test_an_answer_that_is_written_must_match(model):
    assert same_answer(" Paris. ", "paris") and not same_answer("Paris, France", "Paris")
    task = ChoicesTask.load([{"question": f"{n} + 1 =", "answer": str(n + 1)} for n in range(10)])
    judged = task.judge(model, "test")
    assert list(judged.scores) == ["accuracy"] and len(judged.samples) == 4


def test_questions_that_do_not_fit_are_counted_and_named(model):
    long = [*PLAIN, {"question": "x " * 400, "choices": ["a", "b"], "answer": "A"}]
    task = ChoicesTask.load(long, test=0.85, validation=0.05)
    task.judge(model, "test")
    task.judge(model, "train")
    task.judge(model, "validation")
    assert [note for note in task.notes if "left out" in note] == [
        "1 questions are longer than 256 tokens and left out: 21"
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no questions"),
        (PLAIN[:2], "too few to part"),
        ([{"question": "?"}], "question 1 has no field 'answer'"),
        ([{"question": "?", "choices": ["a"], "answer": "A"}], "has 1 choices"),
        ([{"question": "?", "choices": ["a", "b"], "answer": "C"}], "none of its 2 choices"),
        (["text"], "is a str"),
        ("absent.jsonl", "not a file"),
    ],
)
def test_what_cannot_be_asked_is_said(rows, words):
    with pytest.raises(DataError, match=words):
        ChoicesTask.load(rows)


def test_a_chat_template_asks_as_the_users_turn_and_reads_bare_letters(model):
    task = ChoicesTask.load(PLAIN, template="chat")
    tokenizer = tokenizer_of(model)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    question = task.questions[3]
    asked = task.prompt(question, tokenizer)
    assert asked == (
        "<user>which is 3?\nA. 3\nB. 4\nC. none\nAnswer with the letter alone.\n<assistant>"
    )
    _, (ids,) = task.encode([question], tokenizer, 256)
    assert tokenizer.decode(ids) == asked
    letters = task.letters(tokenizer, 3)
    assert [tokenizer.decode([token]) for token in letters] == ["A", "B", "C"]
