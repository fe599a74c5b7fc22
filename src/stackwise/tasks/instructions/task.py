"""The task of instructions: answer as the assistant of these chats does.

    task = InstructionsTask.load("chats.jsonl")
    task.judge(learner, "test").scores["loss"]

What decides is the loss of the answers' tokens, their end marks included, given all before them.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from stackwise.errors import DataError
from stackwise.knobs import Knob
from stackwise.tasks import Judged, Part
from stackwise.tasks.instructions.encode import IGNORED, Encoded, encode, prompt_text, with_template
from stackwise.tasks.instructions.packing import call, effective_batch, padded_rows, summed_loss
from stackwise.tasks.instructions.source import Chat, read_chats
from stackwise.tasks.language.reading import context_of, device_of, tokenizer_for
from stackwise.tasks.language.task import LanguageTask
from stackwise.tasks.table.metrics import Metric

NEW_TOKENS = 64
"""Most tokens of an answer that is written."""


class InstructionsTask(LanguageTask):
    """Chats, parted at random.

    Attributes:
        chats: all of them. phases: the names of their phases, in order; empty without any.
        written: held-out chats whose answers are also written and compared, 0 for none.
    """

    name: ClassVar[str] = "instructions"
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "usual-fine-tuning")
    problem: ClassVar[str] = "instruction following"
    metric: ClassVar[Metric] = Metric("loss", "min")
    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy", "exact_match")

    chats: list[Chat]
    phases: list[str]
    columns: list[dict[str, str]]
    notes: list[str]
    data_hash: str
    options: dict[str, Any]

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
        seed: Annotated[int, Knob("of the split", ge=0)] = 0,
    ) -> "InstructionsTask":
        """Read chats and part them.

        Args:
            source: a list, JSON lines, a table, a folder with a file a phase, a dict of phases, or
                a packaged set (`stackwise data`).

        Raises:
            DataError: a sample cannot be used; the sentence says which and why.
        """
        task = cls()
        task.chats = read_chats(source)
        task.phases = list(dict.fromkeys(one.phase for one in task.chats if one.phase is not None))
        count = len(task.chats)
        held = max(1, round(validation * count)), max(1, round(test * count))
        if sum(held) >= count:
            raise DataError(f"{count} chats are too few to part; give at least 3")
        order = np.random.default_rng(seed).permutation(count)
        task._rows = {
            "test": np.sort(order[: held[1]]),
            "validation": np.sort(order[held[1] : sum(held)]),
            "train": np.sort(order[sum(held) :]),
        }
        task.max_length, task.written, task.columns = max_length, written, []
        task.notes = [
            f"{count:,} chats" + (f" in {len(task.phases)} phases" if task.phases else "")
        ]
        open_ended = sum(bool(chat.trimmed) for chat in task.chats)
        if open_ended:
            task.notes.append(f"{open_ended:,} chats go on after the last answer; that is left out")
        given = {"validation": validation, "test": test, "max_length": max_length,
                 "written": written, "seed": seed}  # fmt: skip
        task.options = {key: value for key, value in given.items() if value is not None}
        text = json.dumps([[c.messages, c.phase, c.unmask] for c in task.chats])
        task.data_hash = hashlib.sha256((text + json.dumps(task.options)).encode()).hexdigest()[:16]
        return task

    _rows: dict[str, np.ndarray]
    max_length: int | None
    written: int

    def part(self, part: Part) -> tuple[list[Chat], list[str]]:
        """The chats of a part, and their last answers."""
        if part not in self._rows:
            raise DataError(f"there is no part {part!r}; there is train, validation and test")
        found = [self.chats[row] for row in self._rows[part]]
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

    def batches(self, part: Part, *, rows: int = 8) -> Iterator[dict[str, Any]]:
        """The chats as they are, `rows` at a time: a model's tokenizer makes tokens of them."""
        chats, _ = self.part(part)
        for start in range(0, len(chats), rows):
            yield {"chats": chats[start : start + rows]}

    def loss(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Mean of -log p over the answers' tokens of a batch of chats."""
        tokenizer, _ = with_template(tokenizer_for(model, None, "chats"))
        samples = [encode(chat, tokenizer) for chat in batch["chats"]]
        made = effective_batch(samples, most_tokens=4096, packed=False)
        total = sum(summed_loss(call(model, row), row["labels"]) for row in made.rows)
        return total / made.tokens  # type: ignore[return-value]

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

    def score(self, truth: Any, prediction: Any, probability: Any = None) -> dict[str, float]:
        """The share of answers that are exactly right."""
        return {
            "exact_match": float(np.mean([a == b for a, b in zip(truth, prediction, strict=True)]))
        }

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, as JSON."""
        return {
            "name": f"{len(self.chats)} chats",
            "task": self.name,
            "target": "the answers",
            "problem": self.problem,
            "classes": None,
            "shares": None,
            "rows": {part: len(rows) for part, rows in self._rows.items()},
            "metric": self.metric.name,
            "options": self.options,
            "notes": self.notes,
            "hash": self.data_hash,
        }
