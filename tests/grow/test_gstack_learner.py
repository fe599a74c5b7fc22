"""Training a shallow model, growing it and going on: budgets, text, resume, what is kept."""

import os
import signal

import numpy as np
import pytest
import torch

from stackwise import runs
from stackwise.errors import Interrupted, KnobError
from stackwise.grow.gstack import GrownLanguageModel, growth_schedule
from stackwise.stack import Stack
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches
from stackwise.tasks.text.task import TextTask
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


@pytest.mark.parametrize("axis", ["depth", "width"])
def test_growing_costs_what_scratch_would(task, axis):
    learner = GrownLanguageModel(**SMALL, axis=axis, base_share=0.25, max_epochs=4).fit(task)
    grown = sum(p.numel() for b in Stack.of(learner.model_).blocks for p in b.parameters())
    base_depth, base_width = (2, 32) if axis == "depth" else (4, 16)
    sizes = {"layers": base_depth, "width": base_width, "factor": 1, "heads": base_width // 8}
    base = GrownLanguageModel(**SMALL | sizes, max_epochs=1).fit(task)
    small = sum(p.numel() for b in Stack.of(base.model_).blocks for p in b.parameters())
    spent = small * learner.base_steps_ + grown * learner.grown_steps_
    scratch = grown * 4 * len(TokenBatches(task.tokens("train"), 16, 16))
    assert spent == pytest.approx(scratch, rel=0.02)
    assert small * learner.base_steps_ == pytest.approx(0.25 * scratch, rel=0.05)


def test_the_guideline_is_asked_where_it_reaches(task):
    with pytest.raises(KnobError, match="choose the share of the base yourself"):
        GrownLanguageModel(**SMALL, base_share="guideline").fit(task)
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
        ({"order": "12-2"}, "gives 3 blocks, and layers=4 are wanted"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(task, knobs, words):
    with pytest.raises(KnobError, match=words):
        GrownLanguageModel(**SMALL | knobs).fit(task)
