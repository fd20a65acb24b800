"""Several processes of one job, as torchrun starts them; one alone is a group of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from .options import InputError


class Group:
    """The processes of one job. Made once, at the start.

    Args:
        on_gpu: whether they compute on GPUs, each on that of its local rank.
        timeout: for which one may wait for another.

    Raises:
        InputError: fewer GPUs than processes, or several on Windows.
    """

    def __init__(self, on_gpu: bool = False, timeout: timedelta = timedelta(hours=2)):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self._on_gpu = on_gpu
        if self.world > 1:
            if os.name == "nt":  # its PyTorch has neither NCCL nor a gloo that reduces GPU tensors
                raise InputError("several processes need Linux; start one, without torchrun")
            if on_gpu:
                if self.local_rank >= torch.cuda.device_count():
                    raise InputError(
                        f"{self.local_rank + 1} processes or more, but {torch.cuda.device_count()} "
                        "GPUs; lower --nproc_per_node, or --device cpu"
                    )
                torch.cuda.set_device(self.local_rank)
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)

    @classmethod
    def alone(cls) -> "Group":
        """A group of one, whatever others there are."""
        group = cls.__new__(cls)
        group.world, group.rank, group.local_rank = 1, 0, 0
        return group

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The block runs in the leader, then in the others: what it writes, they find."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def share(self, value: Any) -> Any:
        """The leader's value, in every process."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            # else NCCL guesses a GPU, which with several machines can be another process's
            dist.barrier(device_ids=[self.local_rank] if self._on_gpu else None)

    def close(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()
