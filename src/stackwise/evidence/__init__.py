"""Evidence: the claims of each method, measured again where you are.

One module a method, with `measure(scale) -> list[Claim]`. `run` adds what makes a number worth
something: the commit, the machine and the seconds.
"""

import importlib
import importlib.util
import time
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from stackwise.errors import StackwiseError, UnknownName
from stackwise.evidence.claims import SCALES, Verdict

RESULTS = Path(__file__).parents[3] / "results" / "evidence"


def run(slug: str, scale: str = "smoke", *, out: Path | str | None = None) -> Path:
    """Measure the claims of `slug` and write `<out>/<slug>.json`.

    Args:
        scale: smoke (seconds), cpu (minutes on two cores) or gpu.
        out: a folder; by default `evidence` below the working folder.

    Raises:
        UnknownName: no such scale, or the method has no evidence module.
    """
    from stackwise.files import write_json
    from stackwise.machine import commit, machine, versions

    if scale not in SCALES:
        raise UnknownName(f"there is no scale {scale!r}; use {', '.join(SCALES)}")
    name = f"stackwise.evidence.{slug.replace('-', '_')}"
    if importlib.util.find_spec(name) is None:
        raise UnknownName(f"{slug} has no evidence module")
    module = importlib.import_module(name)
    code = commit()  # of the code that measures, whatever is committed meanwhile
    started = time.perf_counter()
    claims = module.measure(scale)
    if not claims:
        raise StackwiseError(f"the evidence of {slug} measured no claim at scale {scale}")
    record = {
        "slug": slug,
        "scale": scale,
        "claims": [claim.as_dict() for claim in claims],
        "commit": code,
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"stackwise evidence {slug} --scale {scale}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    path = Path(out or "evidence") / f"{slug}.json"
    write_json(path, record)
    return path


def committed(slug: str) -> dict[str, Any] | None:
    """The committed evidence of `slug`, or None outside a checkout or where there is none."""
    from stackwise.files import read_json

    path = RESULTS / f"{slug}.json"
    return dict(read_json(path)) if path.is_file() else None


def verdicts(slug: str) -> dict[str, int]:
    """How many claims of a method hold, hold in part, ...; empty without committed evidence."""
    claims = (committed(slug) or {}).get("claims") or []
    found = Counter(str(claim["verdict"]) for claim in claims)
    return {verdict: found[verdict] for verdict in get_args(Verdict) if found[verdict]}
