"""Rebuild a model that lies on disk: its blocks in any order, with no weight read into memory.

`Stack.rebuild` holds the model and its copy in memory. Here the model is made without weights (on
torch's meta device), rebuilt there, so that all that `rebuild` refuses is refused, and each tensor
of the new model is then copied from the file of the old one:

    saved = SavedModel("model")                  # a folder that save_pretrained wrote
    saved.rebuild([0, 1, 1, 3], "longer")        # loads in plain transformers

Numbers keep the type that they have on disk. What the files call a block is found in their own
names, since a file may name tensors otherwise than the module does.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from stackwise.errors import ModelError
from stackwise.files import check_empty, whole_folder
from stackwise.models import builder_of, config_of, files_beside
from stackwise.seals import check_kept_model
from stackwise.stack.occurrence import BIAS_TABLE
from stackwise.stack.shards import MOST_BYTES, Piece, read_pieces, write_pieces
from stackwise.stack.view import Stack


class SavedModel:
    """A model folder (`config.json` and safetensors files) whose weights stay on disk.

    Attributes:
        stack: a view of the model without its weights; every tensor is on the meta device.
        pieces: where each tensor lies, by the name in the files.
        blocks: what the files call the list of blocks, "model.layers" say.

    Raises:
        ModelError: no such folder, weights of another kind, or no list of blocks in them.
    """

    def __init__(
        self, folder: Path | str, *, blocks: str | None = None, side: str | None = None
    ) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise ModelError(f"{self.folder} is no model folder: it has no config.json")
        check_kept_model(self.folder)
        config = config_of(self.folder)
        self.pieces = read_pieces(self.folder)
        with torch.device("meta"):
            model = builder_of(config)(config)
        self.stack = Stack.of(model, blocks=blocks, side=side)
        self.blocks = self._named_in_files()

    def rebuild(
        self, order: Iterable[int], out: Path | str, *, most_bytes: int = MOST_BYTES
    ) -> Path:
        """Write the model of these blocks to the folder `out`; what `Stack.rebuild` would make.

        Args:
            most_bytes: of a shard.

        Raises:
            ModelError: as for `Stack.rebuild`; or `out` is there and not empty.
        """
        order, out = list(order), Path(out)
        check_empty(out)
        new = self.stack.rebuild(order)
        config: Any = new.config
        config.architectures = config.architectures or [type(new).__name__]
        with whole_folder(out) as beside:
            write_pieces(dict(self._renamed(order)), beside, most=most_bytes)
            for path in files_beside(self.folder):
                target = beside / path.relative_to(self.folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
            config.save_pretrained(beside)
        return out

    def _renamed(self, order: list[int]) -> Iterator[tuple[str, Piece]]:
        """The tensors of the new model: its name for each, and where it lies in the old one."""
        of_block: dict[int, dict[str, Piece]] = {index: {} for index in range(len(self.stack))}
        tables: dict[str, Piece] = {}
        head = f"{self.blocks}."
        rest: dict[str, Piece] = {}
        for name, piece in self.pieces.items():
            if not name.startswith(head):
                rest[name] = piece
                continue
            index, _, own = name[len(head) :].partition(".")
            if BIAS_TABLE in own:  # T5's belongs to whichever block runs first
                tables[own] = piece
            else:
                of_block[int(index)][own] = piece
        yield from rest.items()
        for place, block in enumerate(order):
            for own, piece in (of_block[block] | (tables if place == 0 else {})).items():
                yield f"{head}{place}.{own}", piece

    def _named_in_files(self) -> str:
        depth, name = len(self.stack), self.stack.name
        places: dict[str, set[int]] = {}
        for key in self.pieces:
            for found in re.finditer(r"\.(\d+)\.", f".{key}"):
                places.setdefault(key[: max(found.start() - 1, 0)], set()).add(int(found[1]))
        whole = [list_name for list_name, seen in places.items() if seen == set(range(depth))]
        base = getattr(self.stack.model, "base_model_prefix", "")
        for exact in (name, name.removeprefix(f"{base}."), f"{base}.{name}"):
            if exact in whole:
                return exact
        last = name.rpartition(".")[2]
        for likely in ([one for one in whole if one.rpartition(".")[2] == last], whole):
            if len(likely) == 1:
                return likely[0]
        raise ModelError(
            f"the files of {self.folder} do not name {depth} blocks at {name!r}; open the model "
            "and use Stack.rebuild"
        )


def rebuild_saved(
    folder: Path | str,
    order: Iterable[int],
    out: Path | str,
    *,
    blocks: str | None = None,
    side: str | None = None,
    most_bytes: int = MOST_BYTES,
) -> Path:
    """Rebuild a saved model from its files to files; see `SavedModel`."""
    return SavedModel(folder, blocks=blocks, side=side).rebuild(order, out, most_bytes=most_bytes)
