"""Direction-aware convolution (DDC)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from .backend import kernels_for


class DDC(nn.Module):
    """``x + DW7x1(x) + DW1x7(x)``: depthwise kernels along the columns and along the rows.

    Horizons, cloud edges and sea streaks have a direction; a target a few pixels wide has none.

    Shape: (N, channels, H, W) -> the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.vertical = nn.Conv2d(channels, channels, (7, 1), padding=(3, 0), groups=channels)
        self.horizontal = nn.Conv2d(channels, channels, (1, 7), padding=(0, 3), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        kernels = kernels_for(x, x.shape[1])
        if kernels:
            bias = self.vertical.bias + self.horizontal.bias
            return kernels.cross(x, self.vertical.weight, self.horizontal.weight, bias)
        if x.is_cuda:
            return self.as_cross(x)
        return x + self.vertical(x) + self.horizontal(x)

    def as_cross(self, x: Tensor) -> Tensor:
        """The same by one 7x7 convolution, for GPUs where `kernels` do not serve.

        cuDNN turns maps in the channels_last layout around for kernels of 7x1 and 1x7, forward and
        backward, but not for 7x7: a third of a training step's time went into that.
        """
        kernel = Cross.apply(self.vertical.weight, self.horizontal.weight, 1.0)
        bias = self.vertical.bias + self.horizontal.bias
        return conv2d(x, kernel, bias, padding=3, groups=x.shape[1])


class Cross(torch.autograd.Function):
    """(C, 1, 7, 1) and (C, 1, 1, 7) -> (C, 1, 7, 7), with the identity times a factor added.

    Four launches of a GPU; the parts padded and added are ten, in each DDC of a step that waits
    for launches.
    """

    @staticmethod
    def forward(ctx, vertical: Tensor, horizontal: Tensor, identity: float) -> Tensor:
        kernel = vertical.new_zeros(vertical.shape[0], 1, 7, 7)
        kernel[..., 3:4] = vertical
        kernel[:, :, 3:4] += horizontal
        kernel[..., 3, 3] += identity
        return kernel

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient[..., 3:4], gradient[:, :, 3:4], None
