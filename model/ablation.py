"""The network less one of its parts: what a part is worth, as in the paper's ablation."""

from collections.abc import Callable

from torch import Tensor, nn

from .dbem import DecoderBlock, EncoderBlock
from .msconet import MSCoNet


class PlainConv(nn.Module):
    """``x + DW3x3(x)``, in the place of a DDC: the same sum without its directions.

    Shape: (N, channels, H, W) -> the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        nn.init.xavier_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Subtraction(nn.Module):
    """``T' = D - B' + T``, in the place of a BSGU: no clutter is taken off, no cell state kept."""

    def forward(
        self, reconstruction: Tensor, background: Tensor, target: Tensor, cell: None
    ) -> tuple[Tensor, None]:
        return reconstruction - background + target, None


def _without_soa(net: MSCoNet) -> None:
    for stage in net.decoupling:
        stage.dbem.bottleneck[1] = nn.Identity()


def _without_ddc(net: MSCoNet) -> None:
    for module in net.modules():
        if isinstance(module, EncoderBlock | DecoderBlock):
            module.ddc = PlainConv(module.ddc.vertical.in_channels)


def _without_gates(net: MSCoNet) -> None:
    for stage in net.decoupling:
        stage.bsgu = Subtraction()


LEAVE_OUT: dict[str, Callable[[MSCoNet], None]] = {  # changes a new network
    "nothing": lambda net: None,
    "soa": _without_soa,
    "ddc": _without_ddc,
    "gates": _without_gates,
}
