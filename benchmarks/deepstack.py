"""DeepStack's step against the sequence that holds every token, and what adding costs by itself.

- training step: forward and backward of the language model, 16 positions of text; four stacks added
  to l visual positions, against 5 l visual positions (the same tokens in the sequence);
- added and not: the same step without stacks in place of the peer, which is the least that it can
  cost;
- prefill: forward alone with a cache, as before an answer is written.

The vision tower is left out: it reads low view and crops in both.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from side_by_side import alternate, line
from stackwise.build.deepstack import DeepStack
from stackwise.tasks.language.decoder import new_decoder

SIZES = {
    "16 tokens a view, 6 blocks of 64, batch 16": (16, 6, 64, 16, 5),
    "64 tokens a view, 6 blocks of 128, batch 8": (64, 6, 128, 8, 5),
    "144 tokens a view, 8 blocks of 192, batch 2": (144, 8, 192, 2, 5),
}
TEXT, STACKS = 16, 4


def step(deep: DeepStack, embeds: Tensor, **given: Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def run() -> None:
        deep.zero_grad()
        logits = deep(inputs_embeds=embeds, use_cache=False, **given).logits
        logits.square().mean().backward()

    return run


def prefill(deep: DeepStack, embeds: Tensor, **given: Tensor) -> Callable[[], None]:
    """Forward alone, the cache filled."""

    @torch.no_grad()
    def run() -> None:
        deep(inputs_embeds=embeds, use_cache=True, **given)

    return run


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for case, (tokens, layers, width, batch, repeats) in SIZES.items():
        torch.manual_seed(0)
        decoder = new_decoder(300, layers=layers, width=width, heads=4, length=1024)
        deep = DeepStack(decoder)
        short = torch.randn(batch, TEXT + tokens, width)
        long = torch.randn(batch, TEXT + (STACKS + 1) * tokens, width)
        positions = torch.zeros(batch, TEXT + tokens, dtype=torch.bool)
        positions[:, 1 : 1 + tokens] = True
        stacks = torch.randn(STACKS, batch, tokens, width)
        added = {"stacks": stacks, "positions": positions}

        found = alternate(step(deep, short, **added), step(deep, long), repeats)
        name = "every token in the sequence"
        line(f"training step, {case}", *found, name, "s", "float32", threads)
        found = alternate(step(deep, short, **added), step(deep, short), repeats)
        reason = (
            "each stack is a sum on a copy, and the blocks' list is put in place and away at each "
            "pass"
        )
        line(
            f"the same without stacks, {case}", *found, "the low view alone", "s", "float32",
            threads, reason=reason,
        )  # fmt: skip
        found = alternate(prefill(deep, short, **added), prefill(deep, long), repeats)
        line(f"prefill, {case}", *found, name, "s", "float32", threads)


if __name__ == "__main__":
    main()
