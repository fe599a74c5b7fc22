"""The learner: train a shallow model, grow it, go on, at the compute that scratch would cost.

With N parameters in the blocks of the grown model and D tokens of scratch training, the budget is
6 N D. A share s of it goes to the base of N / g parameters, which so sees s g D tokens; what is
left pays for (1 - s) D tokens of the grown model, which the base has not seen while there are such.
The steps of operator `learned` are steps of the grown model, and paid for as such.
"""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, learner
from stackwise.errors import KnobError
from stackwise.grow.gstack.depth import Masked
from stackwise.grow.gstack.entry import PAPER, TITLE, Axis, Operator, grow, source_blocks
from stackwise.grow.gstack.planning import growth_schedule
from stackwise.grow.gstack.spaces import spaces_of
from stackwise.grow.gstack.width import WidthMask
from stackwise.optional import needs
from stackwise.stack import Stack
from stackwise.tasks.language.decoder import new_decoder
from stackwise.tasks.language.learner import PARTS, Checkpointing, LanguageLearner, RowsAtOnce
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches
from stackwise.tasks.text.decoder import TRAINING
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop

MASK_SHARE = 0.5
"""Share of the grown model's steps over which a mask opens."""


@learner(
    "gstack",
    title=TITLE,
    paper=PAPER,
    tasks=("text",),
    training=TRAINING,
    presets={
        "quick": {"layers": 4, "width": 64, "heads": 4}, "standard": {},
        "best": {"layers": 12, "width": 256, "heads": 8},
    },
)  # fmt: skip
class GrownLanguageModel(LanguageLearner):
    """A decoder that is trained shallow, grown, and trained on.

    Fitted: `model_`, `base_steps_`, `grown_steps_`, `base_share_`, `base_parameters_` (those of
    the base's blocks).
    """

    def __init__(
        self,
        *,
        layers: Annotated[int, Knob("blocks in the end", ge=1)] = 8,
        factor: Annotated[int, Knob("how many times as deep, or wide, as the base", ge=1)] = 4,
        width: Annotated[int, Knob("size of the stream in the end", ge=8)] = 128,
        heads: Annotated[int, Knob("attention heads in the end", ge=1)] = 4,
        operator: Annotated[Operator, Knob("where the new weights come from")] = "direct",
        axis: Annotated[Axis, Knob("what grows")] = "depth",
        order: Annotated[
            str | list[int], Knob("stack, interleave, runs such as 12-34*2, or block numbers")
        ] = "stack",
        base_share: Annotated[
            float | Literal["guideline"],
            Knob("the base's share of the compute; guideline is the paper's formula", gt=0, lt=1,
                 search=(0.02, 0.3)),
        ] = 0.1,
        base_lr: Annotated[
            float | None, Knob("learning rate of the base; none is that of the whole", gt=0)
        ] = None,
        noise: Annotated[float, Knob("share of random numbers mixed in", ge=0, le=1)] = 0.0,
        learn_steps: Annotated[int, Knob("steps of operator learned", ge=0)] = 100,
        learn_lr: Annotated[float, Knob("their learning rate", gt=0, log=True)] = 7e-5,
        rows_at_once: RowsAtOnce = None,
        checkpointing: Checkpointing = False,
    ) -> None: ...  # fmt: skip

    def start(self, task: Any) -> nn.Module:
        """The base, with random weights."""
        deep, wide = (self.factor, 1) if self.axis == "depth" else (1, self.factor)
        if self.layers % deep:
            raise KnobError(
                f"layers={self.layers} is no multiple of factor={self.factor}, so that no base "
                "grows to it"
            )
        if self.width % wide or self.heads % wide:
            raise KnobError(
                f"width={self.width} and heads={self.heads} must be multiples of "
                f"factor={self.factor}"
            )
        base: nn.Module = new_decoder(
            len(self.tokenizer_), layers=self.layers // deep, width=self.width // wide,
            heads=self.heads // wide, length=task.length,
        )  # fmt: skip
        return base

    def phases(self, task: Any, model: nn.Module) -> list[Phase]:
        """The base, then the grown model."""
        text = self.text_batches(task)
        # what scratch training takes, in steps
        budget = StreamBatches(text, 0, len(text) * self.max_epochs, PARTS).total
        places = source_blocks(model, self.order, self.factor if self.axis == "depth" else 1)
        if self.axis == "depth" and len(places) != self.layers:
            raise KnobError(
                f"order gives {len(places)} blocks, and layers={self.layers} are wanted"
            )
        grown_size, base_size = self._block_sizes(task, model, len(places))
        self.base_parameters_ = base_size
        self.base_share_ = self._share(grown_size, budget, task.length)
        ratio = grown_size / base_size
        base_steps = max(1, round(self.base_share_ * budget * ratio))
        parts = max(1, round(PARTS * base_steps / (base_steps + budget)))
        first = StreamBatches(text, 0, base_steps, parts)
        self.base_steps_ = first.total
        learning = self.learn_steps if self.operator == "learned" else 0
        left = round(budget - self.base_steps_ / ratio) - learning
        if left < 1:
            raise KnobError(
                f"the base and learn_steps={learning} cost more than the {budget} steps that "
                "scratch training takes; lower base_share or learn_steps, or give more text"
            )
        steps, parts = _in_parts(left)
        second = StreamBatches(text, self.base_steps_ + learning, steps, parts)
        self.grown_steps_ = second.total
        base_rule = self.text_rule(task, lr=self.base_lr or self.lr, schedule="constant")
        mask = _Mask(self.operator, self.axis, len(Stack.of(model)), model.config)
        rule = GrowingRule.of(self.text_rule(task), mask)
        return [
            Phase("base", base_rule, first, first.parts, keep="last"),
            Phase(
                "grown", rule, second, second.parts, self.patience,
                start=lambda base: self._grown(base, text, mask),
                rebuild=lambda arguments: mask.put(self.prepared(_rebuilt(arguments))),
            ),
        ]  # fmt: skip

    def finish(self, trained: Trained) -> None:
        """Take the grown model, as a plain one."""
        super().finish(trained)
        closed = [mask for mask in getattr(self.model_, "growth_masks", ()) if mask.c < 1]
        if closed:
            self.notes_.append(
                f"the training ended while the mask over what is new stood at {closed[0].c:.2f}; "
                "the model is kept without it, and computes something else than what was trained"
            )
        for hook in list(getattr(self.model_, "growth_masks", ())):
            hook.remove()
        for name in ("growth_masks", "arguments"):
            self.model_.__dict__.pop(name, None)
        self.notes_.append(
            f"the base was trained for {self.base_steps_} steps, the grown model for "
            f"{self.grown_steps_}"
        )

    def _grown(self, base: nn.Module, text: TokenBatches, mask: "_Mask") -> nn.Module:
        data = None
        if self.operator == "learned" and self.learn_steps:
            rows = StreamBatches(text, self.base_steps_, self.learn_steps).epoch(0)
            data = [batch | {"labels": batch["input_ids"]} for batch in rows]
        grown = grow(
            base, data or [], factor=self.factor, operator=self.operator, axis=self.axis,
            order=self.order, noise=self.noise, learn_steps=self.learn_steps,
            learn_lr=self.learn_lr, device=self.device, seed=self.seed_,
        )  # fmt: skip
        config: Any = grown.config
        grown.arguments = {"config": config.to_dict()}  # type: ignore[assignment]
        return mask.put(self.prepared(grown))

    def _block_sizes(self, task: Any, model: Any, layers: int) -> tuple[int, int]:
        """Parameters in the blocks of the grown model and of the base."""
        base = sum(p.numel() for block in Stack.of(model).blocks for p in block.parameters())
        if self.axis == "depth":
            return base // len(Stack.of(model)) * layers, base
        with torch.device("meta"):
            grown = new_decoder(
                len(self.tokenizer_), layers=layers, width=self.width, heads=self.heads,
                length=task.length,
            )  # fmt: skip
        return sum(p.numel() for block in Stack.of(grown).blocks for p in block.parameters()), base

    def _share(self, parameters: int, steps: int, length: int) -> float:
        if self.base_share != "guideline":
            return float(self.base_share)
        if self.axis == "width":
            raise KnobError(
                "the guideline was fitted to growth in depth; give base_share as a number"
            )
        tokens = steps * self.rows_a_step * length
        return growth_schedule(parameters, tokens, factor=self.factor).base_share


class GrowingRule(Backprop):
    """Ordinary training, while a mask over what is new opens."""

    mask: "_Mask"

    @classmethod
    def of(cls, rule: Backprop, mask: "_Mask") -> "GrowingRule":
        """The same rule with a mask."""
        made = cls.__new__(cls)
        vars(made).update(vars(rule))
        made.mask = mask
        return made

    def step(self, loop: Any, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Open the mask a little further, then a step."""
        c = min(1.0, loop.step / max(1.0, MASK_SHARE * loop.total_steps))
        self.mask.open(c)
        self.settled = not self.mask.wanted or c == 1.0  # else no score counts as the best yet
        return super().step(loop, model, batch)


class _Mask:
    """The mask of operator `random`, wherever the grown model is made; nothing for the others."""

    def __init__(self, operator: str, axis: str, depth: int, config: Any) -> None:
        self.wanted, self.axis, self.depth, self.config = operator == "random", axis, depth, config
        self.held: Masked | WidthMask | None = None

    def put(self, grown: nn.Module) -> nn.Module:
        """Put the mask on a model, closed."""
        if not self.wanted:
            return grown
        if self.axis == "depth":
            self.held = Masked(grown, range(self.depth, len(Stack.of(grown))))
        else:
            width = grown.config.hidden_size  # type: ignore[union-attr]
            self.held = WidthMask(grown, spaces_of(self.config, width))  # type: ignore[arg-type]
        grown.growth_masks = [self.held]  # type: ignore[assignment]
        return grown

    def open(self, c: float) -> None:
        """Set the mask."""
        if self.held is not None:
            self.held.c = c


def _rebuilt(arguments: dict[str, Any]) -> nn.Module:
    """A decoder of the config that a checkpoint holds."""
    needs("transformers", "a language model")
    from transformers import LlamaConfig, LlamaForCausalLM

    made: nn.Module = LlamaForCausalLM(LlamaConfig.from_dict(arguments["config"]))
    made.arguments = arguments  # type: ignore[assignment]
    return made


def _in_parts(steps: int) -> tuple[int, int]:
    """At most `steps`, as many as parts of one length make, and the number of parts."""
    if steps < 2 * PARTS:
        return steps, steps
    parts = max(range(PARTS, 2 * PARTS), key=lambda count: steps // count * count)
    return steps // parts * parts, parts
