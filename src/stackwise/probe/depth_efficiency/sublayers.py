"""What the attention and the MLP of each block add to the stream, and how to edit it.

A pre-norm block is additive: h_{l+1} = h_l + a_l + m_l. `Stack.capture(sublayers=True)` says what
a_l and m_l are, checks that they add up, and refuses a block that does not (a post-norm BERT). To
edit one of them, the module that writes it is needed: it is the outermost one inside the block
whose output is that very tensor.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.stack import Replay
from stackwise.stack.sublayers import first_tensor

Part = Literal["layer", "attention", "mlp"]
Writer = Literal["attention", "mlp"]


@dataclass
class Sublayers:
    """The additive parts of every block of a clean run.

    Attributes:
        attention, mlp: a_l and m_l for each block, shape of the stream.
        parallel: for each block, whether the MLP reads h_l rather than h_l + a_l.
        writers: for each block, the module whose output is added, by part.
    """

    attention: list[Tensor]
    mlp: list[Tensor]
    parallel: list[bool]
    writers: list[dict[Writer, nn.Module]]

    def of(self, part: Writer) -> list[Tensor]:
        """a_l or m_l for each block."""
        return self.attention if part == "attention" else self.mlp

    def read_by_mlp(self, index: int, stream: Tensor) -> Tensor:
        """What the MLP of a block reads of h_l, before its norm: h_l + a_l, or h_l if parallel."""
        return stream if self.parallel[index] else stream + self.attention[index]

    @contextlib.contextmanager
    def edited(self, index: int, part: Writer, value: Tensor) -> Iterator[None]:
        """Within it, the attention or MLP of block `index` writes `value` instead.

        Args:
            value: (N * B, T, d); where it is NaN the sublayer writes what it computes.
        """

        def replace(_: nn.Module, __: Any, output: Any) -> Any:
            own = first_tensor(output)
            assert own is not None
            new = torch.where(value.isnan(), own.reshape(value.shape), value).reshape(own.shape)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = self.writers[index][part].register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()


def find_sublayers(run: Replay) -> Sublayers:
    """What each sublayer writes in a recorded run.

    Raises:
        ModelError: a block has no attention and MLP, or does not equal its input plus the two.
    """
    try:
        with run.stack.capture(sublayers=True) as stream:
            run.again()
        parts = stream.sublayers
        extra = {name for part in parts for name in part} - {"attention", "mlp"}
        if extra:
            raise ModelError(f"the blocks also have {', '.join(sorted(extra))}")
    except ModelError as error:
        raise ModelError(f"attention and MLP cannot be measured apart: {error}") from error
    found = Sublayers(
        [part["attention"].detach() for part in parts],
        [part["mlp"].detach() for part in parts],
        [],
        [],
    )
    for index in range(len(run.stack)):
        total = run.hidden[index] + found.attention[index] + found.mlp[index]
        off = float((total - run.hidden[index + 1]).abs().max())
        size = float(run.hidden[index + 1].abs().max())
        if off > 1e-4 * max(size, 1.0):
            raise ModelError(
                f"block {index} is not residual: its output does not equal input + sublayers "
                f"(max error {off:.2g})"
            )
        found.writers.append(_writers(run, index, found))
        found.parallel.append(_is_parallel(run, index, found))
    return found


def _writers(run: Replay, index: int, found: Sublayers) -> dict[Writer, nn.Module]:
    """The module that returns a_l, and the one that returns m_l.

    Modules end from the inside out, so the last one to return the tensor is the outermost.
    """
    writers: dict[Writer, nn.Module] = {}
    wanted: dict[Writer, Tensor] = {"attention": found.attention[index], "mlp": found.mlp[index]}

    def compare(module: nn.Module, _: Any, output: Any) -> None:
        value = first_tensor(output)
        for part, tensor in wanted.items():
            if value is not None and value.numel() == tensor.numel():
                same = torch.allclose(value.reshape(tensor.shape), tensor, rtol=1e-5, atol=1e-6)
                if same and (part == "mlp" or "mlp" not in writers):
                    writers[part] = module

    inside = list(run.stack.blocks[index].modules())[1:]
    handles = [module.register_forward_hook(compare) for module in inside]
    try:
        run.block(index, run.hidden[index])
    finally:
        for handle in handles:
            handle.remove()
    missing = wanted.keys() - writers.keys()
    if missing:
        raise ModelError(f"no module of block {index} returns what its {missing.pop()} adds")
    return writers


def _is_parallel(run: Replay, index: int, found: Sublayers) -> bool:
    """The MLP writes the same when the attention writes nothing."""
    stream, mlp = run.hidden[index], found.mlp[index]
    if not bool(found.attention[index].abs().max() > 0):
        return False
    with found.edited(index, "attention", torch.zeros_like(stream)):
        alone = run.block(index, stream) - stream
    return bool((alone - mlp).abs().max() <= 1e-4 * mlp.abs().max().clamp_min(1e-3))
