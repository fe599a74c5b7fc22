"""What a run was asked for: the knobs of its method, and what identifies a model and its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackwise.catalog import Card, Entry, preset_values
from stackwise.errors import KnobError, ModelError
from stackwise.runs.folder import Run
from stackwise.runs.opening import split_reference


def chosen_knobs(
    of: Card, entry: Entry, preset: str | None, knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """The preset's values under the given ones, checked. Words (from `--set`) are read.

    What few samples need (`entry.floor`) comes under them, unless the user gives the budget.
    """
    floor = {} if entry.budget in knobs else entry.floor
    values = floor | preset_values(of, preset, entry) | entry.check(knobs, texts=True)
    for name, spec in entry.knobs.items():
        if spec.required and name not in values:
            raise KnobError(f"{of.slug} needs --set {name}=...: {spec.knob.help}")
    return values


def shared_knobs(entry: Entry, knobs: Mapping[str, Any] | None, **shared: Any) -> dict[str, Any]:
    """The settings that every command takes, where the method has such a knob and none was set."""
    return {
        name: value
        for name, value in shared.items()
        if name in entry.knobs and value is not None and name not in (knobs or {})
    }


def taught_by(entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
    """The hash of each model that a knob names by its folder, or of several in a list;
    `{"models": ...}`, or nothing where none does.
    """
    named: dict[str, Any] = {
        name: folder_hash(Path(values[name])) for name, spec in entry.knobs.items()
        if "model" in spec.types and not spec.required
        and isinstance(values.get(name), (str, Path))
    }  # fmt: skip
    named |= {
        name: [folder_hash(Path(one)) for one in values[name] if isinstance(one, (str, Path))]
        for name, spec in entry.knobs.items()
        if "models" in spec.types and isinstance(values.get(name), list)
    }
    return {"models": named} if named else {}


def derived_request(
    kind: str, slug: str, reference: Any, values: Any, preset: str | None, seed: int, data: Any
) -> dict[str, Any]:
    """What a transform or a probe was asked for; a model that is a run is known by its hash."""
    model: dict[str, Any] = {"reference": str(reference)}
    if not isinstance(reference, (str, Path)):
        model = {"reference": type(reference).__name__}
    else:
        base, deltas = split_reference(str(reference))
        parts = [Path(part) for part in (base, *deltas)]
        for part in parts:
            if (part / "run.json").is_file() and not Run(part).finished:
                raise ModelError(f"{part} is not finished; repeat its command with --resume first")
        hashes = [folder_hash(part) for part in parts]
        model["hash"] = hashes[0] if len(hashes) == 1 else "+".join(map(str, hashes))
    known = data.data_hash if hasattr(data, "data_hash") else _text_of(data)
    if kind == "apply" and isinstance(data, (str, Path)) and Path(data).is_file():
        known = {"file": str(data), "hash": _file_hash(Path(data))}
    return {
        "kind": kind,
        "slug": slug,
        "model": model,
        "knobs": values,
        "preset": preset,
        "seed": seed,
        "data": known,
    }


def _text_of(data: Any) -> str | None:
    return str(data) if isinstance(data, (str, Path)) else None if data is None else "object"


def _file_hash(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def folder_hash(folder: Path) -> str | None:
    """SHA-256 over the model files of a folder, or None where it is no folder."""
    import hashlib

    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".skops") or path.name in ("model.json", "config.json"):
            digest.update(str(path.relative_to(folder)).encode())
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()[:16]
