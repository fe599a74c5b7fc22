"""The reader with a fine view, at the length of the coarse one.

    L        stacks of the crops' projected tokens, added before blocks of the language model
    V        stacks of the crops' patches, added inside the vision tower (`split_vit`)
    taps     stacks of several depths of the tower, as Qwen3-VL has them (`taps`); no crops
    concat   P([f, f_1, .., f_K]): one projection of all that lies at a place, in place of stacks
    dummy    the coarse tokens again in every stack: as L costs, and nothing new to see

The last two are the rivals that the paper names.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from stackwise.build.deepstack.injection import DeepStack, check_depth
from stackwise.build.deepstack.sampling import Sampling, stacks_of_crops
from stackwise.build.deepstack.split_vit import DeepStackViT
from stackwise.build.deepstack.taps import DeepStackTap, PatchMerger, tapped, usual_taps
from stackwise.errors import KnobError
from stackwise.stack import Stack
from stackwise.tasks.vqa.estimators.network import PictureReader, projector
from stackwise.tasks.vqa.estimators.vision import Tower, patches_of

Variant = Literal["L", "V", "taps", "concat", "dummy"]


class DeepStackReader(PictureReader):
    """A tower, a projector and a language model that sees K + 1 times as much in as many positions.

    Args:
        stacks: K, the most crops of a picture. start, interval: of the stacks in the language
            model. split: blocks of the tower before those of V. taps: of the tower; none are as
            Qwen3-VL's lie. merge: patches of a side that a tap merges to a token.
    """

    def __init__(
        self,
        language: Any,
        tower: Tower,
        *,
        variant: Variant = "L",
        sampling: Sampling = "spatial",
        stacks: int = 4,
        start: int = 1,
        interval: int = 1,
        split: int | None = None,
        taps: Sequence[int] | None = None,
        merge: int = 2,
    ) -> None:
        super().__init__(language, tower)
        self.variant, self.sampling, self.stacks, self.merge = variant, sampling, stacks, merge
        size = int(language.get_input_embeddings().embedding_dim)
        self.start, self.interval, self.split = start, interval, split
        self.mergers: DeepStackTap | None = None
        if variant == "V":
            self.inside()
        elif variant == "concat":
            self.projector = projector(tower.width * (stacks + 1), size)
        elif variant == "taps":
            if tower.patches % merge:
                raise KnobError(f"merge={merge} does not divide {tower.patches} patches of a side")
            chosen = usual_taps(len(Stack.of(tower.model))) if taps is None else list(taps)
            self.projector = PatchMerger(tower.width, size, merge)
            self.mergers = DeepStackTap(tower.width, size, chosen, merge)
        count = len(self.mergers.taps) if self.mergers is not None else stacks
        if variant in ("L", "dummy", "taps"):
            check_depth(start, interval, count, len(Stack.of(language)))

    @property
    def reads_crops(self) -> bool:
        """Whether the fine view is needed."""
        return self.variant in ("L", "V", "concat")

    def length(self, most: int) -> int:
        """Positions of a picture, however many crops it has."""
        assert self.tower is not None
        return (self.tower.patches // (self.merge if self.variant == "taps" else 1)) ** 2

    def picture(
        self, low: Tensor | None, crops: Tensor | None, grids: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """(B, l, c) tokens that stand in the sequence, and (K, B, l, c) that are added, or None."""
        assert low is not None and self.tower is not None
        if self.mergers is not None:
            output: Any
            output, streams = tapped(self.tower.model, self.mergers.taps, **self.tower.inputs(low))
            last, *grids_of = (
                patches_of(one, self.tower.patches) for one in (output.last_hidden_state, *streams)
            )
            return self.projected(last), self.mergers(grids_of)
        if self.variant == "V":
            assert crops is not None and grids is not None
            return self.projected(self.inside()(low, crops, grids)).flatten(1, 2), None
        coarse = self.tower(low)
        if self.variant == "concat":
            assert crops is not None and grids is not None
            fine = self.tower(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
            beside = stacks_of_crops(fine, grids, self.sampling)
            return self.projected(torch.cat([coarse.flatten(1, 2), *beside], dim=-1)), None
        tokens = self.projected(coarse).flatten(1, 2)
        if self.variant == "dummy":
            return tokens, tokens.expand(self.stacks, *tokens.shape)
        assert grids is not None
        return tokens, stacks_of_crops(self.fine(crops), grids, self.sampling)

    def read(self, stacks: Tensor | None, place: int, length: int, **inputs: Any) -> Any:
        """What the language model gives, the stacks added at the picture's positions."""
        if stacks is None:
            return self.language(**inputs)
        positions = torch.zeros(inputs["attention_mask"].shape, dtype=torch.bool)
        positions[:, place : place + length] = True
        # made anew each time: a module of ours that holds theirs would name every weight twice
        deep = DeepStack(self.language, self.start, self.interval)
        return deep(stacks=stacks, positions=positions.to(stacks.device), **inputs)

    def inside(self) -> DeepStackViT:
        """The tower with stacks in it."""
        assert self.tower is not None
        return DeepStackViT(self.tower, self.split, self.stacks, self.sampling)
