"""What a model writes after a prompt, for whole files of prompts: one line of JSON each, in order.

    {"prompt": "Once upon", "completion": " a time"}

A prompt that fills the model's context is not refused with the file it stands in. A text is gone on
with from its last tokens, and `left_out` says how many before them were not read. A chat cannot be
cut, so it gets no completion and a `note`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stackwise.errors import DataError
from stackwise.files import replacing
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.reading import context_of, device_of, tokenizer_for
from stackwise.tasks.language.records import is_records, records_of

NEW_TOKENS = 50
"""Tokens that are written after a prompt, at most."""
FIELDS = ("prompt", "text")
"""Where a record has its prompt, unless another field is named."""


@torch.no_grad()
def continued(
    model: Any, tokenizer: Any, ids: Sequence[int], *, max_new_tokens: int, **settings: Any
) -> str:
    """What a causal language model writes after tokens; as it is, no random state is set."""
    row = torch.tensor([list(ids)], device=device_of(model))
    found = model.generate(
        input_ids=row, attention_mask=torch.ones_like(row), max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.eos_token_id or 0, eos_token_id=tokenizer.eos_token_id,
        **{"do_sample": False} | settings,
    )  # fmt: skip
    return str(tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True))


def completion(model: Any, tokenizer: Any, ids: Sequence[int], *, cut: bool) -> dict[str, Any]:
    """What a line says of a prompt's tokens; see above.

    Args:
        cut: whether a prompt may be read from its last tokens on.
    """
    most = context_of(model)
    if most is None or len(ids) + NEW_TOKENS <= most:
        return {"completion": continued(model, tokenizer, ids, max_new_tokens=NEW_TOKENS)}
    if len(ids) < most:
        room = most - len(ids)
        return {"completion": continued(model, tokenizer, ids, max_new_tokens=room)}
    if not cut:
        note = f"the prompt has {len(ids)} tokens, and with an answer the model takes {most}"
        return {"completion": None, "note": note}
    room = min(NEW_TOKENS, most // 2)
    kept = ids[len(ids) - (most - room) :]
    written = continued(model, tokenizer, kept, max_new_tokens=room)
    return {"completion": written, "left_out": len(ids) - len(kept)}


def write_completions(
    path: Path | str, learner: Any, source: Any, *, field: str | None = None
) -> int:
    """Go on with the prompts of a source and write JSON lines; returns their number.

    Args:
        learner: fitted, or a causal language model with its tokenizer beside it.
        source, field: as for `read_prompts`.
    """
    prompts = read_prompts(source, field)
    say = _speaker(learner)
    return write_lines(path, ({"prompt": prompt} | say(prompt) for prompt in prompts))


def _speaker(learner: Any) -> Callable[[str], dict[str, Any]]:
    """What goes on with a prompt: the model that a learner holds, or the learner by itself."""
    model = getattr(learner, "model_", learner)
    if not isinstance(model, torch.nn.Module):
        return lambda prompt: {"completion": learner.generate([prompt])[0]}
    tokenizer = tokenizer_for(model, learner, "prompts")

    def say(prompt: str) -> dict[str, Any]:
        ids = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id or 0]
        return completion(model, tokenizer, ids, cut=True)

    return say


def write_lines(path: Path | str, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write records as JSON lines; returns their number."""
    count = 0
    with replacing(Path(path)) as beside, open(beside, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_prompts(source: Any, field: str | None = None) -> list[str]:
    """The prompts of a list, of a text file (its lines that are not blank) or of a file of records.

    Args:
        field: of a record; by default `prompt` or `text`, whichever it has first.

    Raises:
        DataError: there is no such file, or a record has no prompt.
    """
    if isinstance(source, (list, tuple)):
        return [text_of(one, f"prompt {place}") for place, one in enumerate(source, start=1)]
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a prompt on each line, or JSON lines")
    if not is_records(path):
        return [line for line in plain_text(path).split("\n") if line.strip()]
    return [_prompt_of(row, place, field) for place, row in records_of(path)]


def _prompt_of(row: Any, place: str, field: str | None) -> str:
    names = FIELDS if field is None else (field,)
    known = row if isinstance(row, Mapping) else {}
    name = next((name for name in names if is_given(known.get(name))), None)
    if name is None:
        listed = ", ".join(map(str, list(known)[:8])) or "nothing"
        raise DataError(
            f"{place} has no field {names[0]!r} (it has {listed}); say with --field which holds "
            "the prompt"
        )
    return text_of(known[name], f"the {name!r} of {place}")
