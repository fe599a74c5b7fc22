"""The further verbs of learners: generate, search, transform, serve. A card says who has which.

A verb is a method of the learner. Its positional arguments are the command's, its typed keyword
arguments the options; what it gives back is printed, or written where -o says.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from stackwise.catalog import Card, Entry, TaskCard, cards
from stackwise.cli.data_options import PLACE, DataCommand, data_of, parameters_of, verbs_offered
from stackwise.cli.options import Debug, Json, ModelArgument, app
from stackwise.cli.printing import _ends, _print
from stackwise.cli.reading import run_folder
from stackwise.errors import KnobError, ModelError, RunError
from stackwise.files import read_json
from stackwise.knobs import KnobSpec, check_values

WRITTEN = (".npy", ".json", ".txt", ".html")
"""Endings of the files that an answer is written to; a page only where an answer is one."""


def entry_with(verb: str, reference: str) -> tuple[Card, Entry]:
    """The learner that a run or a folder holds, or one that can be put around a bare model, where
    it has this verb.

    Raises:
        ModelError: it has not; the sentence says which methods have.
    """
    from stackwise.runs import split_reference

    base, _ = split_reference(reference)
    name = held_class(base)
    for of in cards().values():
        for entry in of.entries:
            if verb in entry.verbs and (entry.wraps if name is None else entry.name == name):
                return of, entry
    has = [slug for slug, of in cards().items() if any(verb in e.verbs for e in of.entries)]
    what = "is no fitted learner" if name is None else f"holds a {name}, which has no {verb}"
    raise ModelError(f"{base} {what}; {', '.join(has)} have it")


def held_class(reference: str) -> str | None:
    """The class of the learner that lies in a folder; None where none does."""
    try:
        return str(read_json(run_folder(reference) / "model.json", {"class": str})["class"])
    except RunError:
        return None


def learner_at(entry: Entry, reference: str) -> Any:
    """The fitted learner of a run, or a learner around a bare model."""
    from stackwise import runs

    model = runs.open_reference(reference)
    return model if isinstance(model, entry.load()) else entry.load().around(model)


class VerbCommand(DataCommand):
    """VERB RUN ...: the arguments and options of the method that has this name."""

    about: ClassVar[str] = "the run"

    def find(
        self, arguments: list[str], given: Any, names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        if not arguments:
            return None, {}
        _, entry = entry_with(str(self.name), arguments[0])
        return None, entry.verbs[str(self.name)]

    def get_params(self, ctx: Any) -> list[Any]:
        """Required arguments of the method are the command's arguments, after the model."""
        specs = ctx.meta.get(PLACE + " specs", {})
        placed = {one.name: one for one in parameters_of(specs, placed=True)}
        found = [one for one in super().get_params(ctx) if one.name not in placed]
        model = next(place for place, one in enumerate(found) if one.name == "model")
        return [*found[: model + 1], *placed.values(), *found[model + 1 :]]


def _command_of(verb: str) -> Callable[..., None]:
    def run(
        context: typer.Context,
        model: ModelArgument,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", "--out", help="The file to write.")
        ] = None,
        as_json: Json = False,
        debug: Debug = False,
    ) -> None:
        if output is not None and output.suffix not in WRITTEN:
            raise KnobError(f"{output} must end in {', '.join(WRITTEN)}")
        _, entry = entry_with(verb, model)
        specs = entry.verbs[verb]
        values = check_values(
            f"{verb} of {entry.name}", specs, data_of(context).options, texts=True
        )
        placed = [values.pop(spec.name) for spec in specs.values() if spec.required]
        found = getattr(learner_at(entry, model), verb)(*placed, **values)
        _answer(found, output, as_json)

    run.__doc__ = f"{verb.capitalize()} with a run, as its method does it."
    return run


def _answer(found: Any, output: Path | None, as_json: bool) -> None:
    """Print what a verb gave back, or write it."""
    from stackwise.files import plain

    if output is not None:
        _write(found, output)
        _ends({"files": [str(output)]}, [], as_json)
    elif as_json:
        _ends({"answer": plain(found)}, [], as_json)
    elif isinstance(found, (list, tuple)):
        for item in found:
            _print(str(item))
    elif found is not None:
        _print(str(found))


def _write(found: Any, output: Path) -> None:
    """Write arrays as .npy, what has a `page()` as .html, all else as JSON or lines."""
    import numpy as np

    from stackwise.files import plain, replacing, write_json, write_text

    if output.suffix == ".npy":
        with replacing(output) as beside, open(beside, "wb") as file:
            np.save(file, np.asarray(found), allow_pickle=False)
    elif output.suffix == ".html":
        if not hasattr(found, "page"):
            raise KnobError(f"this answer is no page; give {output.stem}.json or .txt")
        write_text(output, found.page())
    elif output.suffix == ".json":
        write_json(output, plain(found))
    else:
        lines = found if isinstance(found, (list, tuple)) else [found]
        write_text(output, "".join(f"{item}\n" for item in lines))


for _verb in verbs_offered():
    app.command(_verb, cls=VerbCommand)(_command_of(_verb))
