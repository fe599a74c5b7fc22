"""The application, and the arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Published ideas for networks built as stacks, on your own data and models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Source = Annotated[str, typer.Argument(help="A file, a folder, or a data set's name.")]
ModelArgument = Annotated[
    str, typer.Argument(help="A run, a model folder, a packaged model's name, or a hub id.")
]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Sep = Annotated[str | None, typer.Option(help="What parts the columns (found by itself).")]
Encoding = Annotated[str | None, typer.Option(help="The text encoding (utf-8).")]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; repeat.")]
Keep = Annotated[list[str] | None, typer.Option(help="Use it though it looks like an id; repeat.")]
Group = Annotated[str | None, typer.Option(help="Rows with equal values stay in one part.")]
Time = Annotated[str | None, typer.Option(help="Split by time: the latest rows are the test.")]
Split = Annotated[str | None, typer.Option(help="A column that says train, validation or test.")]
Validation = Annotated[str | None, typer.Option(help="Share of the rows (0.2), or a file.")]
Test = Annotated[str | None, typer.Option(help="Share of the rows (0.2), or a file.")]
Metric = Annotated[str | None, typer.Option(help="What better means: rmse, mae, auc, ...")]
Problem = Annotated[str | None, typer.Option(help="regression, binary or multiclass.")]
MaxRows = Annotated[int | None, typer.Option(help="Train on at most this many rows.")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="table, text, instructions or choices.")
]
With = Annotated[
    list[str] | None, typer.Option("--with", help="An option of the task, name=value; repeat.")
]
Out = Annotated[Path | None, typer.Option(help="The folder to write.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="knob=value; repeat.")]
Preset = Annotated[str | None, typer.Option(help="quick, standard or best.")]
Seed = Annotated[int, typer.Option(help="The seed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where this command stopped.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps (found by itself).")]
Threads = Annotated[int | None, typer.Option(help="Threads of the CPU; part of the record.")]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds of training.")]
Bag = Annotated[int | None, typer.Option(help="Fit so many times, over folds, and average.", min=2)]
Track = Annotated[str | None, typer.Option(help="tensorboard or mlflow (STACKWISE_TRACK).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, run nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
