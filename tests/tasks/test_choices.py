"""The task of questions: what is read, how it is asked, what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from stackwise.conformance import small_language_model
from stackwise.errors import DataError
from stackwise.models import open_model
from stackwise.tasks import open_task
from stackwise.tasks.choices.asking import letter_logits
from stackwise.tasks.choices.marks import recognises
from stackwise.tasks.choices.source import read_questions
from stackwise.tasks.choices.task import ChoicesTask, same_answer
from stackwise.tasks.language.reading import tokenizer_of

PLAIN = [
    {"question": f"which is {n}?", "choices": [str(n), str(n + 1), "none"], "answer": "A"}
    for n in range(20)
]


@pytest.fixture(scope="module")
def model():
    return open_model(small_language_model())


def read(rows):
    return read_questions(rows, "question", "choices", "answer")


def numbered(*answers, choices=("red", "blue", "green")):
    return [{"question": "?", "choices": list(choices), "answer": one} for one in answers]


@pytest.mark.parametrize("answer", ["B", "b", " B ", "two"])
def test_an_answer_is_a_letter_or_the_choice(answer):
    (one,) = read([{"question": "?", "choices": ["one", "two"], "answer": answer}])
    assert one.answer == 1


@pytest.mark.parametrize(
    ("answers", "places"),
    [([0, 1, 1], [0, 1, 1]), ([1, 3, 2], [0, 2, 1]), (["1", "2", "0"], [1, 2, 0]),
     (np.array([3, 1, 1]), [2, 0, 0])],
)  # fmt: skip
def test_the_answers_of_a_set_say_whether_it_counts_from_0_or_from_1(answers, places):
    assert [one.answer for one in read(numbered(*answers))] == places


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (numbered(1, 2), r"question 1 may be a number from 0 \('blue'\) or a number from 1"),
        (numbered(0, 3), "the answer 3 of question 2 is none of its 3 choices as a number from 0"),
        (numbered("2", choices=("3", "1", "2")), "--answer-rule text or"),
        (numbered("A", choices=("B", "A", "C")), "a letter .'B'. or the text of a choice"),
        (numbered("A", "green"), "is none of its 3 choices"),
        (numbered("red", choices=("red", "red")), "is none of its 2 choices"),
    ],
)
def test_an_answer_that_may_be_several_choices_is_asked_about(rows, words):
    with pytest.raises(DataError, match=words):
        read(rows)


def test_the_user_says_how_answers_name_a_choice():
    rows = numbered("2", choices=("3", "1", "2"))
    for rule, place in (("0", 2), ("1", 1), ("text", 2)):
        (one,) = read_questions(rows, rule=rule)
        assert one.answer == place
    with pytest.raises(DataError, match="none of its 3 choices as a letter"):
        read_questions(rows, rule="letter")


@pytest.mark.parametrize(
    ("fields", "answer", "choices", "place"),
    [
        ({"A": "x", "B": "y", "C": "", "D": None}, "b", ("x", "y"), 1),
        ({"A": "x", "B": " ", "C": "z"}, "C", ("x", "z"), 1),
        ({"choice1": "x", "choice2": "y"}, "y", ("x", "y"), 1),
        ({"ending0": "x", "ending1": "y", "ending2": "z"}, 1, ("x", "y", "z"), 1),
        ({"opa": "x", "opb": "y"}, "B", ("x", "y"), 1),
        ({"option_a": "x", "option_b": "y", "e": "no"}, "A", ("x", "y"), 0),
        ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}}, "2", ("x", "y"), 1),
        ({"choices": {"A": "x", "B": "y"}}, "B", ("x", "y"), 1),
        ({"choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]}, "B",
         ("x", "y"), 1),
        ({"choices": np.array(["x", "y"], dtype=object)}, "x", ("x", "y"), 0),
    ],
)  # fmt: skip
def test_choices_are_read_in_the_forms_that_public_sets_have(fields, answer, choices, place):
    (one,) = read([{"question": "?", "answer": answer} | fields])
    assert (one.choices, one.answer) == (choices, place)


def test_questions_are_the_same_in_every_kind_of_file(tmp_path):
    rows = [{"question": f"{n}?", "choices": ["007", "12.50", "None"], "answer": "ABC"[n % 3]}
            for n in range(6)]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "q.parquet")
    frame.to_json(tmp_path / "q.jsonl", orient="records", lines=True)
    wide = pd.DataFrame([{"question": row["question"], **dict(zip("ABC", row["choices"])),
                          "answer": row["answer"]} for row in rows])  # fmt: skip
    wide.to_csv(tmp_path / "q.csv", index=False)
    for source in (tmp_path / "q.parquet", tmp_path / "q.jsonl", tmp_path / "q.csv", frame):
        assert read(source) == read(rows)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"choices": "red, blue", "answer": "A"}, "'choices' of question 2 is one text"),
        ({"choices": "", "answer": "A"}, "question 2 has no choices, or blank ones alone"),
        ({"choices": [" ", None], "answer": "B"}, "question 2 has no choices, or blank ones"),
        ({"choices": ["x", ""], "answer": "A"}, "question 2 has 1 choices"),
        ({"choices": [1, 2], "answer": "A"}, "choice 1 of question 2 is the number 1"),
        ({"choices": ["x", "y", None], "answer": "C"}, "none of its 2 choices"),
        ({"answer": 4}, "which has no choices, is the number 4"),
        ({"choices": ["x", "y"], "answer": True}, "the 'answer' of question 2 is the truth"),
        ({"choices": ["x", "y"], "answer": None}, "question 2 has a blank field 'answer'"),
        ({"choices": {"text": ["x", "y"], "label": ["A"]}, "answer": "A"}, "2 texts and 1 labels"),
    ],
)
def test_what_is_no_list_of_choices_is_said(row, words):
    first = {"question": "?", "choices": ["aa", "bb"], "answer": "aa" if row.get("answer") == 4
             else "A"}  # fmt: skip
    with pytest.raises(DataError, match=words):
        read([first, {"question": "?"} | row])


def test_the_questions_of_a_file_are_answered_in_their_order(model, tmp_path):
    rows = [{"question": "a?", "choices": ["x", "y"]}, {"question": "b?", "answer": "B"},
            {"question": "x " * 400, "choices": ["x", "y"], "answer": "not read"}]  # fmt: skip
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert ChoicesTask.write_predictions(tmp_path / "o.jsonl", model, tmp_path / "q.jsonl") == 3
    chosen, written, long = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert chosen["choice"] == {"A": "x", "B": "y"}[chosen["said"]]
    assert isinstance(written["said"], str) and "choice" not in written
    assert long["said"] is None and "the model takes 256" in long["note"]


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
    batches = task.batches("train", model=model)
    rows = [len(batch["answer"]) for batch in batches.epoch(0)]
    losses = [task.loss(model, batch).item() for batch in batches.epoch(0)]
    expected = task.judge(model, "train").samples["log_loss"].mean()
    assert np.average(losses, weights=rows) == pytest.approx(expected, rel=1e-4)


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


def test_the_rule_is_an_option_of_the_task_and_stays_out_of_records_without_it():
    rows = numbered(*[1, 2] * 10)
    with pytest.raises(DataError, match="--answer-rule 0 or 1"):
        open_task("choices", rows, {})
    task = open_task("choices", rows, {"answer_rule": "1"})
    assert [one.answer for one in task.questions[:2]] == [0, 1]
    assert task.options["answer_rule"] == "1"
    assert "answer_rule" not in ChoicesTask.load(PLAIN).options


def test_questions_with_a_column_for_each_choice_are_known_by_them():
    row = {"question": "?", "answer": "x"}
    assert recognises([row]) == 0.8
    for more in ({"A": "x", "B": "y"}, {"choice1": "x", "choice2": "y"}, {"choices": ["x", "y"]}):
        assert recognises([row | more]) == 0.95


def apart(right, *wrong):
    """A record of the set sciq."""
    named = {f"distractor{place}": one for place, one in enumerate(wrong, 1)}
    return {"question": "Which?", **named, "correct_answer": right, "support": "A long text."}


def test_a_right_choice_apart_from_the_wrong_ones_is_read_as_sciq_has_them(tmp_path):
    rows = [apart("green", "red", "blue", "7"), apart("7", "red", "green", "blue")]
    first, second = read(rows)
    assert first.choices == second.choices
    assert [one.choices[one.answer] for one in (first, second)] == ["green", "7"]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "q.csv", index=False)
    frame.to_parquet(tmp_path / "q.parquet")
    for source in (frame, tmp_path / "q.csv", tmp_path / "q.parquet"):
        assert read(source) == [first, second]
    assert recognises(rows) == 0.95
    assert recognises([{"question": "?", "correct_answer": "x"}]) == 0.0


def test_the_place_of_the_right_choice_of_sciq_says_nothing():
    rows = [apart(f"a{n}", f"b{n}", f"c{n}", f"d{n}") for n in range(800)]
    places = np.bincount([one.answer for one in read(rows)], minlength=4)
    assert places.min() > 150 and places.max() < 250


def test_a_wrong_choice_of_sciq_that_equals_the_right_one_is_no_choice():
    (one,) = read([apart("oxygen", "oxygen ", "carbon", None)])
    assert sorted(one.choices) == ["carbon", "oxygen"] and one.choices[one.answer] == "oxygen"
    with pytest.raises(DataError, match="question 2 has a blank field 'correct_answer'"):
        read([apart("a", "b"), apart(None, "b", "c")])
