"""A named set of data: what it is, where its files are and the command that brings them."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stackwise.errors import NotInstalled

Kind = Literal[
    "table",
    "text",
    "labels",
    "chats",
    "images",
    "anomalies",
    "rasters",
    "detection",
    "tags",
    "series",
    "retrieval",
    "vqa",
    "model",
    "network",
]


@dataclass(frozen=True)
class DataSet:
    """A named data set or model.

    Attributes:
        size: rows and columns, characters, or parameters, in words.
        source: the package and version that carry it.
        install: the command that brings it.
        target: the usual target column of a table.
        usual: options of its task with which it is usually read.
    """

    name: str
    kind: Kind
    size: str
    licence: str
    source: str
    install: str
    place: Callable[[], Path | None] = field(repr=False, compare=False)
    read: Callable[[Path], Any] = field(repr=False, compare=False)
    target: str | None = None
    usual: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def here(self) -> bool:
        """Whether its files are on this machine."""
        return self.place() is not None

    def as_dict(self) -> dict[str, Any]:
        """The entry as JSON."""
        shown = {"name", "kind", "size", "licence", "source", "install", "target"}
        record = {key: value for key, value in asdict(self).items() if key in shown}
        return record | {"here": self.here}

    def open(self) -> Any:
        """Read it; `NotInstalled` names the command that brings it."""
        path = self.place()
        if path is None:
            what = "model" if self.kind in ("model", "network") else "data set"
            raise NotInstalled(f"the {what} {self.name!r} is not here; {self.install} brings it")
        return self.read(path)


def in_package(package: str, file: str) -> Callable[[], Path | None]:
    """Where `file` of an installed package is; the package is not imported."""

    def place() -> Path | None:
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (Path(root) / file).exists():
                return Path(root) / file
        return None

    return place


def in_folders(*paths: str) -> Callable[[], Path | None]:
    """The first of these paths that is there, below STACKWISE_DATA or as it stands."""

    def place() -> Path | None:
        root = Path(os.environ.get("STACKWISE_DATA") or Path.home() / ".stackwise" / "data")
        for path in paths:
            for candidate in (root / path.lstrip("/"), Path(path)):
                if candidate.exists():
                    return candidate
        return None

    return place


def first_of(*places: Callable[[], Path | None]) -> Callable[[], Path | None]:
    """The first of these places that is there."""
    return lambda: next((found for place in places if (found := place()) is not None), None)


def pip(package: str) -> tuple[str, str]:
    """Source and command of a Python package, "name version". What it asks for stays away."""
    return package, f"pip install --no-deps {package.replace(' ', '==')}"
