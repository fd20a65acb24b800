"""Several processes of one job, as torchrun starts them; one alone is a group of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .files import sole_writer
from .options import InputError, choose_device


class Group:
    """The processes of one job. Made once, at the start.

    Args:
        device: as `choose_device` takes it. Of several processes on GPUs, each computes on that of
            its local rank.
        timeout: for which one may wait for another.

    Raises:
        InputError: no such device, a numbered one for several processes, fewer GPUs than processes,
            several on Windows, or a WORLD_SIZE that is not of a launcher.
    """

    def __init__(self, device: str = "cpu", timeout: timedelta = timedelta(hours=2)):
        try:
            self.world = int(os.environ.get("WORLD_SIZE", 1))
            self.rank = self.local_rank = 0
            if self.world > 1:  # else they are of something else
                names = ("RANK", "LOCAL_RANK")
                self.rank, self.local_rank = (int(os.environ.get(name, 0)) for name in names)
            if self.world < 1:
                raise ValueError("at least 1 is expected")
        except ValueError as error:
            raise self._no_launcher(error) from error
        if device == "auto":
            device = choose_device(device).type
        self._on_gpu = device.startswith("cuda")
        if self.world > 1:
            if os.name == "nt":  # its PyTorch has neither NCCL nor a gloo that reduces GPU tensors
                raise InputError("several processes need Linux; start one, without torchrun")
            if self._on_gpu:
                if device != "cuda":
                    raise InputError(
                        f"--device {device}: several processes take a GPU each; choose cuda, and "
                        "the GPUs themselves with CUDA_VISIBLE_DEVICES"
                    )
                if self.local_rank >= torch.cuda.device_count():
                    raise InputError(
                        f"{self.local_rank + 1} processes or more, but {torch.cuda.device_count()} "
                        "GPUs; lower --nproc_per_node, or --device cpu"
                    )
                device = f"cuda:{self.local_rank}"
                torch.cuda.set_device(device)
        self.device = choose_device(device)
        if self.world > 1:
            try:
                dist.init_process_group("nccl" if self._on_gpu else "gloo", timeout=timeout)
            except ValueError as error:
                raise self._no_launcher(error) from error

    @staticmethod
    def _no_launcher(error: ValueError) -> InputError:
        return InputError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} in the environment, but not as torchrun sets "
            f"that and what belongs to it ({error}); start with torchrun, or unset it"
        )

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

    @contextmanager
    def sole_writer(self, folder: Path) -> Iterator[None]:
        """`files.sole_writer` of the leader, before the block begins in any process."""
        with sole_writer(folder) if self.leads else nullcontext():
            self.wait()
            yield

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
