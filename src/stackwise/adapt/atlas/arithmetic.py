"""Task arithmetic, in which nothing is learned: theta_0 + alpha sum_i tau_i, one alpha for all.

    task_arithmetic(model, donors, alpha=0.3)       in memory
    merge_saved("base", "out", donors=[...], alpha=0.3)     from files to files

From files to files one tensor stands in memory at a time, whatever the number of donors. alpha
below 0 negates. Source: arXiv 2212.04089, the isotropic baseline of arXiv 2407.02880.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.atlas.blocks import Blocks, blocks_of
from stackwise.adapt.atlas.composition import Composition
from stackwise.adapt.atlas.donors import (
    TaskVector,
    as_numbers,
    is_delta,
    key_of,
    matched,
    of_weights,
    task_vectors,
)
from stackwise.adapt.atlas.folder_weights import TYPES, FolderWeights
from stackwise.adapt.delta.hashes import module_of
from stackwise.files import check_empty, whole_folder
from stackwise.models import builder_of, config_of, files_beside, model_folder
from stackwise.stack.shards import MadePiece, Piece, write_pieces
from stackwise.training.session import current_session

CANDIDATES = [round(0.05 * step, 2) for step in range(21)]
"""Of the search: 21 values from 0 to 1 (paper)."""
AT_ONCE = 1 << 22
"""Numbers of a tensor that are summed at a time, from files to files."""


def task_arithmetic(
    model: Any, donors: Any, alpha: float, *, exclude: Sequence[str] | None = None
) -> Any:
    """theta_0 + alpha sum tau_i, of the kind that was given.

    Args:
        model: a module or a fitted learner; left as it is. donors: as `task_vectors` takes them.
        exclude: as for `blocks_of`.
    """
    module = module_of(model)
    blocks = blocks_of(module, exclude=exclude)
    composition = Composition(module, blocks, task_vectors(model, donors, blocks), scaling="donor")
    set_all(composition, alpha)
    network = composition.release().train(module.training)
    return model.with_network(network) if hasattr(model, "with_network") else network


def set_all(composition: Composition, alpha: float) -> None:
    """Have one coefficient everywhere."""
    with torch.no_grad():
        composition.values.fill_(alpha)


def scores_by_alpha(
    composition: Composition, score: Callable[[nn.Module], float]
) -> dict[float, float]:
    """The score of each of the 21 candidates, 0 first; those that a session's time limit leaves.

    Args:
        composition: with a coefficient a donor.
        score: of a composed network.
    """
    session, began = current_session(), time.perf_counter()
    found: dict[float, float] = {}
    for place, alpha in enumerate(CANDIDATES, start=1):
        left = session.seconds_left()
        if found and left is not None and left <= 0:
            break
        set_all(composition, alpha)
        found[alpha] = score(composition.composed())
        if session.on_event is not None:
            spent = time.perf_counter() - began
            session.on_event({
                "phase": "search", "epoch": place, "max_epochs": len(CANDIDATES), "step": place,
                "steps": len(CANDIDATES), "seconds": spent,
                "seconds_left": spent / place * (len(CANDIDATES) - place),
            })  # fmt: skip
    return found


def merge_saved(
    folder: Path | str,
    out: Path | str,
    *,
    donors: Any,
    alpha: float,
    exclude: Sequence[str] | None = None,
) -> Path:
    """Write theta_0 + alpha sum tau_i of a model folder to the folder `out`, tensor by tensor.

    Numbers keep the types that the base has on disk; sums are taken in float32 and rounded once.
    What lies beside the weights (config, tokenizer, chat template) is the base's.

    Raises:
        ModelError: `out` is not empty, or a donor does not fit. Unmapped: the base is to be opened,
            since a donor is a delta of it, or since its files name tensors otherwise.
    """
    folder, out = Path(folder), Path(out)
    check_empty(out)
    base = FolderWeights(folder)
    folders = [None if is_delta(one) else model_folder(one) for one in donors]
    weights = [FolderWeights(one) for one in folders if one is not None]
    if len(weights) < len(folders):
        raise Unmapped
    blocks = blocks_in_files(base, exclude)
    if any(key not in one for one in weights for key in set(blocks.weights) - blocks.optional):
        raise Unmapped
    vectors = [
        of_weights(one, blocks, str(donor)) for one, donor in zip(weights, donors, strict=True)
    ]
    return write_sum(base, list(zip(weights, vectors, strict=True)), alpha, out)


def blocks_in_files(base: FolderWeights, exclude: Sequence[str] | None) -> Blocks:
    """The blocks of a saved model by the names in its files, which may be others than the module's.

    Raises:
        Unmapped: the files do not name what is to be left out, or buffers, which stay the base's.
    """
    config = config_of(base.folder)
    with torch.device("meta"):
        model = builder_of(config)(config)
    blocks = blocks_of(model, exclude=exclude)
    kept = set(model.state_dict()) - {n for n, _ in model.named_parameters(remove_duplicate=False)}
    out = {name: key_of(base, (name,), blocks.prefix) for name in (*blocks.left_out, *kept)}
    if None in out.values() or (exclude and set(matched(base, blocks)) != set(blocks.weights)):
        raise Unmapped
    gone = set(out.values())
    weights = {
        key: base[key] for key in base
        if key not in gone and base.pieces[key].dtype in TYPES
    }  # fmt: skip
    optional = {key_of(base, (name,), blocks.prefix) for name in blocks.optional}
    return Blocks(
        weights, {key: (key,) for key in weights}, tuple(str(one) for one in gone),
        frozenset(one for one in optional if one is not None), blocks.prefix,
    )  # fmt: skip


class Unmapped(Exception):
    """The base cannot stay on disk: no error, the caller has another way."""


def write_sum(
    base: FolderWeights, donors: Sequence[tuple[FolderWeights, TaskVector]], alpha: float, out: Path
) -> Path:
    """Write the folder of base + alpha * the sum of task vectors, whose blocks have the names of
    the files.
    """
    pieces: dict[str, Piece] = {}
    for key, piece in base.pieces.items():
        having = [weights for weights, vector in donors if key in vector.parts and key in weights]
        if not having or not alpha:
            pieces[key] = piece
            continue

        def numbers(key: str = key, having: Sequence[FolderWeights] = having) -> Iterator[Tensor]:
            blocks = (one.read(key, AT_ONCE) for one in (base, *having))
            yield from (summed(mine, others, alpha) for mine, *others in zip(*blocks, strict=True))

        pieces[key] = MadePiece(
            piece.file, piece.dtype, piece.shape, piece.start, piece.size, numbers
        )
    with whole_folder(out) as beside:
        write_pieces(pieces, beside)
        for path in [*files_beside(base.folder), base.folder / "config.json"]:
            target = beside / path.relative_to(base.folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return out


@torch.no_grad()
def summed(weight: Tensor, others: Sequence[Tensor], alpha: float) -> Tensor:
    """base + alpha * sum (donor - base) of some numbers, in the type of the base."""
    kind = as_numbers(weight.dtype)
    mine = weight.to(kind)
    total = mine.clone()
    for other in others:
        total.add_(other.to(kind) - mine, alpha=alpha)
    return total.to(weight.dtype)
