"""Direction-aware convolution (DDC)."""

from torch import Tensor, nn


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
        return x + self.vertical(x) + self.horizontal(x)
