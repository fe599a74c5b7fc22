"""A language model that reads a picture's tokens before the question.

    f = tower(picture)    X = W2 GELU(W1 f)    H = [embed(lead); X; embed(question, answer)]

Which tokens stand in the sequence is the only thing in which the readers here differ:

    none            no picture: the question alone
    low             the low view, l tokens
    string          all crops' tokens as one grid, row by row: K l tokens
    global-string   the low view and then all crops' tokens: (K + 1) l tokens
"""

import inspect
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stackwise.errors import DataError
from stackwise.tasks.vqa.estimators.crops import mosaic
from stackwise.tasks.vqa.estimators.vision import Tower

Stands = Literal["none", "low", "string", "global-string"]
MARK = -1
"""Where the picture stands in `input_ids`."""


class PictureReader(nn.Module):
    """A tower, a projector and a language model.

    Args:
        language: a causal language model of transformers. tower: None reads no picture.
        stands: which tokens stand in the sequence.
    """

    def __init__(self, language: Any, tower: Tower | None, stands: Stands = "low") -> None:
        super().__init__()
        self.language, self.tower, self.stands = language, tower, stands
        size = int(language.get_input_embeddings().embedding_dim)
        self.projector = None if tower is None else projector(tower.width, size)
        self._cuts_logits = "logits_to_keep" in inspect.signature(language.forward).parameters

    @property
    def reads_crops(self) -> bool:
        """Whether the fine view is needed."""
        return self.stands in ("string", "global-string")

    def length(self, most: int) -> int:
        """Positions of a picture of `most` crops in the sequence."""
        if self.tower is None:
            return 0
        share = {"none": 0, "low": 1, "string": most, "global-string": most + 1}[self.stands]
        return share * self.tower.patches**2

    def picture(
        self, low: Tensor | None, crops: Tensor | None, grids: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """(B, l, c) tokens that stand in the sequence, and (K, B, l, c) that are added, or None."""
        if self.tower is None or low is None:
            return None, None
        parts = []
        if self.stands != "string":
            parts.append(self.projected(self.tower(low)).flatten(1, 2))
        if self.reads_crops:
            fine = self.fine(crops)
            assert grids is not None
            if not bool((grids == grids[0]).all()):
                raise DataError("pictures whose grids differ make strings of different lengths")
            gh, gw = grids[0].tolist()
            parts.append(mosaic(fine[:, : gh * gw], gh, gw).flatten(1, 2))
        return torch.cat(parts, dim=1), None

    def fine(self, crops: Tensor | None) -> Tensor:
        """(B, K, C, r, r) -> (B, K, p, p, c): the crops' tokens."""
        assert crops is not None and self.tower is not None
        tokens = self.projected(self.tower(crops.flatten(0, 1)))
        return tokens.unflatten(0, crops.shape[:2])

    def projected(self, tokens: Tensor) -> Tensor:
        """(..., width of the tower) -> (..., c)."""
        assert self.projector is not None
        found: Tensor = self.projector(tokens)
        return found

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        low: Tensor | None = None,
        crops: Tensor | None = None,
        grids: Tensor | None = None,
    ) -> Tensor:
        """Logits of the tokens that follow the picture.

        Args:
            input_ids, attention_mask: (B, T), the picture's `MARK` at one place in all rows;
                padded at the right.

        Returns:
            (B, n + 1, V): entry i predicts the i-th of the n tokens behind the mark.
        """
        tokens, stacks = self.picture(low, crops, grids)
        embeds, mask, place, length = self.laid(input_ids, attention_mask, tokens)
        behind = input_ids.shape[1] - place  # the last token before the text, and the text
        more = {"logits_to_keep": behind} if self._cuts_logits else {}
        found = self.read(
            stacks,
            place,
            length,
            inputs_embeds=embeds,
            attention_mask=mask,
            use_cache=False,
            **more,
        )
        logits: Tensor = found.logits[:, -behind:]
        return logits

    def laid(
        self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor | None
    ) -> tuple[Tensor, Tensor, int, int]:
        """Embeddings and mask with the picture in its place, that place, and its length."""
        place = int((input_ids[0] == MARK).nonzero()[0])
        embed = self.language.get_input_embeddings()
        before, after = embed(input_ids[:, :place]), embed(input_ids[:, place + 1 :])
        parts = [before, *([] if tokens is None else [tokens.to(before.dtype)]), after]
        length = 0 if tokens is None else tokens.shape[1]
        seen = attention_mask.new_ones(len(input_ids), length)
        mask = [attention_mask[:, :place], seen, attention_mask[:, place + 1 :]]
        return torch.cat(parts, dim=1), torch.cat(mask, dim=1), place, length

    def read(self, stacks: Tensor | None, place: int, length: int, **inputs: Any) -> Any:
        """What the language model gives; the picture's positions are `place` and those behind."""
        return self.language(**inputs)

    @torch.no_grad()
    def answers(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        end: int,
        most: int,
        low: Tensor | None = None,
        crops: Tensor | None = None,
        grids: Tensor | None = None,
    ) -> list[list[int]]:
        """The likeliest tokens behind each question, up to its end token or `most` of them.

        The picture and the question are read once; each further token sees them in the cache.
        """
        tokens, stacks = self.picture(low, crops, grids)
        embeds, mask, place, length = self.laid(input_ids, attention_mask, tokens)
        found = self.read(
            stacks, place, length, inputs_embeds=embeds, attention_mask=mask, use_cache=True
        )
        last = mask.sum(1) - 1
        rows = torch.arange(len(mask), device=mask.device)
        new = found.logits[rows, last].argmax(-1)
        said, going = [new], new != end
        cache = found.past_key_values
        while bool(going.any()) and len(said) < most:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            last = last + 1
            found = self.language(
                input_ids=new[:, None], attention_mask=mask, position_ids=last[:, None],
                past_key_values=cache, use_cache=True,
            )  # fmt: skip
            new, cache = found.logits[:, -1].argmax(-1), found.past_key_values
            said.append(new)
            going = going & (new != end)
        return [until(row, end) for row in torch.stack(said, dim=1).tolist()]


def projector(width: int, size: int) -> nn.Module:
    """Two layers with GELU."""
    return nn.Sequential(nn.Linear(width, size), nn.GELU(), nn.Linear(size, size))


def until(tokens: list[int], end: int) -> list[int]:
    """The tokens before the end token."""
    return tokens[: tokens.index(end)] if end in tokens else tokens
