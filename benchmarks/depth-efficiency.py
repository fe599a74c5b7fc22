"""What a skip sweep costs: the probe's one growing batch against full passes with hooks.

The peer is what one writes with PyTorch alone, and what the paper's own code does: for each
block a whole forward pass in which a hook returns the block's input as its output, while hooks on
the others keep what they write. Both measure the same change of every later block and of the
output, for every token, on a Llama of random weights in float32. Cases:

- skip: one prompt, all tokens;
- future: one prompt, three splits;
- local: the direct effects, against a patched call of each later block, one at a time.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.probe.depth_efficiency import CleanRun, evaluating, local, skip
from stackwise.stack import Stack

SIZES = {"d64-l6-t32": (64, 6, 32), "d256-l12-t48": (256, 12, 48), "d576-l16-t64": (576, 16, 64)}
REPEATS = {"d64-l6-t32": 31, "d256-l12-t48": 7, "d576-l16-t64": 3}
VOCABULARY = 4096
SPLITS = [8, 16, 24]


def llama(width: int, depth: int) -> nn.Module:
    """A Llama of random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=max(width // 64, 2),
    )
    return LlamaForCausalLM(config).eval()


def clean_pass(model: nn.Module, ids: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Input and output of every block, and the probabilities, by plain hooks."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(args[0])
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in model.model.layers]
    probabilities = model(ids, use_cache=False).logits.softmax(-1)
    for handle in handles:
        handle.remove()
    return inputs, outputs, probabilities


def hooked_sweep(model: nn.Module, ids: Tensor, split: int | None) -> tuple[Tensor, Tensor]:
    """Effects (L, L, T) and output changes (L, T) by one whole pass for each block."""
    inputs, outputs, clean = clean_pass(model, ids)
    contributions = [after - before for before, after in zip(inputs, outputs, strict=True)]
    stop = ids.shape[1] if split is None else split
    effects, changes = [], []
    for skipped in range(len(inputs)):
        written: list[Tensor] = []

        def change(
            module: nn.Module, args: tuple[Tensor, ...], output: Tensor, skipped: int = skipped,
            written: list[Tensor] = written,
        ) -> Tensor | None:  # fmt: skip
            new = None
            if len(written) == skipped:
                new = output.clone()
                new[:, 1:stop] = args[0][:, 1:stop]
            written.append((output if new is None else new) - args[0])
            return new

        handles = [layer.register_forward_hook(change) for layer in model.model.layers]
        edited = model(ids, use_cache=False).logits.softmax(-1)
        for handle in handles:
            handle.remove()
        effects.append(
            torch.stack(
                [
                    (bar - c).norm(dim=-1)[0] / c.norm(dim=-1)[0].clamp_min(1e-6)
                    for bar, c in zip(written, contributions, strict=True)
                ]
            )
        )
        changes.append((edited - clean).norm(dim=-1)[0])
    return torch.stack(effects), torch.stack(changes)


def patched_blocks(model: nn.Module, ids: Tensor) -> Tensor:
    """Direct effects (L, L, T) by a call of each later block for each source."""
    inputs, outputs, _ = clean_pass(model, ids)
    positions = torch.arange(ids.shape[1])[None]
    rotary = model.model.rotary_emb(inputs[0], positions)
    found = torch.zeros(len(inputs), len(inputs), ids.shape[1])
    for source in range(len(inputs)):
        taken = outputs[source] - inputs[source]
        taken[:, 0] = 0
        for reader in range(source + 1, len(inputs)):
            edited = inputs[reader] - taken
            layer = model.model.layers[reader]
            written = layer(edited, position_embeddings=rotary) - edited
            clean = outputs[reader] - inputs[reader]
            found[source, reader] = ((written - clean).norm(dim=-1) / clean.norm(dim=-1))[0]
    return found


def measure(size: str) -> None:
    """Print the cases of one size."""
    width, depth, tokens = SIZES[size]
    model = llama(width, depth)
    stack = Stack.of(model)
    ids = torch.randint(0, VOCABULARY, (1, tokens))

    def ours(splits: list[int | None]) -> Callable[[], object]:
        return lambda: skip(CleanRun(stack, {"input_ids": ids}), splits)

    def peer(splits: list[int | None]) -> Callable[[], object]:
        return lambda: [hooked_sweep(model, ids, split) for split in splits]

    same(skip(CleanRun(stack, {"input_ids": ids})).relative[0], hooked_sweep(model, ids, None)[0])
    same(local(CleanRun(stack, {"input_ids": ids}))[0], patched_blocks(model, ids))
    cases: list[tuple[str, Callable[[], object], Callable[[], object], str]] = [
        ("skip", ours([None]), peer([None]), "full passes with hooks"),
        ("future", ours([*SPLITS]), peer([*SPLITS]), "full passes with hooks"),
        (
            "local",
            lambda: local(CleanRun(stack, {"input_ids": ids})),
            lambda: patched_blocks(model, ids),
            "patched blocks one by one",
        ),
    ]
    for name, one, other, peer_name in cases:
        seconds = alternate(one, other, REPEATS[size])
        line(
            f"{name} {size}", *seconds, peer_name, "s", "float32", torch.get_num_threads(),
            "one check of causality and a last pass through the head are added, a fixed cost",
        )  # fmt: skip


def same(ours: Tensor, peer: Tensor) -> None:
    """Stop where the two did not measure the same thing."""
    torch.testing.assert_close(ours[..., 1:], peer[..., 1:], rtol=1e-3, atol=1e-4)


def main() -> None:
    """Print every case."""
    torch.set_num_threads(1)
    for size in SIZES:
        with evaluating():
            measure(size)


if __name__ == "__main__":
    main()
