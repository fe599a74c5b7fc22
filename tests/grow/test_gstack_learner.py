"""Training a shallow model, growing it and going on: budgets, text, resume, what is kept."""

import os
import signal

import numpy as np
import pytest
import torch

from stackwise import runs
from stackwise.errors import Interrupted, KnobError
from stackwise.grow.gstack import GrownLanguageModel, Masked, growth_schedule
from stackwise.stack import Stack
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches
from stackwise.tasks.text.decoder import DecoderLearner
from stackwise.tasks.text.task import TextTask
from stackwise.training.phases import Trained
from stackwise.training.session import session

WORDS = ("red", "green", "blue", "grey", "small", "large", "round", "flat")
LINES = [f"the {a} box is under the {b} one, and the {c} fox knows it" for a in WORDS
         for b in WORDS for c in WORDS]  # fmt: skip
SMALL = {"layers": 4, "factor": 2, "width": 32, "heads": 4, "batch_size": 16, "learn_steps": 3}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STACKWISE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task():
    return TextTask.load(LINES, length=16, vocabulary=320)


def test_pieces_of_the_stream_see_no_row_twice_before_all_were_seen_once():
    text = TokenBatches(np.arange(1000, dtype=np.uint16), 10, 8, seed=1)
    pieces = StreamBatches(text, 0, 5), StreamBatches(text, 5, 8, parts=4)
    rows = [row for piece in pieces for part in range(piece.parts) for batch in piece.epoch(part)
            for row in batch["input_ids"][:, 0].tolist()]  # fmt: skip
    assert len(rows) == len(set(rows)) == 100
    later = [batch["input_ids"] for batch in pieces[0].epoch(0, start=3)]
    assert all(torch.equal(a, b["input_ids"]) for a, b in
               zip(later, list(pieces[0].epoch(0))[3:], strict=True))  # fmt: skip


def block_parameters(model):
    return sum(p.numel() for block in Stack.of(model).blocks for p in block.parameters())


def steps_taken(learner):
    return {line["phase"]: line["step"] for line in learner.history_}


@pytest.mark.parametrize("knobs", [
    {"max_epochs": 2}, {"axis": "width"}, {"operator": "learned", "base_share": 0.4},
])  # fmt: skip
def test_growing_costs_what_scratch_does(task, knobs):
    knobs = SMALL | {"base_share": 0.25, "max_epochs": 1} | knobs
    learner = GrownLanguageModel(**knobs).fit(task)
    sizes = {name: knobs[name] for name in ("layers", "width", "heads", "batch_size", "max_epochs")}
    scratch = DecoderLearner(**sizes).fit(task)
    grown, steps = block_parameters(learner.model_), steps_taken(learner)
    assert steps == {"base": learner.base_steps_, "grown": learner.grown_steps_}
    assert block_parameters(scratch.model_) == grown
    learning = 3 if knobs.get("operator") == "learned" else 0
    base = learner.base_parameters_ * steps["base"]
    whole = grown * steps_taken(scratch)["train"]
    assert base + grown * (steps["grown"] + learning) == pytest.approx(whole, rel=0.03)
    assert base + grown * (steps["grown"] + learning) <= whole + grown / 2
    assert base == pytest.approx(knobs["base_share"] * whole, rel=0.05)


def test_the_grown_model_begins_where_the_base_ended(task):
    learner = GrownLanguageModel(**SMALL, base_share=0.3)
    learner.seed_, learner.tokenizer_ = 0, task.tokenizer
    base, grown = (phase.batches for phase in learner.phases(task, learner.start(task)))
    rows = [tuple(row) for piece in (base, grown) for part in range(piece.parts)
            for batch in piece.epoch(part) for row in batch["input_ids"].tolist()]  # fmt: skip
    epoch = [tuple(row) for batch in grown.text.epoch(0) for row in batch["input_ids"].tolist()]
    assert rows[: len(epoch)] == epoch


def test_a_mask_that_the_time_left_half_closed_is_told(task):
    learner = GrownLanguageModel(**SMALL, operator="random").fit(task)
    assert not any("mask" in note for note in learner.notes_)
    model = learner.model_
    model.growth_masks = [Masked(model, [3], c=0.25)]
    learner.finish(Trained(model, [], 0, None, "time", 0, 0.0))
    assert any("stood at 0.25" in note for note in learner.notes_)
    assert not Stack.of(model).blocks[3]._forward_hooks


def test_the_guideline_is_asked_where_it_reaches(task):
    with pytest.raises(KnobError, match="choose the share of the base yourself"):
        GrownLanguageModel(**SMALL, base_share="guideline").fit(task)
    with pytest.raises(KnobError, match="fitted to growth in depth"):
        GrownLanguageModel(**SMALL, base_share="guideline", axis="width").fit(task)
    plan = growth_schedule(1.1e9, 1e11)
    assert plan.base_share == pytest.approx(plan.base_tokens / 4 / 1e11)


@pytest.mark.parametrize(
    "knobs",
    [{}, {"operator": "zero", "order": "interleave"}, {"operator": "random"},
     {"operator": "learned"}, {"axis": "width", "operator": "random"}],
)  # fmt: skip
@pytest.mark.parametrize("when", ["base", "grown"])
def test_a_fit_that_is_cut_off_ends_with_the_same_bits(task, tmp_path, knobs, when):
    made = GrownLanguageModel(**SMALL, **knobs)
    whole = made.fit(task).model_.state_dict()
    seen = []

    def stop(event):
        if event.get("phase") == when and event.get("metrics") and not seen:
            seen.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted), session(folder=tmp_path / "run", on_event=stop):
        GrownLanguageModel(**SMALL, **knobs).fit(task)
    with session(folder=tmp_path / "run", resume=True):
        again = GrownLanguageModel(**SMALL, **knobs).fit(task).model_
    for name, value in whole.items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not any(module._forward_hooks for module in again.modules())


def test_a_run_keeps_a_plain_deep_model(task, tmp_path):
    from transformers import AutoModelForCausalLM

    run = runs.fit_run("gstack", task, out=tmp_path / "run", knobs=SMALL)
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert kept.config.num_hidden_layers == 4
    assert run.record["scores"]["test"]["bits_per_byte"] < 4
    phases = [line["phase"] for line in run.history]
    assert phases == sorted(phases) and set(phases) == {"base", "grown"}
    bigger = runs.derive_run("transform", "gstack", tmp_path / "run", out=tmp_path / "bigger",
                             data=task, knobs={"operator": "zero"})  # fmt: skip
    before, after = (bigger.record[key] for key in ("before", "scores"))
    assert after["test"] == pytest.approx(before["scores"]["test"], abs=1e-5)
    assert AutoModelForCausalLM.from_pretrained(
        tmp_path / "bigger" / "model"
    ).config.num_hidden_layers == 8  # fmt: skip


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"layers": 5, "factor": 2}, "layers=5 is no multiple of factor=2"),
        ({"axis": "width", "factor": 3, "width": 32}, "must be multiples of factor=3"),
        ({"operator": "learned", "learn_steps": 1000}, "cost more than the"),
        ({"order": "12-2"}, "gives 3 blocks, and layers=4 are wanted"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(task, knobs, words):
    with pytest.raises(KnobError, match=words):
        GrownLanguageModel(**SMALL | knobs).fit(task)


@pytest.mark.parametrize("knobs", [{}, {"operator": "random"}, {"axis": "width"}])
def test_what_saves_memory_changes_nothing_that_is_learned(task, knobs):
    knobs = SMALL | {"base_share": 0.25, "max_epochs": 1} | knobs
    plain = GrownLanguageModel(**knobs).fit(task)
    saving = GrownLanguageModel(**knobs, checkpointing=True, rows_at_once=3).fit(task)
    losses = [[line["metrics"]["train_loss"] for line in one.history_] for one in (plain, saving)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert not saving.model_.is_gradient_checkpointing


def test_a_model_that_saves_memory_still_does_after_a_resume(task, tmp_path):
    knobs = SMALL | {"base_share": 0.25, "max_epochs": 1, "checkpointing": True}

    def stop(event):
        if event["phase"] == "grown" and "metrics" in event and event["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), session(folder=tmp_path, on_event=stop):
        GrownLanguageModel(**knobs).fit(task)
    seen = []

    class Watched(GrownLanguageModel):
        def finish(self, trained):
            seen.append(trained.model.is_gradient_checkpointing)
            super().finish(trained)

    with session(folder=tmp_path, resume=True):
        Watched(**knobs).fit(task)
    assert seen == [True]
