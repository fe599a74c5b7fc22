"""The encoder that texts go through: a pretrained one, as it is or learning, or a new small one."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from stackwise import data
from stackwise.catalog import Knob
from stackwise.models import half_types, open_model, save_model
from stackwise.tasks.labels.baselines.transformer import FROM_SCRATCH, TUNED
from stackwise.tasks.labels.estimators.learner import kept_tokenizer, text_tokenizer
from stackwise.tasks.labels.estimators.pretrained import (
    Opened,
    frozen_in,
    keep_frozen,
    opened,
)
from stackwise.tasks.labels.estimators.tokens import pad_token
from stackwise.tasks.language.new_encoder import new_encoder

PACKAGED = "minilm"
Rate = Annotated[
    float | None,
    Knob(
        "learning rate of AdamW; none is 0.001, 0.00005 where a pretrained encoder learns",
        gt=0,
        log=True,
        search=(1e-4, 5e-3),
    ),
]


def new_encoder_knobs(
    *,
    layers: Annotated[int, Knob("blocks of a new encoder", ge=1, le=64)] = 2,
    width: Annotated[int, Knob("size of a new encoder's stream", ge=8, log=True)] = 96,
    heads: Annotated[int, Knob("attention heads of a new encoder", ge=1)] = 4,
    dropout: Annotated[float, Knob("of a new encoder, in training", ge=0, lt=1)] = 0.1,
    vocabulary: Annotated[int, Knob("tokens that a new encoder learns", ge=257)] = 6000,
) -> None:
    """What an encoder is like that is made for the texts."""


@dataclass(frozen=True)
class TextEncoder:
    """An encoder beside its tokenizer.

    Attributes:
        learns: whether its weights are trained. reference: that names a frozen one.
    """

    model: Any
    tokenizer: Any
    learns: bool
    reference: Any

    @property
    def opened(self) -> Opened:
        """The model and its tokenizer."""
        return Opened(self.model, self.tokenizer)

    def keep(self, learned: Any, folder: Path) -> dict[str, Any]:
        """Write it, or what names it where it is frozen; returns what a record keeps.

        Args:
            learned: the model as it was trained.
        """
        if not self.learns:
            return {"learns": False, "encoder": keep_frozen(self.opened, self.reference, folder)}
        save_model(learned, folder / "model")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        return {"learns": True}


def kept_encoder(folder: Path, record: Mapping[str, Any], reference: Any) -> TextEncoder:
    """The inverse of `TextEncoder.keep`."""
    if not record["learns"]:
        found = frozen_in(folder, record["encoder"])
        return TextEncoder(found.model, found.tokenizer, False, reference)
    model, tokenizer = open_model(folder / "model"), kept_tokenizer(folder / "tokenizer")
    return TextEncoder(model, tokenizer, True, None)


def named_encoder(reference: Any) -> Any:
    """What a knob names: `auto` is the packaged encoder where it is here, else None, a new one."""
    if isinstance(reference, str) and reference == "auto":
        return PACKAGED if data.lacking(PACKAGED, "model") is None else None
    return reference


def text_encoder(
    reference: Any, knobs: Any, texts: Sequence[str], *, learns: bool, context: int, seed: int
) -> TextEncoder:
    """The encoder that is named: opened, or a new one with byte pairs learned from texts.

    Args:
        reference: of a pretrained one; None makes a new one, which learns.
        knobs: with those of `new_encoder_knobs`. learns: whether a pretrained one is trained.
        context: most tokens that a new one reads.
    """
    if reference is None:
        tokenizer = text_tokenizer(texts, knobs.vocabulary)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = new_encoder(
                len(tokenizer), width=knobs.width, layers=knobs.layers, heads=knobs.heads,
                context=context, dropout=knobs.dropout, pad=pad_token(tokenizer),
            )  # fmt: skip
        return TextEncoder(model, tokenizer, True, None)
    found = opened(reference)
    if not learns:
        return TextEncoder(found.model, found.tokenizer, False, reference)
    # what is given is left as it is; half-precision weights would lose steps
    own: Any = copy.deepcopy(found.model.base_model)
    half = own.dtype in half_types()
    return TextEncoder(own.float() if half else own, found.tokenizer, True, reference)


def usual_rate(lr: float | None, *, tunes: bool) -> float:
    """The learning rate, by what learns where none is given.

    Args:
        tunes: whether a pretrained encoder learns.
    """
    if lr is not None:
        return float(lr)
    return TUNED if tunes else FROM_SCRATCH
