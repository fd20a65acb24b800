"""Multi-dilation channel refinement (MDCR; HCF-Net, arXiv 2403.10778)."""

import torch
from torch import Tensor, nn

DILATIONS = (2, 8, 12, 18)


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 1, **options) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, **options),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class MDCR(nn.Module):
    """Four depthwise convolutions, one dilation for each quarter of the channels, then a mix.

    Channel i of the four quarters goes through one 4x4 mixing shared by all i; its outputs become
    channels 4i..4i+3. The published code loops over i, so that in training its shared batch
    normalisation sees one i at a time; here all i are one batch, and training and evaluation see
    the same statistics. In evaluation the function is the same.

    Shape: (N, channels, H, W) -> the same; ``channels`` is a multiple of 4.
    """

    def __init__(self, channels: int):
        super().__init__()
        quarter = channels // 4
        self.dilated = nn.ModuleList(
            _conv_bn_relu(quarter, quarter, 3, padding=d, dilation=d, groups=quarter)
            for d in DILATIONS
        )
        self.mix = _conv_bn_relu(4, 4)
        self.out = _conv_bn_relu(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        quarters = [conv(q) for conv, q in zip(self.dilated, x.chunk(4, dim=1), strict=True)]
        groups = torch.stack(quarters, dim=2).reshape(n * (c // 4), 4, h, w)
        return self.out(self.mix(groups).reshape(n, c, h, w))
