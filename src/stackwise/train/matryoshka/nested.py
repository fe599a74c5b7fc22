"""What classifiers with nested heads share: codes of any size, answers by any trained one, and by
the first that is sure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.learning.labelled_network import PredictsClasses
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.outputs import (
    batch_loss,
    member_values,
    output_loss,
    output_loss_of,
)
from stackwise.learning.trainable import Trainable
from stackwise.train.matryoshka.cascade import adaptive_answers, tune_thresholds
from stackwise.train.matryoshka.network import Nested
from stackwise.train.matryoshka.rule import NestedLoss
from stackwise.train.matryoshka.sizes import checked_cut, checked_weights, cut
from stackwise.training.rules import Backprop, Rule

Source = Annotated[str | Any, Knob("what is embedded: a file or folder, or an array or frame")]
Dim = Annotated[
    int | None, Knob("numbers of each code; none: n_components, else all", short="d", ge=1)
]
Unit = Annotated[bool, Knob("bring each code to length 1, behind the cut")]


def size_knobs(
    *,
    embed_dim: Annotated[
        int, Knob("numbers of the embedding", ge=1, le=16384, log=True, search=(32, 256))
    ] = 128,
) -> None:
    """The knobs of classifiers whose encoder ends in a linear layer of a size of its own."""


def nested_knobs(
    *,
    tied: Annotated[bool, Knob("MRL-E: one head for all sizes, cut; fewer weights")] = False,
    smoothing: Annotated[
        float, Knob("share of a label that goes to all classes; not beside a teacher", ge=0, lt=1)
    ] = 0.0,
    n_components: Annotated[
        int | None, Knob("numbers that transform gives where it is not told; none: all", ge=1)
    ] = None,
) -> None:
    """The knobs of every classifier with nested heads, beside those of its encoder."""


class _Asked(nn.Module):
    """A network that is asked for something else than its logits."""

    def __init__(self, network: Nested, answer: Any) -> None:
        super().__init__()
        self.network, self.answer = network, answer

    def forward(self, **inputs: Tensor) -> Tensor:
        """The inputs -> (B, ...)."""
        found: Tensor = self.answer(self.network.head, self.network.embed(**inputs))
        return found


class NestedClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, PredictsClasses):
    """What classifiers with nested heads share, whatever their encoder.

    Fitted attributes, besides those of the networks of its data: `dims_`, and `thresholds_`, one
    for each size but the last, from the validation rows (None where there were none).
    """

    verbs: ClassVar[tuple[str, ...]] = ("transform",)

    thresholds_: tuple[float, ...] | None

    @property
    def dims_(self) -> tuple[int, ...]:
        """The nested sizes."""
        check_is_fitted(self, "network_")
        return cast(Nested, self.network_).head.dims

    def _network(self, features: Any, target: np.ndarray) -> nn.Module:
        made = super()._network(features, target)
        dims = cast(Nested, made).head.dims
        checked_weights(self.weights, dims)
        checked_cut(self.n_components, dims[-1])
        return made

    def build_rule(self, **watched: Any) -> Rule:
        """Cross-entropy at every size, summed; validation looks at the whole embedding."""
        watched["loss"] = self._nested(watched.get("loss", batch_loss))
        return Backprop(**self.rule_options(), **watched)

    def _nested(self, loss: Any) -> NestedLoss:
        """A loss of logits at every size."""
        of_output: Any = output_loss_of(loss)
        if of_output is output_loss:
            of_output = partial(output_loss, smoothing=self.smoothing)
        return NestedLoss(self.weights, of_output)

    def trainable(
        self, data: Any, *, batch_size: int | None = None, seed: int | None = None
    ) -> Trainable:
        """What a transform needs to go on training: all sizes go on with it."""
        joined = super().trainable(data, batch_size=batch_size, seed=seed)
        return replace(joined, loss=self._nested(joined.loss))

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        super()._fit_parts(train, held)
        self.thresholds_ = None
        if held is not None and len(self.dims_) > 1:
            features = self._features(held.samples, quietly=True)
            self.thresholds_ = tune_thresholds(self._by_size(features), held.target)

    @property
    def _n_features_out(self) -> int:
        """Numbers that `transform` gives where it is not told, for scikit-learn's names."""
        return checked_cut(self.n_components, self.dims_[-1])

    def predict_proba(self, X: Any, *, dim: int | None = None) -> np.ndarray:
        """(n, C) float64 probabilities, in the order of `classes_`, by the head of size `dim`.

        Raises:
            DataError: there is no head of that size.
        """
        if dim is None or dim == self.dims_[-1]:
            return np.asarray(self._mean(X))
        cast(Nested, self.network_).head.checked(dim)
        found = self._ask(self._asked(X), lambda head, z: head(z, dim), classes=True)
        return np.asarray(found[:, 0])

    def predict(self, X: Any, *, dim: int | None = None) -> np.ndarray:
        """(n,) the most probable class of each row, by the head of size `dim`."""
        chances = self.predict_proba(X, dim=dim)
        return np.asarray(self.classes_[chances.argmax(1)])

    def predict_adaptive(
        self, X: Any, *, thresholds: Sequence[float] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer each row by the smallest size whose largest probability is above its threshold.

        Args:
            thresholds: one for each size but the last; None takes `thresholds_`.

        Returns:
            (n,) classes, (n,) the size that answered.

        Raises:
            DataError: thresholds do not fit, or nothing was held out to find them on.
        """
        check_is_fitted(self, "network_")
        known = self.thresholds_ if thresholds is None else thresholds
        if known is None and len(self.dims_) > 1:
            raise DataError(
                "no rows were held out, so that there are no thresholds; give them, or find them "
                "by fit_thresholds(X, y)"
            )
        codes, used = adaptive_answers(self._by_size(self._asked(X)), known or ())
        return np.asarray(self.classes_[codes]), used

    def fit_thresholds(self, X: Any, y: Any) -> tuple[float, ...]:
        """Find thresholds anew on rows that nothing was learned from; they are kept."""
        check_is_fitted(self, "network_")
        samples, labels = self._rows(X, y)
        found = self._by_size(self._features(samples, quietly=True))
        self.thresholds_ = tune_thresholds(found, self._encode(labels))
        return self.thresholds_

    def transform(self, X: Source, *, dim: Dim = None, normalise: Unit = False) -> np.ndarray:
        """Embed rows.

        Args:
            X: what `predict` takes, or a path of such samples.
            dim: the first so many numbers; any size, those between the trained ones too. None
                takes the knob n_components, and all without it.
            normalise: bring each code to length 1 behind the cut, for distances and cosines.

        Returns:
            (n, dim) float32; a row of NaN where a picture cannot be read or a text is blank.

        Raises:
            DataError: the embedding has fewer numbers, or these are no samples.
        """
        check_is_fitted(self, "network_")
        size = checked_cut(self.n_components if dim is None else dim, self.dims_[-1])
        if not isinstance(X, (str, Path)):
            return self._codes(X, size, normalise)
        found = []
        for samples, places, count in self.read_source(X):
            codes = np.full((count, size), np.nan, np.float32)
            if len(places):
                codes[places] = self._codes(samples, size, normalise)
            found.append(codes)
        return np.concatenate(found)

    def read_source(self, source: str | Path) -> Iterator[tuple[Any, np.ndarray, int]]:
        """The samples of a file or folder, a block at a time: those that can be read, as `predict`
        takes them, their places in the block, and how many the block has.
        """
        raise DataError(f"{type(self).__name__} reads no files; give it samples")

    def _codes(self, X: Any, size: int, normalise: bool) -> np.ndarray:
        def answer(_: nn.Module, embedding: Tensor) -> Tensor:
            return cut(embedding, size, normalise=normalise)

        found = self._ask(self._asked(X), answer, classes=False)[:, 0]
        return np.asarray(found, dtype=np.float32)

    def _by_size(self, features: Any) -> dict[int, np.ndarray]:
        """(n, C) float64 probabilities by size."""
        found = self._ask(features, lambda head, z: head.all_sizes(z), classes=True)
        return {dim: found[:, place] for place, dim in enumerate(self.dims_)}

    def _ask(self, features: Any, answer: Any, *, classes: bool) -> np.ndarray:
        """(n, k, C) what (head, embedding) -> (B, C) or (B, k, C) gives of rows, as numbers or, of
        `classes`, as probabilities.
        """
        check_is_fitted(self, "network_")
        asked = _Asked(cast(Nested, self.network_), answer)
        return self._put_through(asked, features, partial(member_values, classes=classes))

    def _write(self, folder: Path) -> dict[str, Any]:
        return super()._write(folder) | {"thresholds": self.thresholds_}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        kept = record["thresholds"]
        self.thresholds_ = None if kept is None else tuple(float(one) for one in kept)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are float32
        return tags
