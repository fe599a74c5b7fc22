"""One clean run of a model, from which every intervened run starts.

Each measurement compares the clean run with one in which a block was skipped or a stream was
edited. Everything before the edit is the same in both, so it is computed once: the clean run
keeps the residual stream `h_l` before every block, and what plays each block again
(stack/replay.py) on edited streams, many at a time. Only the blocks after an edit are ever run
again.

    h_0 = stem(x),   h_{l+1} = h_l + c_l,   y = softmax(head(h_L))

Differs from the authors' code, which runs the whole model once for every intervention, one prompt
at a time: here a skip sweep costs half as many block calls, and they are batched.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.probe.depth_efficiency.sublayers import Sublayers, find_sublayers
from stackwise.stack import Stack, record

Example = Mapping[str, Tensor] | tuple[Any, ...]
"""What one call of the model takes: keyword arguments, or positional ones."""

TOKENS_AT_ONCE = 4096
"""Edited tokens that one call of a block takes; more is cut into several calls."""

VALUES_AT_ONCE = 2**25
"""Output values (rows x tokens x classes) held at once: 128 MiB in float32."""

SMALLEST = 1e-6


def tokens_of(stream: Tensor) -> Tensor:
    """A stream as (rows, tokens, width).

    (rows, width) has one token a row; (rows, channels, height, width) has one a pixel.
    """
    if stream.dim() == 2:
        return stream.unsqueeze(1)
    if stream.dim() == 4:
        return stream.flatten(2).transpose(1, 2)
    return stream.flatten(1, -2)


def readout(output: Any) -> tuple[Tensor, Literal["probabilities", "values"]]:
    """What a model's output says: class probabilities where it has logits, otherwise its values.

    Logits are an attribute `logits` of more than one class, or a plain tensor whose last axis is
    longer than one. A model without a head gives its last hidden state, as values.

    Returns:
        (rows, tokens or 1, classes or width) float32, and which of the two it is.

    Raises:
        ModelError: the output holds no floating tensor.
    """
    kind: Literal["probabilities", "values"] = "probabilities"
    if isinstance(output, Mapping) or hasattr(output, "logits"):
        found = output["logits"] if isinstance(output, Mapping) and "logits" in output else None
        found = getattr(output, "logits", None) if found is None else found
        if found is None:
            kind = "values"
            found = next((item for item in output.values() if isinstance(item, Tensor)), None)
    else:
        found = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.dim() < 2:
        raise ModelError(
            f"the model returns {type(output).__name__}, in which there is no floating tensor "
            "(rows, ..., classes) to measure a change of the output in"
        )
    values = found.detach() if not found.requires_grad else found
    values = tokens_of(values).float()
    if kind == "probabilities" and values.shape[-1] > 1:
        return values.softmax(-1), "probabilities"
    return values, "values"


class CleanRun:
    """The streams, block arguments and output of one unedited forward pass.

    Edited streams are stacked along the first axis as copies of the example: row `n * B + b` is
    edit n of example b, where B is the size of the example's own batch.

    Args:
        stack: the model as stem, blocks and head.
        example: the model's arguments; no padding may be in it.

    Attributes:
        replay: what plays its blocks again.
        hidden: depth + 1 streams, before each block and after the last, (B, T, d).
        output: (B, T or 1, C), probabilities or values as `kind` says.
        sublayers: what attention and MLP add, where the blocks are additive.
    """

    def __init__(self, stack: Stack, example: Example) -> None:
        self.example = example
        args, kwargs = _arguments(stack.model, example)
        self.replay, output = record(stack, *args, **kwargs)
        self.hidden: list[Tensor] = [hidden.detach() for hidden in self.replay.hidden]
        self.output, self.kind = readout(output)
        self.batch = self.hidden[0].shape[0]
        self.tokens = tokens_of(self.hidden[0]).shape[1]
        self._check()

    def _check(self) -> None:
        for index, (before, after) in enumerate(
            zip(self.hidden[:-1], self.hidden[1:], strict=True)
        ):
            if before.shape != after.shape:
                widths = tokens_of(before).shape[-1], tokens_of(after).shape[-1]
                raise ModelError(
                    f"layers {index} and {index + 1} have different widths ({widths[0]}, "
                    f"{widths[1]}): contribution is not defined"
                )
        if not all(hidden.isfinite().all() for hidden in self.hidden):
            raise ModelError(
                "the residual stream holds NaN or infinite values; run the model in float32"
            )

    @property
    def depth(self) -> int:
        """The number of blocks, L."""
        return len(self.hidden) - 1

    @property
    def is_sequence(self) -> bool:
        """The stream is (rows, tokens, width): it has a token axis in an order."""
        return self.hidden[0].dim() == 3

    @property
    def per_token(self) -> bool:
        """The output has a row for each token of the stream."""
        return self.is_sequence and self.output.shape[1] == self.tokens

    def contribution(self, index: int) -> Tensor:
        """c_l = h_{l+1} - h_l, shape of the stream."""
        return self.hidden[index + 1] - self.hidden[index]

    @functools.cached_property
    def sublayers(self) -> Sublayers:
        """What attention and MLP write; found on first use.

        Raises:
            ModelError: a block's output is not its input plus the two.
        """
        return find_sublayers(self.replay)

    @functools.cached_property
    def leak(self) -> tuple[int, int] | None:
        """None where no token can change an earlier one, otherwise (changed token, moved token).

        The last token of h_0 is changed and all blocks run again.
        """
        last = self.tokens - 1
        edited = self.hidden[0].clone()
        edited[:, last] = 1 - edited[:, last]
        moved = relative_change(self.finish(0, edited) - self.hidden[-1], self.hidden[-1])[:, :last]
        if moved.numel() == 0 or moved.max() < 1e-4:
            return None
        return last, int(moved.amax(0).argmax())

    def guarded(self, protect: int) -> int:
        """How many first tokens are neither changed nor counted.

        The first token of a causal language model carries a huge norm on which later tokens rest
        their attention: skipping a block there wrecks everything. Other stacks have no such
        token; the first one of an encoder is the class token, whose answer is what is measured.
        """
        if not self.is_sequence or protect == 0 or self.leak is not None:
            return 0
        return min(protect, self.tokens - 1)

    def block(self, index: int, streams: Tensor) -> Tensor:
        """Block `index` on edited streams (N * B, T, d), a few at a time; same shape out."""
        rows = max(1, TOKENS_AT_ONCE // (self.tokens * self.batch)) * self.batch
        parts = [self.replay.block(index, part) for part in torch.split(streams, rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def head(self, streams: Tensor, last: int | None = None) -> Tensor:
        """What the model makes of edited final streams (N * B, T, d).

        Args:
            last: only the outputs of this many last tokens are wanted; a causal language model
                then spends its vocabulary projection on them alone.

        Returns:
            (N * B, T or `last` or 1, C), as `output`.
        """
        names = inspect.signature(self.replay.stack.model.forward).parameters
        short = last is not None and self.per_token and "logits_to_keep" in names
        less: dict[str, Any] = {"logits_to_keep": last} if short else {}
        values, _ = readout(self.replay.head(streams, **less))
        return values[:, -last:] if last is not None and self.per_token else values

    def heads(self, streams: Tensor, last: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """`head` over a few edits at a time; yields the rows of `streams` and their output."""
        kept = self.output.shape[1] if last is None or not self.per_token else last
        rows = max(1, VALUES_AT_ONCE // (kept * self.output.shape[-1] * self.batch)) * self.batch
        for start in range(0, streams.shape[0], rows):
            part = slice(start, min(start + rows, streams.shape[0]))
            yield part, self.head(streams[part], last)

    def finish(self, index: int, streams: Tensor) -> Tensor:
        """Blocks `index`, `index + 1`, ... to the last, on edited streams."""
        for later in range(index, self.depth):
            streams = self.block(later, streams)
        return streams


def _arguments(model: nn.Module, example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example without labels; no key-value cache, which a skipped block would leave a hole in.

    The labels are dropped so that the output is the prediction alone.
    """
    if not isinstance(example, Mapping):
        return example, {}
    kept: dict[str, Any] = {
        name: value for name, value in example.items() if name not in ("labels", "use_cache")
    }
    if "use_cache" in inspect.signature(model.forward).parameters:
        kept["use_cache"] = False
    return (), kept


def tiled(value: Tensor, like: Tensor | int) -> Tensor:
    """`value` (B, ...) repeated to this many copies, or to as many rows as `like` has."""
    copies = like if isinstance(like, int) else like.shape[0] // value.shape[0]
    return value.repeat(copies, *[1] * (value.dim() - 1))


def relative_change(change: Tensor, of: Tensor) -> Tensor:
    """||change|| / ||of|| for each token.

    Args:
        change: (N * B, ..., d), N edits of the B rows of `of`.

    Returns:
        (N * B, tokens) float32; denominators are at least 1e-6, as in the authors' code.
    """
    size = tokens_of(of).float().norm(dim=-1).clamp_min(SMALLEST)
    found: Tensor = tokens_of(change).float().norm(dim=-1) / tiled(size, change)
    return found


def output_change(run: CleanRun, edited: Tensor, last: int | None = None) -> Tensor:
    """||y - y_edited||_2 for each token: of probability vectors, or relative where values.

    Args:
        edited: (N * B, T', C) from `CleanRun.head`, with the same `last`.

    Returns:
        (N, B, T') float32.
    """
    clean = run.output if last is None or not run.per_token else run.output[:, -last:]
    change: Tensor = (torch.unflatten(edited, 0, (-1, run.batch)) - clean).norm(dim=-1)
    if run.kind == "values":
        change = change / clean.norm(dim=-1).clamp_min(SMALLEST)
    return change
