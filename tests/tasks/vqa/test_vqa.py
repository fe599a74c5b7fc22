"""The task of questions about pictures: what is read, parted, scored, written and shown."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from stackwise import data
from stackwise.conformance.small_models import small_language_model
from stackwise.data.mosaics import (
    LETTERS,
    joined,
    letter_mosaics,
    letter_pictures,
    letter_tiles,
    mosaics_of,
)
from stackwise.errors import DataError, ModelError
from stackwise.models import open_model
from stackwise.tasks import choose_task
from stackwise.tasks.vqa.baselines import FewTokens, MostFrequentAnswer
from stackwise.tasks.vqa.estimators.prompts import encode, padded
from stackwise.tasks.vqa.estimators.views import Views, stretched
from stackwise.tasks.vqa.records import group_of, read_asked
from stackwise.tasks.vqa.scoring import right, scores_of
from stackwise.tasks.vqa.small import small_questions
from stackwise.tasks.vqa.task import VQATask

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def record(**more):
    return {"image": PICTURE, "question": "which is it?", "answer": "a"} | more


def on_disk(folder, count=6):
    """A file of JSON lines beside its pictures."""
    lines = []
    for number, one in enumerate(small_questions(count)):
        Image.fromarray(one["image"]).save(folder / f"{number}.png")
        lines.append(json.dumps(one | {"image": f"{number}.png"}))
    path = folder / "asked.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_json_lines_name_pictures_beside_the_file_and_nothing_else_takes_them(tmp_path):
    path = on_disk(tmp_path)
    asked = read_asked(path)
    assert [one.picture for one in asked] == [tmp_path / f"{n}.png" for n in range(12)]
    assert asked[0].question == "which half is bright?" and asked[0].kind == "which"
    assert choose_task(path).name == "vqa"
    assert VQATask.recognises(path) > 0.95 and VQATask.recognises("letter-mosaics") == 1.0


def test_arrays_pillow_and_bytes_are_the_same_picture(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "one.png")
    held = [PICTURE, Image.fromarray(PICTURE), (tmp_path / "one.png").read_bytes(),
            {"bytes": (tmp_path / "one.png").read_bytes()}, tmp_path / "one.png"]  # fmt: skip
    asked = read_asked([record(image=one) for one in held])
    views = Views([one.picture for one in asked], [one.name for one in asked], side=8, channels=1,
                  mean=[0.0], std=[1.0])  # fmt: skip
    for low in views.of(range(5))["low"]:
        assert torch.equal(low[0], torch.from_numpy(PICTURE).float() / 255)


def test_questions_of_one_picture_stay_in_one_part():
    task = VQATask.load(letter_mosaics(count=40))
    groups = group_of(task.asked)
    parts = {part: set(groups[task.rows_of(part)]) for part in ("train", "validation", "test")}
    assert not parts["train"] & parts["test"] and not parts["validation"] & parts["test"]
    assert sum(map(len, parts.values())) == 40
    assert task.rows() == {"train": 84, "validation": 12, "test": 24}


def test_a_source_may_say_its_parts():
    parts = ("train", "train", "validation", "test")
    task = VQATask.load([record(part=part, image=PICTURE + n) for n, part in enumerate(parts)])
    assert {name: rows.tolist() for name, rows in task._rows.items()} == {
        "train": [0, 1], "validation": [2], "test": [3],
    }  # fmt: skip
    with pytest.raises(DataError, match="no question is of the part 'test'"):
        VQATask.load([record(part="train"), record(part="validation")])


def test_a_kind_that_is_not_said_is_the_first_two_words():
    asked = read_asked([record(question="How many are there?"), record(kind="other")])
    assert [one.kind for one in asked] == ["how many", "other"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"answer": ""}, "question 1 has no 'answer'"),
        ({"image": None}, "question 1 has no 'image'"),
        ({"question": 7}, "is the number 7 and no text"),
        ({"image": 5}, "is a int; give a path"),
        ({"part": "dev"}, "it is train, validation or test"),
    ],
    ids=str,
)
def test_a_record_that_cannot_be_used_is_named(broken, said):
    with pytest.raises(DataError, match=said):
        read_asked([record(**broken)])


def test_a_picture_that_is_not_there_is_named(tmp_path):
    path = on_disk(tmp_path)
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png of question 4"):
        VQATask.load(path)
    with pytest.raises(DataError, match="is no file and no named set"):
        VQATask.load(tmp_path / "none.jsonl")


def test_equal_data_have_equal_hashes_and_other_pictures_other_ones(tmp_path):
    first, again = (VQATask.load(letter_mosaics(count=10)) for _ in range(2))
    other = VQATask.load(letter_mosaics(count=10, seed=1))
    assert first.data_hash == again.data_hash != other.data_hash


def test_an_answer_is_right_but_for_case_spaces_and_a_full_stop():
    asked = read_asked([record(answer="K  b", kind="row"), record(answer="no", kind="is")] * 2)
    hits = right(asked, ["k B.", "no ", "KB", "yes"])
    assert hits.tolist() == [True, True, False, False]
    assert scores_of(asked, hits) == {"exact_match": 0.5, "accuracy_is": 0.5, "accuracy_row": 0.5}


def test_the_most_frequent_answer_is_that_of_the_kind():
    records = [record(kind="a", answer="x")] * 3 + [record(kind="b", answer="y")] * 2
    learner = MostFrequentAnswer().fit(
        VQATask.load([one | {"part": part} for part in ("train", "validation", "test")
                      for one in records])
    )  # fmt: skip
    asked = [record(kind=kind) for kind in ("a", "b", "never seen")]
    assert learner.predict(asked) == ["x", "y", "x"]


def test_what_becomes_smaller_is_averaged_and_the_fine_view_is_cut_in_rows():
    low = stretched(PICTURE[..., None], 4, 4)
    expected = PICTURE.reshape(4, 2, 4, 2).mean((1, 3))
    assert (np.abs(low[0].numpy() - expected) <= 0.5).all()
    views = Views([PICTURE[..., None]], ["one"], side=4, channels=1, mean=[0.0], std=[1.0 / 255],
                  grid=lambda height, width: (2, 2), most=5)  # fmt: skip
    found = views.of([0, 0])
    assert found["crops"].shape == (2, 5, 1, 4, 4) and found["grids"].tolist() == [[2, 2]] * 2
    assert torch.equal(found["crops"][0, 1, 0].round().byte(), torch.from_numpy(PICTURE[:4, 4:]))
    assert not found["crops"][0, 4].any()


def test_only_the_answer_and_its_end_are_learned():
    task = VQATask.small()
    learner = task.fit(FewTokens(layers=1, width=16, heads=2, vision_width=16, max_epochs=1,
                                 vocabulary=280, side=14, threads=1))  # fmt: skip
    asked = task.part("train")[0][:2]
    prompts = [encode(one, learner.tokenizer_, answered=True) for one in asked]
    batch = padded(prompts, 0)
    for row, one in enumerate(asked):
        learned = batch["labels"][row]
        text = learner.tokenizer_.decode(learned[learned != -100])
        assert text == f" {one.answer}{learner.tokenizer_.eos_token}"
    # the loss is the mean over all answers' tokens, however rows are shared out
    whole = next(iter(learner.questions(asked, shuffle=False, batch_size=2).epoch(0)))
    halves = [{name: values[row : row + 1] for name, values in whole.items()} for row in range(2)]
    with torch.no_grad():
        parts = [float(task.loss(learner.network_, half)) for half in halves]
        total = float(task.loss(learner.network_, whole))
    assert abs(sum(parts) / 2 - total) < 1e-5


def test_predictions_are_a_line_a_question_and_the_report_shows_pictures(tmp_path):
    path = on_disk(tmp_path, count=10)
    task = VQATask.load(path, test=0.4)
    learner = task.fit(MostFrequentAnswer())
    assert VQATask.write_predictions(tmp_path / "out.jsonl", learner, path) == 20
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (
        first["image"] == "0.png" and first["said"] and set(first) == {"image", "question", "said"}
    )
    judged = task.judge(learner, "test")

    run = SimpleNamespace(
        record={"slug": "most-frequent-answer"}, predictions_on=lambda part: judged.samples
    )
    found = VQATask.shows([run], task.describe())
    assert list(found.tables) == ["kinds of questions"] and len(found.figures) == 1
    hits = judged.samples["value"].to_numpy() > 0
    kept = judged.samples["picture"].notna().to_numpy()
    assert kept[hits].sum() == min(4, hits.sum()) and kept[~hits].sum() == min(4, (~hits).sum())


def test_made_mosaics_answer_what_they_show():
    rng = np.random.default_rng(0)
    shown, which = letter_pictures(3, 2, rng)
    clean = joined(letter_tiles()[which])
    assert shown.shape == clean.shape == (3, 28, 28)
    assert np.corrcoef(shown.ravel(), clean.ravel())[0, 1] > 0.5
    tiles = np.arange(4, dtype=np.uint8)[:, None, None].repeat(3, 1).repeat(3, 2)
    names = ["nil", "one", "two", "three"]
    for one in mosaics_of(tiles, names, count=20, cells=2, seed=1):
        cells = one["image"][1::3, 1::3]
        assert one["image"].shape == (6, 6)
        held = np.array(names)[cells]
        if one["kind"] == "row":
            row = int(one["question"].split()[4].rstrip("?")) - 1
            assert one["answer"] == " ".join(held[row])
        elif one["kind"] == "cell":
            row, column = (int(w.rstrip(",?")) - 1 for w in one["question"].split()[4::2])
            assert one["answer"] == held[row, column]
        else:
            asked = one["question"].split()[2].rstrip("?")
            assert one["answer"] == ("yes" if asked in held else "no")


def test_the_named_sets_are_here_without_anything_to_install():
    assert len(data.vqa("digit-mosaics")) == 3_000
    assert {one["answer"] for one in letter_mosaics(count=30) if one["kind"] == "cell"} <= {
        *LETTERS
    }


def test_a_language_model_as_it_is_is_judged_by_the_question_alone():
    task = VQATask.small()
    judged = task.judge(open_model(small_language_model()), "test")
    assert 0 <= judged.scores["exact_match"] <= 1
    said = dict(zip(judged.samples["question"], judged.samples["said"], strict=True))
    assert len(said) == 2 and (judged.samples["said"] == judged.samples["question"].map(said)).all()
    with pytest.raises(ModelError, match="answers no questions"):
        task.judge(object(), "test")
