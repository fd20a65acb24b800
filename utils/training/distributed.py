"""Several processes that train one network."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..group import Group
from ..metrics.counts import Counts


class TrainingGroup(Group):
    """A group whose processes train one network."""

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
        """Gradients averaged over the processes."""
        if self.world == 1:
            return module
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=ids, gradient_as_bucket_view=True
        )

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
