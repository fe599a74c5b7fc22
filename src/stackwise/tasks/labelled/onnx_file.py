"""Write a module that holds its whole preprocessing as an ONNX file.

What the tasks share of it: a kind of data says how a fitted learner becomes such a module
(`WrittenWhole`), and the file, the description beside it and the answer's form follow here.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import ModelError, NotInstalled
from stackwise.files import replacing, write_json


@dataclass(frozen=True)
class WrittenWhole:
    """A fitted learner as one module, and what is written of it.

    Attributes:
        module: raw inputs in, answer out. example: a few rows of each input, by name, in the order
            of the module's arguments. output: the answer's name.
        about: what the caller does before the module, as JSON.
    """

    module: nn.Module
    example: Mapping[str, Tensor]
    output: str
    about: Mapping[str, Any]


def export_whole(
    reference: Any, path: Path | str, whole_of: Callable[[Any], WrittenWhole]
) -> list[Path]:
    """Write a fitted learner (or a run that holds one) as an ONNX file and a JSON file beside it.

    Args:
        whole_of: makes the module of a learner, or refuses one that cannot be written.

    Returns:
        The two files.

    Raises:
        ModelError: the path ends otherwise, or the learner cannot be written; it is named.
    """
    path = Path(path)
    check_ending(path)
    whole = whole_of(opened(reference))
    write_onnx(whole.module.eval(), whole.example, whole.output, path)
    write_json(path.with_suffix(".json"), whole.about)
    return [path, path.with_suffix(".json")]


def answered(output: Tensor, *, classes: bool) -> Tensor:
    """The answer in what a network gives, (B, C) float64, or (B, k, C) of k members.

    Args:
        classes: the outputs are logits, and the answer is probabilities; a single logit is the
            log-odds of the second class.

    Returns:
        (B, C), or (B, 2) of a single logit: the mean over members.
    """
    if classes:
        if output.shape[-1] == 1:
            output = torch.cat([torch.zeros_like(output), output], -1)
        output = output.softmax(-1)
    return output.mean(1) if output.ndim == 3 else output


def opened(reference: Any) -> Any:
    """A fitted learner, or the one that the folder of a run holds."""
    if not isinstance(reference, str | Path):
        return reference
    from stackwise.models import open_model

    return open_model(reference)


def check_ending(path: Path) -> None:
    """Refuse a file that no reader would take for ONNX.

    Raises:
        ModelError: it does not end in .onnx.
    """
    if path.suffix != ".onnx":
        raise ModelError(f"{path} must end in .onnx; a .json of the same name is written beside it")


def write_onnx(whole: nn.Module, example: Mapping[str, Tensor], output: str, path: Path) -> None:
    """Write a module that maps rows to an output, for any number of rows.

    Args:
        example: a few rows of each input, by name, in the order of the module's arguments.
        output: its name.

    Raises:
        NotInstalled: the packages that write ONNX are lacking.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (the exporter needs it)
    except ImportError as error:
        raise NotInstalled("ONNX export needs: pip install onnx onnxscript") from error
    rows = torch.export.Dim("rows")
    with warnings.catch_warnings(), _without_advice():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            _Called(whole).eval(), tuple(example.values()), input_names=list(example),
            output_names=[output], dynamic_shapes=(tuple({0: rows} for _ in example),),
            verbose=False, dynamo=True,
        )  # fmt: skip
    with replacing(path) as beside:
        onnx.save_model(program.model_proto, str(beside))


class _Called(nn.Module):
    """A module with any number of arguments, whose dynamic shapes are then said in one way."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, *given: Tensor) -> Any:
        return self.whole(*given)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the exporter from listing packages that are not installed and not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
