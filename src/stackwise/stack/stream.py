"""The residual stream of one forward pass: what went into each block, and what came out.

h[i + 1] = h[i] + c[i]                                  c[i] is the contribution of block i
h[depth] = h[0] + c[0] + ... + c[depth - 1]             h[0] is the output of the stem
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stackwise.errors import ModelError
from stackwise.stack.sublayers import SublayerCalls


class Stream:
    """What `Stack.capture` saw in the last forward pass; read it inside or after the context.

    Tensors are those of the pass itself, not copies: they keep their graph, device and type.
    Places count along the path that ran, so after `path([0, 1, 1])` there are 4 hidden states.

    Attributes:
        order: which block ran at each place.
    """

    def __init__(self, sublayers: bool = False) -> None:
        self.order: tuple[int, ...] = ()
        self.wants_sublayers = sublayers
        self._inputs: dict[int, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}
        self._versions: dict[int, int | None] = {}
        self._parts: dict[int, dict[str, Tensor]] = {}
        self._inside = SublayerCalls()

    @property
    def hidden(self) -> list[Tensor]:
        """The input of each block and the output of the last: depth + 1 tensors."""
        self._check_complete()
        last = len(self.order) - 1
        return [*(self._inputs[place] for place in range(last + 1)), self._outputs[last]]

    @property
    def contributions(self) -> list[Tensor]:
        """Output minus input of each block: depth tensors.

        Raises:
            ModelError: a block changes the shape of the stream, so nothing is added to it.
        """
        self._check_complete()
        return [self._contribution(place) for place in range(len(self.order))]

    @property
    def sublayers(self) -> list[dict[str, Tensor]]:
        """What each part of a block adds, by its name: "attention", "cross_attention", "mlp"."""
        if not self.wants_sublayers:
            raise ModelError("sublayers were not captured; use capture(sublayers=True).")
        self._check_complete()
        return [self._parts[place] for place in range(len(self.order))]

    @property
    def attention(self) -> list[Tensor]:
        """What the self-attention of each block adds to the stream: depth tensors."""
        return [parts["attention"] for parts in self.sublayers]

    @property
    def mlp(self) -> list[Tensor]:
        """What the feed-forward part of each block adds to the stream: depth tensors."""
        return [parts["mlp"] for parts in self.sublayers]

    def enter(self, order: Sequence[int], place: int, stream: Tensor) -> None:
        """A block begins at `place` with this input."""
        if _in_backward():
            return  # checkpointing runs the block again; the pass itself was recorded
        if place == 0:
            self.order = tuple(order)
            self._inputs, self._outputs, self._parts = {}, {}, {}
        self._inputs[place] = stream
        self._versions[place] = None if stream.is_inference() else stream._version
        self._inside.begin()

    def called(self, name: str, kind: str, stream: Any, output: Any, inner: bool) -> None:
        """A child of the running block returned."""
        if not _in_backward():
            self._inside.called(name, kind, stream, output, inner)

    def leave(self, place: int, output: Tensor, flowing: Tensor) -> None:
        """The block at `place` ended with `output`; `flowing` is what goes on, if intervened."""
        if _in_backward() or place not in self._inputs:
            return
        stream = self._inputs[place]
        if not stream.is_inference() and stream._version != self._versions[place]:
            raise ModelError(
                f"block {self.order[place]} changes its input in place, so what it adds to the "
                f"stream cannot be read; make the operation out of place."
            )
        self._outputs[place] = flowing
        if self.wants_sublayers:
            self._parts[place] = self._inside.split(self.order[place], stream, output)

    def _contribution(self, place: int) -> Tensor:
        before, after = self._inputs[place], self._outputs[place]
        if before.shape != after.shape:
            raise ModelError(
                f"block {self.order[place]} turns a stream of shape {tuple(before.shape)} into "
                f"{tuple(after.shape)}, so there is no output minus input."
            )
        return after - before

    def _check_complete(self) -> None:
        if not self._outputs:
            raise ModelError("no forward pass was captured; call the model inside the context.")
        if len(self._outputs) < len(self.order):
            ran = [self.order[place] for place in sorted(self._outputs)]
            raise ModelError(
                f"the last forward pass ran only {len(ran)} of {len(self.order)} blocks: {ran}."
            )


def _in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)
