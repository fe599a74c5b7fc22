"""The learner: fine-tune a language model on chats by a recipe, all at once or in phases."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import nn

from stackwise.catalog import Knob, ModelRef, baseline, learner
from stackwise.errors import DataError, KnobError, ModelError, NotInstalled
from stackwise.models import open_model
from stackwise.tasks.instructions.encode import Encoded, prompt_text, with_template
from stackwise.tasks.instructions.packing import call, padded_rows, summed_loss
from stackwise.tasks.language.learner import Checkpointing, LanguageLearner
from stackwise.tasks.language.reading import context_of, tokenizer_for
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.tokens import windows
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
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in base.parameters()):
            base = base.float()
            self.notes_.append("weights were in half precision and are trained in float32")
        self._text = general_text(self.remember)
        self.more_scores_: dict[str, float] = {}
        if self._text is not None:
            self.more_scores_["general_loss_before"] = self._general_loss(base)
        return base

    def finish(self, trained: Trained) -> None:
        """Take the model; look at what it forgot."""
        super().finish(trained)
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

    def prompt_ids(self, prompt: str) -> torch.Tensor:
        """(1, tokens) of a prompt as the user's turn of a chat."""
        text = prompt_text((("user", prompt),), self.tokenizer_)
        ids = self.tokenizer_(text, add_special_tokens=False)["input_ids"]
        return torch.tensor([ids])


@learner(
    "sft-recipe",
    title=TITLE,
    paper="2412.13337",
    tasks=("instructions",),
    presets={
        "quick": {"max_epochs": 1}, "standard": {}, "best": {"max_epochs": 10, "patience": 3},
    },
    variants={"stacked": {"order": "stacked"}, "phased": {"order": "phased"}},
)  # fmt: skip
class FineTuned(Tuned):
    """Supervised fine-tuning by the recipe that needs almost no search.

    All data in one mix, a large batch, a low constant learning rate and no warm-up; the loss is the
    mean over the answers' tokens of the effective batch.
    """

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
        remember: Annotated[
            str | None, Knob("a text file, a packaged text, auto or none: what may be forgotten")
        ] = "auto",
    ) -> None: ...  # fmt: skip

    def start(self, task: Any) -> nn.Module:
        """The model, with adapters where they are wanted."""
        base: Any = super().start(task)
        return base if self.lora is None else with_adapters(base, self.lora)

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
        """Take the model, its adapters merged."""
        if self.lora is not None:
            trained.model = trained.model.merge_and_unload()  # type: ignore[operator]
        super().finish(trained)
        rows = [row for rule in self._rules for row in rule.curve]
        self.monitor_ = RunMonitor(rows, {"model": str(self.model)})


@baseline(
    "usual-fine-tuning", title="Fine-tuning with a trainer's defaults", tasks=("instructions",)
)
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


@baseline("untuned", title="The model as it is", tasks=("instructions",))
class Untuned(Tuned):
    """No training at all: what the model answers by itself."""

    def __init__(
        self,
        *,
        model: Annotated[ModelRef | str, Knob("the model")],
        max_epochs: Annotated[int, Knob("not used: nothing is learned", ge=1)] = 1,
        lr: Annotated[
            float, Knob("not used: nothing is learned", gt=0, search=(1e-5, 1e-4))
        ] = 1e-5,
        remember: Annotated[
            str | None, Knob("a text file, a packaged text, auto or none: what may be forgotten")
        ] = "auto",
    ) -> None: ...

    def fit(self, task: Any) -> Any:
        """Take the model."""
        from stackwise.catalog import check_knobs

        check_knobs(self, self.get_params(deep=False))
        self.seed_, self.notes_, self.history_ = 0, [], []
        self.tokenizer_ = self.choose_tokenizer(task)
        self.model_ = self.start(task).eval()
        return self


def open_base(reference: Any) -> Any:
    """A copy of the causal language model that is fine-tuned; an object is left alone.

    Raises:
        ModelError: it is no causal language model.
    """
    import copy

    model = open_model(reference)
    model = getattr(model, "model_", model)
    if not getattr(model, "can_generate", lambda: False)() or model.config.is_encoder_decoder:
        raise ModelError(f"a {type(model).__name__} is no causal language model to fine-tune")
    return copy.deepcopy(model) if not isinstance(reference, str) else model


def general_text(name: str | None) -> str | None:
    """The text on which forgetting is looked at; None where that is not wanted."""
    from pathlib import Path

    from stackwise import data

    if name is None or name == "none":
        return None
    here = {entry.name for entry in data.names("text") if entry.here}
    if name == "auto":
        name = next(text for text in REMEMBERED if text in here)
    whole = data.text(name) if name in here else _read(Path(name))
    return whole[-60_000:]


def _read(path: Any) -> str:
    if not path.is_file():
        raise DataError(f"{path} is no text file and no packaged text to look for forgetting on")
    return str(path.read_text(encoding="utf-8"))


def curriculum(
    task: Any, samples: Sequence[Encoded], order: Order, replay: float, seed: int
) -> dict[str, list[Encoded]]:
    """The samples of each phase, in order; each later one with a sample of those before it.

    Raises:
        KnobError: phases are asked for and the data names fewer than two.
    """
    if order == "stacked":
        return {"train": list(samples)}
    if order == "difficulty":
        by_length = sorted(samples, key=lambda one: (task.chats[one.row].answer_length, one.row))
        half = len(by_length) // 2
        parts = {"short answers": by_length[:half], "long answers": by_length[half:]}
    else:
        if len(task.phases) < 2:
            raise KnobError(
                "phased order needs at least 2 named phases: a field 'phase', or a folder with a "
                "file each; order=difficulty makes two of the answers' lengths"
            )
        parts = {
            name: [one for one in samples if task.chats[one.row].phase == name]
            for name in task.phases
        }
        parts = {name: found for name, found in parts.items() if found}
    generator = np.random.default_rng(seed)
    found: dict[str, list[Encoded]] = {}
    before: list[Encoded] = []
    for name, own in parts.items():
        count = int(np.ceil(replay * len(before)))
        again = [before[i] for i in np.sort(generator.permutation(len(before))[:count])]
        found[name] = [*own, *again]
        before += own
    return found


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


def with_adapters(model: Any, rank: int) -> Any:
    """The model with LoRA adapters on every linear layer, which alone are trained."""
    try:
        import peft
    except ImportError as error:
        raise NotInstalled("lora needs peft: pip install 'stackwise[peft]'") from error
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return peft.get_peft_model(model, config)
