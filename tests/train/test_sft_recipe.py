"""Fine-tuning: a gradient that the layout does not change, phases, early signs, what is kept."""

import os
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM

from stackwise import runs
from stackwise.conformance import small_language_model, small_task
from stackwise.conformance.small_models import half_language_model
from stackwise.errors import DataError, Interrupted, KnobError, ModelError, StudyError
from stackwise.models import open_model
from stackwise.tasks.instructions.encode import encode, with_template
from stackwise.tasks.instructions.packing import call, effective_batch, summed_loss
from stackwise.tasks.instructions.task import InstructionsTask
from stackwise.tasks.language.reading import tokenizer_of
from stackwise.train.sft_recipe import (
    FineTuned,
    RunMonitor,
    SampleBatches,
    Untuned,
    UsualFineTuning,
    curriculum,
    early_rank,
    effective_gradient,
    find_lr,
    lab_recipe,
    orca_recipe,
    recipe,
    sweep,
    tulu_recipe,
)
from stackwise.train.sft_recipe.sweep import Beginning
from stackwise.training.rules import learning_rate_factor
from stackwise.training.session import session

QUICK = {"recipe": "tulu", "batch_size": 4, "max_epochs": 2, "lr": 3e-3, "remember": "none"}


@pytest.fixture(scope="module")
def task():
    return small_task("instructions")


@pytest.fixture(scope="module")
def base():
    return small_language_model()


@pytest.fixture(scope="module")
def samples(task, base):
    tokenizer, _ = with_template(tokenizer_of(open_model(base)))
    return task.encoded("train", tokenizer)[:9]


def gradient(model, batch, processes=1):
    model.zero_grad(set_to_none=True)
    total = sum(
        float(effective_gradient(model, batch, torch.autograd.backward, process=process,
                                 processes=processes))
        for process in range(processes)
    )  # fmt: skip
    # processes average their gradients
    return total, {n: p.grad.clone() / processes for n, p in model.named_parameters()}


LAYOUTS = {
    "packed in one row": {"most_tokens": 4096, "packed": True},
    "packed in several": {"most_tokens": 40, "packed": True},
    "padded together": {"most_tokens": 4096, "packed": False},
    "padded in small rows": {"most_tokens": 60, "packed": False},
    "one by one": {"most_tokens": 1, "packed": False},
}


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_does_not_depend_on_the_layout(base, samples, layout, processes):
    model = open_model(base).double()
    expected, wanted = gradient(model, effective_batch(samples, most_tokens=1, packed=False))
    total, found = gradient(model, effective_batch(samples, **LAYOUTS[layout]), processes)
    assert total == pytest.approx(expected, abs=1e-9)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def test_a_mean_of_means_would_depend_on_it(base, samples):
    model = open_model(base)
    batch = effective_batch(samples, most_tokens=60, packed=True)
    with torch.no_grad():
        means = [float(summed_loss(call(model, row), row["labels"])) /
                 int((row["labels"][:, 1:] != -100).sum()) for row in batch.rows]  # fmt: skip
    total, _ = gradient(model, batch)
    assert abs(sum(means) / len(means) - total) > 1e-4


def test_the_loss_is_that_of_transformers_with_num_items_in_batch(base, samples):
    model = open_model(base)
    batch = effective_batch(samples, most_tokens=60, packed=False)
    assert len(batch.rows) > 1
    theirs = sum(float(model(**row, num_items_in_batch=batch.tokens).loss) for row in batch.rows)
    assert gradient(model, batch)[0] == pytest.approx(theirs, rel=1e-5)


def test_packed_samples_do_not_see_each_other(base, samples):
    model = open_model(base)
    (row,) = effective_batch(samples[:2], most_tokens=4096, packed=True).rows
    with torch.no_grad():
        together = call(model, row)[0]
        alone = [model(input_ids=torch.tensor([one.ids])).logits[0] for one in samples[:2]]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_user_tokens_have_no_gradient(base, samples):
    model = open_model(base)
    batch = effective_batch(samples[:1], most_tokens=4096, packed=False)
    logits = model(**{n: v for n, v in batch.rows[0].items() if n != "labels"}).logits
    logits.retain_grad()
    summed_loss(logits, batch.rows[0]["labels"]).backward()
    learned = (batch.rows[0]["labels"][0, 1:] != -100).tolist()
    moved = (logits.grad[0, :-1].abs().sum(-1) > 0).tolist()
    assert moved == learned


def test_the_recorded_norm_is_the_one_before_clipping(base, task):
    learner = FineTuned(model=base, **QUICK | {"max_epochs": 1}, grad_clip=1e-3).fit(task)
    curve = learner.monitor_.curve()
    assert (curve["grad_norm"] > 0.1).all()
    model = open_model(base)
    learned = task.encoded("train", learner.tokenizer_)
    batch = next(SampleBatches(learned, 4, seed=learner.seed_).epoch(0))
    _, found = gradient(model, batch)
    norm = torch.cat([value.flatten() for value in found.values()]).norm()
    assert curve["grad_norm"].iloc[0] == pytest.approx(float(norm), rel=1e-4)
    assert curve["samples"].tolist() == [4, 8, 12, 16, 20, 21]


# ---- recipes and phases


def test_the_recipes_are_those_of_the_papers():
    lab, tulu, orca = (make(1_000_000) for make in (lab_recipe, tulu_recipe, orca_recipe))
    assert (lab.batch_size, lab.lr, lab.schedule, lab.warmup) == (3840, 2e-5, "constant", 0.0)
    assert (tulu.batch_size, tulu.lr, tulu.schedule, tulu.warmup) == (128, 2e-5, "linear", 0.03)
    assert orca.order == "phased"
    small = lab_recipe(400)
    assert small.batch_size == 20 and "20 steps" in small.note
    with pytest.raises(KnobError, match="there is no recipe 'nope'"):
        recipe("nope", 10)


def test_schedules_at_their_ends():
    def at(step, schedule, warmup=0.1):
        return learning_rate_factor(step, 100, schedule=schedule, warmup=warmup)

    assert at(0, "constant", 0.0) == at(99, "constant", 0.0) == 1.0
    assert at(0, "linear") == pytest.approx(0.1) and at(9, "linear") == 1.0
    assert at(10, "linear") == 1.0 and at(55, "linear") == pytest.approx(0.5)
    assert at(100, "linear") == 0.0


def test_difficulty_parts_answers_by_length_and_replays_a_hundredth(task, base):
    tokenizer, _ = with_template(tokenizer_of(open_model(base)))
    learned = task.encoded("train", tokenizer)
    parts = curriculum(task, learned, "difficulty", 0.01, 0)
    short, long = parts["short answers"], parts["long answers"]
    assert len(short) == len(learned) // 2 and len(long) == len(learned) - len(short) + 1
    lengths = [task.chats[one.row].answer_length for one in short]
    assert max(lengths) <= min(task.chats[one.row].answer_length for one in long[:-1])
    assert long[-1] in short


def test_phases_see_their_own_samples_only_without_replay(task, base):
    tokenizer, _ = with_template(tokenizer_of(open_model(base)))
    learned = task.encoded("train", tokenizer)
    parts = curriculum(task, learned, "phased", 0.0, 0)
    assert list(parts) == task.phases
    for name, own in parts.items():
        assert {task.chats[one.row].phase for one in own} == {name}
    assert sum(map(len, parts.values())) == len(learned)
    with pytest.raises(KnobError, match="at least 2 named phases"):
        plain = InstructionsTask.load([{"prompt": "a", "response": "b"}] * 5)
        curriculum(plain, [], "phased", 0.0, 0)


@pytest.mark.parametrize("order", ["stacked", "phased", "difficulty"])
def test_every_order_learns(task, base, order):
    learner = FineTuned(model=base, order=order, **QUICK).fit(task)
    before = task.judge(Untuned(model=base, remember="none").fit(task), "test").scores["loss"]
    assert task.judge(learner, "test").scores["loss"] < before - 0.1


@pytest.mark.parametrize("knobs", [{}, {"order": "phased"}, {"lora": 2}])
def test_a_fit_that_is_cut_off_ends_with_the_same_bits(task, base, tmp_path, knobs):
    whole = FineTuned(model=base, **QUICK, **knobs).fit(task)
    seen = []

    def stop(event):
        if event.get("metrics") and not seen:
            seen.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted), session(folder=tmp_path / "run", on_event=stop):
        FineTuned(model=base, **QUICK, **knobs).fit(task)
    with session(folder=tmp_path / "run", resume=True):
        again = FineTuned(model=base, **QUICK, **knobs).fit(task)
    for name, value in whole.model_.state_dict().items():
        assert torch.equal(value, again.model_.state_dict()[name]), name


def test_adapters_are_merged_and_half_precision_is_told(task, base):
    learner = FineTuned(model=base, lora=2, **QUICK).fit(task)
    assert type(learner.model_).__name__ == "LlamaForCausalLM"
    assert not any("lora" in name for name in learner.model_.state_dict())
    half = open_model(base).bfloat16()
    tuned = FineTuned(model=half, **QUICK).fit(task)
    assert any("half precision" in note for note in tuned.notes_)
    assert next(half.parameters()).dtype == torch.bfloat16  # the given model is left alone
    assert next(tuned.model_.parameters()).dtype == torch.float32


def test_half_precision_is_kept_and_what_is_kept_is_what_is_judged(task, base, tmp_path):
    folder = half_language_model(tmp_path / "half")
    for float32, kept in ((False, torch.bfloat16), (True, torch.float32)):
        tuned = FineTuned(model=str(folder), float32=float32, **QUICK).fit(task)
        tuned.save(tmp_path / str(float32))
        files = open_model(tmp_path / str(float32) / "model", dtype="auto")
        assert files.dtype == kept
        again = FineTuned.load(tmp_path / str(float32))
        for name, value in tuned.model_.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, again.model_.state_dict()[name]), name
        assert task.judge(tuned, "test").scores == task.judge(again, "test").scores


def test_recomputed_activations_change_nothing(task, base):
    one, two = (FineTuned(model=base, checkpointing=c, **QUICK).fit(task) for c in (False, True))
    for a, b in zip(one.model_.parameters(), two.model_.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_run_reports_what_was_forgotten_and_keeps_a_plain_model(task, base, tmp_path):
    run = runs.fit_run("sft-recipe", task, out=tmp_path / "run",
                       knobs=QUICK | {"model": base, "remember": "auto"})  # fmt: skip
    scores = run.record["scores"]["test"]
    assert next(iter(scores)) == "loss"
    assert scores["forgetting"] == pytest.approx(
        scores["general_loss"] - scores["general_loss_before"]
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    kept = runs.load(tmp_path / "run")
    curve = kept.monitor_.curve()
    assert curve["samples"].is_monotonic_increasing and curve["loss"].gt(0).all()
    assert curve["samples"].iloc[-1] == QUICK["max_epochs"] * len(task.part("train")[0])
    ids = kept.prompt_ids("say red blue")
    found = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    said = kept.tokenizer_.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
    assert kept.generate(["say red blue"], max_new_tokens=4) == [said]


# ---- early signs


def monitor(norm, loss, lr=1e-3, about=None):
    rows = [[4.0 * (i + 1), loss, norm, lr] for i in range(10)]
    return RunMonitor(rows, about or {"model": "m"})


def test_low_norms_and_high_losses_are_ranked_first_whatever_their_scale():
    made = {"a": monitor(1.0, 3.0), "b": monitor(2.0, 2.0), "c": monitor(3.0, 1.0)}
    assert list(early_rank(made, at=0.5).index) == ["a", "b", "c"]
    stretched = {n: RunMonitor([[s, loss**3, norm**2, lr] for s, loss, norm, lr in run.rows],
                               run.about) for n, run in made.items()}  # fmt: skip
    assert list(early_rank(stretched, at=0.5).index) == ["a", "b", "c"]
    turned = dict(reversed(list(made.items())))
    assert list(early_rank(turned, at=0.5).index) == ["a", "b", "c"]
    with pytest.raises(StudyError, match="not comparable"):
        early_rank({"a": made["a"], "b": monitor(1, 1, about={"model": "other"})})


def test_a_sweep_finishes_the_better_half_and_shows_the_confound(task, base):
    found = sweep(base, task, {"low": {"lr": 1e-3}, "high": {"lr": 1e-2}}, at=0.25,
                  **{k: v for k, v in QUICK.items() if k != "lr"})  # fmt: skip
    assert found.table["finished"].sum() == 1
    assert found.table.loc["low", "confound"] == 1
    assert found.saved == pytest.approx(0.25)


def test_the_search_for_a_rate_goes_to_the_better_side(task, base):
    table = find_lr(base, task, start=1e-3, most=4,
                    **{k: v for k, v in QUICK.items() if k != "lr"})  # fmt: skip
    assert table["lr"].is_unique and len(table) >= 3
    assert table["validation_loss"].idxmin() > 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda t, b: FineTuned(model=b, batch_size=500).fit(t),
            KnobError,
            "exceeds the 21 samples",
        ),
        (lambda t, b: FineTuned(model=torch.nn.Linear(2, 2)).fit(t), ModelError, "no causal"),
        (lambda t, b: FineTuned(model=b).fit(small_task("text")), DataError, "learns from chats"),
        (lambda t, b: FineTuned(model=b, remember="/no").fit(t), DataError, "no text file"),
        (lambda t, b: sweep(b, t, {"a": {}}), StudyError, "at least 2 runs"),
    ],
)
def test_what_makes_no_sense_is_said(task, base, call, error, words):
    with pytest.raises(error, match=words):
        call(task, base)


def test_the_usual_preset_is_that_of_a_plain_trainer(task, base):
    learner = UsualFineTuning(model=base, remember="none", max_epochs=1).fit(task)
    assert (learner.recipe_.batch_size, learner.recipe_.lr, learner.recipe_.schedule) == (
        8, 5e-5, "linear")  # fmt: skip


def test_a_chat_is_encoded_alike_whatever_it_is_trained_for(task, base):
    tokenizer, _ = with_template(tokenizer_of(open_model(base)))
    assert encode(task.chats[0], tokenizer) == encode(task.chats[0], tokenizer)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("order", ["stacked", "phased"])
def test_the_beginning_of_a_run_is_the_beginning_of_the_whole(task, base, schedule, order):
    knobs = QUICK | {"schedule": schedule, "warmup": 0.2, "order": order}
    begun, whole = Beginning(model=base, **knobs), FineTuned(model=base, **knobs)
    begun.at = 0.6  # into the second phase, and its second epoch
    begun.fit(task)
    whole.fit(task)
    first = begun.monitor_.rows
    assert 0.5 < len(first) / len(whole.monitor_.rows) < 0.7
    # samples seen, loss, norm and rate of each step
    if order == "stacked":
        assert torch.equal(torch.tensor(first), torch.tensor(whole.monitor_.rows[: len(first)]))
    rates = [[row[3] for row in rows[: len(first)]] for rows in (first, whole.monitor_.rows)]
    assert rates[0] == rates[1]
