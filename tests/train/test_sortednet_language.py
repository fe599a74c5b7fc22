"""Depth exits of a decoder, and drafts of the shallow one: greedy decoding loses no token."""

import pytest
import torch
import transformers as hf

import stackwise
from stackwise import SortedLanguageModel, sortednet
from stackwise.errors import KnobError
from stackwise.stack import Stack
from stackwise.tasks.text.task import TextTask
from stackwise.train.sortednet import (
    Choice,
    Drawing,
    SelfSpeculation,
    SortedRule,
    extract,
    speculative_generate,
)
from stackwise.train.sortednet.marks import marked_space
from stackwise.training.rules import Backprop


def decoder(kind: str) -> torch.nn.Module:
    """A decoder of random weights so large that its exits disagree."""
    torch.manual_seed(0)
    if kind == "gpt2":
        config = hf.GPT2Config(
            vocab_size=40, n_embd=32, n_layer=5, n_head=2, n_positions=64, bos_token_id=None,
            eos_token_id=None, initializer_range=0.6,
        )  # fmt: skip
        return hf.GPT2LMHeadModel(config).eval()
    config = hf.LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, initializer_range=0.35,
    )  # fmt: skip
    return hf.LlamaForCausalLM(config).eval()


def greedy(model, ids, tokens, end=None) -> torch.Tensor:
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
        eos_token_id=end, pad_token_id=0,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_drafts_change_no_token_and_some_of_them_are_taken_back(kind):
    model = decoder(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(1))
    wanted = greedy(model, ids, 24)
    for depth, drafts, confidence in ((4, 3, 0.0), (2, 1, 0.0), (3, 5, 0.0), (4, 6, 0.5)):
        made = SelfSpeculation(model, depth, draft_tokens=drafts, confidence=confidence)
        assert torch.equal(made.generate(ids, max_new_tokens=24), wanted)
        if depth == 4 and not confidence:
            assert 0 < made.accepted < made.drafted and made.checks < 24
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_draft_that_runs_past_the_end_token_is_cut_there():
    model = decoder("llama")
    ids = torch.randint(0, 40, (1, 6), generator=torch.Generator().manual_seed(2))
    whole = greedy(model, ids, 24)[0, 6:]
    for place in (0, 3, 8):
        end = int(whole[place])
        found = SelfSpeculation(model, 4, draft_tokens=5).generate(
            ids, max_new_tokens=24, eos_token_id=end
        )
        assert torch.equal(found, greedy(model, ids, 24, end))
    for tokens in (1, 2, 7):
        found = speculative_generate(model, ids, draft_depth=4, max_new_tokens=tokens)
        assert torch.equal(found[0, 6:], whole[:tokens])


def test_both_halves_share_the_weights_of_the_model():
    model = decoder("llama")
    made = SelfSpeculation(model, 2)
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in made.parameters()} == own
    assert len(Stack.of(made.drafter)) == 2 and len(Stack.of(made.checker)) == 3


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"draft_depth": 5}, "at least 1 and below the 5 blocks, got 5"),
        ({"draft_depth": 0}, "got 0"),
        ({"draft_depth": 2, "draft_tokens": 0}, "draft_tokens must be at least 1"),
    ],
)
def test_drafts_that_cannot_be_are_refused(knobs, words):
    with pytest.raises(KnobError, match=words):
        SelfSpeculation(decoder("llama"), **knobs)
    with pytest.raises(KnobError, match="one row at a time"):
        SelfSpeculation(decoder("llama"), 2).generate(torch.ones(2, 3).long(), max_new_tokens=2)


def test_the_loss_at_all_exits_is_the_mean_of_the_extracted_models_losses():
    model = decoder("llama")
    ids = torch.randint(0, 40, (2, 9))
    rule = SortedRule(
        Backprop(lambda m, batch: m(**batch, use_cache=False).loss),
        Choice(depths=[1, 3, 5]),
        Drawing("all"),
    )
    optimizer = rule.optimizers(model)[0]
    batch = {"input_ids": ids, "labels": ids}
    expected = [extract(model, depth=d)(**batch).loss.item() for d in (1, 3, 5)]

    class Loop:
        step, total_steps, schedule_steps, optimizers = 0, 1, 1, [optimizer]

        @staticmethod
        def backward(loss) -> None:
            loss.backward()

        @staticmethod
        def average_gradients(optimizer) -> None:
            """One process."""

    found = rule.step(Loop(), model, batch)["loss"]
    assert float(found) == pytest.approx(sum(expected) / 3, rel=1e-5)


@pytest.fixture(scope="module")
def fitted() -> SortedLanguageModel:
    task = TextTask.small()
    knobs = {"layers": 4, "width": 16, "heads": 2, "threads": 1, "batch_size": 4}
    return SortedLanguageModel(**knobs).fit(task)


def test_a_learner_writes_the_same_text_with_drafts_and_keeps_its_exits(fitted, tmp_path):
    plain = fitted.generate(["the red box", "a small"], max_new_tokens=8)
    assert fitted.generate(["the red box", "a small"], max_new_tokens=8, draft_depth=1) == plain
    shallow = fitted.generate(["the red box"], max_new_tokens=8, depth=2)
    cut = sortednet(fitted.model_, take={"depth": 2})
    assert len(Stack.of(cut)) == 2 and cut.config.num_hidden_layers == 2
    fitted.save(tmp_path / "kept")
    again = stackwise.load(tmp_path / "kept")
    assert marked_space(again.model_) == marked_space(fitted.model_)
    assert [sizes["depth"] for sizes in marked_space(again.model_).sizes] == [1, 2, 3, 4]
    assert again.generate(["the red box"], max_new_tokens=8, depth=2) == shallow
    again.model_.save_pretrained(tmp_path / "plain")
    other = hf.LlamaForCausalLM.from_pretrained(tmp_path / "plain")
    assert marked_space(other) == marked_space(fitted.model_)
    assert marked_space(Stack.of(other).rebuild([0, 1])) is None  # another model since


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 9}, r"at the depths \[1, 2, 3, 4\], not at 9"),
        ({"draft_depth": 1, "temperature": 0.5}, "leave temperature 0"),
        ({"draft_tokens": 2}, "give draft_depth"),
    ],
)
def test_options_of_generation_that_do_not_go_together_are_refused(fitted, options, words):
    with pytest.raises(KnobError, match=words):
        fitted.generate(["the red"], **options)
