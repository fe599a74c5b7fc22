"""Evidence: the claims of each method, measured again where you are.

One module a method, with `measure(scale) -> list[Claim]`. `run` adds what makes a number worth
something: the commit, the machine and the seconds. A module whose claims take long and do not
depend on each other may have `PARTS`, `{name: measure}`: a part can be measured alone, and its
claims then take their places in the record, which says of them where they come from.
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


def run(
    slug: str, scale: str = "smoke", *, out: Path | str | None = None, part: str | None = None
) -> Path:
    """Measure the claims of `slug` and write `<out>/<slug>.json`.

    Args:
        scale: smoke (seconds), cpu (minutes on two cores) or gpu.
        out: a folder; by default `evidence` below the working folder.
        part: measure this part alone, and put its claims into the record that is there.

    Raises:
        UnknownName: no such scale or part, or the method has no evidence module.
        StackwiseError: there is no record at this scale into which a part could be put.
    """
    from stackwise.files import write_json
    from stackwise.machine import commit, machine, versions

    if scale not in SCALES:
        raise UnknownName(f"there is no scale {scale!r}; use {', '.join(SCALES)}")
    name = f"stackwise.evidence.{slug.replace('-', '_')}"
    if importlib.util.find_spec(name) is None:
        raise UnknownName(f"{slug} has no evidence module")
    module = importlib.import_module(name)
    path = Path(out or "evidence") / f"{slug}.json"
    parts = getattr(module, "PARTS", {})
    if part is not None and part not in parts:
        raise UnknownName(f"the evidence of {slug} has no part {part!r}; parts: {[*parts]}")
    before = _into(path, scale) if part is not None else {}
    code = commit()  # of the code that measures, whatever is committed meanwhile
    started = time.perf_counter()
    claims = module.measure(scale) if part is None else parts[part](scale)
    if not claims:
        raise StackwiseError(f"the evidence of {slug} measured no claim at scale {scale}")
    command = f"stackwise evidence {slug} --scale {scale}"
    provenance = {
        "commit": code,
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 1),
        "command": command if part is None else f"{command} --part {part}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    found = [claim.as_dict() for claim in claims]
    if part is None:
        record = {"slug": slug, "scale": scale, "claims": found} | provenance
    else:
        ids = [claim["id"] for claim in found]
        known = before.get("parts", {})
        gone = {*ids, *known.get(part, {}).get("claims", [])}
        kept = [claim for claim in before["claims"] if claim["id"] not in gone]
        of_part = {part: {"claims": ids} | provenance}
        record = before | {"claims": kept + found, "parts": known | of_part}
    write_json(path, record)
    return path


def _into(path: Path, scale: str) -> dict[str, Any]:
    """The record that a part is put into."""
    from stackwise.files import read_json

    record = dict(read_json(path)) if path.is_file() else {}
    if record.get("scale") != scale:
        raise StackwiseError(
            f"{path} holds no record at scale {scale}; measure all parts first, without --part"
        )
    return record


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
