"""Several processes, one on each GPU, as torchrun starts them; one alone is a group of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..metrics.counts import Counts
from ..options import InputError


class Group:
    """The processes of one training. Made once, at the start.

    Args:
        on_gpu: whether they compute on GPUs, each on that of its local rank.
    """

    def __init__(self, on_gpu: bool = False):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        if self.world > 1:
            if on_gpu:
                if self.local_rank >= torch.cuda.device_count():
                    raise InputError(
                        f"{self.local_rank + 1} processes or more, but {torch.cuda.device_count()} "
                        "GPUs; lower --nproc_per_node, or --device cpu"
                    )
                torch.cuda.set_device(self.local_rank)
            # the leader may take long: to find the batch that fits, to score the test split
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=2))

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

    def any(self, flags: list[bool], device: torch.device) -> list[bool]:
        """For each flag whether it is set in some process."""
        if self.world == 1:
            return flags
        tensor = torch.tensor(flags, dtype=torch.uint8, device=device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [bool(flag) for flag in tensor.tolist()]

    def mean(self, values: list[float], device: torch.device) -> list[float]:
        """The mean over processes of each value."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return (tensor / self.world).tolist()

    def sum_counts(self, counts: Counts, device: torch.device) -> Counts:
        """The counts of all processes."""
        if self.world == 1:
            return counts
        tensor = torch.tensor(list(vars(counts).values()), dtype=torch.int64, device=device)
        dist.all_reduce(tensor)
        return Counts(*tensor.tolist())

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Gradients averaged over the processes, batch statistics shared by them."""
        if self.world == 1:
            return module
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def share_statistics(self, net: nn.Module, device: torch.device) -> nn.Module:
        """Batch normalisation over the images of all processes."""
        if self.world == 1:
            return net
        if device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(net)
        for module in net.modules():  # SyncBatchNorm has no implementation on the CPU
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm
        return net

    def close(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all processes, on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce  # with a gradient

        x = x.float()
        count = all_reduce(x.new_tensor([x.numel() / x.shape[1]]))
        mean = all_reduce(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = all_reduce((centred**2).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]
