"""Text files as text: their byte-order mark, their encoding, and what is no text.

UTF-8 is read, with or without a byte-order mark, and UTF-16 and UTF-32 where the file begins with
one. Anything else is refused by file and line, for bytes that were guessed at are other words.
"""

from collections.abc import Iterator
from pathlib import Path

from stackwise.errors import DataError
from stackwise.tasks.file_starts import marked_encoding


def encoding_of(path: Path) -> str:
    """The encoding that a file's first bytes name; UTF-8 where they name none."""
    with open(path, "rb") as file:
        return marked_encoding(file.read(4)) or "utf-8-sig"


def plain_text(path: Path) -> str:
    """A text file as it is, but that each of its lines ends with a line feed alone.

    Raises:
        DataError: it cannot be read, is in no encoding of Unicode, or holds zero bytes.
    """
    try:
        text = path.read_text(encoding=encoding_of(path))
    except UnicodeError as error:
        raise DataError(_not_encoded(path)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{path} is no text: line {line} holds a zero byte (of UTF-16 without a byte-order "
            "mark, or of a binary file); save it as UTF-8"
        )
    return text


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file of records and their numbers, from 1; blank ones are left out.

    A line ends with a line feed and nothing else: within a JSON string, U+2028 and its like are
    characters as any other.

    Raises:
        DataError: it cannot be read, or is in no encoding of Unicode.
    """
    try:
        with open(path, encoding=encoding_of(path), newline="\n") as file:
            for number, line in enumerate(file, start=1):
                # of files that were joined each brings its mark along
                bare = line.lstrip("\ufeff").strip(" \t\r\n")
                if bare:
                    yield number, bare
    except UnicodeError as error:
        raise DataError(_not_encoded(path)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _not_encoded(path: Path) -> str:
    """What to say of a file whose bytes are not in its encoding."""
    encoding = encoding_of(path)
    if encoding != "utf-8-sig":
        return (
            f"{path} is not UTF-8 text, nor the {encoding.upper()} it begins as; save it as UTF-8"
        )
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return (
                    f"line {number} of {path} is not UTF-8 text (byte {error.start + 1} of the "
                    "line); save the file as UTF-8"
                )
    return f"{path} is not UTF-8 text; save it as UTF-8"
