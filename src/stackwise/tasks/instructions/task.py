"""The task of instructions: answer as the assistant of these chats does.

    task = InstructionsTask.load("chats.jsonl")
    task.judge(learner, "test").scores["loss"]

What decides is the loss of the answers' tokens, their end marks included, given all before them.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.catalog import Knob, task
from stackwise.errors import DataError
from stackwise.learning.metrics import Metric
from stackwise.protocols import Judged, Part
from stackwise.tasks.instructions.answers import write_answers
from stackwise.tasks.instructions.encode import (
    IGNORED,
    Encoded,
    encode,
    folded,
    prompt_text,
    with_template,
)
from stackwise.tasks.instructions.marks import recognises
from stackwise.tasks.instructions.packing import call, padded_rows, summed_loss
from stackwise.tasks.instructions.source import Chat, read_chats
from stackwise.tasks.language.reading import check_causal, context_of, device_of, tokenizer_for
from stackwise.tasks.language.task import PartedTask
from stackwise.training.batches import ListBatches

NEW_TOKENS = 64
"""Most tokens of an answer that is written."""


@task(title="Chats whose answers are learned", recognises=recognises, sample="chats.jsonl")
class InstructionsTask(PartedTask):
    """Chats, parted at random.

    Attributes:
        chats: all of them. phases: the names of their phases, in order; empty without any.
        written: held-out chats whose answers are also written and compared, 0 for none.
    """

    name: ClassVar[str] = "instructions"
    target: ClassVar[str] = "the answers"
    problem: ClassVar[str] = "instruction following"
    metric: ClassVar[Metric] = Metric("loss", "min")

    chats: list[Chat]
    phases: list[str]

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        validation: Annotated[float, Knob("share of the chats", gt=0, lt=0.5)] = 0.1,
        test: Annotated[float, Knob("share of the chats", gt=0, lt=0.5)] = 0.1,
        max_length: Annotated[
            int | None, Knob("most tokens of a chat; else the model's context", ge=8)
        ] = None,
        written: Annotated[
            int, Knob("held-out chats whose last answer is also written out and compared", ge=0)
        ] = 0,
        fold_system: Annotated[
            bool, Knob("put the system's text before the user's, for templates without its turn")
        ] = False,
        split_seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "InstructionsTask":
        """Read chats and part them.

        Args:
            source: a list, JSON lines, a table, a frame, a folder with a file a phase or that
                `datasets` saved, a dict of phases, or a packaged set (`stackwise data`).

        Raises:
            DataError: a sample cannot be used; the sentence says which and why.
        """
        task = cls()
        task.chats = read_chats(source)
        if fold_system:
            task.chats = [replace(one, messages=folded(one.messages)) for one in task.chats]
        task.fold_system = fold_system
        task.phases = list(dict.fromkeys(one.phase for one in task.chats if one.phase is not None))
        count = len(task.chats)
        task._part(count, validation, test, split_seed, "chats")
        task.title, task.max_length, task.written = f"{count} chats", max_length, written
        task.notes = [
            f"{count:,} chats" + (f" in {len(task.phases)} phases" if task.phases else "")
        ]
        open_ended = sum(bool(chat.trimmed) for chat in task.chats)
        if open_ended:
            task.notes.append(f"{open_ended:,} chats go on after the last answer; that is left out")
        given = {"validation": validation, "test": test, "max_length": max_length,
                 "written": written, "fold_system": fold_system or None,
                 "split_seed": split_seed}  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        text = json.dumps([[c.messages, c.phase, c.unmask] for c in task.chats])
        task.data_hash = hashlib.sha256((text + json.dumps(task.options)).encode()).hexdigest()[:16]
        return task

    max_length: int | None
    written: int
    fold_system: bool

    def part(self, part: Part) -> tuple[list[Chat], list[str]]:
        """The chats of a part, and their last answers."""
        found = [self.chats[row] for row in self.rows_of(part)]
        return found, [chat.messages[-1][1] for chat in found]

    @property
    def size_bytes(self) -> int:
        """Bytes of the text."""
        return sum(len(content) for chat in self.chats for _, content in chat.messages)

    def encoded(self, part: Part, tokenizer: Any, context: int | None = None) -> list[Encoded]:
        """The chats of a part that fit, as tokens and labels; those that do not are counted and
        named in `notes`, never cut.

        Raises:
            DataError: none of them fits, or the template does not do.
        """
        most = min((n for n in (self.max_length, context) if n is not None), default=None)
        kept: list[Encoded] = []
        late: list[Encoded] = []
        for chat in self.part(part)[0]:
            found = encode(chat, tokenizer)
            (late if most is not None and len(found.ids) > most else kept).append(found)
        if late:
            named = ", ".join(str(one.row + 1) for one in late[:5])
            note = (
                f"{len(late)} of {len(late) + len(kept)} {part} samples are longer than {most} "
                f"tokens and left out: {named}"
            )
            if note not in self.notes:
                self.notes.append(note)
        if not kept:
            raise DataError(f"all {len(late)} samples of the {part} part exceed {most} tokens")
        return kept

    def batches(
        self, part: Part, *, model: Any = None, batch_size: int | None = None, seed: int = 0
    ) -> ListBatches:
        """Chats as tokens, a row each, padded at the right: `input_ids`, `attention_mask` and
        `labels`, (rows, longest) int64, read with the model's own tokenizer.
        """
        check_causal(getattr(model, "model_", model))
        tokenizer, _ = with_template(tokenizer_for(model, model, "chats"))
        samples = self.encoded(part, tokenizer, context_of(model))
        size = batch_size or 8
        groups = [samples[first : first + size] for first in range(0, len(samples), size)]
        return ListBatches([padded_rows(group, 0) for group in groups], seed=seed)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean of -log p over the answers' tokens of a batch."""
        learned = (batch["labels"][:, 1:] != IGNORED).sum()
        return summed_loss(call(model, dict(batch)), batch["labels"]) / learned

    @torch.no_grad()
    def judge(self, learner: Any, part: Part) -> Judged:
        """Score a model, or a fitted learner that holds one, on the answers of a part."""
        model = getattr(learner, "model_", learner)
        tokenizer, _ = with_template(tokenizer_for(model, learner, "chats"))
        samples = self.encoded(part, tokenizer, context_of(model))
        began = time.perf_counter()
        rows = []
        for start in range(0, len(samples), 8):
            group = samples[start : start + 8]
            row = padded_rows(group, 0)
            logits = call(model, {k: v.to(device_of(model)) for k, v in row.items()})[
                :, :-1
            ].float()
            target = row["labels"][:, 1:].to(logits.device)
            wanted = target != IGNORED
            logs = logits.log_softmax(-1).gather(-1, target.clamp_min(0)[..., None])[..., 0]
            hits = (logits.argmax(-1) == target) & wanted
            for i, one in enumerate(group):
                answer = wanted[i]
                rows.append(
                    {
                        "row": one.row,
                        "value": float(-logs[i][answer].mean()),
                        "weight": float(answer.sum()),
                        "right": float(hits[i].sum()),
                    }
                )
        seconds = time.perf_counter() - began
        table = pd.DataFrame(rows)
        loss = float(np.average(table["value"], weights=table["weight"]))
        scores = {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "accuracy": float(table["right"].sum() / table["weight"].sum()),
        }
        if self.written:
            said = self._written(model, tokenizer, samples[: self.written])
            table["said"] = [*said, *[None] * (len(table) - len(said))]
            scores["exact_match"] = self._exact(samples, said)
        scores |= getattr(learner, "more_scores_", {})
        return Judged(scores, table, seconds)

    def _written(self, model: Any, tokenizer: Any, samples: Sequence[Encoded]) -> list[str]:
        answers = []
        for one in samples:
            text = prompt_text(self.chats[one.row].messages[:-1], tokenizer)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            room = (context_of(model) or ids.shape[1] + NEW_TOKENS) - ids.shape[1]
            made = model.generate(
                input_ids=ids.to(device_of(model)), attention_mask=torch.ones_like(ids),
                max_new_tokens=max(1, min(NEW_TOKENS, room)), do_sample=False,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
            answers.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
        return answers

    def _exact(self, samples: Sequence[Encoded], said: Sequence[str]) -> float:
        right = [self.chats[one.row].messages[-1][1].strip() for one in samples[: len(said)]]
        return float(np.mean([a.strip() == b for a, b in zip(said, right, strict=True)]))

    @staticmethod
    def write_predictions(
        path: Path | str,
        learner: Any,
        source: Any,
        *,
        fold_system: Annotated[
            bool, Knob("put the system's text before the user's, for templates without its turn")
        ] = False,
    ) -> int:
        """Answer each chat of a source; see `stackwise.tasks.instructions.answers`."""
        return write_answers(path, learner, source, fold_system=fold_system)

    @classmethod
    def small(cls) -> "InstructionsTask":
        """25 chats of two words."""
        words = ("red", "green", "blue", "small", "large")
        chats = [
            {"prompt": f"say {one} {two}", "response": f"{one} {two}", "phase": str(len(one) % 2)}
            for one in words
            for two in words
        ]
        return cls.load(chats)
