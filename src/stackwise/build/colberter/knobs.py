"""The knobs: which encoder reads, how texts are read, what is matched, and what is learned from."""

from typing import Annotated, Literal

from stackwise.build.colberter.model.words import Normal
from stackwise.catalog import Knob, ModelRef

Stored = Literal["float16", "float32"]


def encoder_knobs(
    *,
    encoder: Annotated[
        ModelRef | str | None,
        Knob("a pretrained encoder; auto: the packaged MiniLM where it is; none: a new small one"),
    ] = "auto",
    tune: Annotated[bool, Knob("a pretrained encoder's weights learn too; a new one always")] = (
        False
    ),
) -> None:
    """Which encoder reads."""


def reading_knobs(
    *,
    length: Annotated[int, Knob("most tokens of a passage", ge=8)] = 200,
    query_length: Annotated[int, Knob("most tokens of a query; what follows is not read", ge=8)] = (
        32
    ),
    normalise: Annotated[
        Normal, Knob("words are one in lower case, or by their Porter stems")
    ] = "stem",
    whole_words: Annotated[
        bool, Knob("a vector a different word; else one a token, as ColBERT has it")
    ] = True,
) -> None:
    """How texts are read."""


def matching_knobs(
    *,
    cls_dim: Annotated[int, Knob("numbers of a text's vector", ge=1, search=(32, 256))] = 128,
    token_dim: Annotated[int, Knob("numbers of a word's vector", ge=1, search=(8, 64))] = 32,
    final_dim: Annotated[
        int | None, Knob("numbers of a word behind a second reduction, 8 or 1; none: no such", ge=1)
    ] = None,
    stopwords: Annotated[bool, Knob("documents drop words by a gate that is learned")] = True,
    exact_match: Annotated[bool, Knob("only equal words match, as 8 numbers and fewer need")] = (
        False
    ),
    learned_merge: Annotated[bool, Knob("the weight of both scores is learned, else a half")] = (
        True
    ),
) -> None:
    """What is matched."""


def loss_knobs(
    *,
    score_weight: Annotated[float, Knob("a_b, of the merged score in the loss", ge=0)] = 1.0,
    cls_weight: Annotated[float, Knob("a_CLS, of the text's vector in the loss", ge=0)] = 0.5,
    gate_weight: Annotated[float, Knob("a_CS, of the gates in the loss", ge=0)] = 0.75,
    teacher: Annotated[
        ModelRef | str | None,
        Knob("its margins are learned: bm25, or a fitted retriever; none: a softmax in the batch"),
    ] = None,
) -> None:
    """What is learned from."""
