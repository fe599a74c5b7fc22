"""Where a number comes from: the machine, the versions and the commit that made it."""

import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import stackwise

NAMED = ("torch", "numpy", "pandas", "scikit-learn", "transformers", "safetensors")
OPTIONAL = {
    "lightgbm": "pip install 'stackwise[boost]'",
    "xgboost": "pip install 'stackwise[boost]'",
    "onnxruntime": "pip install 'stackwise[onnx]'",
    "polars": "pip install 'stackwise[polars]'",
}


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
    from stackwise.catalog import cache_folder, cards

    found: dict[str, Any] = dict(versions())
    found |= {name: str(value) for name, value in machine().items()}
    found["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    found["threads"] = str(torch.get_num_threads())
    capability = torch.backends.cpu.get_cpu_capability()
    found["cpu capability"] = capability
    for name, install in OPTIONAL.items():
        here = importlib.util.find_spec(name) is not None
        found[name] = "installed" if here else f"not installed: {install}"
    found["methods"] = str(len(cards(baselines=False)))
    sets = data.names()
    found["data sets and models"] = f"{sum(item.here for item in sets)} of {len(sets)} here"
    found["cache"] = str(cache_folder())
    return found
