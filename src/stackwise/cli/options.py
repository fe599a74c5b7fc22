"""The application, and the arguments and options that commands share. Those about data are none of
them: each task has its own, see `stackwise.cli.data_options`.
"""

from pathlib import Path
from typing import Annotated

import typer

from stackwise.errors import KnobError

app = typer.Typer(
    help="Published ideas for networks built as stacks, on your own data and models.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """Published ideas for networks built as stacks, on your own data and models."""
    if version:
        from stackwise import __version__

        typer.echo(f"stackwise {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


FURTHER = "Further ways to fit"
RUNNING = "How it runs"
"""Headings under which help shows what is needed less often, below the options of the data."""

Source = Annotated[str, typer.Argument(help="A file, a folder, or a data set's name.")]
ModelArgument = Annotated[
    str, typer.Argument(help="A run, a model folder, a packaged model's name, or a hub id.")
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="What the data is (found by itself): table, text, ...")
]
With = Annotated[
    list[str] | None, typer.Option("--with", help="An option of the data, name=value; repeat.")
]
Out = Annotated[Path | None, typer.Option(help="The folder to write.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="knob=value; repeat.")]
Preset = Annotated[str | None, typer.Option(help="quick, standard or best.")]
Seed = Annotated[int, typer.Option(help="The seed.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where this command stopped.", rich_help_panel=RUNNING),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, mps (found by itself).", rich_help_panel=RUNNING)
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads of the CPU; part of the record.", rich_help_panel=RUNNING),
]


def _above_zero(seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise KnobError(f"--time-limit is a number of seconds above 0, got {seconds:g}")
    return seconds


TimeLimit = Annotated[
    float | None,
    typer.Option(help="Seconds of training.", rich_help_panel=RUNNING, callback=_above_zero),
]
ClassWeight = Annotated[
    str | None,
    typer.Option(
        help="How much a class counts: balanced, or JSON such as '{\"yes\": 5}'.",
        rich_help_panel=FURTHER,
    ),
]
Bag = Annotated[
    int | None,
    typer.Option(
        help="Fit so many times, over folds, and average.", min=2, rich_help_panel=FURTHER
    ),
]
Track = Annotated[
    str | None,
    typer.Option(help="tensorboard, mlflow, wandb... (STACKWISE_TRACK).", rich_help_panel=RUNNING),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, run nothing.", rich_help_panel=RUNNING),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=RUNNING)
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=RUNNING)
]
