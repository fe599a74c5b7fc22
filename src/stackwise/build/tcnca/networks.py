"""The networks: on series, on texts with a class, and as a language model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.tcnca.sizes import Sizes
from stackwise.build.tcnca.trunk import Trunk
from stackwise.errors import DataError, ModelError
from stackwise.layers.arguments import keeps_arguments

Pooling = Literal["mean", "last"]


def pooled(x: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(B, dim) of (B, L, dim): the mean over the moments that are there, or the last of them."""
    if pooling == "last":
        last = mask.sum(1).clamp(min=1) - 1
        return x[torch.arange(len(x), device=x.device), last]
    kept = mask[..., None].to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


@keeps_arguments
class TCNCASeries(nn.Module):
    """TCNCA on series: `values` (B, channels, L) -> (B, n_outputs).

    Args:
        channels: of a series. n_outputs: of the head.
        sizes: those of `Sizes`, by name. blocks: how many. pooling: what the head reads.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, channels: int, n_outputs: int, sizes: Mapping[str, Any], blocks: int = 2,
        pooling: Pooling = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        if pooling not in ("mean", "last"):
            raise ModelError(f"pooling is mean or last, not {pooling!r}")
        own = Sizes(**sizes)
        self.pooling: Pooling = pooling
        self.embedding = nn.Linear(channels, own.dim)
        self.trunk = Trunk(own, blocks)
        self.head = nn.Linear(own.dim, n_outputs)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, n_outputs) of (B, channels, L) values and (B,) lengths; None: all are whole."""
        length = values.shape[2]
        if not length:
            raise ModelError("a series needs at least one moment, got a length of 0")
        moments = torch.arange(length, device=values.device)
        here = torch.ones_like(values[:, 0], dtype=torch.bool)
        mask = here if lengths is None else moments < lengths[:, None]
        # a batch without padding costs no mask
        given = None if lengths is None or bool((lengths >= length).all()) else mask
        flow = self.trunk(self.embedding(values.transpose(1, 2)), given)
        output: Tensor = self.head(pooled(flow, mask, self.pooling))
        return output

    def start(self, batch: int = 1) -> dict[str, Any]:
        """The state before the first moment of a causal network."""
        if self.pooling != "last":
            raise ModelError("a series is followed moment by moment with pooling='last'")
        return self.trunk.start(batch)

    def step(self, values: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on: (B, channels, T) further moments -> (B, T, n_outputs), what `forward` with
        `pooling='last'` answers up to each of them, and the state behind.
        """
        flow, after = self.trunk.step(self.embedding(values.transpose(1, 2)), state)
        return self.head(flow), after

    def multiply_adds(self, length: int) -> int:
        """Multiply-adds for one series."""
        ends = self.embedding.weight.numel() * length + self.head.weight.numel()
        return self.trunk.multiply_adds(length) + ends


class Tokens(nn.Module):
    """Token numbers -> sqrt(dim) E, with E ~ N(0, 1 / dim); no positions, which blocks know."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.weight = nn.Parameter(torch.empty(vocabulary, dim).normal_(std=dim**-0.5))

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) -> (B, L, dim)."""
        if not ids.shape[1]:
            raise DataError("a text needs at least one token, got a sequence of length 0")
        if ids.device.type == "cpu" and (int(ids.max()) >= self.vocabulary or int(ids.min()) < 0):
            strange = int(ids.max()) if int(ids.max()) >= self.vocabulary else int(ids.min())
            raise DataError(f"token {strange} is none of the vocabulary's {self.vocabulary}")
        found: Tensor = functional.embedding(ids, self.weight) * self.weight.shape[1] ** 0.5
        return found


@keeps_arguments
class TCNCATexts(nn.Module):
    """TCNCA on tokens: `input_ids` (B, L) -> (B, n_outputs) logits.

    Args:
        vocabulary: tokens. n_outputs: classes. The rest as `TCNCASeries`.
    """

    arguments: dict[str, Any]

    def __init__(
        self, *, vocabulary: int, n_outputs: int, sizes: Mapping[str, Any], blocks: int = 2,
        pooling: Pooling = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        own = Sizes(**sizes)
        self.pooling: Pooling = pooling
        self.embedding = Tokens(vocabulary, own.dim)
        self.trunk = Trunk(own, blocks)
        self.head = nn.Linear(own.dim, n_outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) tokens and their mask, 0 for padding -> (B, n_outputs)."""
        mask = attention_mask.bool()
        flow = self.trunk(self.embedding(input_ids), mask)
        output: Tensor = self.head(pooled(flow, mask, self.pooling))
        return output


@dataclass
class Said:
    """What a language model says: `logits` (B, L, V), and the mean `loss` where labels came."""

    logits: Tensor
    loss: Tensor | None = None


@keeps_arguments
class TCNCALanguageModel(nn.Module):
    """A causal language model of TCNCA blocks, called as those of transformers are.

    Logits are Norm(x) E^T with the embedding's own weights; the last norm has none. It takes texts
    of any length where the bias is rotary.

    Args:
        vocabulary: tokens. sizes: those of `Sizes`, causal. blocks: how many.
    """

    arguments: dict[str, Any]

    def __init__(self, *, vocabulary: int, sizes: Mapping[str, Any], blocks: int = 2) -> None:
        super().__init__()
        own = Sizes(**sizes)
        if not own.causal:
            raise ModelError(f"a language model is causal, not {own.direction}")
        self.embedding = Tokens(vocabulary, own.dim)
        self.trunk = Trunk(own, blocks, plain_norm=True)

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, attention_mask: Tensor | None = None,
        use_cache: bool = False,
    ) -> Said:  # fmt: skip
        """(B, L) tokens -> logits of the next ones.

        Args:
            labels: (B, L) the tokens again: the loss is that of each but the first; -100 does not
                count.
            attention_mask: (B, L) 1 for tokens and 0 for padding at the right.
            use_cache: not used: what goes on token by token is `step`.
        """
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask
        flow = self.trunk(self.embedding(input_ids), None if mask is None else mask.bool())
        logits = self._logits(flow)
        if labels is None:
            return Said(logits)
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100
        )
        return Said(logits, loss)

    def _logits(self, flow: Tensor) -> Tensor:
        return flow @ self.embedding.weight.T

    def start(self, batch: int = 1) -> dict[str, Any]:
        """The state before the first token."""
        return self.trunk.start(batch)

    def step(self, input_ids: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Go on: (B, T) further tokens -> logits (B, T, V), and the state behind."""
        flow, after = self.trunk.step(self.embedding(input_ids), state)
        return self._logits(flow), after

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, *, max_new_tokens: int, do_sample: bool = False,
        temperature: float = 1.0, eos_token_id: int | None = None, pad_token_id: int | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """(1, L) tokens -> (1, L + new): go on token by token, with a state that does not grow.

        Args:
            do_sample: draw tokens at a temperature; else the likeliest are taken.
            eos_token_id: ends the text. pad_token_id, attention_mask: a single text needs none.
        """
        if len(input_ids) != 1:
            raise DataError(f"one text is gone on with at a time, got {len(input_ids)}")
        logits, state = self.step(input_ids, self.start())
        made = [input_ids]
        for count in range(max_new_tokens):
            last = logits[:, -1].float()
            if do_sample:
                token = torch.multinomial((last / temperature).softmax(-1), 1)
            else:
                token = last.argmax(-1, keepdim=True)
            made.append(token)
            if int(token) == eos_token_id or count + 1 == max_new_tokens:
                break
            logits, state = self.step(token, state)
        return torch.cat(made, 1)

    def multiply_adds(self, length: int) -> int:
        """Multiply-adds for one text of a length, the logits among them."""
        return self.trunk.multiply_adds(length) + length * self.embedding.weight.numel()
