"""Relations that hold on every family of models, to rounding error or bit for bit."""

import copy
from pathlib import Path

import pytest
import torch
from stack_families import FAMILIES, batch, build, run
from torch import nn

from stackwise.errors import ModelError
from stackwise.stack import Stack

ORDERS = [[0, 1, 1, 3], [0, 2, 3], [3, 1, 0, 2, 2, 1]]
every_family = pytest.mark.parametrize("family", FAMILIES)
pretrained = [name for name, family in FAMILIES.items() if family.kind != "rows"]
generating = [name for name, family in FAMILIES.items() if family.generates]
caching = [name for name in generating if FAMILIES[name].side != "encoder"]
additive = [name for name, family in FAMILIES.items() if family.additive]
torch.set_num_threads(1)


def stack_of(family: str) -> Stack:
    return Stack.of(build(family), side=FAMILIES[family].side)


def place_by_hand(stack: Stack, order: list[int]) -> nn.Module:
    """A model with these blocks made the plain way: copies of the model and of each block."""
    model = copy.deepcopy(stack.model)
    container = model.get_submodule(stack.name)
    blocks = Stack.of(model, side=_side(stack)).blocks
    others = [module for module in container if module not in blocks]  # of an nn.Sequential
    placed = [copy.deepcopy(blocks[index]) for index in order]
    placed = [*others[:1], *placed, *others[1:]]
    container._modules = {str(place): block for place, block in enumerate(placed)}
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is None:
            continue
        config.use_cache = False  # the copies do not know their place in a cache
        if container in module.children() and not hasattr(config, "decoder_layers"):
            config.num_hidden_layers = len(order)
            if getattr(config, "layer_types", None):
                config.layer_types = [config.layer_types[index] for index in order]
    return model


def _side(stack: Stack) -> str | None:
    sides = [part for part in stack.name.split(".") if part in ("encoder", "decoder")]
    return sides[0] if sides else None


@every_family
def test_all_blocks_are_found(family: str) -> None:
    stack = stack_of(family)
    assert len(stack) == FAMILIES[family].depth == len(stack.blocks)
    assert [stack.model.get_submodule(name) for name in stack.names] == stack.blocks


@every_family
def test_the_identity_path_changes_no_bit(family: str) -> None:
    stack = stack_of(family)
    plain = run(stack.model, family)
    with stack.path(range(len(stack))):
        assert torch.equal(run(stack.model, family), plain)
    assert torch.equal(run(stack.model, family), plain)


@every_family
def test_skipping_a_block_equals_the_model_without_it(family: str) -> None:
    stack = stack_of(family)
    for skipped in (1, 2, 3):
        order = [i for i in range(len(stack)) if i != skipped]
        with stack.path(order):
            outcome = run(stack.model, family)
        torch.testing.assert_close(outcome, run(place_by_hand(stack, order), family))
        assert not torch.allclose(outcome, run(stack.model, family))


@every_family
def test_looping_equals_the_unrolled_model(family: str) -> None:
    stack = stack_of(family)
    order = [0, 1, 2, 1, 2, 3]
    with stack.path(order):
        outcome = run(stack.model, family)
    torch.testing.assert_close(outcome, run(place_by_hand(stack, order), family))


@every_family
def test_stem_and_contributions_sum_to_the_last_stream(family: str) -> None:
    stack = stack_of(family)
    for order in ([0, 1, 2, 3], [0, 2, 2, 1]):
        with stack.path(order), stack.capture() as stream:
            run(stack.model, family)
        assert list(stream.order) == order
        assert len(stream.hidden) == 5
        total = stream.hidden[0] + sum(stream.contributions)
        torch.testing.assert_close(total, stream.hidden[-1])
        assert all(c.abs().max() > 1e-3 for c in stream.contributions)


@every_family
def test_capturing_changes_no_bit(family: str) -> None:
    stack = stack_of(family)
    plain = run(stack.model, family)
    with stack.capture():
        assert torch.equal(run(stack.model, family), plain)


@pytest.mark.parametrize("family", additive)
def test_sublayers_sum_to_the_contribution(family: str) -> None:
    stack = stack_of(family)
    with stack.path([0, 2, 2, 3]), stack.capture(sublayers=True) as stream:
        run(stack.model, family)
    for parts, contribution in zip(stream.sublayers, stream.contributions, strict=True):
        torch.testing.assert_close(sum(parts.values()), contribution, rtol=1e-4, atol=1e-5)
        assert {"attention", "mlp"} <= parts.keys()
    assert all(part.abs().max() > 1e-4 for part in (*stream.attention, *stream.mlp))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(additive)))
def test_sublayers_of_a_block_that_is_no_sum_are_refused(family: str) -> None:
    stack = stack_of(family)
    match = "post-norm" if family in pretrained else "no attention"
    with pytest.raises(ModelError, match=match), stack.capture(sublayers=True):
        run(stack.model, family)


@every_family
def test_an_intervention_equals_the_change_made_by_a_hook(family: str) -> None:
    stack = stack_of(family)
    with stack.intervene(2, lambda h: 0.5 * h):
        outcome = run(stack.model, family)

    def halve(_: nn.Module, __: object, output: object) -> object:
        return (0.5 * output[0], *output[1:]) if isinstance(output, tuple) else 0.5 * output

    handle = stack.blocks[2].register_forward_hook(halve)
    hooked = run(stack.model, family)
    handle.remove()
    assert torch.equal(outcome, hooked)
    assert not torch.equal(outcome, run(stack.model, family))


@pytest.mark.parametrize("order", ORDERS, ids=str)
@every_family
def test_rebuild_equals_the_path_it_came_from(family: str, order: list[int]) -> None:
    stack = stack_of(family)
    plain = run(stack.model, family)
    new = stack.rebuild(order)
    with stack.path(order):
        assert torch.equal(run(new, family), run(stack.model, family))
    assert torch.equal(run(stack.model, family), plain)
    assert len(Stack.of(new, side=FAMILIES[family].side)) == len(order)


@pytest.mark.parametrize("family", pretrained)
def test_a_rebuilt_model_is_saved_and_loaded(family: str, tmp_path: Path) -> None:
    stack = stack_of(family)
    new = stack.rebuild([0, 1, 1, 3, 2])
    new.save_pretrained(tmp_path)
    loaded, report = type(new).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(run(loaded.eval(), family), run(new, family))


@pytest.mark.parametrize("family", generating)
def test_generation_with_a_cache_is_the_same_in_all_three(family: str, tmp_path: Path) -> None:
    stack = stack_of(family)
    order = [0, 1, 1, 2] if FAMILIES[family].kind == "pair" else [0, 1, 1, 3, 2, 3]
    # Longer than the sliding windows, so that their cache has thrown something away.
    prompt = batch(family, length=7)["input_ids"]
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}

    def tokens(model: nn.Module, cache: bool = True) -> torch.Tensor:
        mask = torch.ones_like(prompt)
        return model.generate(prompt, attention_mask=mask, use_cache=cache, **settings)

    plain = tokens(stack.model)
    with stack.path(order):
        cached = tokens(stack.model)
        assert torch.equal(cached, tokens(stack.model, cache=False))
    new = stack.rebuild(order)
    assert torch.equal(tokens(new), cached)
    new.save_pretrained(tmp_path)
    assert torch.equal(tokens(type(new).from_pretrained(tmp_path).eval()), cached)
    assert torch.equal(tokens(stack.model), plain)


@pytest.mark.parametrize("order", [[0, 1, 1, 2, 3], [0, 1, 2, 3, 2, 3]])
def test_a_decoder_that_is_the_longer_side_generates_with_its_cache(
    order: list[int], tmp_path: Path
) -> None:
    """T5 names its decoder's depth so that transformers sizes the cache by the encoder's."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=4,
        num_heads=2, decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    stack = Stack.of(T5ForConditionalGeneration(config).eval(), side="decoder")
    prompt = torch.randint(3, 60, (1, 6))

    def tokens(model: nn.Module, cache: bool) -> torch.Tensor:
        return model.generate(
            prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False, use_cache=cache
        )

    before = config.to_dict()
    with stack.path(order):
        wanted = tokens(stack.model, False)
        assert torch.equal(tokens(stack.model, True), wanted)
    assert config.to_dict() == before
    new = stack.rebuild(order)
    assert torch.equal(tokens(new, True), wanted)
    new.save_pretrained(tmp_path)
    again = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert torch.equal(tokens(again, True), wanted)


@pytest.mark.parametrize("family", caching)
def test_each_place_of_a_path_has_its_own_slot_in_the_cache(family: str) -> None:
    """Logits of the last token, with a cache of the others, against one pass over all."""
    stack = stack_of(family)
    inputs = batch(family, length=9)
    key = "decoder_input_ids" if FAMILIES[family].kind == "pair" else "input_ids"
    with torch.no_grad(), stack.path([2, 0, 1, 1]):
        whole = stack.model(**inputs).logits[:, -1]
        tokens = inputs.pop(key)
        first = stack.model(**inputs, **{key: tokens[:, :-1]}, use_cache=True)
        last = stack.model(**inputs, **{key: tokens[:, -1:]}, past_key_values=first.past_key_values)
    torch.testing.assert_close(last.logits[:, -1], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", pretrained)
def test_hidden_states_that_the_model_itself_returns_follow_the_path(family: str) -> None:
    stack = stack_of(family)
    side = FAMILIES[family].side
    key = f"{side}_hidden_states" if side else "hidden_states"
    inputs = batch(family)
    with stack.path([3, 1, 1]), stack.capture() as stream:
        told = stack.model(**inputs, output_hidden_states=True)[key]
    assert len(told) == 4
    for theirs, ours in zip(told[:-1], stream.hidden, strict=False):
        assert torch.equal(theirs, ours)
    assert len(stack.model(**inputs, output_hidden_states=True)[key]) == 5


def generated(model: nn.Module, cache: bool) -> torch.Tensor:
    prompt = batch("t5-decoder", length=7)["input_ids"]
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    return model.generate(prompt, use_cache=cache, **settings)


@pytest.mark.parametrize(
    ("side", "order"),
    [("decoder", [0, 1, 1, 2, 3, 3]), ("decoder", [3, 0, 2, 1, 0]), ("encoder", [0, 2])],
)
def test_the_cache_of_a_decoder_that_becomes_the_longer_side(
    side: str, order: list[int], tmp_path: Path
) -> None:
    stack = Stack.of(build("t5-decoder"), side=side)
    before = copy.deepcopy(stack.model.config.to_dict())
    with stack.path(order):
        plain = generated(stack.model, cache=False)
        assert torch.equal(generated(stack.model, cache=True), plain)
    assert stack.model.config.to_dict() == before
    new = stack.rebuild(order)
    assert torch.equal(generated(new, cache=True), plain)
    new.save_pretrained(tmp_path)
    loaded = type(new).from_pretrained(tmp_path).eval()
    assert torch.equal(generated(loaded, cache=True), plain)
    again = Stack.of(loaded, side="decoder")
    longer = again.rebuild([*range(len(again)), 0])
    assert torch.equal(generated(longer, cache=True), generated(longer, cache=False))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 2, 3, 3], [2, 0, 1]])
def test_the_cache_of_a_decoder_that_is_the_longer_side_from_the_start(order: list[int]) -> None:
    """Encoder of 2 blocks, decoder of 4: transformers itself generates without a cache only."""
    model = Stack.of(build("t5-encoder"), side="encoder").rebuild([0, 1])
    del model.config.decoder_layers
    with pytest.raises(IndexError):
        generated(model, cache=True)
    stack = Stack.of(model, side="decoder")
    new = stack.rebuild(order)
    with stack.path(order):
        plain = generated(stack.model, cache=False)
        assert torch.equal(generated(stack.model, cache=True), plain)
    assert torch.equal(generated(new, cache=True), plain)
    assert not hasattr(model.config, "decoder_layers")
