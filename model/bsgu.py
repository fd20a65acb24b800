"""Background suppression gated unit (BSGU)."""

import torch
from torch import Tensor, nn

from .gates import gate_update
from .layout import MapConv2d


class BSGU(nn.Module):
    """What the background does not explain, less what the gates take for clutter.

        r = D - B' + T
        u = Conv(r);  f, i, o = sigmoid(Conv(u)), g = tanh(Conv(u))
        C' = f * Conv(C) + i * g
        T' = r - Conv(epsilon * o * tanh(C'))

    f, i and o are the paper's background forget, input and output gates (BFG, BIG, BOG); the four
    convolutions of u are held as one, and `gate_update` computes them. epsilon is the channel-level
    factor.

    Args:
        channels: of u, of the gates and of the cell state.
        first: the first stage has no cell state yet; a learned vector stands for Conv(C).

    Shape: ``reconstruction`` D, ``background`` B', ``target`` T: (N, 1, H, W); ``cell`` C:
        (N, channels, H, W), or None in the first stage. Returns T' (logits) and C'.
    """

    def __init__(self, channels: int, first: bool):
        super().__init__()
        self.first = first
        self.lift = nn.Conv2d(1, channels, 3, padding=1)
        self.gates = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        if first:
            self.initial_cell = nn.Parameter(torch.zeros(channels))
        else:
            self.cell = nn.Conv2d(channels, channels, 3, padding=1)
        self.epsilon = nn.Parameter(torch.full((channels,), 0.01))
        self.out = MapConv2d(channels, 1, 3, padding=1)

    def forward(
        self, reconstruction: Tensor, background: Tensor, target: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        r = reconstruction - background + target
        carried = self.initial_cell.view(1, -1, 1, 1) if self.first else self.cell(cell)
        cell, clutter = gate_update(r, carried, self.lift, self.gates, self.out, self.epsilon)
        return r - clutter, cell
