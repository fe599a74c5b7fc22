"""A Ray cluster, on which studies and searches run side by side over several machines."""

from typing import Any

from stackwise.errors import NotInstalled, StudyError


def connected(address: str) -> Any:
    """The module `ray`, connected to a cluster that is there.

    Raises:
        StudyError: ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise NotInstalled("--on ray needs ray: pip install 'stackwise[ray]'") from error
    if address != "ray" and not address.startswith("ray://"):
        raise StudyError(f"this runs on ray or on ray://host:port, not on {address!r}")
    if ray.is_initialized():
        return ray
    try:
        ray.init(
            address="auto" if address == "ray" else address, log_to_driver=False,
            configure_logging=False,
        )  # fmt: skip
    except ConnectionError as error:
        raise StudyError(
            "there is no Ray cluster to connect to; start one with 'ray start --head', or leave "
            "out --on for a pool of processes on this machine"
        ) from error
    return ray
