"""Tag new texts and write what was found: a line of JSON each, in the order of the source.

    {"text": "I take Xanax.", "entities": [
        {"start": 7, "end": 12, "text": "Xanax", "label": "drug", "score": 0.93}]}

Places count characters of the text as it stands in the source, so that `text[start:end]` is the
name. Words that came without a text are joined by spaces. What is written is read as tagged text
again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from stackwise.catalog import Knob
from stackwise.errors import DataError
from stackwise.tasks.language.writing import write_lines
from stackwise.tasks.tags.reading.source import How, untagged
from stackwise.tasks.tags.sentences import Sentence

BLOCK = 256


def write_predictions(
    path: Path | str,
    learner: Any,
    source: Any,
    *,
    field: Annotated[
        str | None, Knob("the field, or column, of the text or its words, where there are several")
    ] = None,
) -> int:
    """Tag every sentence of `source` and write it to `path` (.jsonl).

    Args:
        learner: a fitted estimator on tagged texts.
        source: as `TagsTask.load` takes it, with or without tags, which are not looked at; a text
            file, each line of which is tagged by itself; or a list of texts.

    Returns:
        The lines written.

    Raises:
        DataError: the source cannot be read; nothing is left half written.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path} must end in .jsonl: a line of JSON for each text")
    named = isinstance(source, (str, Path)) and path.exists() and Path(source).exists()
    if named and path.samefile(source):
        raise DataError(f"{path} is the input; name another file for what is found")
    return write_lines(path, _lines(learner, untagged(source, How(field=field, tagged=False))))


def _lines(learner: Any, sentences: Sequence[Sentence]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(sentences), BLOCK):
        block = sentences[start : start + BLOCK]
        found = learner.scored_spans([one.tokens for one in block])
        for one, spans in zip(block, found, strict=True):
            yield {"text": one.text, "entities": [found_in(one, *span) for span in spans]}


def found_in(sentence: Sentence, start: int, end: int, type_: str, score: float) -> dict[str, Any]:
    """What is written of a name: its place in the text, itself, its type, and how sure that is."""
    first, last = sentence.places[start][0], sentence.places[end - 1][1]
    return {
        "start": first, "end": last, "text": sentence.text[first:last], "label": type_,
        "score": round(float(score), 4),
    }  # fmt: skip
