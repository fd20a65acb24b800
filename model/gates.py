"""The gates of the BSGU as one convolution.

Nothing non-linear stands between the convolution that gives u and the convolution that gives the
gates, so that together they are one 5x5 convolution of r, with 11 times fewer operations. Only on
the outermost line of pixels the two differ: there the gates see zeros where u has no pixel, and the
composed convolution sees a u of the padded r. That line is computed by the two convolutions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, fold, unfold

from .backend import kernels_for
from .layout import MapConv2d, from_map
from .recompute import recomputed

GATES = 4  # f, i, o, g
_BLOCK = 8192  # pixels that the fused update takes at a time, so that they stay in the cache


def gate_update(
    r: Tensor,
    carried: Tensor,
    lift: nn.Conv2d,
    gates: nn.Conv2d,
    out: MapConv2d,
    epsilon: Tensor,
) -> tuple[Tensor, Tensor]:
    """The new cell state, and the clutter that the output gate lets through of it.

        u = lift(r);  f, i, o, g = gates(u)
        C = sigmoid(f) * carried + sigmoid(i) * tanh(g)
        clutter = out(epsilon * sigmoid(o) * tanh(C))

    On the CPU the forward pass keeps the arguments and C alone, and the backward pass computes the
    gates again; on a GPU they are kept.

    Args:
        r: (N, 1, H, W), H and W at least 3.
        carried: (N, C, H, W), or (1, C, 1, 1), the same for every pixel.
        lift: 3x3, 1 -> C. gates: 3x3, C -> 4C. out: 3x3, C -> 1. All padded with zeros.
        epsilon: (C).

    Returns:
        (N, C, H, W) and (N, 1, H, W).
    """
    weights = (lift.weight, lift.bias, gates.weight, gates.bias)
    autocast = torch.is_autocast_enabled(r.device.type)
    if r.device.type == "cpu" and not autocast and not torch.compiler.is_compiling():
        kernel, bias = compose(*weights)
        scaled = out.weight * epsilon.view(1, -1, 1, 1)
        edges = border(r, *weights)
        cell, clutter = _FusedUpdate.apply(r, carried, kernel, bias, scaled, *edges)
        return cell, clutter + out.bias
    if autocast and not r.is_cuda:  # in float32, see `from_map`
        with torch.autocast(r.device.type, enabled=False):
            r, carried = r.float(), carried.float()
            cell, passed = recomputed(_composed_update, r, carried, *weights)
    else:
        update = _worded_update if r.is_cuda else _composed_update
        cell, passed = recomputed(update, r, carried, *weights)
    return cell, out(passed, epsilon)


def compose(
    lift: Tensor, lift_bias: Tensor, gates: Tensor, gates_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Kernel (4C, 1, 5, 5) and bias (4C) of the two convolutions as one, away from the border."""
    kernel = conv2d(gates, lift.flip(2, 3).transpose(0, 1), padding=2)
    return kernel, gates_bias + gates.sum((2, 3)) @ lift_bias


def border(r: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gates on the first and last row, (N, 4C, 1, W), and column, (N, 4C, H, 1)."""

    def gates_of(r: Tensor) -> Tensor:
        lift, lift_bias, gates, gates_bias = weights
        return conv2d(conv2d(r, lift, lift_bias, padding=1), gates, gates_bias, padding=1)

    return (
        gates_of(r[:, :, :3])[:, :, :1],
        gates_of(r[:, :, -3:])[:, :, -1:],
        gates_of(r[..., :3])[..., :1],
        gates_of(r[..., -3:])[..., -1:],
    )


def _worded_update(
    r: Tensor,
    carried: Tensor,
    lift: Tensor,
    lift_bias: Tensor,
    gates: Tensor,
    gates_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """`gate_update` as its equations say: for GPUs, whose matrix units gain nothing from fewer
    products with one channel."""
    u = from_map(r, lift, lift_bias)
    values = conv2d(u, gates, gates_bias, padding=1)
    kernels = kernels_for(r, len(gates_bias))
    return kernels.cell_update(values, carried) if kernels else activated(values, carried)


def _composed_update(r: Tensor, carried: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """`gate_update` in the operations of PyTorch: for compilation, export and autocast on a CPU."""
    kernel, bias = compose(*weights)
    top, bottom, left, right = border(r, *weights)
    inner = conv2d(r, kernel, bias, padding=1)  # all but the outermost line
    middle = torch.cat([left[:, :, 1:-1], inner, right[:, :, 1:-1]], dim=3)
    return activated(torch.cat([top, middle, bottom], dim=2), carried)


def activated(gates: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """The new cell state, and what the output gate lets through of it."""
    f, i, o, g = gates.chunk(GATES, dim=1)
    cell = f.sigmoid() * carried + i.sigmoid() * g.tanh()
    return cell, o.sigmoid() * cell.tanh()


class _FusedUpdate(torch.autograd.Function):
    """`gate_update` for the CPU: by matrix products, block by block, in memory that stays warm.

    tanh(x) = 2 sigmoid(2x) - 1 is what it computes for g, so that one sigmoid serves all gates.
    """

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        carried: Tensor,
        kernel: Tensor,
        bias: Tensor,
        out: Tensor,
        *edges: Tensor,
    ) -> tuple[Tensor, Tensor]:
        gates = _Gates(r, kernel, bias, edges)
        shape = (len(r), gates.channels, *r.shape[2:])
        cell = torch.empty(shape, dtype=r.dtype, memory_format=torch.channels_last)
        cells, carrieds = _pixels(cell), _pixels(carried, cell.shape)
        taps = _taps(out)
        columns = r.new_empty(len(r), len(taps), cells.shape[1])
        for n, pixels in gates.blocks():
            f, i, o, g = gates.activations(n, pixels)
            c = cells[n, pixels]
            torch.mul(f, carrieds[n, pixels], out=c)
            c.addcmul_(i, g.mul_(2).sub_(1))
            passed = c.tanh().mul_(o)
            torch.mm(taps, passed.t(), out=columns[n, :, pixels])
        ctx.save_for_backward(r, carried, kernel, bias, out, cell, *edges)
        return cell, fold(columns, r.shape[2:], 3, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_cell: Tensor, d_clutter: Tensor) -> tuple[Tensor, ...]:
        r, carried, kernel, bias, out, cell, *edges = ctx.saved_tensors
        gates = _Gates(r, kernel, bias, edges)
        cells, carrieds = _pixels(cell), _pixels(carried, cell.shape)
        d_cells = _pixels(d_cell)
        taps = _taps(out)
        d_taps = torch.zeros_like(taps)
        d_columns = unfold(d_clutter, 3, padding=1)
        varies = carried.shape == cell.shape
        d_carried = torch.empty_like(cell) if varies else torch.zeros_like(carried)
        d_carrieds = _pixels(d_carried) if varies else d_carried.view(-1)
        for n, pixels in gates.blocks():
            f, i, o, g = activations = gates.activations(n, pixels)
            tanh = cells[n, pixels].tanh()
            d_column = d_columns[n, :, pixels]
            d_taps.addmm_(d_column, tanh * o)
            d_passed = d_column.t() @ taps
            through = d_passed * o
            dc = through.addcmul_(through, tanh.square(), value=-1).add_(d_cells[n, pixels])
            if varies:
                torch.mul(dc, f, out=d_carrieds[n, pixels])
            else:
                d_carrieds += (dc * f).sum(0)
            d_gates = activations - activations.square()  # the sigmoid's slope
            d_gates[0].mul_(dc).mul_(carrieds[n, pixels])
            d_gates[1].mul_(dc).mul_(g.mul(2).sub_(1))
            d_gates[2].mul_(d_passed).mul_(tanh)
            d_gates[3].mul_(dc).mul_(i).mul_(2)
            gates.backward(n, pixels, d_gates)
        d_out = d_taps.flip(0).t().reshape(out.shape)
        return gates.gradients(d_carried, d_out)


class _Gates:
    """f, i, o and g of one block of rows after the other, and their gradients.

    A pixel's 5x5 surroundings are a column of ``columns`` (N, 25, H*W); its gates are a product
    with the kernels (4, 25, C). Those of the border come from outside.
    """

    def __init__(self, r: Tensor, kernel: Tensor, bias: Tensor, edges: tuple[Tensor, ...]):
        self.shape = r.shape
        self.channels = len(bias) // GATES
        # twice the argument of g, whose tanh is then a sigmoid
        self.scale = r.new_tensor([1, 1, 1, 2]).view(GATES, 1, 1)
        self.kernel = kernel.view(GATES, self.channels, 25).transpose(1, 2) * self.scale
        self.bias = bias.view(GATES, 1, self.channels) * self.scale
        self.columns = unfold(r, 5, padding=2)
        self.edges = [self._lines(edge) * self.scale[..., None] for edge in edges]
        self.rows = max(1, _BLOCK // r.shape[3])
        self.memory = r.new_empty(GATES * min(self.rows, r.shape[2]) * r.shape[3] * self.channels)
        self.d_columns: Tensor | None = None

    def _lines(self, edge: Tensor) -> Tensor:
        """(N, 4C, 1, L) or (N, 4C, L, 1) -> (4, N, L, C)."""
        return edge.reshape(len(edge), GATES, self.channels, -1).permute(1, 0, 3, 2)

    def blocks(self) -> list[tuple[int, slice]]:
        """Image and pixels of every block."""
        n, _, h, w = self.shape
        rows = [(top, min(h, top + self.rows)) for top in range(0, h, self.rows)]
        return [(k, slice(top * w, end * w)) for k in range(n) for top, end in rows]

    def activations(self, n: int, pixels: slice) -> Tensor:
        """Sigmoids of the gates of a block, (4, pixels, C); the next call overwrites them."""
        size = pixels.stop - pixels.start
        out = self.memory[: GATES * size * self.channels].view(GATES, size, self.channels)
        columns = self.columns[n, :, pixels].t().expand(GATES, -1, -1)
        torch.baddbmm(self.bias, columns, self.kernel, out=out)
        for inside, outside in self._border(out, n, pixels, self.edges):
            inside.copy_(outside)
        return out.sigmoid_()

    def _border(
        self, block: Tensor, n: int, pixels: slice, edges: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The lines of a block that are on the border, and their part of the edges."""
        h, w = self.shape[2:]
        image = block.view(GATES, -1, w, self.channels)
        rows = slice(pixels.start // w, pixels.stop // w)
        top, bottom, left, right = (edge[:, n] for edge in edges)
        lines = [(image[:, :, 0], left[:, rows]), (image[:, :, -1], right[:, rows])]
        if rows.start == 0:
            lines.append((image[:, 0], top))
        if rows.stop == h:
            lines.append((image[:, -1], bottom))
        return lines

    def backward(self, n: int, pixels: slice, d_gates: Tensor) -> None:
        """Add what a block's gates, (4, pixels, C), say of all that they are made of."""
        if self.d_columns is None:
            self.d_columns = torch.empty_like(self.columns)
            self.d_kernel = torch.zeros_like(self.kernel)
            self.d_bias = torch.zeros_like(self.bias)
            self.d_edges = [torch.zeros_like(edge) for edge in self.edges]
        # rows last: at a corner the row's value was written over the column's
        for inside, outside in reversed(self._border(d_gates, n, pixels, self.d_edges)):
            outside.copy_(inside)
            inside.zero_()
        columns = self.columns[n, :, pixels]
        self.d_kernel.baddbmm_(columns.expand(GATES, -1, -1), d_gates)
        self.d_bias += d_gates.sum(1, keepdim=True)
        d_columns = self.kernel[0] @ d_gates[0].t()
        for kernel, d_gate in zip(self.kernel[1:], d_gates[1:], strict=True):
            d_columns.addmm_(kernel, d_gate.t())
        self.d_columns[n, :, pixels] = d_columns

    def gradients(self, d_carried: Tensor, d_out: Tensor) -> tuple[Tensor, ...]:
        """Those of `_FusedUpdate`'s arguments."""
        d_r = fold(self.d_columns, self.shape[2:], 5, padding=2)
        d_kernel = (self.d_kernel * self.scale).transpose(1, 2).reshape(-1, 1, 5, 5)
        d_bias = (self.d_bias * self.scale).view(-1)
        d_edges = []
        for d_edge, column in zip(self.d_edges, (False, False, True, True), strict=True):
            lines = (d_edge * self.scale[..., None]).permute(1, 0, 3, 2).flatten(1, 2)
            d_edges.append(lines[..., None] if column else lines[:, :, None])
        return d_r, d_carried, d_kernel, d_bias, d_out, *d_edges


def _taps(out: Tensor) -> Tensor:
    """(1, C, 3, 3) -> (9, C): what a pixel gives to each of its neighbours, by `fold`."""
    return out[0].flatten(1).t().flip(0).contiguous()


def _pixels(maps: Tensor, shape: torch.Size | None = None) -> Tensor:
    """(N, C, H, W) in channels_last -> a view of (N, H*W, C), expanded to ``shape`` first."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    if shape is not None and maps.shape != shape:
        return maps.view(1, 1, -1).expand(shape[0], shape[2] * shape[3], -1)
    n, c, h, w = maps.shape
    return maps.permute(0, 2, 3, 1).view(n, h * w, c)
