"""The processes of one command that a launcher (torchrun, accelerate launch) started.

All of them read the data and learn; the first alone holds the run's folder, writes its files and
says what is done. The launcher tells each its number in the environment, so that asking costs
nothing and imports nothing.
"""

import os
from datetime import timedelta
from typing import Any

LONGEST_WAIT = timedelta(hours=6)
"""For another process; the launcher ends them all at once where one fails."""


def count() -> int:
    """How many processes there are; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return count() == 1 or int(os.environ.get("RANK") or 0) == 0


def join(device: str | None) -> None:
    """Make the group of the processes, if there are several; each computes on its own device."""
    if count() > 1:
        from accelerate.state import PartialState

        # where there is a group already this does nothing; the others wait while the first judges
        PartialState(cpu=(device or "").startswith("cpu"), timeout=LONGEST_WAIT)


def told_by_first(value: Any) -> Any:
    """What the first process says, in every process."""
    if count() == 1:
        return value
    import torch.distributed as distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        import torch.distributed as distributed

        distributed.barrier()


def leave() -> None:
    """End the group: a process that goes while another still writes can take it down with it."""
    if count() == 1:
        return
    import torch.distributed as distributed

    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
