"""Answers in words: of a reader with its views, and of a language model that sees no picture."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from stackwise.errors import DataError, ModelError
from stackwise.tasks.language.reading import check_causal, context_of, device_of, tokenizer_for
from stackwise.tasks.vqa.estimators.network import PictureReader
from stackwise.tasks.vqa.estimators.prompts import encode, padded
from stackwise.tasks.vqa.estimators.views import Views
from stackwise.tasks.vqa.records import Asked

ROWS = 32
"""Questions of a pass."""
MOST = 16
"""Tokens of an answer by a model that has learned none here."""


def written(
    network: PictureReader,
    tokenizer: Any,
    asked: Sequence[Asked],
    *,
    most: int,
    pictures: Sequence[int] = (),
    views: Views | None = None,
) -> list[str]:
    """The likeliest answer to each question, of at most `most` tokens.

    Args:
        pictures: the number of each question's picture in `views`; without views none is read.
    """
    device, pad = device_of(network), int(tokenizer.eos_token_id or 0)
    prompts = [encode(one, tokenizer, answered=False) for one in asked]
    said: list[str] = []
    for first in range(0, len(asked), ROWS):
        rows = range(first, min(first + ROWS, len(asked)))
        batch = padded([prompts[row] for row in rows], pad)
        del batch["labels"]
        if views is not None:
            batch |= views.of([pictures[row] for row in rows])
        moved = {name: one.to(device) for name, one in batch.items()}
        found = network.answers(**moved, end=tokenizer.eos_token_id, most=most)
        said += [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in found]
    return said


class WithoutPicture:
    """A language model as it is, asked the question alone; the first line that it writes counts."""

    def __init__(self, model: Any) -> None:
        if not isinstance(model, nn.Module) or not hasattr(model, "get_input_embeddings"):
            raise ModelError(
                f"a {type(model).__name__} answers no questions; give a learner of this task, or a "
                "causal language model"
            )
        check_causal(model)
        self.network = PictureReader(model, None, "none").eval()
        self.tokenizer = tokenizer_for(model, None, "questions")

    def predict(self, asked: Sequence[Asked]) -> list[str]:
        """Its answer to each question."""
        most = context_of(self.network.language)
        longest = max(len(encode(one, self.tokenizer, answered=False).ids) for one in asked)
        if most is not None and longest + MOST > most:
            raise DataError(f"a question of {longest} tokens is too long for a model of {most}")
        found = written(self.network, self.tokenizer, asked, most=MOST)
        return [text.strip().partition("\n")[0].strip() for text in found]
