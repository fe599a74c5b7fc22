"""What looking at a model through a Stack costs, against the same model without.

Cases, each on three sizes of a Llama (random weights, batch 1, float32):

- identity-path: a pass in an open `path(range(depth))`, against an equal model; at most 2 % more;
- moved-path: a pass through the blocks in reverse, against the rebuilt model of that order;
- capture: a pass inside `capture()`, against plain forward hooks that keep the same tensors;
- sublayers: the same with `capture(sublayers=True)`, against hooks on attention and MLP too;
- open-and-close: a pass with the context opened for it, against one in a context left open;
- capture beside nnsight: the same tensors saved in a trace of it, where it is installed.

And on a pretrained model (SmolLM2-135M, 64 tokens): a path with a skip and a loop against
transformers' own forward of the model that `rebuild` makes, and capture beside nnsight.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.models import open_model
from stackwise.stack import Stack

SIZES = {"d64-l4": (64, 4, 16), "d256-l8": (256, 8, 64), "d512-l12": (512, 12, 128)}
REPEATS = {"d64-l4": 401, "d256-l8": 101, "d512-l12": 31}


def llama(width: int, depth: int) -> nn.Module:
    """A Llama of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 32,
    )
    return LlamaForCausalLM(config).eval()


def hooked(model: nn.Module, tokens: Tensor, sublayers: bool) -> Callable[[], object]:
    """A forward pass with plain hooks that keep the stream and, if wanted, the sublayers."""
    kept: list[Tensor] = []

    def keep_input(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        kept.append(args[0])

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    def run() -> None:
        kept.clear()
        handles = []
        for layer in model.model.layers:
            handles.append(layer.register_forward_pre_hook(keep_input))
            if sublayers:
                handles.append(layer.self_attn.register_forward_hook(keep))
                handles.append(layer.mlp.register_forward_hook(keep))
        handles.append(model.model.layers[-1].register_forward_hook(keep))
        model(tokens, use_cache=False)
        for handle in handles:
            handle.remove()

    return run


def traced(model: nn.Module, tokens: Tensor) -> Callable[[], list[Tensor]] | None:
    """A forward pass of a copy in a trace of nnsight that saves the stream; None without it."""
    try:
        import nnsight
    except ImportError:
        return None
    seen = nnsight.NNsight(copy.deepcopy(model))

    def run() -> list[Tensor]:
        with torch.no_grad(), seen.trace(tokens, use_cache=False):
            kept = nnsight.save([])
            for layer in seen.model.layers:
                kept.append(layer.input)
            last = seen.model.layers[-1].output
            kept.append(last)
        return kept

    return run


def beside_nnsight(name: str, model: nn.Module, tokens: Tensor, repeats: int, threads: int) -> None:
    """Print capture against nnsight, once both have shown the same tensors."""
    peer = traced(model, tokens)
    if peer is None:
        return

    def ours() -> list[Tensor]:
        with torch.no_grad(), Stack.of(model).capture() as stream:
            model(tokens, use_cache=False)
        return stream.hidden

    if not all(torch.equal(a, b) for a, b in zip(ours(), peer(), strict=True)):
        raise RuntimeError("nnsight saved other tensors")
    line(f"capture beside nnsight {name}", *alternate(ours, peer, repeats), "nnsight", "s",
         "float32", threads,
         "the stack is found and a context opened in each call, a fixed cost of some milliseconds; "
         "nnsight keeps what it made of the model")  # fmt: skip


def pretrained(threads: int) -> None:
    """Print the cases of a pretrained model."""
    model = open_model("smollm2-135m")
    tokens = torch.randint(0, 40_000, (1, 64))
    order = [*range(10), *range(8, 20), *range(22, 30)]  # loops over 8 and 9, skips 20 and 21
    stack = Stack.of(model)
    rebuilt = stack.rebuild(order)

    def along() -> None:
        model(tokens, use_cache=False)

    def by_transformers() -> None:
        rebuilt(tokens, use_cache=False)

    with stack.path(order):
        line("path smollm2-135m", *alternate(along, by_transformers, 7),
             "transformers' own forward", "s", "float32", threads)  # fmt: skip
    beside_nnsight("smollm2-135m", model, tokens, 7, threads)


def measure(size: str, threads: int) -> None:
    """Print the cases of one size."""
    width, depth, length = SIZES[size]
    model = llama(width, depth)
    stack = Stack.of(model)
    tokens = torch.randint(0, 256, (1, length))

    def plain() -> None:
        model(tokens, use_cache=False)

    def within(context: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with context():
                model(tokens, use_cache=False)

        return run

    def report(case: str, ours: float, peer: float, name: str, reason: str | None = None) -> None:
        line(f"{case} {size}", ours, peer, name, "s", "float32", threads, reason)

    repeats = REPEATS[size]
    backwards = list(reversed(range(depth)))
    rebuilt = stack.rebuild(backwards)

    def rebuilt_pass() -> None:
        rebuilt(tokens, use_cache=False)

    same = copy.deepcopy(model)

    def bare() -> None:
        same(tokens, use_cache=False)

    with stack.path(range(depth)):
        report("identity-path", *alternate(plain, bare, repeats), "the bare model")
    with stack.path(backwards):
        report("moved-path", *alternate(plain, rebuilt_pass, repeats), "the rebuilt model")
    opened = "a context makes its modules anew, a fixed cost, which a small model feels"
    report(
        "open-and-close",
        *alternate(within(lambda: stack.path(backwards)), rebuilt_pass, repeats),
        "the rebuilt model",
        opened,
    )
    report(
        "capture",
        *alternate(within(stack.capture), hooked(model, tokens, sublayers=False), repeats),
        "forward hooks",
        opened,
    )
    report(
        "sublayers",
        *alternate(
            within(lambda: stack.capture(sublayers=True)),
            hooked(model, tokens, sublayers=True),
            repeats,
        ),
        "forward hooks",
        "each block's sum is checked against its output, and " + opened,
    )
    beside_nnsight(size, model, tokens, repeats, threads)


def main() -> None:
    """Print every case."""
    torch.set_num_threads(1)
    with torch.no_grad():
        for size in SIZES:
            measure(size, torch.get_num_threads())
        pretrained(torch.get_num_threads())


if __name__ == "__main__":
    main()
