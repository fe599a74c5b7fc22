"""Where a number comes from: the machine, the versions and the commit that made it."""

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import stackwise
from stackwise.optional import SERVES, lacking

NAMED = ("torch", "numpy", "pandas", "scikit-learn", "transformers", "safetensors")


def versions() -> dict[str, str]:
    """The versions that decide a run's numbers."""
    found = {"stackwise": stackwise.__version__, "python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, system, and the accelerator where there is one."""
    import psutil
    import torch

    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def commit() -> str | None:
    """The commit of the checkout that stackwise runs from; `+` marks changes on top of it."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        root = Path(_git(here, "rev-parse", "--show-toplevel"))
        if not (root / "src" / "stackwise").is_dir():
            return None  # installed inside somebody else's repository
        changed = _git(here, "status", "--porcelain", "--", str(root / "src"))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def doctor() -> dict[str, Any]:
    """What this installation can do, a line each: what is there, or the command that adds it."""
    import torch

    from stackwise import data
    from stackwise.catalog import cards
    from stackwise.files import cache_folder

    found: dict[str, Any] = dict(versions())
    found |= {name: str(value) for name, value in machine().items()}
    found["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    found["threads"] = str(torch.get_num_threads())
    capability = torch.backends.cpu.get_cpu_capability()
    found["cpu capability"] = capability
    for extra, purpose in SERVES.items():
        missing = lacking(extra)
        state = f"not here ({', '.join(missing)}): pip install 'stackwise[{extra}]'"
        found[f"{extra} ({purpose})"] = state if missing else "installed"
    found["methods"] = str(len(cards(baselines=False)))
    sets = data.names()
    found["data sets and models"] = f"{sum(item.here for item in sets)} of {len(sets)} here"
    found["cache"] = str(cache_folder())
    found["advice"] = advice()
    return found


def advice() -> list[str]:
    """What would help on this machine, a sentence each; what is well is not spoken of."""
    import psutil
    import torch

    said = []
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    if threads < cores and not torch.cuda.is_available():
        why = "OMP_NUM_THREADS says so" if os.environ.get("OMP_NUM_THREADS") else "as torch found"
        said.append(
            f"{threads} of {cores} cores compute ({why}): --threads {cores} uses all, --workers "
            f"{cores} runs as many fits of a comparison side by side"
        )
    if not torch.cuda.is_available():
        said.append("there is no accelerator: begin with --preset quick")
    if importlib.util.find_spec("xgboost") is None:
        said.append("comparisons leave XGBoost out: pip install 'stackwise[boost]' brings it")
    free = psutil.virtual_memory().available / 2**30
    if free < 2:
        said.append(f"{free:.1f} GiB of memory are free: --workers 1, or --max-rows for a sample")
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    if disk < 2:
        said.append(f"{disk:.1f} GiB are free on this disk: --out can name another")
    return said
