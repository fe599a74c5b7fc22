"""Learners that train a causal language model of transformers and keep it as such.

learner = DecoderLearner(layers=4).fit(TextTask.load("corpus/"))
learner.generate(["Once upon"])
learner.save("kept")  # kept/model loads in plain transformers
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, task_card
from stackwise.errors import DataError
from stackwise.learning.network import NetworkLearner
from stackwise.models import open_model, save_model
from stackwise.optional import needs
from stackwise.protocols import Task
from stackwise.tasks.language.reading import context_of
from stackwise.tasks.language.scoring import token_log_probabilities
from stackwise.tasks.language.tokens import StreamBatches, TokenBatches, windows
from stackwise.tasks.language.writing import continued, write_completions
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop

PARTS = 10
"""How often the validation rows are looked at in a fit."""
WATCHED = 32
"""Rows of the validation part that are looked at."""
RowsAtOnce = Annotated[
    int | None, Knob("of a step's rows, those that go through at a time", ge=1)
]  # fmt: skip
Checkpointing = Annotated[bool, Knob("recompute activations: less memory, more time")]


class LanguageLearner(NetworkLearner):
    """A learner that is fitted on a task and holds a causal language model.

    A method gives `start` (the model to begin with) and `phases` (how it learns).

    Attributes, besides those of `NetworkLearner`:
        model_: the model, as transformers has it. tokenizer_: its tokenizer.
    """

    verbs: ClassVar[tuple[str, ...]] = ("generate",)
    fitted: ClassVar[str] = "model_"

    checkpointing = False
    rows_at_once: int | None = None

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on the task's training part; its validation part says what is best.

        Args:
            X: a loaded task, or what its `load` takes, such as a list of texts. y: not used.

        Raises:
            KnobError: a knob is out of range. DataError: the text is too short.
        """
        task = self._task_of(X)
        self._begin()
        self.tokenizer_ = self.choose_tokenizer(task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            model = self.prepared(self.start(task))
        self.finish(self.train(model, self.phases(task, model)))
        return self

    def _task_of(self, X: Any) -> Any:
        """The task that is given, or one made of samples."""
        return X if isinstance(X, Task) else task_card(self.tasks[0]).load().load(X)

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
        model: Any = trained.model.cpu().eval()
        self.model_ = model
        if self.checkpointing:
            model.gradient_checkpointing_disable()
        self.stopped_ = trained.stopped

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

    @network_.setter
    def network_(self, network: nn.Module) -> None:
        self.model_ = network

    @torch.no_grad()
    def generate(
        self,
        prompts: Annotated[Sequence[str], Knob("what is continued, each by itself")],
        *,
        max_new_tokens: Annotated[int, Knob("tokens at most of each answer", ge=1)] = 50,
        temperature: Annotated[
            float, Knob("how random the tokens are; 0 takes the likeliest", ge=0)
        ] = 0.0,
        seed: Annotated[int, Knob("of the random tokens", ge=0)] = 0,
    ) -> list[str]:
        """Continue each prompt, by the likeliest tokens where `temperature` is 0.

        Returns:
            what follows each prompt, without it.
        """
        check_is_fitted(self, "model_")
        settings: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            settings["temperature"] = temperature
        most = context_of(self.model_)
        answers = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for prompt in prompts:
                ids = self.prompt_ids(prompt)[0].tolist()
                if most is not None and len(ids) + max_new_tokens > most:
                    raise DataError(
                        f"a prompt of {len(ids)} tokens and {max_new_tokens} new ones are more "
                        f"than the model's {most}; shorten it, or ask for fewer"
                    )
                answers.append(
                    continued(
                        self.model_, self.tokenizer_, ids, max_new_tokens=max_new_tokens,
                        **settings,
                    )
                )  # fmt: skip
        return answers

    def prompt_ids(self, prompt: str) -> torch.Tensor:
        """(1, tokens) of a prompt; where it is empty, the end of a text before it."""
        ids = self.tokenizer_(prompt)["input_ids"] or [self.tokenizer_.eos_token_id or 0]
        return torch.tensor([ids])

    def write_predictions(self, path: Path | str, source: Any, **options: Any) -> int:
        """Continue the prompts of a file (lines of text, or records with `prompt` or `text`).

        Writes JSON lines of `prompt` and `completion`, and returns their number.
        """
        return write_completions(path, self, source, **options)

    def _write(self, folder: Path) -> dict[str, Any]:
        self.keep_model(folder)
        return {"history": self.history_, "more": self.more_to_keep()}

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.history_ = record["history"]
        self.take_back(record.get("more", {}))
        self.take_model(folder)

    def keep_model(self, folder: Path) -> None:
        """Write the model and its tokenizer."""
        save_model(self.model_, folder / "model")
        self.tokenizer_.save_pretrained(folder / "model")

    def take_model(self, folder: Path) -> None:
        """Read back what `keep_model` wrote."""
        needs("transformers", "a language model")
        from transformers import AutoTokenizer

        self.model_ = open_model(folder / "model")
        self.tokenizer_ = AutoTokenizer.from_pretrained(folder / "model")

    def more_to_keep(self) -> dict[str, Any]:
        """What else a method's `take_back` needs, as JSON."""
        return {}

    def take_back(self, more: dict[str, Any]) -> None:
        """Take what `more_to_keep` gave."""
