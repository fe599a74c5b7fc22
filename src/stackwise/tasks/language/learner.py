"""Learners that train a causal language model of transformers and keep it as such.

learner = DecoderLearner(layers=4).fit(TextTask.load("corpus/"))
learner.generate(["Once upon"])
learner.save("kept")  # kept/model loads in plain transformers
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, check_knobs
from stackwise.errors import DataError
from stackwise.files import plain, replacing, write_json
from stackwise.models import open_model, save_model
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches, windows
from stackwise.tasks.table.estimator import read_record, seed_of
from stackwise.training.loop import train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop

FORMAT = 1
PARTS = 10
"""How often the validation rows are looked at in a fit."""
WATCHED = 32
"""Rows of the validation part that are looked at."""
RowsAtOnce = Annotated[
    int | None, Knob("of a step's rows, those that go through at a time", ge=1)
]  # fmt: skip
Checkpointing = Annotated[bool, Knob("recompute activations: less memory, more time")]


class LanguageLearner(BaseEstimator):
    """A learner that is fitted on a task and holds a causal language model.

    A method gives `start` (the model to begin with) and `phases` (how it learns).

    Attributes:
        model_: the model, as transformers has it. tokenizer_: its tokenizer.
        history_: a line an epoch. notes_: what a user should know of the fit.
    """

    uses_training_loop = True
    checkpointing = False
    rows_at_once: int | None = None

    def fit(self, task: Any) -> Any:
        """Train on the task's training part; its validation part says what is best.

        Raises:
            KnobError: a knob is out of range. DataError: the text is too short.
        """
        check_knobs(self, self.get_params(deep=False))
        self.seed_ = seed_of(self.random_state)
        self.notes_: list[str] = []
        self.tokenizer_ = self.choose_tokenizer(task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            model = self.prepared(self.start(task))
        trained = train_phases(
            model, self.phases(task, model), seed=self.seed_, precision=self.precision,
            device=self.device, time_limit=self.time_limit,
        )  # fmt: skip
        self.finish(trained)
        return self

    def choose_tokenizer(self, task: Any) -> Any:
        """The tokenizer to read the task with: by default the task's own."""
        return task.tokenizer

    def start(self, task: Any) -> nn.Module:
        """The model to begin with; torch's random state is that of the seed."""
        raise NotImplementedError

    def prepared(self, model: Any) -> Any:
        """A model that is to be trained, with what saves memory switched on."""
        if self.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model

    def phases(self, task: Any, model: nn.Module) -> list[Phase]:
        """How the model learns: by default `max_epochs` passes over the rows of the text, looked
        at and kept `PARTS` times.
        """
        text = self.text_batches(task)
        batches = StreamBatches(text, 0, len(text) * self.max_epochs, PARTS)
        return [Phase("train", self.text_rule(task), batches, batches.parts, self.patience)]

    def finish(self, trained: Trained) -> None:
        """Take what was trained."""
        self.model_ = trained.model.cpu().eval()
        if self.checkpointing:
            self.model_.gradient_checkpointing_disable()
        self.history_, self.stopped_ = trained.history, trained.stopped
        if trained.stopped == "time":
            self.notes_.append("the time limit ended the training")

    @property
    def rows_a_step(self) -> int:
        """Rows of a batch."""
        return 16 if self.batch_size == "auto" else int(self.batch_size)

    def text_batches(self, task: Any) -> TokenBatches:
        """The rows of the training text, `batch_size` of them a step."""
        tokens = task.tokens("train", self.tokenizer_)
        return TokenBatches(tokens, task.length, self.rows_a_step, seed=self.seed_)

    def text_rule(self, task: Any, **options: Any) -> Backprop:
        """Ordinary training on the next token; the held-out loss says what is best."""
        held = windows(task.tokens("validation", self.tokenizer_), task.length, WATCHED)

        def validate(model: nn.Module) -> dict[str, float]:
            found, _ = token_log_probabilities(model, held)
            return {"loss": -float(found.double().mean())}

        settings = {name: getattr(self, name) for name in (
            "lr", "weight_decay", "grad_clip", "schedule", "warmup", "rows_at_once",
        )}  # fmt: skip
        return Backprop(task.loss, validate=validate, **settings | options)

    @property
    def network_(self) -> nn.Module:
        """The model, under the name by which a stack is found in a learner."""
        check_is_fitted(self, "model_")
        return self.model_

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 50, temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:  # fmt: skip
        """Continue each prompt, by the likeliest tokens where `temperature` is 0.

        Returns:
            what follows each prompt, without it.
        """
        check_is_fitted(self, "model_")
        settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
        if temperature > 0:
            settings["temperature"] = temperature
        generator: Any = self.model_  # torch gives modules no typed methods
        most = getattr(generator.config, "max_position_embeddings", None)
        answers = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for prompt in prompts:
                ids = self.prompt_ids(prompt)
                if most is not None and ids.shape[1] + max_new_tokens > most:
                    raise DataError(
                        f"a prompt of {ids.shape[1]} tokens and {max_new_tokens} new ones are more "
                        f"than the model's {most}; shorten it, or ask for fewer"
                    )
                found = generator.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids),
                    pad_token_id=self.tokenizer_.eos_token_id or 0,
                    eos_token_id=self.tokenizer_.eos_token_id, **settings,
                )  # fmt: skip
                answers.append(
                    self.tokenizer_.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
                )
        return answers

    def prompt_ids(self, prompt: str) -> torch.Tensor:
        """(1, tokens) of a prompt; where it is empty, the end of a text before it."""
        ids = self.tokenizer_(prompt)["input_ids"] or [self.tokenizer_.eos_token_id or 0]
        return torch.tensor([ids])

    def write_predictions(self, path: Path | str, source: Any, **options: Any) -> int:
        """Continue the prompts of a file (lines of text, or JSON lines with `prompt`).

        Writes JSON lines of `prompt` and `completion`, and returns their number.
        """
        return write_completions(path, self, source, **options)

    def save(self, folder: Path | str) -> None:
        """Write `model.json` and `model/`, which plain transformers loads, tokenizer included."""
        check_is_fitted(self, "model_")
        folder = Path(folder)
        save_model(self.model_, folder / "model")
        self.tokenizer_.save_pretrained(folder / "model")
        write_json(folder / "model.json", plain({
            "class": type(self).__name__, "format": FORMAT, "seed": self.seed_,
            "knobs": self.kept_knobs(), "notes": self.notes_, "history": self.history_,
            "more": self.more_to_keep(),
        }))  # fmt: skip

    def more_to_keep(self) -> dict[str, Any]:
        """What else a method's `take_back` needs, as JSON."""
        return {}

    def take_back(self, more: dict[str, Any]) -> None:
        """Take what `more_to_keep` gave."""

    def kept_knobs(self) -> dict[str, Any]:
        """The knobs, as JSON: an object that was given as a model is known by its type."""
        return {
            name: value if isinstance(value, (str, int, float, bool, list, dict, type(None)))
            else str(value) if isinstance(value, Path) else type(value).__name__
            for name, value in self.get_params(deep=False).items()
        }  # fmt: skip

    @classmethod
    def load(cls, folder: Path | str) -> Any:
        """Read back what `save` wrote.

        Raises:
            RunError: a file is missing, of a newer format or of another learner.
        """
        from transformers import AutoTokenizer

        folder = Path(folder)
        record = read_record(folder, cls.__name__, FORMAT)
        known = cls._get_param_names()
        made = cls(**{name: value for name, value in record["knobs"].items() if name in known})
        made.seed_, made.notes_, made.history_ = (
            record["seed"], record["notes"], record["history"]
        )  # fmt: skip
        made.take_back(record.get("more", {}))
        made.model_ = open_model(folder / "model")
        made.tokenizer_ = AutoTokenizer.from_pretrained(folder / "model")
        return made


def write_completions(path: Path | str, learner: Any, source: Any, **options: Any) -> int:
    """Continue the prompts of a file and write JSON lines; returns their number."""
    prompts = read_prompts(Path(source))
    with replacing(Path(path)) as beside, open(beside, "w", encoding="utf-8") as file:
        for prompt in prompts:
            (answer,) = learner.generate([prompt], **options)
            line = json.dumps({"prompt": prompt, "completion": answer}, ensure_ascii=False)
            file.write(line + "\n")
    return len(prompts)


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: its lines, or the field `prompt` of JSON lines.

    Raises:
        DataError: there is no such file, or a line has no prompt.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a prompt on each line, or JSON lines")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return lines
    prompts = []
    for number, line in enumerate(lines, start=1):
        try:
            prompts.append(str(json.loads(line)["prompt"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"line {number} of {path} has no field 'prompt'") from error
    return prompts
