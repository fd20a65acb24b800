"""Direction-aware background estimation module (DBEM)."""

from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from .ddc import DDC
from .layout import FromMapConv2d, MapConv2d
from .mdcr import MDCR
from .recompute import recomputed
from .soa import SOA

DEPTH = 5  # halvings of the image between the stem and the bottleneck


class EncoderBlock(nn.Module):
    """(N, in, H, W) -> (N, out, H/2, W/2) and the skip (N, in, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.ddc = DDC(in_channels)
        self.bn = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.MaxPool2d(2)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.bn(self.ddc(x))
        return self.act(self.pool(self.pointwise(skip))), skip


class DecoderBlock(nn.Module):
    """(N, in, H/2, W/2) and the skip (N, out, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(in_channels + out_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.ddc = DDC(out_channels)
        self.pointwise = nn.Conv2d(out_channels, out_channels, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # reduce(concat[up-sampled x, skip]): a 1x1 convolution may come before the up-sampling
        of_x, of_skip = self.reduce.weight.split([x.shape[1], skip.shape[1]], dim=1)
        x = interpolate(conv2d(x, of_x), scale_factor=2, mode="nearest")
        x = conv2d(skip, of_skip, self.reduce.bias) + x
        return recomputed(self._refine, self.bn(x))

    def _refine(self, x: Tensor) -> Tensor:
        return self.act(self.pointwise(self.ddc(x)))


class DBEM(nn.Module):
    """B' = DBEM(B): the background of an image, by a U-shaped network of directional convolutions.

    Args:
        width: channels after the stem; each of the five encoder blocks doubles them.

    Shape: (N, 1, H, W) -> the same; H and W are multiples of 32.
    """

    def __init__(self, width: int):
        super().__init__()
        channels = [width * 2**level for level in range(DEPTH + 1)]
        down = list(zip(channels[:-1], channels[1:], strict=True))
        self.stem = FromMapConv2d(1, width, 7, padding=3)
        self.encoder = nn.ModuleList(EncoderBlock(i, o) for i, o in down)
        self.bottleneck = nn.Sequential(MDCR(channels[-1]), SOA(channels[-1]))
        self.decoder = nn.ModuleList(DecoderBlock(i, o) for o, i in reversed(down))
        self.head = MapConv2d(width, 1, 1)

    def forward(self, background: Tensor) -> Tensor:
        x = self.stem(background)
        skips = []
        for block in self.encoder:
            x, skip = block(x)
            skips.append(skip)
        x = self.bottleneck(x)
        for block in self.decoder:
            x = block(x, skips.pop())
        return self.head(x)
