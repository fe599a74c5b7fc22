"""What the contexts promise: they nest, they leave nothing behind, they work in every mode."""

import copy
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from stack_families import FAMILIES, Tower, batch, build, run
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stackwise.errors import ModelError
from stackwise.stack import Stack

torch.set_num_threads(1)
SOME = pytest.mark.parametrize("family", ["gemma3", "gpt2", "t5-decoder", "vit", "sequential"])


def stack_of(family: str) -> Stack:
    return Stack.of(build(family), side=FAMILIES[family].side)


def traces(model: nn.Module) -> list[object]:
    """Everything about a model that a context might leave changed."""
    found: list[object] = []
    for name, module in model.named_modules(remove_duplicate=False):
        hooks = (list(module._forward_hooks), list(module._forward_pre_hooks))
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | str | None)}
        found.append((name, id(module), id(module._modules), hooks, plain))
        if hasattr(module, "config"):
            found.append((id(module.config), copy.deepcopy(module.config.to_dict())))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_inside_leaves_the_model_as_it_was(family: str) -> None:
    stack = stack_of(family)
    before = traces(stack.model)
    order = [3, 1, 1, 0, 2, 2]
    with (
        pytest.raises(RuntimeError, match="ours"),
        stack.path(order),
        stack.capture(),
        stack.intervene(1, lambda h: h, position=2),
        stack.around(lambda place, forward, args, kwargs: forward(*args, **kwargs)),
    ):
        assert traces(stack.model) != before
        run(stack.model, family)
        raise RuntimeError("ours")
    assert traces(stack.model) == before


@SOME
def test_an_inner_path_counts_the_blocks_of_the_model_and_the_outer_holds_again(
    family: str,
) -> None:
    stack = stack_of(family)
    with stack.path([0, 2]):
        outer = run(stack.model, family)
        with stack.path([0, 3, 3]):
            inner = run(stack.model, family)
            assert stack.order == [0, 3, 3]
        with pytest.raises(KeyError), stack.path([0]):
            raise KeyError
        assert torch.equal(run(stack.model, family), outer)
    with stack.path([0, 3, 3]):
        assert torch.equal(run(stack.model, family), inner)
    assert stack.order == [0, 1, 2, 3]


@SOME
def test_capture_may_be_opened_outside_or_inside_a_path(family: str) -> None:
    stack = stack_of(family)
    with stack.capture() as outside, stack.path([0, 2, 2]), stack.capture() as inside:
        run(stack.model, family)
    assert len(outside.hidden) == len(inside.hidden) == 4
    assert all(map(torch.equal, outside.hidden, inside.hidden))
    assert outside.order == (0, 2, 2)


@SOME
def test_a_stack_made_inside_a_path_sees_what_runs_there(family: str) -> None:
    stack = stack_of(family)
    with stack.path([0, 2, 2]):
        inner = Stack.of(stack.model, side=FAMILIES[family].side)
        whole = run(stack.model, family)
        with inner.capture() as stream, inner.path([0, 2]):
            run(stack.model, family)
        assert torch.equal(run(stack.model, family), whole)
    assert len(inner) == 3
    with stack.path([0, 2]), stack.capture() as expected:
        run(stack.model, family)
    assert all(map(torch.equal, stream.hidden, expected.hidden))


def test_two_stacks_made_side_by_side_are_not_open_at_once() -> None:
    model = build("llama")
    first, second = Stack.of(model), Stack.of(model)
    with first.path([0, 1]):
        with pytest.raises(ModelError, match="another Stack is open"), second.capture():
            pass
        assert len(model.model.layers) == 2
    with second.path([0, 1, 2]):
        assert len(model.model.layers) == 3
    with first.path(range(4)), second.path([0, 1]):
        with pytest.raises(ModelError, match="another Stack is open"), first.capture():
            pass
        assert len(model.model.layers) == 2


@SOME
def test_an_intervention_reaches_every_occurrence_or_one_position(family: str) -> None:
    stack = stack_of(family)
    with stack.path([0, 1, 1, 3]):
        with stack.capture() as plain:
            run(stack.model, family)
        with stack.intervene(1, lambda h: h + 1), stack.capture() as every:
            run(stack.model, family)
        with stack.intervene(1, lambda h: h + 1, position=2), stack.capture() as second:
            run(stack.model, family)
    assert torch.equal(second.hidden[2], plain.hidden[2])
    assert torch.equal(second.hidden[3], plain.hidden[3] + 1)
    assert torch.equal(every.hidden[2], plain.hidden[2] + 1)
    assert not torch.equal(every.hidden[3], second.hidden[3])


@SOME
def test_interventions_on_a_block_apply_in_the_order_they_were_opened(family: str) -> None:
    stack = stack_of(family)
    zero, two = stack.intervene(0, lambda h: h * 0), stack.intervene(0, lambda h: h + 2)
    with zero, two, stack.capture() as stream:
        run(stack.model, family)
    assert (stream.hidden[1] == 2).all()


@SOME
def test_what_stands_around_a_block_calls_it_or_answers_for_it(family: str) -> None:
    stack = stack_of(family)
    plain = run(stack.model, family)
    places: list[int] = []

    def call(place: int, forward: Any, args: Any, kwargs: Any) -> Any:
        places.append(place)
        return forward(*args, **kwargs)

    with stack.path([0, 1, 1, 3]), stack.around(call):
        run(stack.model, family)
    assert places == [0, 1, 2, 3]
    with stack.capture() as stream, stack.around(call):
        assert torch.equal(run(stack.model, family), plain)
    before = stream.hidden[2]

    def answer(place: int, forward: Any, args: Any, kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        if place != 2:
            return output
        return (before, *output[1:]) if isinstance(output, tuple) else before

    with stack.around(call), stack.around(answer):  # the one opened last stands outermost
        answered = run(stack.model, family)
    with stack.intervene(2, lambda h: before):
        assert torch.equal(run(stack.model, family), answered)
    assert torch.equal(run(stack.model, family), plain)


@SOME
def test_a_block_whose_output_is_its_input_is_a_block_that_is_skipped(family: str) -> None:
    stack = stack_of(family)
    with stack.capture() as stream:
        run(stack.model, family)
    before = stream.hidden[2]
    with stack.intervene(2, lambda h: before):
        replaced = run(stack.model, family)
    with stack.path([0, 1, 3]):
        torch.testing.assert_close(run(stack.model, family), replaced)


@SOME
def test_a_capture_holds_the_last_pass_and_stays_readable(family: str) -> None:
    stack = stack_of(family)
    with stack.capture() as stream:
        run(stack.model, family)
        first = stream.hidden
        with stack.path([0, 1]):
            run(stack.model, family)
    assert len(first) == 5
    assert len(stream.hidden) == 3


@SOME
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(family: str, mode: type) -> None:
    stack = stack_of(family)
    with stack.path([0, 2, 2, 3]), stack.capture() as graded:
        expected = run(stack.model, family)
    with mode(), stack.path([0, 2, 2, 3]), stack.capture() as stream:
        torch.testing.assert_close(run(stack.model, family), expected)
    for streams in zip(stream.hidden, graded.hidden, strict=True):
        torch.testing.assert_close(*streams)
    assert not stream.hidden[-1].requires_grad


@SOME
def test_under_autocast(family: str) -> None:
    stack = stack_of(family)
    with torch.autocast("cpu", torch.bfloat16):
        new = stack.rebuild([0, 2, 2, 3])
        with stack.path([0, 2, 2, 3]), stack.capture() as stream:
            assert torch.equal(run(stack.model, family), run(new, family))
        plain = run(stack.model, family)
        with stack.path(range(4)):
            assert torch.equal(run(stack.model, family), plain)
    total = stream.hidden[0].float() + sum(c.float() for c in stream.contributions)
    torch.testing.assert_close(total, stream.hidden[-1].float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("family", ["gemma2", "dinov2", "t5-encoder", "opt", "gpt-neox"])
def test_sublayers_in_bfloat16(family: str) -> None:
    stack = stack_of(family)
    stack.model.to(torch.bfloat16)
    inputs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in batch(family).items()}
    with stack.capture(sublayers=True) as stream:
        stack.model(**inputs)
    for parts, contribution in zip(stream.sublayers, stream.contributions, strict=True):
        torch.testing.assert_close(sum(parts.values()), contribution, rtol=0.1, atol=0.1)


def gradients(model: nn.Module, outcome: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    outcome.float().square().mean().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bert", "vit", "t5-encoder"])
def test_gradient_checkpointing(family: str, reentrant: bool) -> None:
    stack = stack_of(family)
    model, order = stack.model, [0, 2, 2, 3]
    with stack.path(order), stack.capture() as plain:
        expected = gradients(model, run(model, family))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    for module in model.modules():  # checkpointing is on in training only; dropout stays off
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    with stack.path(order), stack.capture() as stream:
        outcome = run(model, family)
        found = gradients(model, outcome)
    for streams in zip(stream.hidden, plain.hidden, strict=True):
        torch.testing.assert_close(*streams)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_a_checkpoint_of_the_users_own_is_recorded_once() -> None:
    class Checkpointed(Tower):
        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            for layer in self.layers:
                h = checkpoint(layer, h, use_reentrant=False)
            return self.head(h)

    torch.manual_seed(0)
    stack = Stack.of(Checkpointed())
    with stack.path([0, 1, 1]), stack.capture() as stream:
        stack.model(torch.randn(3, 5)).sum().backward()
    total = stream.hidden[0] + sum(stream.contributions)
    torch.testing.assert_close(total, stream.hidden[-1])


def test_gradients_of_a_path_reach_the_blocks_of_the_model() -> None:
    stack = stack_of("llama")
    new = stack.rebuild([0, 1, 1])
    with stack.path([0, 1, 1]):
        run(stack.model, "llama").square().mean().backward()
    run(new, "llama").square().mean().backward()
    looped = stack.blocks[1].mlp.up_proj.weight.grad
    unrolled = [layer.mlp.up_proj.weight.grad for layer in new.model.layers]
    torch.testing.assert_close(looped, unrolled[1] + unrolled[2])
    assert all(p.grad is None for p in stack.blocks[3].parameters())


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("family", ["llama", "gpt2", "vit", "module-list", "sequential"])
def test_a_compiled_model_follows_every_path_capture_and_intervention(family: str) -> None:
    stack = stack_of(family)
    compiled = torch.compile(stack.model, backend="eager")
    assert Stack.of(compiled).model is stack.model
    with torch.no_grad():
        for order in ([0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 1, 3], [0, 3, 1, 2], [0, 2]):
            with stack.path(order):
                torch.testing.assert_close(run(compiled, family), run(stack.model, family))
        with stack.intervene(1, lambda h: 0 * h), stack.capture() as stream:
            watched = run(compiled, family)
            torch.testing.assert_close(watched, run(stack.model, family))
        assert (stream.hidden[2] == 0).all()
        plain = run(stack.model, family)
        torch.testing.assert_close(run(compiled, family), plain)
        assert not torch.allclose(plain, watched)


def test_train_and_eval_inside_a_path_hold_for_every_block() -> None:
    stack = stack_of("bert")
    with stack.path([2, 1]):
        stack.model.train()
    assert all(module.training for module in stack.model.modules())
    with stack.path([2, 1]), stack.capture():
        stack.model.eval()
    assert not any(module.training for module in stack.model.modules())


def test_moving_a_model_inside_a_path_moves_every_block_that_runs() -> None:
    stack = stack_of("module-list")
    with stack.path([1, 1, 0]):
        stack.model.double()
    kinds = [block.linear.weight.dtype for block in stack.blocks]
    assert kinds == [torch.float64, torch.float64, torch.float32, torch.float32]


def test_a_hook_put_on_before_a_path_fires_at_every_occurrence() -> None:
    stack, seen = stack_of("llama"), []
    stack.blocks[1].self_attn.register_forward_hook(lambda *_: seen.append(1))
    with stack.path([0, 1, 1, 1]):
        run(stack.model, "llama")
    assert len(seen) == 3


def test_batch_norm_statistics_of_a_repeated_block_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(3)))
    stack = Stack.of(model)
    with stack.path([0, 1, 1]), stack.capture():
        model(torch.randn(8, 4))
    counts = [int(block[1].num_batches_tracked) for block in stack.blocks]
    assert counts == [1, 2, 0]


def test_layer_types_and_depth_follow_the_path_in_the_config() -> None:
    stack = stack_of("gemma3")
    text = stack.model.config.text_config
    before = text.layer_types
    with stack.path([1, 1, 0]):
        assert text.layer_types == ["full_attention", "full_attention", "sliding_attention"]
        assert text.num_hidden_layers == 3
        assert stack.model.config.vision_config.num_hidden_layers == 3
        assert [layer.self_attn.layer_idx for layer in stack.model.model.language_model.layers] == [
            0,
            1,
            2,
        ]
    assert text.layer_types is before
    assert text.num_hidden_layers == 4


def test_a_model_that_counts_its_blocks_itself_is_told() -> None:
    class Counting(Tower):
        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            for place in range(4):
                h = self.layers[place](h)
            return self.head(h)

    stack = Stack.of(Counting())
    with pytest.raises(ModelError, match="ran only part"), stack.path([0, 1, 1, 2, 3]):
        stack.model(torch.randn(2, 5))


@pytest.mark.parametrize(
    ("order", "match"),
    [
        ([], "empty"),
        ([0, 4], "no block 4"),
        ([-1], "no block -1"),
        ([0.5], "list of block"),
        (2, "list"),
    ],
)
def test_an_order_that_cannot_be_is_refused(order: object, match: str) -> None:
    stack = stack_of("module-list")
    for use in (stack.path, stack.rebuild):
        with pytest.raises(ModelError, match=match):
            use(order).__enter__()


def test_orders_may_be_arrays() -> None:
    stack = stack_of("module-list")
    with stack.path(torch.tensor([0, 2])):
        assert stack.order == [0, 2]


@pytest.mark.parametrize(
    ("block", "position", "match"),
    [(9, None, "no block 9"), (1, 0, r"at \[1\]"), (1, 7, "position 7")],
)
def test_an_intervention_that_would_never_fire_is_refused(
    block: int, position: int | None, match: str
) -> None:
    stack = stack_of("module-list")
    with pytest.raises(ModelError, match=match), stack.intervene(block, torch.relu, position):
        pass


def test_an_intervention_must_return_a_stream() -> None:
    stack = stack_of("module-list")
    for fn in (lambda h: h[:1], lambda h: None):
        with pytest.raises(ModelError, match="intervention on block 1"), stack.intervene(1, fn):
            run(stack.model, "module-list")


def test_reading_a_stream_that_saw_nothing_is_refused() -> None:
    stack = stack_of("llama")
    with stack.capture() as stream:
        pass
    with pytest.raises(ModelError, match="no forward pass"):
        _ = stream.hidden
    with stack.capture() as stream:
        run(stack.model, "llama")
    with pytest.raises(ModelError, match="sublayers=True"):
        _ = stream.attention


def test_a_block_that_changes_the_shape_has_no_contribution() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    stack = Stack.of(model)
    with stack.capture() as stream:
        model(torch.randn(3, 5))
    assert [tuple(h.shape) for h in stream.hidden] == [(3, 5), (3, 8), (3, 8), (3, 2)]
    with pytest.raises(ModelError, match=r"\(3, 5\) into \(3, 8\)"):
        _ = stream.contributions


def test_a_block_that_writes_over_its_input_is_found_out() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)) for _ in "ab"))
    stack = Stack.of(model)
    with pytest.raises(ModelError, match="in place"), torch.no_grad(), stack.capture():
        model(torch.randn(3, 4))


def test_sublayers_in_training_with_dropout() -> None:
    """The dropout after OPT's sublayers is no module, so what is added is not to be seen."""
    stack = stack_of("opt")
    stack.model.train()
    with pytest.raises(ModelError, match="dropout"), stack.capture(sublayers=True):
        run(stack.model, "opt")
    stack = Stack.of(hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=16, n_layer=2, n_head=2)).train())
    with stack.capture(sublayers=True) as stream:
        stack.model(**batch("gpt2"))
    for parts, contribution in zip(stream.sublayers, stream.contributions, strict=True):
        torch.testing.assert_close(sum(parts.values()), contribution, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
@pytest.mark.usefixtures("fresh_compiler")
def test_machine_code_of_a_compiled_model_follows_every_path() -> None:
    stack = stack_of("llama")
    compiled = torch.compile(stack.model)
    with torch.no_grad():
        for order in ([0, 1, 2, 3], [0, 1, 1, 3], [0, 2]):
            with stack.path(order):
                torch.testing.assert_close(
                    run(compiled, "llama"), run(stack.model, "llama"), atol=1e-5, rtol=1e-5
                )
        with stack.capture() as stream:
            run(compiled, "llama")
        assert len(stream.hidden) == 5
