"""Read collections: BEIR's layout, a folder of texts, records with a text, named ones, lists.

folder/corpus.jsonl  queries.jsonl  qrels.tsv (or qrels/train.tsv, dev.tsv, test.tsv)
corpus.jsonl, and the others by --queries and --judgements
a folder of .txt and .md files: a document's id is its path below the folder
csv, parquet, JSON lines with a text column
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackwise.errors import DataError
from stackwise.tasks.labelled.found import count
from stackwise.tasks.language.content import is_given, text_of
from stackwise.tasks.language.encoding import plain_text
from stackwise.tasks.language.records import is_records, is_saved_dataset, records_of
from stackwise.tasks.retrieval.collection import Collection, Document, Query
from stackwise.tasks.retrieval.judgements import read_judgements
from stackwise.tasks.retrieval.marks import CORPUS, JUDGEMENTS, QUERIES
from stackwise.tasks.text.marks import ENDINGS

IDS = ("_id", "id", "doc_id", "docid", "docno", "query_id")
"""Fields that name a record, the first of which counts."""
SPOKEN = 5
"""Files that are named where they are left out."""


def read_collection(
    source: Any, field: str = "text", queries: Any = None, judgements: Any = None
) -> Collection:
    """The collection that `source` names, with the queries and judgements beside it or given.

    Raises:
        DataError: one sentence about what cannot be used.
    """
    from stackwise import data

    if isinstance(source, (str, os.PathLike)) and not Path(source).exists():
        name = os.fspath(source)
        if name in {entry.name for entry in data.names("retrieval")}:
            found = data.search(name)
            source = found["documents"]
            queries = found["queries"] if queries is None else queries
            judgements = found["judgements"] if judgements is None else judgements
            return _joined(name, source, field, queries, judgements)
        raise DataError(
            f"there is no file, folder or collection {name!r}; 'stackwise data' lists those named"
        )
    title = Path(source).stem if isinstance(source, (str, os.PathLike)) else "a collection"
    if isinstance(source, (str, os.PathLike)) and (Path(source) / CORPUS).is_file():
        folder = Path(source)
        if queries is None and (folder / QUERIES).is_file():
            queries = folder / QUERIES
        if judgements is None and queries is not None:
            known = (folder / name for name in JUDGEMENTS)
            judgements = next((path for path in known if path.exists()), None)
        source = folder / CORPUS
    return _joined(title, source, field, queries, judgements)


def _joined(title: str, source: Any, field: str, queries: Any, judgements: Any) -> Collection:
    notes: list[str] = []
    made = Collection(title, list(read_documents(source, field, notes)), notes=notes)
    if (queries is None) != (judgements is None):
        given, lacking = ("queries", "judgements")[:: 1 if judgements is None else -1]
        raise DataError(f"{given} without {lacking} cannot be scored; give both, or neither")
    if queries is not None:
        made.queries = list(read_queries(queries))
        made.judged, made.parts = read_judgements(judgements)
        if not made.judged:
            raise DataError(f"the judgements of {title} are empty; give a line a judged document")
        if not any(score > 0 for own in made.judged.values() for score in own.values()):
            raise DataError(f"no judgement of {title} is above 0, so that no document answers")
    return made.checked()


def read_documents(
    source: Any, field: str = "text", notes: list[str] | None = None
) -> Iterator[Document]:
    """The documents of a folder of texts, a file of records, a list of texts or of records.

    Args:
        notes: where it is said which files of a folder were left out.
    """
    if isinstance(source, (list, tuple)) and all(isinstance(one, str) for one in source):
        yield from (Document(str(place), text) for place, text in enumerate(source))
        return
    if isinstance(source, (list, tuple)) and all(isinstance(one, Document) for one in source):
        yield from source
        return
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir() and not is_saved_dataset(path):
            yield from _of_folder(path, [] if notes is None else notes)
            return
        if path.is_file() and not is_records(path):
            yield Document(path.name, plain_text(path))
            return
    for place, (at, row) in enumerate(records_of(source)):
        named = at or f"row {place + 1}"
        if not isinstance(row, Mapping):
            raise DataError(f"{named} is a {type(row).__name__}, not a document with fields")
        text = _text_in(row, field, named)
        title = text_of(row["title"], f"the title of {named}") if is_given(row.get("title")) else ""
        own = {*IDS[:5], field, "title"}
        more = {key: value for key, value in row.items() if key not in own}
        yield Document(_id_of(row, IDS[:5], place), text, title, more)


def read_queries(source: Any) -> Iterator[Query]:
    """The queries of a file of records or of lines, of a folder in BEIR's layout, a list of texts
    or of records, or a dictionary {id: text}.
    """
    if isinstance(source, Mapping):
        source = [{"_id": str(key), "text": text} for key, text in source.items()]
    if isinstance(source, (list, tuple)) and all(isinstance(one, str) for one in source):
        source = [{"_id": str(place), "text": text} for place, text in enumerate(source)]
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir() and (path / QUERIES).is_file():
            path = path / QUERIES
        if not path.exists():
            raise DataError(f"there is no file of queries {path}")
        if path.is_file() and not is_records(path):
            lines = [line for line in plain_text(path).split("\n") if line.strip()]
            yield from (Query(str(place), line.strip()) for place, line in enumerate(lines))
            return
        source = path
    for place, (at, row) in enumerate(records_of(source)):
        named = at or f"query {place + 1}"
        if not isinstance(row, Mapping):
            raise DataError(f"{named} is a {type(row).__name__}, not a query with fields")
        fields = next((name for name in ("text", "query", "question") if name in row), "text")
        yield Query(_id_of(row, IDS, place), _text_in(row, fields, named))


def _of_folder(folder: Path, notes: list[str]) -> Iterator[Document]:
    """A document a text file; those that are empty or no text are left out, and named."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not files:
        raise DataError(f"the folder {folder} holds no text files ({', '.join(ENDINGS)})")
    left: list[str] = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        try:
            text = plain_text(path)
        except DataError:
            left.append(f"{name} (no text)")
            continue
        if any(sign.isalnum() for sign in text):
            yield Document(name, text.strip())
        else:
            left.append(f"{name} (empty)")
    if left:
        notes.append(f"{count(len(left), 'file')} left out: {', '.join(left[:SPOKEN])}")


def _text_in(row: Mapping[str, Any], field: str, named: str) -> str:
    if field not in row:
        listed = ", ".join(map(str, list(row)[:8]))
        raise DataError(f"{named} has no {field!r} (it has {listed}); name the field with --field")
    return text_of(row[field], f"the {field!r} of {named}") if is_given(row[field]) else ""


def _id_of(row: Mapping[str, Any], names: tuple[str, ...], place: int) -> str:
    found = next((row[name] for name in names if is_given(row.get(name))), place)
    return str(found)
