"""S6 against mambapy and transformers' slow path: a training step, and prediction token by token.

- layer: forward and backward of one layer against mambapy's MambaBlock with equal weights;
- model: forward and backward of two blocks against transformers' MambaModel (no CUDA kernels);
- peak memory is bounded by what a layer keeps for its backward pass: the tensors that autograd
  holds after the forward pass, ours against mambapy's;
- token by token: `step` over a sequence against mambapy's `step`.
"""

import os
from collections.abc import Callable

import torch
from mambapy.mamba import MambaBlock as TheirBlock
from mambapy.mamba import MambaConfig
from torch import Tensor, nn

from side_by_side import alternate, line
from stackwise.layers.s6 import S6
from stackwise.shrink.mamba_pkd import MambaBlock

SIZES = {
    "28 tokens, D=64, N=8, batch 128": (128, 28, 64, 8, 7),
    "64 tokens, D=64, N=16, batch 32": (32, 64, 64, 16, 7),
    "784 tokens, D=32, N=16, batch 8": (8, 784, 32, 16, 3),
}


def training_pass(layer: nn.Module, u: Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def run() -> None:
        layer.zero_grad()
        layer(u).square().mean().backward()

    return run


def kept(layer: nn.Module, u: Tensor) -> float:
    """MiB that autograd holds between forward and backward, each piece of memory once."""
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        found[memory.data_ptr()] = memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = layer(u)
    weights = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    del output
    return sum(size for place, size in found.items() if place not in weights) / 2**20


def layer_pair(width: int, states: int) -> tuple[S6, nn.Module]:
    """One layer of ours and of mambapy with equal weights."""
    torch.manual_seed(0)
    ours = S6(width, states)
    theirs = TheirBlock(MambaConfig(d_model=width, n_layers=1, d_state=states))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def model_pair(width: int, states: int) -> tuple[nn.Module, nn.Module]:
    """Two blocks and a norm of ours and of transformers with equal weights, from embeddings."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import MambaConfig as Config
    from transformers import MambaModel

    config = Config(
        vocab_size=2, hidden_size=width, state_size=states, num_hidden_layers=2, use_cache=False
    )
    whole = MambaModel(config)
    blocks = nn.Sequential(*(MambaBlock(S6(width, states)) for _ in range(2)))
    for block, layer in zip(blocks, whole.layers, strict=True):
        block.load_state_dict(layer.state_dict())

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, u: Tensor) -> Tensor:
            return self.whole(inputs_embeds=u).last_hidden_state

    return nn.Sequential(*blocks, nn.RMSNorm(width, eps=1e-5)), Theirs()


@torch.no_grad()
def check(ours: nn.Module, theirs: nn.Module, u: Tensor) -> None:
    """Both compute the same."""
    torch.testing.assert_close(ours(u), theirs(u), atol=1e-4, rtol=1e-4)


def steps(ours: S6, theirs: nn.Module, u: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """What goes through the tokens of u one by one: ours, theirs."""

    @torch.no_grad()
    def our_steps() -> None:
        state = None
        for token in u.unbind(1):
            _, state = ours.step(token, state)

    @torch.no_grad()
    def their_steps() -> None:
        cache = None, torch.zeros(len(u), ours.d_inner, ours.d_conv - 1)
        for token in u.unbind(1):
            _, cache = theirs.step(token, cache)

    return our_steps, their_steps


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    for case, (batch, length, width, states, repeats) in SIZES.items():
        u = torch.randn(batch, length, width, generator=torch.Generator().manual_seed(0))
        ours, theirs = layer_pair(width, states)
        check(ours, theirs, u)
        found = alternate(training_pass(ours, u), training_pass(theirs, u), repeats)
        line(f"layer, forward and backward, {case}", *found, "mambapy", "s", "float32", threads)
        sizes = kept(ours, u), kept(theirs, u)
        line(f"layer, kept for backward, {case}", *sizes, "mambapy", "MiB", "float32", threads)
        found = alternate(*steps(ours, theirs, u), repeats)
        line(f"layer, token by token, {case}", *found, "mambapy", "s", "float32", threads)

        ours, theirs = model_pair(width, states)
        check(ours, theirs, u)
        found = alternate(training_pass(ours, u), training_pass(theirs, u), repeats)
        line(
            f"two blocks, forward and backward, {case}", *found, "transformers' slow path", "s",
            "float32", threads,
        )  # fmt: skip


if __name__ == "__main__":
    main()
