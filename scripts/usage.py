"""How a method is used, as a command and in Python side by side, from its card."""

import json

from stackwise.catalog import Card, Entry, tasks
from stackwise.catalog.cards import TaskCard

FURTHER = ["runs/second", "runs/third"]
"""Models that are given besides, where several are."""
SIDE_BY_SIDE = (
    '<div class="grid" markdown>\n\n```sh\n{command}\n```\n\n```python\n{code}\n```\n\n</div>'
)


def usage_section(of: Card) -> str:
    """Each way into a method: a learner of each task, a transform, a probe."""
    shown: dict[tuple[str, ...], Entry] = {}
    for entry in of.entries:
        if entry.kind != "ensemble":
            of_task = entry.tasks if entry.kind == "learner" else ()
            shown[entry.kind, *of_task] = entry  # of a classifier and a regressor the second
    parts = [
        SIDE_BY_SIDE.format(command=_command(of, entry), code=_code(of, entry))
        for entry in shown.values()
    ]
    return "\n\n".join(parts)


def _command(of: Card, entry: Entry) -> str:
    words = {"learner": "fit", "transform": "apply"}.get(entry.kind, "probe")
    first = [f"stackwise {words} {of.slug}", *([] if entry.kind == "learner" else [_model(entry)])]
    lines = [" ".join(first)]
    if entry.kind == "learner":
        lines += [_sample(entry)]
    elif _data(of, entry):
        lines += [f"--data {_data(of, entry)}"]
    lines += [f"--set {name}=MODEL" for name in _models_wanted(entry)]
    lines += [f"--set {name}={','.join(FURTHER)}" for name in _lists_wanted(entry)]
    lines += [f"--out runs/{of.slug}"]
    return " \\\n  ".join(lines)


def _code(of: Card, entry: Entry) -> str:
    if entry.kind != "learner":
        data = ", data" if _data(of, entry) else ""
        result = "new" if entry.kind == "transform" else "found"
        more = "".join(f", {name}={json.dumps(FURTHER)}" for name in _lists_wanted(entry))
        return f"from stackwise import {entry.name}\n\n{result} = {entry.name}(model{data}{more})"
    knobs = ", ".join(f'{name}="MODEL"' for name in _models_wanted(entry))
    if entry.problem is not None:  # an estimator
        made = f"model = {entry.name}({knobs})\nmodel.fit(X, y).predict(X_new)"
        return f"from stackwise import {entry.name}\n\n{made}"
    kind = _task(entry)
    module, _, name = kind.target.partition(":")
    return (
        f"from stackwise import {entry.name}\nfrom {module} import {name}\n\n"
        f"task = {name}.load({_loaded(kind.sample)})\nmodel = {entry.name}({knobs}).fit(task)"
    )


def _loaded(sample: str) -> str:
    """A source and its options as a call has them."""
    source, *options = sample.split()
    given = [
        f'{name.removeprefix("--").replace("-", "_")}="{value}"'
        for name, value in zip(options[::2], options[1::2], strict=True)
    ]
    return ", ".join([f'"{source}"', *given])


def _sample(entry: Entry) -> str:
    """The data of a command that fits; with classes where the learner knows no numbers."""
    kind = _task(entry)
    return (
        kind.class_sample
        if kind.class_sample and entry.problem == "classification"
        else kind.sample
    )


def _task(entry: Entry) -> TaskCard:
    """The first task that an entry serves."""
    return tasks()[entry.tasks[0]]


def _data(of: Card, entry: Entry) -> str:
    """The data that a transform or a probe is shown with, those of the method's learners where it
    takes any; nothing where it needs none.
    """
    if entry.reads == "source" and not entry.tasks:
        return "prompts.txt"
    for name in (*entry.tasks, *of.tasks):
        return tasks()[name].sample.split()[0]
    return next(card.sample for card in tasks().values() if card.first).split()[0]


def _model(entry: Entry) -> str:
    """What a transform or a probe is shown to take: a run where it takes a fitted learner."""
    return "runs/first" if "learner" in entry.takes else "MODEL"


def _models_wanted(entry: Entry) -> list[str]:
    """The knobs that a model must be named for."""
    wanted = [name for name, spec in entry.knobs.items() if spec.required]
    return [name for name in wanted if name not in _lists_wanted(entry)]


def _lists_wanted(entry: Entry) -> list[str]:
    """The knobs that several models must be named for."""
    return [n for n, spec in entry.knobs.items() if spec.required and "models" in spec.types]
