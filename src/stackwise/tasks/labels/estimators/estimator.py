"""What every estimator on texts shares: how they come in.

TextClassifier().fit(X, y)          X a list of strings, or a column of them
"""

from typing import TYPE_CHECKING, Any, ClassVar, Self

from stackwise.errors import DataError
from stackwise.learning.labelled_estimator import LabelledEstimator
from stackwise.tasks.labels.texts import Texts, as_texts

if TYPE_CHECKING:
    from stackwise.learning.metrics import Metric


class TextEstimator(LabelledEstimator):
    """An estimator on texts."""

    tasks: ClassVar[tuple[str, ...]] = ("labels",)
    fitted: ClassVar[str] = "classes_"

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        validation: tuple[Any, Any] | None = None,
        metric: "Metric | None" = None,
    ) -> Self:
        """Learn from texts.

        Args:
            X: (n,) strings: a list, an array, a column of a frame; or a loaded task, and nothing
                else.
            y: (n,) the class of each.
            sample_weight: (n,) how much each text counts; those of weight 0 are left out.
            validation: (X, y) that decide when to stop, in place of a part of the texts.
            metric: the score that early stopping watches; by default the loss, which is smoother.

        Raises:
            DataError: nothing can be learned from this input; the sentence says why.
            KnobError: a knob is out of range.
        """
        return self._fit_samples(X, y, sample_weight, validation=validation, metric=metric)

    def _read_samples(self, X: Any, *, fit: bool) -> Texts:
        texts = as_texts(X)
        if not len(texts):
            raise DataError("there are no texts (0 sample(s)); at least 1 is needed")
        return texts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
