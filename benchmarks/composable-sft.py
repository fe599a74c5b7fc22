"""Sparse fine-tunings against peft's SHiRA: a step of training, a forward pass, and bytes on disk.

Both change as many entries of the same matrices of one encoder, chosen by the same masks. SHiRA
counts entries by matrix, r (m + n) each; here they are those. peft keeps the changes beside the
weights and adds them in each forward pass; here they are in the weights.
"""

import copy
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from torch import Tensor, nn

from side_by_side import alternate, line
from stackwise.adapt.composable_sft import SparseFineTuning
from stackwise.adapt.composable_sft.delta import learned
from stackwise.adapt.composable_sft.rules import Masked

WIDTHS = {"small": 64, "middle": 128, "large": 256}
RANK = 8
THREADS = 2
OPTIMIZER = (
    "the optimizer goes over all weights of the masked matrices, and over the few entries alone in "
    "peft; the forward pass is cheaper than there"
)

SAME = "both are the same computation on weights of one type; they differ by noise"


def encoder(width: int) -> nn.Module:
    """BERT of four blocks with three classes."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=2000, hidden_size=width, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=4 * width, max_position_embeddings=64,
    )  # fmt: skip
    config.num_labels = 3
    return transformers.BertForSequenceClassification(config).eval()


def mask_of(layer: nn.Module, rank: int, **_: object) -> Tensor:
    """SHiRA's count of entries of a matrix, drawn alike for both."""
    weight = layer.weight
    count = rank * sum(weight.shape)
    chosen = torch.zeros(weight.numel())
    drawn = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(weight.numel()))
    chosen[drawn[:count]] = 1
    return chosen.view_as(weight)


def batch() -> dict[str, Tensor]:
    """8 texts of 32 tokens."""
    torch.manual_seed(1)
    return {"input_ids": torch.randint(0, 2000, (8, 32)), "labels": torch.randint(0, 3, (8,))}


def wanted(model: nn.Module) -> list[str]:
    """The matrices that both change."""
    names = (name for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    return [name for name in names if "encoder" in name]


class Place:
    """What a rule reads of the loop."""

    step, total_steps, schedule_steps = 5, 10, 10

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizers = [optimizer]

    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """One process."""


def our_step(model: nn.Module, rows: dict[str, Tensor]):
    """One step of the sparse phase."""
    names = wanted(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.removesuffix(".weight") in names)
    rule = Masked(lambda m, b: m(**b).loss, base={}, grad_clip=None)
    (optimizer,) = rule.optimizers(model)
    masks = {f"{n}.weight": mask_of(model.get_submodule(n), RANK).bool() for n in names}
    rule.begin_under(masks, {})
    place = Place(optimizer)

    def run() -> None:
        rule.loss(model, rows).backward()
        rule.update(place, optimizer)

    return run


def with_shira(model: nn.Module) -> nn.Module:
    """The same model under peft."""
    config = peft.ShiraConfig(r=RANK, target_modules=wanted(model), init_weights=False)
    config.mask_fn = lambda layer, r, **more: mask_of(layer, r)
    return peft.get_peft_model(copy.deepcopy(model), config).eval()


def their_step(model: nn.Module, rows: dict[str, Tensor]):
    """One step of SHiRA."""
    adapted = with_shira(model)
    learns = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=1e-3, weight_decay=0.0, fused=True)

    def run() -> None:
        adapted(**rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def fine_tuning(model: nn.Module) -> SparseFineTuning:
    """Random changes of the same entries."""
    begins = {f"{name}.weight": model.get_submodule(name).weight for name in wanted(model)}
    masks = {f"{n}.weight": mask_of(model.get_submodule(n), RANK).bool() for n in wanted(model)}
    ends = {name: weight + 0.01 * torch.randn_like(weight) for name, weight in begins.items()}
    parts = learned(begins, ends, masks, exact=False)
    return SparseFineTuning({name.removeprefix("bert."): part for name, part in parts.items()})


def size_of(folder: Path) -> int:
    """Bytes of the tensors in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def forward_passes(model: nn.Module, rows: dict[str, Tensor], size: str) -> None:
    """A forward pass with the change on, against peft's and against the base's."""
    inputs = {"input_ids": rows["input_ids"]}
    on = fine_tuning(model).put(copy.deepcopy(model))
    adapted = with_shira(model)
    with torch.no_grad():
        took = alternate(lambda: on(**inputs), lambda: adapted(**inputs), 10)
        line(f"a forward pass, {size}", *took, "peft SHiRA", "s", "float32", THREADS)
        took = alternate(lambda: on(**inputs), lambda: model(**inputs), 10)
    name = "the base without it"
    line(f"a forward pass beside the base, {size}", *took, name, "s", "float32", THREADS, SAME)


def bytes_on_disk(model: nn.Module, size: str) -> None:
    """The tensors of both files."""
    with tempfile.TemporaryDirectory() as place:
        fine_tuning(model).save(Path(place) / "ours")
        with_shira(model).save_pretrained(str(Path(place) / "theirs"))
        sizes = size_of(Path(place) / "ours"), size_of(Path(place) / "theirs")
    line(f"bytes on disk, {size}", *sizes, "peft SHiRA", "bytes", "float32", THREADS)


def main() -> None:
    """Print a line a case."""
    torch.set_num_threads(THREADS)
    rows = batch()
    for size, width in WIDTHS.items():
        model = encoder(width)
        took = alternate(our_step(copy.deepcopy(model), rows), their_step(model, rows), 10)
        line(f"a training step, {size}", *took, "peft SHiRA", "s", "float32", THREADS, OPTIMIZER)
        forward_passes(model, rows, size)
        bytes_on_disk(model, size)


if __name__ == "__main__":
    main()
