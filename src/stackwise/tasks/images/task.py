"""The images task: predict the class of a picture.

task = ImagesTask.load("photos/")             a folder a class
X, y = task.part("train")                     X holds (n, C, H, W) bytes
task.score(y, learner.predict(X))
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stackwise.catalog import Knob, task
from stackwise.findings import Findings
from stackwise.learning.metrics import Metric
from stackwise.learning.row_blocks import output_of
from stackwise.protocols import Judged, Part, RunLike
from stackwise.tasks.images import showing
from stackwise.tasks.images.estimators.pixels import Pixels, for_transformers, statistics
from stackwise.tasks.images.loading import Choices, load_parts
from stackwise.tasks.images.marks import recognises
from stackwise.tasks.images.modules import ModuleOnPictures
from stackwise.tasks.images.reading.holding import Pictures
from stackwise.tasks.images.small import small_pictures
from stackwise.tasks.images.writing import answer_rows, write_predictions
from stackwise.tasks.labelled.samples import SampleTask
from stackwise.tasks.labelled.task import class_codes
from stackwise.tasks.table.loading import title_of
from stackwise.training.batches import ArrayBatches


@task(
    title="Pictures, a class of each to predict",
    recognises=recognises,
    sample="photos/",
)
class ImagesTask(SampleTask):
    """Pictures with a class each, parted into training, validation and test."""

    name: ClassVar[str] = "images"
    ending: ClassVar[str] = "csv"
    write_predictions = staticmethod(write_predictions)
    answer_rows = staticmethod(answer_rows)

    names: list[str]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        target: Annotated[
            str | None, Knob("the column to predict, where a table stands beside", role=True)
        ] = None,
        group: Annotated[str | None, Knob("rows with equal values stay in one part")] = None,
        validation: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        test: Annotated[float | str | Any, Knob("share of the rows, or a source")] = 0.2,
        metric: Annotated[
            str | Metric | None, Knob("what better means: accuracy, log_loss, roc_auc, ...")
        ] = None,
        max_rows: Annotated[int | None, Knob("train on at most this many rows")] = None,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
        image_size: Annotated[
            Sequence[int] | int | None, Knob("side, or height,width (found by itself)")
        ] = None,
        channels: Annotated[
            Literal[1, 3] | None, Knob("1 for grey, 3 for colour (found by itself)")
        ] = None,
        memory: Annotated[
            str, Knob("what pictures may take; more are decoded when they are needed")
        ] = "2GiB",
        bad: Annotated[
            Literal["error", "skip"],
            Knob("what to do where more than a hundredth cannot be read"),
        ] = "error",
    ) -> "ImagesTask":
        """Read pictures and part them.

        Args:
            source: a folder with a folder a class, under train, validation and test or not; a
                folder with metadata.csv, .jsonl or .parquet; .npz or .npy; a parquet file or a
                folder of `datasets` with a column of pictures; `hf://owner/name`; a data set's
                name; in Python (pictures, labels).
            target: the column of the metadata to predict; `label` by default.
            group: pictures with equal values of this column stay in one part.
            validation: share of all pictures, or a source of its own.
            test: the same.
            metric: the score that decides; accuracy by default.
            max_rows: train on at most this many pictures, drawn at random.
            split_seed: of the split. Each part has its share of each class.
            image_size: what all pictures are brought to; see `reading.sizes`.
            channels: 1 or 3; grey where all pictures are grey.
            memory: that decoded pictures may take, such as 2GiB.
            bad: `skip` leaves out any number of files that cannot be read.

        Raises:
            DataError: one sentence about what cannot be used, and what would be right.
        """
        choices = Choices(
            target=target, group=group, validation=validation, test=test, max_rows=max_rows,
            split_seed=split_seed, image_size=image_size, channels=channels, memory=memory,
            bad=bad,
        )  # fmt: skip
        loaded = load_parts(source, choices)
        title = "pictures" if isinstance(source, tuple) else title_of(source)
        made = cls.of_parts(
            loaded, title=title, target=target, metric=metric, options=choices.as_options
        )
        made.names = loaded.names
        return made

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the pictures."""
        pictures: Pictures = self._parts["train"][0]
        return pictures.shape

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ArrayBatches:
        """The pictures of a part: `pixels` (B, C, H, W) float32 and `target` (B,) class numbers.

        A model of transformers gets `pixel_values` of the size and the channels that its
        configuration says, from -1 to 1, as most of its processors have them.
        """
        pictures, y = self.part(part)
        assert self.classes is not None
        name, pixels = "pixels", self._pixels(pictures)
        if "pixel_values" in str(getattr(model, "main_input_name", "")):
            name, pixels = "pixel_values", for_transformers(pictures, model.config)
        tensors: dict[str, Any] = {
            name: pixels, "target": torch.from_numpy(class_codes(y, self.classes))
        }  # fmt: skip
        return ArrayBatches(tensors, batch_size or 128, seed=seed)

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy; the model maps pixels to (B, C) logits, or has these as `logits`."""
        inputs = {name: value for name, value in batch.items() if name != "target"}
        return functional.cross_entropy(output_of(model, inputs).float(), batch["target"])

    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a fitted learner, or a module that was trained on this task's batches, on a part;
        of test pictures the surest mistakes are kept too.
        """
        if isinstance(learner, torch.nn.Module):
            assert self.classes is not None
            learner = ModuleOnPictures(learner, self.classes, self._pixels)
        found = super().judge(learner, part)
        if part != "test":
            return found
        samples = showing.with_pictures(found.samples, self.part("test")[0])
        return replace(found, samples=samples)

    @classmethod
    def shows(cls, runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
        """Which classes are taken for which; see `stackwise.tasks.images.showing`."""
        return showing.shows(runs, data)

    @classmethod
    def small(cls, problem: str | None = None) -> "ImagesTask":
        """90 pictures of three shapes; see `small_pictures`."""
        return cls.load(small_pictures())

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        pixels = int(np.prod(self.shape))
        return super().describe() | {"features": pixels, "shape": list(self.shape)}

    def whole(self) -> Self:
        """The same task with all pictures in the training part."""
        made = super().whole()
        made.__dict__.pop("_statistics", None)  # of the training part alone
        return made

    @cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """(C,) mean and deviation of the training pictures."""
        return statistics(self._parts["train"][0], seed=0)

    def _pixels(self, pictures: Pictures) -> Pixels:
        return Pixels(pictures, *self._statistics, self.shape[1:])
