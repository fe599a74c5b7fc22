"""Answer the chats of a file: one line of JSON each, in their order.

    {"prompt": "what is red?", "completion": "a colour"}

`prompt` is what the user says last; where more is said before it, `messages` holds all of it. An
answer that the file gives already is not read.
"""

from pathlib import Path
from typing import Any

from stackwise.tasks.instructions.encode import folded, prompt_text, with_template
from stackwise.tasks.instructions.source import Messages, read_asked
from stackwise.tasks.language.reading import tokenizer_for
from stackwise.tasks.language.records import ENDINGS
from stackwise.tasks.language.writing import completion, read_prompts, write_lines


def write_answers(path: Path | str, learner: Any, source: Any, *, fold_system: bool = False) -> int:
    """Answer each sample of a source and write JSON lines; returns their number.

    Args:
        learner: fitted, or a causal language model with its tokenizer beside it.
        source: whatever chats are read from, with answers or without; or a text file, each line of
            which is what a user says.

    Raises:
        DataError: a sample asks nothing, or the tokenizer's template refuses it.
    """
    asked = _asked(source)
    model = getattr(learner, "model_", learner)
    tokenizer, _ = with_template(tokenizer_for(model, learner, "chats"))
    texts = [
        prompt_text(folded(one) if fold_system else one, tokenizer, f"sample {number}")
        for number, one in enumerate(asked, start=1)
    ]
    lines = (
        _said(one) | completion(model, tokenizer, _tokens(text, tokenizer), cut=False)
        for one, text in zip(asked, texts, strict=True)
    )
    return write_lines(path, lines)


def _asked(source: Any) -> list[Messages]:
    path = Path(source) if isinstance(source, (str, Path)) else None
    if path is None or not path.is_file() or path.suffix.lower() in ENDINGS:
        return read_asked(source)
    return [(("user", line),) for line in read_prompts(path)]


def _tokens(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _said(messages: Messages) -> dict[str, Any]:
    """What a line shows of a sample."""
    shown: dict[str, Any] = {"prompt": messages[-1][1]}
    if len(messages) > 1:
        shown["messages"] = [{"role": role, "content": content} for role, content in messages]
    return shown
