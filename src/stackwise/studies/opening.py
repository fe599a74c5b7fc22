"""Open what a command or a program has kept: `stackwise.load`."""

from pathlib import Path
from typing import Any

from stackwise import hub, runs
from stackwise.errors import RunError
from stackwise.models import open_model
from stackwise.studies.study import Study
from stackwise.studies.tables import Benchmark


def load(folder: Path | str) -> Any:
    """Give back what lies in a folder.

    Of a comparison it is the `Study`, which ranks and predicts (`study.best` is its fitted winner);
    of several tables the `Benchmark`; of a run the fitted learner, the model or the `Findings` that
    it made; of a folder that a learner's `save` wrote, the learner. `hf://owner/name` is a folder
    on the Hugging Face hub, as `push_to_hub` puts it there.

    Raises:
        RunError: it is none of these, is unfinished or damaged.
    """
    place = Path(folder)
    if isinstance(folder, str) and folder.startswith(hub.SCHEME):
        place = hub.download(folder)
        if (place / "config.json").is_file():
            return open_model(place)
    if (place / "study.json").is_file():
        return Study(place)
    if (place / "benchmark.json").is_file():
        return Benchmark(place)
    if (place / "plan.json").is_file() and not (place / "run.json").is_file():
        raise RunError(f"{place} is a study that is not finished; repeat its command with --resume")
    return runs.load(place)
