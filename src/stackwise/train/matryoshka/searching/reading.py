"""Texts through an encoder: what training knows of them, and the vectors that are searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stackwise.learning.outputs import mean_values, through_network
from stackwise.tasks.labels.baselines.frozen_encoder import mean_states
from stackwise.tasks.labels.estimators.tokens import Tokens, through, tokenized
from stackwise.tasks.retrieval.estimators.encoder import TextEncoder
from stackwise.tasks.retrieval.estimators.pairs import TrainingPairs
from stackwise.train.matryoshka.searching.network import MappedMeans
from stackwise.training.session import count_aloud

AT_ONCE = 256
"""Texts that are read between two words of progress."""


@dataclass(frozen=True)
class MeansOfTexts:
    """Texts as a frozen encoder's means, (n, width) float32."""

    means: np.ndarray

    def padded(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`means` (B, width) of some texts."""
        return {"means": torch.from_numpy(self.means[rows])}


@dataclass(frozen=True)
class TokensOfTexts:
    """Texts as tokens, for an encoder that learns."""

    tokens: Tokens

    def padded(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (B, T) of some texts."""
        return self.tokens.padded(rows, max(len(self.tokens.rows[row]) for row in rows))


Side = MeansOfTexts | TokensOfTexts


class TextReader:
    """Reads texts for a network. What a frozen encoder said of a text is remembered.

    Args:
        length: most tokens of a text.
    """

    def __init__(self, encoder: TextEncoder, length: int) -> None:
        self.encoder, self.length = encoder, length
        self._known: dict[str, np.ndarray] = {}

    def sides(self, found: TrainingPairs, what: str) -> tuple[Side, Side]:
        """What is known of the queries and of the documents; `what` tells of the progress."""
        if self.encoder.learns:
            asked, shown = (self._tokens(one) for one in (found.queries, found.documents))
            return TokensOfTexts(asked), TokensOfTexts(shown)
        means = self._means([*found.queries, *found.documents], what)
        count = len(found.queries)
        return MeansOfTexts(means[:count]), MeansOfTexts(means[count:])

    def vectors(self, network: MappedMeans, texts: Sequence[str], what: str) -> np.ndarray:
        """(n, width) float32 W m; no text's depends on which others are given."""
        reduce = partial(mean_values, classes=False)
        if not self.encoder.learns:
            means = {"means": self._means(texts, what)}
            return through_network(network, means, reduce).astype(np.float32)
        tell, found = count_aloud(what, len(texts)), []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self._tokens(texts[start : start + AT_ONCE])
            found.append(through(network, tokens, reduce).astype(np.float32))
            tell(len(tokens))
        return np.concatenate(found)

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        found = self.encoder.opened
        return tokenized(texts, found.tokenizer, found.most(self.length))

    def _means(self, texts: Sequence[str], what: str) -> np.ndarray:
        """(n, width) float32 the means of a frozen encoder."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        tell = count_aloud(what, len(new))
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            means = mean_states(self.encoder.opened, part, self.length).astype(np.float32)
            self._known.update(zip(part, means, strict=True))
            tell(len(part))
        return np.array([self._known[text] for text in texts])
