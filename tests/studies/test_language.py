"""Comparisons on text and on chats: any task, knobs for all, variants side by side."""

import pytest

from stackwise.conformance import small_language_model, small_task
from stackwise.errors import KnobError, UnknownName
from stackwise.report import compare
from stackwise.studies import EVERY

SMALL = {"layers": 1, "width": 16, "heads": 2}


def test_a_text_is_compared_like_a_table(tmp_path):
    study = compare(small_task("text"), out=tmp_path / "text", methods=["decoder", "ngram"],
                    seeds=2, knobs={"decoder": SMALL, EVERY: {"max_epochs": 2}})  # fmt: skip
    record = study.record
    assert record["metric"] == {"name": "bits_per_byte", "mode": "min"}
    assert {row["method"] for row in record["ranking"]} == {"decoder", "ngram"}
    chances = {row["method"]: row["winner_better"] for row in record["ranking"]}
    assert chances.pop(record["winner"]["method"]) is None
    (chance,) = chances.values()
    assert 0.5 < chance <= 1  # the winner was chosen on other rows, and wins on these as well
    decoders = [run for run in study.runs if run.record["slug"] == "decoder"]
    assert [run.record["knobs"]["max_epochs"] for run in decoders] == [2, 2]
    page = (tmp_path / "text" / "report.html").read_text(encoding="utf-8")
    assert "bits_per_byte" in page and "NEW -o predictions.jsonl" in page


def test_variants_of_a_method_are_contenders_of_their_own(tmp_path):
    knobs = {EVERY: {"model": small_language_model(), "max_epochs": "1", "remember": "none"}}
    study = compare(small_task("instructions"), out=tmp_path / "chats", seeds=1, knobs=knobs)
    assert {row["method"] for row in study.record["ranking"]} == {
        "sft-recipe (stacked)", "sft-recipe (phased)", "untuned", "usual-fine-tuning",
    }  # fmt: skip
    assert not study.record["failures"]
    phased = next(run for run in study.runs if run.record["variant"] == "phased")
    assert phased.record["knobs"]["order"] == "phased"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"knobs": {EVERY: {"nope": 1}}}, KnobError, "no method of this comparison has a knob"),
        ({"stack": True}, KnobError, "cannot be stacked"),
        ({"bag": 4}, KnobError, "cannot be bagged"),
        ({"methods": ["tabm"]}, UnknownName, "serves language modelling on a text"),
    ],
)
def test_what_a_text_cannot_be_asked(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        compare(small_task("text"), out=tmp_path / "x", **options)


def test_a_knob_that_a_method_needs_is_asked_for(tmp_path):
    with pytest.raises(KnobError, match=r"needs --set model=\.\.\."):
        compare(small_task("instructions"), out=tmp_path / "x")
