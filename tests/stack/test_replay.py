"""A recorded run, and what its blocks make of other streams."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from stack_families import FAMILIES, Tower, batch, build
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import Replay, Stack, record

torch.set_num_threads(1)
KINDS = ["llama", "gpt2", "t5-decoder", "vit", "sequential"]
every_kind = pytest.mark.parametrize("family", KINDS)
every_family = pytest.mark.parametrize("family", FAMILIES)
DEPTH = 4


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(family: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if FAMILIES[family].kind == "rows":
        return (torch.randn(2, 5, generator=torch.Generator().manual_seed(0)),), {}
    caching = {} if FAMILIES[family].kind == "image" else {"use_cache": False}
    return (), batch(family) | caching


def recorded(family: str) -> tuple[Replay, Tensor]:
    args, kwargs = inputs(family)
    stack = Stack.of(build(family), side=FAMILIES[family].side)
    replay, output = record(stack, *args, **kwargs)
    return replay, answer(output)


def answer(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def streams(replay: Replay) -> Tensor:
    """A stream that no run has seen, of the shape of the recorded ones."""
    return torch.randn(replay.hidden[0].shape, generator=torch.Generator().manual_seed(1))


@every_family
def test_a_replayed_block_gives_the_recorded_stream_bit_for_bit(family: str) -> None:
    replay, _ = recorded(family)
    assert len(replay.hidden) == DEPTH + 1
    for index in range(DEPTH):
        assert torch.equal(replay.block(index, replay.hidden[index]), replay.hidden[index + 1])


@every_family
def test_stem_blocks_and_head_are_the_run_bit_for_bit(family: str) -> None:
    replay, output = recorded(family)
    args, kwargs = inputs(family)
    stream = replay.stem(*args, **kwargs)
    assert torch.equal(stream, replay.hidden[0])
    stream = replay.run(range(DEPTH), stream)
    assert torch.equal(stream, replay.hidden[-1])
    assert torch.equal(answer(replay.head(stream)), output)
    assert torch.equal(answer(replay.again()), output)


@every_family
def test_recording_and_playing_leave_the_model_as_it_was(family: str) -> None:
    args, kwargs = inputs(family)
    model = build(family)
    plain = answer(model(*args, **kwargs))
    modules, hooks = list(model.modules()), [len(m._forward_hooks) for m in model.modules()]
    replay, output = record(Stack.of(model, side=FAMILIES[family].side), *args, **kwargs)
    replay.head(replay.run(range(DEPTH), replay.stem(*args, **kwargs)))
    assert list(model.modules()) == modules
    assert [len(module._forward_hooks) for module in modules] == hooks
    assert not any("forward" in vars(module) for module in modules)
    assert torch.equal(answer(model(*args, **kwargs)), plain)
    assert torch.equal(answer(output), plain)


@every_kind
def test_a_range_on_another_stream_is_what_the_model_makes_of_it(family: str) -> None:
    replay, _ = recorded(family)
    args, kwargs = inputs(family)
    stream, stack = streams(replay), replay.stack
    with stack.intervene(1, lambda h: stream), stack.capture() as seen:
        output = answer(stack.model(*args, **kwargs))
    played = replay.run(range(2, DEPTH), stream)
    assert torch.equal(played, seen.hidden[-1])
    assert torch.equal(answer(replay.head(played)), output)


@every_kind
def test_blocks_in_another_order_are_the_path(family: str) -> None:
    replay, _ = recorded(family)
    args, kwargs = inputs(family)
    order = [0, 2, 2, 1]
    with replay.stack.path(order), replay.stack.capture() as seen:
        output = answer(replay.stack.model(*args, **kwargs))
    played = replay.run(order, replay.hidden[0])
    torch.testing.assert_close(played, seen.hidden[-1])
    torch.testing.assert_close(answer(replay.head(played)), output)


@every_kind
def test_rows_are_picked(family: str) -> None:
    replay, output = recorded(family)
    rows = [1, 0, 1]
    for index in range(DEPTH):
        found = replay.block(index, replay.hidden[index][rows], rows)
        torch.testing.assert_close(found, replay.hidden[index + 1][rows])
    alone = replay.run(range(DEPTH), replay.hidden[0][1:], rows=torch.tensor([1]))
    torch.testing.assert_close(alone, replay.hidden[-1][1:])
    head = answer(replay.head(replay.hidden[-1][rows], rows))
    torch.testing.assert_close(head, output[rows])


@every_kind
def test_without_rows_a_stream_holds_copies_of_the_batch(family: str) -> None:
    replay, output = recorded(family)

    def three(stream: Tensor) -> Tensor:
        return torch.cat([stream] * 3)

    for index in range(DEPTH):
        found = replay.block(index, three(replay.hidden[index]))
        torch.testing.assert_close(found, three(replay.hidden[index + 1]))
    torch.testing.assert_close(answer(replay.head(three(replay.hidden[-1]))), three(output))


def masked() -> tuple[Stack, dict[str, Tensor]]:
    """A Llama and two rows, of which the first is padded at its left."""
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, :3] = 0
    return Stack.of(build("llama")), batch("llama") | {"attention_mask": mask}


def test_the_mask_of_a_row_goes_with_it() -> None:
    stack, both = masked()
    replay, _ = record(stack, **both, use_cache=False)
    h = replay.hidden[0]
    swapped = replay.block(0, h[[1, 0]], rows=[1, 0])
    torch.testing.assert_close(swapped, replay.hidden[1][[1, 0]])
    wrong = replay.block(0, h[[1, 0]])  # each with the mask of the other
    assert not torch.allclose(wrong[0], replay.hidden[1][1])


def test_the_states_of_the_encoder_go_with_their_row() -> None:
    replay, _ = recorded("t5-decoder")
    right = replay.block(0, replay.hidden[0][[1, 1]], rows=[1, 1])
    wrong = replay.block(0, replay.hidden[0][[1, 1]])
    torch.testing.assert_close(right[0], right[1])
    assert not torch.allclose(wrong[0], wrong[1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "t5-decoder"])
def test_a_cache_is_played_as_it_was_before_the_run(family: str) -> None:
    stack = Stack.of(build(family), side=FAMILIES[family].side)
    given = batch(family, length=9)
    key = "decoder_input_ids" if FAMILIES[family].kind == "pair" else "input_ids"
    tokens = given.pop(key)
    first = stack.model(**given, **{key: tokens[:, :-2]}, use_cache=True)
    cache = first.past_key_values
    before = copy.deepcopy(cache)
    replay, output = record(stack, **given, **{key: tokens[:, -2:]}, past_key_values=cache)
    assert cache.get_seq_length() == before.get_seq_length() + 2
    for _ in range(2):  # the second time sees no more than the first
        for index in range(DEPTH):
            assert torch.equal(replay.block(index, replay.hidden[index]), replay.hidden[index + 1])
        assert torch.equal(replay.head(replay.hidden[-1]).logits, output.logits)
    turned = replay.run(range(DEPTH), replay.hidden[0][[1, 0]], rows=[1, 0])
    torch.testing.assert_close(turned, replay.hidden[-1][[1, 0]])
    assert cache.get_seq_length() == before.get_seq_length() + 2


def test_the_stem_of_other_inputs_is_that_of_a_run_on_them() -> None:
    replay, _ = recorded("gpt2")
    other = torch.randint(3, 40, (3, 9))
    with replay.stack.capture() as seen:
        replay.stack.model(input_ids=other, use_cache=False)
    assert torch.equal(replay.stem(input_ids=other, use_cache=False), seen.hidden[0])


def test_the_stem_and_the_head_run_no_block() -> None:
    replay, _ = recorded("llama")
    ran: list[int] = []
    for block in replay.stack.blocks:
        block.mlp.register_forward_hook(lambda *_: ran.append(1))
    replay.head(replay.hidden[-1])
    replay.stem(**batch("llama"))
    assert not ran
    replay.block(2, replay.hidden[2])
    assert ran == [1]


def test_the_head_takes_other_arguments_than_the_run() -> None:
    replay, output = recorded("llama")
    found = replay.head(replay.hidden[-1], logits_to_keep=2).logits
    torch.testing.assert_close(found, output[:, -2:])
    one = replay.head(replay.hidden[-1][:, -1:], input_ids=torch.zeros(2, 1, dtype=torch.long))
    torch.testing.assert_close(one.logits, output[:, -1:])


class ByName(Tower):
    """Calls its blocks with the stream by a name, behind another argument."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Scaled() for _ in range(DEPTH)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for layer in self.layers:
            h = layer(scale=[x.mean(1, keepdim=True)], hidden_states=h)[0]
        return self.head(h)


class Scaled(nn.Module):
    """h + scale W h, as a tuple of one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, scale: list[Tensor], hidden_states: Tensor) -> tuple[Tensor]:
        return (hidden_states + scale[0] * self.linear(hidden_states),)


def test_a_stream_that_comes_by_a_name_and_rows_in_a_list() -> None:
    x = torch.randn(3, 5)
    replay, output = record(Stack.of(ByName()), x)
    assert torch.equal(replay.head(replay.run(range(DEPTH), replay.hidden[0])), output)
    found = replay.run(range(DEPTH), replay.hidden[0][[2, 0]], rows=[2, 0])
    torch.testing.assert_close(found, replay.hidden[-1][[2, 0]])


def test_played_blocks_have_the_weights_of_now() -> None:
    replay, _ = recorded("sequential")
    replay.stack.blocks[1].linear.weight.zero_()
    replay.stack.blocks[1].linear.bias.zero_()
    assert torch.equal(replay.block(1, replay.hidden[1]), replay.hidden[1])


def test_gradients_reach_the_stream_and_the_weights() -> None:
    with torch.enable_grad():
        replay, _ = recorded("llama")
        stream = streams(replay).requires_grad_()
        replay.run([1, 3], stream).square().mean().backward()
    assert stream.grad is not None and stream.grad.abs().max() > 0
    learned = [any(p.grad is not None for p in b.parameters()) for b in replay.stack.blocks]
    assert learned == [False, True, False, True]


@pytest.mark.parametrize(
    ("index", "shape", "rows", "match"),
    [
        (4, (2,), None, "no block 4; the run has 0 to 3"),
        (0, (3,), None, "3 rows and the recorded run 2"),
        (0, (2,), [0, 2], r"rows is \[0, 2\].*rows 0 to 1"),
        (0, (2,), [0], "for a stream of 2 rows it names 2"),
    ],
)
def test_what_cannot_be_played_is_said(
    index: int, shape: tuple[int, ...], rows: list[int] | None, match: str
) -> None:
    replay, _ = recorded("sequential")
    with pytest.raises(ModelError, match=match):
        replay.block(index, torch.zeros(*shape, 16), rows)


def test_a_run_that_cannot_be_played_again_is_refused() -> None:
    class Twice(Tower):
        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            for _ in range(2):
                for layer in self.layers:
                    h = layer(h)
            return self.head(h)

    stack = Stack.of(Twice())
    with pytest.raises(ModelError, match="4 blocks and called blocks 8 times"):
        record(stack, torch.randn(2, 5))
    with pytest.raises(ModelError, match=r"path \[0, 2\] is open"), stack.path([0, 2]):
        record(stack, torch.randn(2, 5))
