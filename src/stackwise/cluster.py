"""A Ray cluster, on which studies and searches run side by side over several machines."""

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from stackwise.errors import NotInstalled, StudyError

HOW_TO_START = (
    "start one with 'ray start --head', or leave out --on for a pool of processes on this machine"
)


def connected(address: str) -> Any:
    """The module `ray`, connected to a cluster that is there.

    Raises:
        StudyError: ray is not installed, or there is no such cluster, or it does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise NotInstalled("--on ray needs ray: pip install 'stackwise[ray]'") from error
    if address != "ray" and not address.startswith("ray://"):
        raise StudyError(f"this runs on ray or on ray://host:port, not on {address!r}")
    if ray.is_initialized():
        return ray
    _answers(address)
    try:
        ray.init(
            address="auto" if address == "ray" else address, log_to_driver=False,
            configure_logging=False,
        )  # fmt: skip
    except ConnectionError as error:
        raise StudyError(f"there is no Ray cluster to connect to; {HOW_TO_START}") from error
    return ray


def _answers(address: str, seconds: float = 5.0) -> None:
    """Refuse a cluster whose port is closed: ray itself tries on for ten minutes.

    A cluster that was killed leaves the file behind that names it.
    """
    named, where = address, "--on"
    if address == "ray":
        named, where = os.environ.get("RAY_ADDRESS", ""), "RAY_ADDRESS"
    if address == "ray" and named in ("", "auto"):
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
        file = Path(folder) / "ray" / "ray_current_cluster"
        named, where = file.read_text().strip() if file.is_file() else "", str(file)
    host, _, port = named.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except OSError as error:
        raise StudyError(
            f"there is no Ray cluster to connect to at {host}:{port}, which {where} names; "
            f"{HOW_TO_START}"
        ) from error
