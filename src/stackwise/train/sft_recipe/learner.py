"""The learner: fine-tune a language model on chats by a recipe, all at once or in phases."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn

from stackwise.adapt import LoraDelta, deltas_on, settle_all
from stackwise.catalog import Knob, ModelRef, baseline, learner
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.models import as_stored, half_types, open_model, stored_dtype
from stackwise.optional import needs
from stackwise.tasks.instructions.answers import write_answers
from stackwise.tasks.instructions.encode import Encoded, prompt_text, with_template
from stackwise.tasks.instructions.packing import call, padded_rows, summed_loss
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.learner import Checkpointing, LanguageLearner
from stackwise.tasks.language.reading import context_of, tokenizer_for
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.tokens import windows
from stackwise.train.sft_recipe.adapters import (
    ADAPTER,
    KnownBase,
    adapter_put_on,
    keep_adapter,
    open_adapted,
    with_adapters,
)
from stackwise.train.sft_recipe.curriculum import curriculum
from stackwise.train.sft_recipe.monitor import RunMonitor
from stackwise.train.sft_recipe.recipes import Order, Recipe, recipe, usual_recipe
from stackwise.train.sft_recipe.rule import SampleBatches, TokenMean
from stackwise.training.phases import Phase, Trained

REMEMBERED = ("semanlink", "drug-reviews", "python-source")
"""Packaged texts on which forgetting is looked at, the first that is here."""
ROWS, LENGTH = 24, 128
REPLAY = 0.01
"""Share of earlier phases' samples that a phase learns once more."""
TITLE = "Fine-tune a language model on chats, by recipe"


class Tuned(LanguageLearner):
    """What learners that begin with a pretrained model and chats share.

    Fitted: `model_`, `tokenizer_`, `monitor_` (the curve), `recipe_`, `more_scores_` (forgetting).
    """

    tasks: ClassVar[tuple[str, ...]] = ("instructions",)
    model: Any
    remember: str | None
    float32: bool = False

    def choose_tokenizer(self, task: Any) -> Any:
        """The model's own tokenizer, with a template."""
        if not hasattr(task, "chats"):
            raise DataError("fine-tuning learns from chats: give the task of instructions")
        self._base = open_base(self.model)
        tokenizer, note = with_template(tokenizer_for(self._base, None, "chats"))
        self.notes_ += [note] if note else []
        return tokenizer

    def start(self, task: Any) -> nn.Module:
        """The model in float32; half-precision weights would lose small steps."""
        base = self._base
        half = next((p.dtype for p in base.parameters() if p.dtype in half_types()), None)
        if half is not None:
            base = base.float()
            base.stored_dtype = half
        if (stored := stored_dtype(base)) is not None:
            kept = "float32" if self.float32 else str(stored).partition(".")[2] + ", as before"
            self.notes_.append(f"weights in half precision are trained in float32, kept in {kept}")
            base.stored_dtype = None if self.float32 else stored
        self._text = general_text(self.remember)
        self.more_scores_: dict[str, float] = {}
        if self._text is not None:
            self.more_scores_["general_loss_before"] = self._general_loss(base)
        return base

    def finish(self, trained: Trained) -> None:
        """Take the model, in the numbers that are kept; look at what it forgot."""
        super().finish(trained)
        if not deltas_on(self.model_):
            as_stored(self.model_)
        if self._text is not None:
            after = self._general_loss(self.model_)
            self.more_scores_["general_loss"] = after
            self.more_scores_["forgetting"] = after - self.more_scores_["general_loss_before"]

    def more_to_keep(self) -> dict[str, Any]:
        """The curve and what was forgotten."""
        curve = self.monitor_.rows if hasattr(self, "monitor_") else []
        return {"curve": [list(row) for row in curve], "scores": self.more_scores_}

    def take_back(self, more: dict[str, Any]) -> None:
        """The inverse of `more_to_keep`."""
        self.more_scores_ = dict(more.get("scores", {}))
        self.monitor_ = RunMonitor(more.get("curve", []), {"model": str(self.model)})

    def _general_loss(self, model: Any) -> float:
        """Nats a token on general text: what fine-tuning makes it forget."""
        assert self._text is not None
        ids = np.array(self.tokenizer_(self._text)["input_ids"])
        length = min(LENGTH, context_of(model) or LENGTH, len(ids))
        rows = windows(ids, length, ROWS)
        logs, _ = token_log_probabilities(model.eval(), rows)
        return -float(logs.double().mean())

    def write_predictions(self, path: Path | str, source: Any, **options: Any) -> int:
        """Answer the chats, or the lines of a text, of a file; see `write_answers`."""
        return write_answers(path, self, source, **options)

    def prompt_ids(self, prompt: str) -> torch.Tensor:
        """(1, tokens) of a prompt as the user's turn of a chat."""
        text = prompt_text((("user", prompt),), self.tokenizer_)
        ids = self.tokenizer_(text, add_special_tokens=False)["input_ids"]
        return torch.tensor([ids])


@learner(
    "sft-recipe",
    title=TITLE,
    paper="2412.13337",
    cost="trains all weights of a language model, or an adapter",
    presets={
        "quick": {"max_epochs": 1}, "standard": {}, "best": {"max_epochs": 10, "patience": 3},
    },
    variants={"stacked": {"order": "stacked"}, "phased": {"order": "phased"}},
)  # fmt: skip
class FineTuned(Tuned):
    """Supervised fine-tuning by the recipe that needs almost no search.

    All data in one mix, a large batch, a low constant learning rate and no warm-up; the loss is the
    mean over the answers' tokens of the effective batch.

    A model whose weights are in bfloat16 or float16 is trained in float32, since small steps would
    be lost on them, and is kept in its own type again; `float32` keeps it as it was trained.

    With `lora`, what is kept is the adapter beside its base. Fitted also: `delta_`, the adapter,
    None without; it is on `model_`, in its weights, and this is the model that is judged. `base_`:
    what it is for.
    """

    delta_: LoraDelta | None = None
    base_: KnownBase | None = None

    def __init__(
        self,
        *,
        model: Annotated[ModelRef | str, Knob("what is fine-tuned")],
        recipe: Annotated[
            Literal["lab", "tulu", "orca"], Knob("the set of defaults")
        ] = "lab",
        order: Annotated[
            Order | None, Knob("all at once, phase after phase, or short answers first")
        ] = None,
        batch_size: Annotated[
            int | None, Knob("samples a step; none is the recipe's", ge=1)
        ] = None,
        lr: Annotated[
            float | None, Knob("learning rate; none is the recipe's", gt=0, log=True,
                               search=(1e-6, 1e-4)),
        ] = None,
        schedule: Annotated[
            Literal["constant", "cosine", "linear"] | None, Knob("none is the recipe's")
        ] = None,
        warmup: Annotated[
            float | None, Knob("share of the steps; none is the recipe's", ge=0, lt=1)
        ] = None,
        max_epochs: Annotated[int | None, Knob("passes; none is the recipe's", ge=1)] = None,
        patience: Annotated[int | None, Knob("epochs without a better loss", ge=1)] = None,
        replay: Annotated[
            float, Knob("share of earlier phases that is learned again", ge=0, le=1)
        ] = REPLAY,
        lora: Annotated[int | None, Knob("rank of adapters; none trains all weights", ge=1)] = None,
        packed: Annotated[bool, Knob("several samples in a row, unseen by each other")] = True,
        max_tokens: Annotated[int, Knob("tokens of a row of the effective batch", ge=16)] = 2048,
        checkpointing: Checkpointing = False,
        float32: Annotated[bool, Knob("keep float32 where the model had half precision")] = False,
        remember: Annotated[
            str | None, Knob("a text file, a packaged text, auto or none: what may be forgotten")
        ] = "auto",
    ) -> None: ...  # fmt: skip

    def start(self, task: Any) -> nn.Module:
        """The model, with adapters where they are wanted."""
        base: Any = super().start(task)
        self.delta_ = self.base_ = None
        if self.lora is None:
            return base
        self.base_ = KnownBase.of(self.model, base)
        return with_adapters(base, self.lora)

    def phases(self, task: Any, model: nn.Module) -> list[Phase]:
        """One phase over all samples, or one a phase of the data, best weights handed on."""
        samples = task.encoded("train", self.tokenizer_, context_of(self._base))
        held = task.encoded("validation", self.tokenizer_, context_of(self._base))
        wanted = recipe(self.recipe, len(samples)).changed(
            order=self.order, batch_size=self.batch_size, lr=self.lr, schedule=self.schedule,
            warmup=self.warmup, epochs=self.max_epochs,
        )  # fmt: skip
        if wanted.note and self.batch_size is None:
            self.notes_.append(wanted.note)
        if wanted.batch_size > len(samples):
            raise KnobError(
                f"batch_size={wanted.batch_size} exceeds the {len(samples)} samples: at most one "
                f"step an epoch (use at most {max(1, len(samples) // 20)} for 20 steps)"
            )
        self.recipe_ = wanted
        return self._phases_of(curriculum(task, samples, wanted.order, self.replay, self.seed_),
                               held, wanted)  # fmt: skip

    def _phases_of(
        self, parts: dict[str, list[Encoded]], held: Sequence[Encoded], wanted: Recipe
    ) -> list[Phase]:
        self._rules: list[TokenMean] = []
        found, seen = [], 0
        for name, samples in parts.items():
            batches = SampleBatches(
                samples, wanted.batch_size, most_tokens=self.max_tokens, packed=self.packed,
                seed=self.seed_,
            )  # fmt: skip
            rule = TokenMean(
                validate=held_out_loss(held, self.max_tokens), seen=seen, lr=wanted.lr,
                schedule=wanted.schedule, warmup=wanted.warmup, grad_clip=self.grad_clip,
                weight_decay=self.weight_decay,
            )  # fmt: skip
            seen += wanted.epochs * len(samples)
            self._rules.append(rule)
            found.append(Phase(name, rule, batches, wanted.epochs, self.patience))
        return found

    def finish(self, trained: Trained) -> None:
        """Take the model, its adapters put on."""
        if self.base_ is not None:
            trained.model, self.delta_ = adapter_put_on(
                trained.model, self.base_, method="sft-recipe", knobs=self.kept_knobs()
            )
        super().finish(trained)
        rows = [row for rule in self._rules for row in rule.curve]
        self.monitor_ = RunMonitor(rows, {"model": str(self.model)})

    def keep_model(self, folder: Path) -> None:
        """Write the whole model, or the adapter alone; the tokenizer in either case."""
        if self.delta_ is None or self.base_ is None:
            return super().keep_model(folder)
        keep_adapter(folder, self.model_, self.delta_, self.base_)
        self.tokenizer_.save_pretrained(folder / ADAPTER)
        return None

    def take_model(self, folder: Path) -> None:
        """Read back what `keep_model` wrote.

        Raises:
            RunError: the base of an adapter was moved or changed.
        """
        if self.base_ is None:
            return super().take_model(folder)
        needs("transformers", "a language model")
        from transformers import AutoTokenizer

        self.model_, self.delta_ = open_adapted(folder, self.base_)
        self.tokenizer_ = AutoTokenizer.from_pretrained(folder / ADAPTER)
        return None

    def more_to_keep(self) -> dict[str, Any]:
        """The curve, what was forgotten, and the base of an adapter."""
        base = {} if self.base_ is None else {"base": self.base_.as_dict()}
        return super().more_to_keep() | base

    def take_back(self, more: dict[str, Any]) -> None:
        """The inverse of `more_to_keep`."""
        super().take_back(more)
        self.base_ = KnownBase(**more["base"]) if "base" in more else None


@baseline("usual-fine-tuning", title="Fine-tuning with a trainer's defaults")
class UsualFineTuning(FineTuned):
    """What a plain trainer does unless it is told otherwise: 8 samples, 5e-5 falling, 3 epochs."""

    def __init__(
        self,
        *,
        model: Annotated[ModelRef | str, Knob("what is fine-tuned")],
        lr: Annotated[float, Knob("learning rate", gt=0, log=True, search=(1e-6, 1e-4))] = 5e-5,
        batch_size: Annotated[int, Knob("samples a step", ge=1)] = 8,
        max_epochs: Annotated[int, Knob("passes over the samples", ge=1)] = 3,
        patience: Annotated[int | None, Knob("epochs without a better loss", ge=1)] = None,
        max_tokens: Annotated[int, Knob("tokens of a row of the effective batch", ge=16)] = 2048,
        remember: Annotated[
            str | None, Knob("a text file, a packaged text, auto or none: what may be forgotten")
        ] = "auto",
    ) -> None: ...

    lora = None
    packed, checkpointing = False, False

    def phases(self, task: Any, model: nn.Module) -> list[Phase]:
        """One phase over all samples."""
        samples = task.encoded("train", self.tokenizer_, context_of(self._base))
        held = task.encoded("validation", self.tokenizer_, context_of(self._base))
        self.recipe_ = usual_recipe(len(samples)).changed(
            lr=self.lr, batch_size=min(self.batch_size, len(samples)), epochs=self.max_epochs
        )
        return self._phases_of({"train": samples}, held, self.recipe_)


@baseline("untuned", title="The model as it is")
class Untuned(Tuned):
    """No training at all: what the model answers by itself."""

    shared_knobs: ClassVar[tuple[Any, ...]] = ()
    budget: ClassVar[str | None] = None

    @classmethod
    def around(cls, model: Any) -> Self:
        """The model in a learner, so that it generates.

        Raises:
            ModelError: it is no causal language model with a tokenizer beside it.
        """
        made = cls(model=model, remember=None)
        made._begin()
        made._base = causal_model(model)
        made.tokenizer_, _ = with_template(tokenizer_for(made._base, None, "prompts"))
        made.model_, made.history_, made.more_scores_ = made._base.eval(), [], {}
        return made

    def __init__(
        self,
        *,
        model: Annotated[ModelRef | str, Knob("the model")],
        remember: Annotated[
            str | None, Knob("a text file, a packaged text, auto or none: what may be forgotten")
        ] = "auto",
    ) -> None: ...

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the model."""
        task = self._task_of(X)
        self._begin()
        self.history_ = []
        self.tokenizer_ = self.choose_tokenizer(task)
        self.model_ = self.start(task).eval()
        return self


def open_base(reference: Any) -> Any:
    """A copy of the causal language model that is fine-tuned; an object is left alone.

    Raises:
        ModelError: it is no causal language model, or a delta is on that cannot be merged.
    """
    return settle_all(causal_model(reference))  # it starts from the whole, with what is on


def causal_model(reference: Any) -> Any:
    """A copy of a causal language model, deltas on as they are; an object is left alone.

    Raises:
        ModelError: it is no causal language model.
    """
    model = open_model(reference)
    model = getattr(model, "model_", model)
    if not getattr(model, "can_generate", lambda: False)() or model.config.is_encoder_decoder:
        raise ModelError(f"a {type(model).__name__} is no causal language model to fine-tune")
    return model if isinstance(reference, (str, Path)) else copy.deepcopy(model)


def general_text(name: str | None) -> str | None:
    """The text on which forgetting is looked at; None where that is not wanted."""
    from stackwise import data

    if name is None or name == "none":
        return None
    here = {entry.name for entry in data.names("text") if entry.here}
    if name == "auto":
        name = next(text for text in REMEMBERED if text in here)
    whole = data.text(name) if name in here else _read(Path(name))
    return whole[-60_000:]


def _read(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} is no text file and no packaged text to look for forgetting on")
    return plain_text(path)


def held_out_loss(held: Sequence[Encoded], most_tokens: int) -> Any:
    """What a rule validates by: the loss of the held-out answers."""
    groups = [held[start : start + 8] for start in range(0, len(held), 8)]
    tokens = sum(one.learned for one in held)

    def validate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        total = 0.0
        for group in groups:
            row = {name: value.to(device) for name, value in padded_rows(group, 0).items()}
            total += float(summed_loss(call(model, row), row["labels"]))
        return {"loss": total / tokens}

    return validate
