"""Commands whose data options are those of the task that the data is.

`load` of a task says what may be asked of its data; a command line offers just that. The words are
read twice: first with the options of all tasks together, which tells a source from the value of an
option (a name is a flag everywhere or takes a value everywhere), so that the task is found; then
with the options of that task alone.

    stackwise compare photos/ --image-size 64          photos/ is the source, 64 is not
    stackwise fit tabm sales.csv --target price -h     shows what a table may be asked

`-h` fits a screen: what is needed less often is named there, and explained by `--help`.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

from stackwise.catalog import FURTHER_VERBS, Card, TaskCard, card, cards, task_card, tasks
from stackwise.cli.reading import recorded_task, sets
from stackwise.errors import KnobError, StackwiseError, nearest
from stackwise.knobs import KnobSpec
from stackwise.tasks import called, choose_task, having_option

PLACE = "stackwise data"
"""Where a context keeps what was read of the data."""


@dataclass
class Data:
    """What a command was told of its data.

    Attributes:
        kind: the task that it is, or None where that could not be told.
        options: of `load` (or, for predict, of `write_predictions`), as words.
    """

    kind: TaskCard | None = None
    options: dict[str, Any] = field(default_factory=dict)


def data_of(context: typer.Context) -> Data:
    """What the command was told of its data; `--with name=value` is among it.

    Raises:
        KnobError: an option is given by itself and by --with.
    """
    found: Data = context.meta[PLACE]
    given = sets(context.params.get("with_"), "--with option")
    for name in given:
        if name in found.options:
            raise KnobError(f"{flag(name)} and --with {name}= say the same; give one of them")
    return Data(found.kind, found.options | given)


def flag(name: str) -> str:
    """The option of a name: `max_rows` is --max-rows."""
    return "--" + name.replace("_", "-")


def is_flag(spec: KnobSpec) -> bool:
    """Whether an option is switched on and takes no value."""
    return spec.types == ("bool",) and not spec.choices


def parameters_of(specs: Mapping[str, KnobSpec], *, placed: bool = False) -> list[Any]:
    """Knobs as parameters of a command, whose values stay words.

    Args:
        placed: required knobs become arguments, in their order; all others are options, and a list
            is given by repeating its option.
    """
    fields, hints = [], {}
    for spec in specs.values():
        kind, about = _parameter(spec, placed and spec.required)
        hints[spec.name] = Annotated[kind, about]
        default: Any = False if kind is bool else None
        if placed and spec.required:
            default = inspect.Parameter.empty
        fields.append(inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default))

    def nothing(**given: Any) -> None:
        """Only the signature counts: typer makes its own kind of parameters of it."""

    made: Any = nothing
    made.__signature__ = inspect.Signature(
        [one.replace(annotation=hints[one.name]) for one in fields]
    )
    made.__annotations__ = dict(hints)
    app = typer.Typer(add_completion=False)
    app.command()(made)
    return [one for one in typer.main.get_command(app).params if one.name in specs]


def _parameter(spec: KnobSpec, argument: bool) -> tuple[Any, Any]:
    """The type of a parameter, and what typer is told of it."""
    text = spec.knob.help[:1].upper() + spec.knob.help[1:] + "."
    several = "list" in spec.types
    if argument:
        return (list[str] if several else str), typer.Argument(help=text)
    words = [flag(spec.name), *([f"-{spec.knob.short}"] if spec.knob.short else [])]
    if is_flag(spec):
        return bool, typer.Option(*words, help=text)
    return (list[str] | None if several else str | None), typer.Option(*words, help=text)


def every_option() -> dict[str, bool]:
    """Every option of every task and verb, and whether it takes a value: the first pass's union."""
    found: dict[str, bool] = {}
    of_verbs = [
        specs for of in cards().values() for entry in of.entries for specs in entry.verbs.values()
    ]
    of_tasks = [specs for of in tasks().values() for specs in (of.options, of.predict)]
    for specs in (*of_tasks, *of_verbs):
        for spec in specs.values():
            found[flag(spec.name)] = not is_flag(spec)
            if spec.knob.short:
                found[f"-{spec.knob.short}"] = not is_flag(spec)
    return found


def first_pass(
    words: Sequence[str], takes_value: Mapping[str, bool]
) -> tuple[list[str], dict[str, list[str]]]:
    """The arguments and the options among words; an option that nobody has is taken for a flag."""
    arguments: list[str] = []
    given: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return arguments + rest, given
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        name, equals, value = word.partition("=")
        if not equals and takes_value.get(name) and rest:
            value = rest.pop(0)
        given.setdefault(name, []).append(value)
    return arguments, given


class DataCommand(TyperCommand):
    """A command that offers the options of the task that its data is."""

    about: ClassVar[str] = "the data"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the task, then read the words with its options."""
        known = every_option() | {
            word: not getattr(one, "is_flag", False)
            for one in super().get_params(ctx)
            for word in getattr(one, "opts", ())
            if word.startswith("-")
        }
        arguments, given = first_pass(args, known)
        names = list(self._data_options(given).values())
        try:
            kind, specs = self.find(arguments, given, names)
        except StackwiseError:
            self._refuse_unknown(ctx, given, known)
            if not {"-h", "--help"} & set(given) and arguments:
                raise
            kind, specs = None, {}
        self._refuse_strange(ctx, given, kind, specs)
        ctx.meta[PLACE] = Data(kind)
        ctx.meta[PLACE + " specs"] = specs
        ctx.meta[PLACE + " whole"] = "--help" in given
        left = super().parse_args(ctx, args)
        read = {name: ctx.params.pop(name) for name in specs if name in ctx.params}
        ctx.meta[PLACE].options = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in read.items()
            if value not in (None, (), False)
        }
        return left

    def _refuse_unknown(self, ctx: Any, given: Iterable[str], known: Iterable[str]) -> None:
        """Refuse an option that nobody has: what follows it may have been taken for the data."""
        own = {word for one in super().get_params(ctx) for word in getattr(one, "opts", ())}
        for word in given:
            if word.startswith("--") and word != "--help" and word not in known:
                hint = nearest(
                    word, own | {flag(name) for of in tasks().values() for name in of.options}
                )
                raise KnobError(f"no such option {word}.{hint if 'mean' in hint else ''}")

    def _refuse_strange(
        self,
        ctx: Any,
        given: Mapping[str, Any],
        kind: TaskCard | None,
        specs: Mapping[str, KnobSpec],
    ) -> None:
        """Refuse an option that other data have; what nobody has is left to the parser.

        Raises:
            KnobError: the sentence says whose option it is, and what this data is.
        """
        own = {word for one in super().get_params(ctx) for word in getattr(one, "opts", ())}
        for word, name in self._data_options(given).items():
            if word in own or name in specs:
                continue
            whose = f"{word} is an option of {having_option(name)}"
            if kind is None:
                raise KnobError(f"{whose}, and no such data is read here")
            if name in kind.options:
                raise KnobError(f"{word} was said when {self.about} learned, and holds for it")
            raise KnobError(f"{whose}; this data is {called(kind.name)}")

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters and those of the task."""
        own = super().get_params(ctx)
        return [*own, *parameters_of(ctx.meta.get(PLACE + " specs", {}))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, the options that are needed most, those of the data, then the others:
        each with its help for `--help`, by their names alone for `-h`.
        """
        specs = ctx.meta.get(PLACE + " specs", {})
        found = ctx.meta.get(PLACE, Data()).kind
        data = f"Options of {self.about if found is None else f'this data ({found.name})'}"
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], data: []}
        for one in self.get_params(ctx):
            plain = "Arguments" if one.param_type_name == "argument" else "Options"
            title = data if one.name in specs else getattr(one, "rich_help_panel", None) or plain
            if row := one.get_help_record(ctx):
                sections.setdefault(title, []).append(row)
        explained = ("Arguments", "Options", data)
        for title, rows in sections.items():
            if title not in explained and not ctx.meta.get(PLACE + " whole", True):
                continue
            with formatter.section(title):
                if rows:
                    formatter.write_dl(rows)
                else:
                    formatter.write_text(
                        f"Name {self.about} before -h, and its own options are shown."
                    )
        if not ctx.meta.get(PLACE + " whole", True):
            formatter.write_paragraph()
            for title, rows in sections.items():
                if title not in explained:
                    names = " ".join(words.split(" ")[0] for words, _ in rows)
                    formatter.write_text(f"{title}: {names}")
            formatter.write_text("--help explains these, too.")

    def _data_options(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The options of tasks that were given, as they were written, and their names."""
        of_tasks = {flag(name): name for of in tasks().values() for name in of.options}
        return {word: of_tasks[word] for word in given if word in of_tasks}

    def find(
        self, arguments: list[str], given: Mapping[str, list[str]], names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        """The task of the data, and the options to offer."""
        raise NotImplementedError


def _asked(given: Mapping[str, list[str]]) -> str | None:
    return given["--task"][-1] if "--task" in given else None


class FitCommand(DataCommand):
    """METHOD SOURCE: the source is a task that the method serves."""

    def find(
        self, arguments: list[str], given: Mapping[str, list[str]], names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        if len(arguments) < 2:
            return None, {}
        of = card(arguments[0])
        of.entry("learner")
        served = learners_tasks(of)
        kind = choose_task(
            arguments[1], names, asked=_asked(given), among=served, who=of.slug
        )  # fmt: skip
        return kind, kind.options


class CompareCommand(DataCommand):
    """SOURCE[:VALUE] ...: all sources are one task."""

    def find(
        self, arguments: list[str], given: Mapping[str, list[str]], names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        from stackwise.studies import one_kind, read_sources

        if not arguments:
            return None, {}
        options = dict.fromkeys(names, "")
        kind = one_kind(read_sources(arguments, None, options), _asked(given))
        return kind, kind.options


class ModelCommand(DataCommand):
    """METHOD MODEL --data SOURCE: the model's own task, or one that the method reads."""

    def find(
        self, arguments: list[str], given: Mapping[str, list[str]], names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        if len(arguments) < 2 or "--data" not in given:
            return None, {}
        of = card(arguments[0])
        kinds = [entry for entry in of.entries if entry.kind in ("transform", "probe")]
        asked, own = _asked(given), recorded_task(arguments[1])
        of_run = None if own is None else task_card(own)
        rows = of_run is not None and of_run.role is not None
        if asked is None and not rows and all(entry.reads == "source" for entry in kinds) and kinds:
            return None, {}
        if asked is None and of_run is not None:
            kind = of_run
        else:
            among = list(dict.fromkeys(name for entry in kinds for name in entry.tasks)) or None
            kind = choose_task(
                given["--data"][-1], names, asked=asked, among=among, who=of.slug
            )  # fmt: skip
        return kind, kind.options


class PredictCommand(DataCommand):
    """RUN SOURCE: the options with which the run's task writes predictions."""

    about: ClassVar[str] = "the run"

    def find(
        self, arguments: list[str], given: Mapping[str, list[str]], names: list[str]
    ) -> tuple[TaskCard | None, dict[str, KnobSpec]]:
        own = recorded_task(arguments[0]) if arguments else None
        kind = None if own is None else task_card(own)
        return kind, {} if kind is None else kind.predict


def learners_tasks(of: Card) -> list[str]:
    """The tasks that a method's learners serve."""
    found = [name for entry in of.entries if entry.kind == "learner" for name in entry.tasks]
    return list(dict.fromkeys(found))


def verbs_offered() -> list[str]:
    """The further verbs that some learner has."""
    has = {verb for of in cards().values() for entry in of.entries for verb in entry.verbs}
    return [verb for verb in FURTHER_VERBS if verb in has]
