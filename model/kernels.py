"""Kernels for training on a GPU, in Triton: what cuDNN does slowly, and what would pass through
memory many times.

cuDNN's convolutions from and to one channel and its depthwise ones take several times as long as
their maps take to be read and written. All maps here are in the channels_last layout, sums are in
float32 and in the same order each time. `backend.use_kernels` decides whether they serve.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d
from triton import language as tl

from .ddc import Cross
from .gates import activated

_TILE = 2048  # values: pixels x channels
_PROGRAMS = 528  # that sum over pixels: four for each multiprocessor of a large GPU


def from_map(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Convolution of (N, 1, H, W) by (C, 1, K, K), K odd, zeros around, to (N, C, H, W)."""
    return _FromMap.apply(x, weight, bias, dtype)


def to_map(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of (N, C, H, W) by (1, C, K, K), K odd, zeros around, to float32 (N, 1, H, W)."""
    return _ToMap.apply(x, weight, bias)


def cross(x: Tensor, vertical: Tensor, horizontal: Tensor, bias: Tensor) -> Tensor:
    """``x`` + its depthwise convolutions by (C, 1, 7, 1) and by (C, 1, 1, 7) + bias."""
    return _Cross.apply(x, vertical, horizontal, bias)


def cell_update(gates: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """f, i, o, g of (N, 4C, H, W): C = sig(f) carried + sig(i) tanh(g), and sig(o) tanh(C).

    ``carried`` is (N, C, H, W) or (1, C, 1, 1).
    """
    return _CellUpdate.apply(gates, carried)


def check(device: torch.device) -> None:
    """Compare each with what it stands for, in a small case.

    Raises:
        RuntimeError: one is wrong on this device; Triton raises errors of its own.
    """
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        x = torch.randn(shape, generator=generator).to(device, torch.bfloat16).float()
        if len(shape) == 4 and shape[0] == 2:
            x = _last(x)
        return x.requires_grad_()

    def plain_cross(x: Tensor, vertical: Tensor, horizontal: Tensor, bias: Tensor) -> Tensor:
        kernel = Cross.apply(vertical, horizontal, 1.0)
        return conv2d(x, kernel, bias, padding=3, groups=x.shape[1])

    cases: list[tuple[str, Callable[..., Any], Callable[..., Any], tuple[Tensor, ...]]] = [
        (
            "from_map",
            lambda x, w, b: from_map(x, w, b, x.dtype),
            lambda x, w, b: conv2d(x, w, b, padding=3),
            (values(2, 1, 16, 16), values(16, 1, 7, 7), values(16)),
        ),
        (
            "to_map",
            to_map,
            lambda x, w, b: conv2d(x, w, b, padding=1),
            (values(2, 16, 16, 16), values(1, 16, 3, 3), values(1)),
        ),
        (
            "cross",
            cross,
            plain_cross,
            (values(2, 16, 16, 16), values(16, 1, 7, 1), values(16, 1, 1, 7), values(16)),
        ),
        *(
            ("cell_update", cell_update, activated, (values(2, 64, 16, 16), values(*carried)))
            for carried in ((2, 16, 16, 16), (1, 16, 1, 1))
        ),
    ]
    for name, kernel, plain, arguments in cases:
        found, expected = (with_gradients(f, arguments) for f in (kernel, plain))
        for a, b in zip(found, expected, strict=True):
            if not (a - b).norm() < 0.01 * b.norm():  # TF32 is finer; nan is not
                raise RuntimeError(f"{name} is wrong on this GPU")


def with_gradients(function: Callable[..., Any], arguments: tuple[Tensor, ...]) -> list[Tensor]:
    """What a function returns, and the gradient of each argument."""
    results = function(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    loss = sum(x.square().sum() for x in results)
    return [x.detach() for x in results] + list(torch.autograd.grad(loss, arguments))


def _like(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """(N, channels, H, W) in channels_last, not filled."""
    n, _, h, w = x.shape
    return torch.empty((n, h, w, channels), dtype=dtype, device=x.device).permute(0, 3, 1, 2)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _power(n: int, least: int = 1) -> int:
    """The next power of two, for a tile's side."""
    return max(least, 1 << (n - 1).bit_length())


class _FromMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return _fan_out(x, weight, bias, dtype, flip=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_y = _last(d_y)
        d_x = _fan_in(d_y, weight, None, flip=True).to(x.dtype) if ctx.needs_input_grad[0] else None
        d_weight, d_bias = _products(x, d_y, weight)
        return d_x, d_weight.view_as(weight), d_bias, None


class _ToMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight = _last(x), weight.contiguous()
        ctx.save_for_backward(x, weight)
        return _fan_in(x, weight, bias, flip=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        d_y = d_y.contiguous()
        d_x = _fan_out(d_y, weight, None, x.dtype, flip=True)
        d_weight, _ = _products(d_y, x, weight)
        # with the strides of the weight: PyTorch 2.4's fused optimiser wants the very same, also of
        # sides that are 1
        d_weight = torch.empty_like(weight).copy_(d_weight.flip(1).view_as(weight))
        return d_x, d_weight, d_y.sum().view(1)


def _fan_out(
    x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, flip: bool
) -> Tensor:
    """(N, 1, H, W) to (N, C, H, W): C x K x K weights."""
    channels, k, (h, w) = weight.numel() // weight.shape[-1] ** 2, weight.shape[-1], x.shape[2:]
    y = _like(x, channels, dtype)
    side = _power(channels)
    block = max(16, _TILE // side)
    grid = (triton.cdiv(x.numel(), block),)
    _fan_out_kernel[grid](
        x, weight, weight if bias is None else bias, y, h, w, x.numel(),
        channels, k, flip, bias is not None, block, side,
    )  # fmt: skip
    return y


def _fan_in(x: Tensor, weight: Tensor, bias: Tensor | None, flip: bool) -> Tensor:
    """(N, C, H, W) to (N, 1, H, W), float32: C x K x K weights."""
    channels, k, (h, w) = x.shape[1], weight.shape[-1], x.shape[2:]
    y = _like(x, 1, torch.float32)
    side = _power(channels)
    block = max(16, _TILE // side)
    grid = (triton.cdiv(y.numel(), block),)
    _fan_in_kernel[grid](
        x, weight, weight if bias is None else bias, y, h, w, y.numel(),
        channels, k, flip, bias is not None, block, side,
    )  # fmt: skip
    return y


def _products(one: Tensor, many: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over all pixels p of one(p + tap) many(p, c), (C, K x K), and of many(p, c), (C)."""
    channels, k, (h, w) = many.shape[1], weight.shape[-1], many.shape[2:]
    taps, side = _power(k * k + 1, 16), _power(channels, 16)
    block = max(16, _TILE // max(taps, side))
    chunk, programs = _chunks(one.numel(), block)
    sums = torch.empty(programs, side, taps, device=many.device)
    exact = not torch.backends.cudnn.allow_tf32
    _products_kernel[(programs,)](
        one, many, sums, h, w, one.numel(), chunk, channels, k, taps, exact, block, side
    )
    total = sums.sum(0)[:channels]
    return total[:, : k * k], total[:, k * k]


def _chunks(pixels: int, block: int) -> tuple[int, int]:
    """Pixels of a program that sums, and the number of programs."""
    chunk = triton.cdiv(triton.cdiv(pixels, _PROGRAMS), block) * block
    return chunk, triton.cdiv(pixels, chunk)


class _Cross(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, vertical: Tensor, horizontal: Tensor, bias: Tensor) -> Tensor:
        x, vertical, horizontal = _last(x), vertical.contiguous(), horizontal.contiguous()
        ctx.save_for_backward(x, vertical, horizontal)
        return _crossed(x, vertical, horizontal, bias, flip=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, ...]:
        x, vertical, horizontal = ctx.saved_tensors
        d_y = _last(d_y)
        d_x = _crossed(d_y, vertical, horizontal, None, flip=True)
        n, c, h, w = x.shape
        side = min(_power(c), 32)
        block = max(16, _TILE // 2 // side)
        pixels = n * h * w
        chunk, programs = _chunks(pixels, block)
        sums = torch.empty(programs, 15, c, device=x.device)
        grid = (programs, triton.cdiv(c, side))
        _cross_weights_kernel[grid](x, d_y, sums, h, w, pixels, chunk, c, block, side)
        taps = sums.sum(0).t()  # (C, 15): vertical ones, horizontal ones, bias
        d_vertical, d_horizontal = taps[:, :7], taps[:, 7:14]
        return d_x, d_vertical.reshape(c, 1, 7, 1), d_horizontal.reshape(c, 1, 1, 7), taps[:, 14]


def _crossed(
    x: Tensor, vertical: Tensor, horizontal: Tensor, bias: Tensor | None, flip: bool
) -> Tensor:
    n, c, h, w = x.shape
    y = torch.empty_like(x)
    side = min(_power(c), 32)
    block = max(16, _TILE // side)
    pixels = n * h * w
    grid = (triton.cdiv(pixels, block), triton.cdiv(c, side))
    _cross_kernel[grid](
        x, vertical, horizontal, vertical if bias is None else bias, y, h, w, pixels,
        c, flip, bias is not None, block, side,
    )  # fmt: skip
    return y


class _CellUpdate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        gates, varies = _last(gates), carried.shape[2:] == gates.shape[2:]
        carried = _last(carried)
        channels = gates.shape[1] // 4
        cell, passed = (_like(gates, channels, gates.dtype) for _ in range(2))
        pixels = cell.numel() // channels
        side = _power(channels)
        block = max(16, _TILE // side)
        _cell_kernel[(triton.cdiv(pixels, block),)](
            gates, carried, cell, passed, pixels, channels, varies, block, side
        )
        ctx.save_for_backward(gates, carried)
        ctx.set_materialize_grads(False)
        return cell, passed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_cell: Tensor | None, d_passed: Tensor) -> tuple[Tensor, Tensor]:
        gates, carried = ctx.saved_tensors
        varies = carried.shape[2:] == gates.shape[2:]
        channels = carried.shape[1]
        d_passed = _last(d_passed)
        follows = d_cell is not None  # the last stage's cell state is used by none
        d_cell = _last(d_cell) if follows else d_passed
        d_gates = torch.empty_like(gates)
        pixels = gates.numel() // gates.shape[1]
        side = _power(channels)
        block = max(16, _TILE // 2 // side)
        chunk, programs = _chunks(pixels, block)
        d_carried = (
            torch.empty_like(carried)
            if varies
            else torch.empty(programs, channels, device=gates.device)
        )
        _cell_backward_kernel[(programs,)](
            gates, carried, d_cell, d_passed, d_gates, d_carried, pixels, chunk,
            channels, varies, follows, block, side,
        )  # fmt: skip
        return d_gates, d_carried if varies else d_carried.sum(0).view_as(carried)


@triton.jit
def _tap(weight, c, i, j, C: tl.constexpr, K: tl.constexpr, FLIP: tl.constexpr):
    tap = K * K - 1 - i * K - j if FLIP else i * K + j
    return tl.load(weight + c * K * K + tap, c < C, 0.0)[None, :]


@triton.jit
def _fan_out_kernel(
    x, weight, bias, y, H, W, pixels,
    C: tl.constexpr, K: tl.constexpr, FLIP: tl.constexpr, BIAS: tl.constexpr,
    BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, SIDE)
    row, column, exists = (p // W) % H, p % W, p < pixels
    total = tl.zeros((BLOCK, SIDE), tl.float32)
    if BIAS:
        total += tl.load(bias + c, c < C, 0.0)[None, :]
    for i in range(K):
        down = i - K // 2
        lies = exists & (row + down >= 0) & (row + down < H)
        for j in tl.static_range(K):
            right = j - K // 2
            inside = lies & (column + right >= 0) & (column + right < W)
            value = tl.load(x + p + down * W + right, inside, 0.0).to(tl.float32)
            total += value[:, None] * _tap(weight, c, i, j, C, K, FLIP)
    at = p[:, None] * C + c[None, :]
    tl.store(y + at, total.to(y.dtype.element_ty), exists[:, None] & (c < C)[None, :])


@triton.jit
def _fan_in_kernel(
    x, weight, bias, y, H, W, pixels,
    C: tl.constexpr, K: tl.constexpr, FLIP: tl.constexpr, BIAS: tl.constexpr,
    BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, SIDE)
    row, column, exists = (p // W) % H, p % W, p < pixels
    total = tl.zeros((BLOCK, SIDE), tl.float32)
    for i in range(K):
        down = i - K // 2
        lies = exists & (row + down >= 0) & (row + down < H)
        for j in tl.static_range(K):
            right = j - K // 2
            inside = lies & (column + right >= 0) & (column + right < W)
            at = (p + down * W + right)[:, None] * C + c[None, :]
            value = tl.load(x + at, inside[:, None] & (c < C)[None, :], 0.0).to(tl.float32)
            total += value * _tap(weight, c, i, j, C, K, FLIP)
    sums = tl.sum(total, 1)
    if BIAS:
        sums += tl.load(bias)
    tl.store(y + p, sums, exists)


@triton.jit
def _products_kernel(
    one, many, sums, H, W, pixels, chunk,
    C: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr, EXACT: tl.constexpr,
    BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    c, k = tl.arange(0, SIDE), tl.arange(0, TAPS)
    down, right = k // K - K // 2, k % K - K // 2
    total = tl.zeros((SIDE, TAPS), tl.float32)
    end = tl.minimum(pixels, (program + 1) * chunk)
    for start in range(program * chunk, end, BLOCK):
        p = start + tl.arange(0, BLOCK)
        row, column, exists = (p // W) % H, p % W, p < end
        rows, columns = row[:, None] + down[None, :], column[:, None] + right[None, :]
        inside = (rows >= 0) & (rows < H) & (columns >= 0) & (columns < W)
        inside &= exists[:, None] & (k < K * K)[None, :]
        at = p[:, None] + (down * W + right)[None, :]
        taps = tl.load(one + at, inside, 0.0).to(tl.float32)
        taps = tl.where((k == K * K)[None, :], 1.0, taps)  # its products are sums
        at = p[None, :] * C + c[:, None]
        values = tl.load(many + at, exists[None, :] & (c < C)[:, None], 0.0).to(tl.float32)
        if EXACT:
            total = tl.dot(values, taps, total, input_precision="ieee")
        else:
            total = tl.dot(values, taps, total, input_precision="tf32")
    at = program * SIDE * TAPS + c[:, None] * TAPS + k[None, :]
    tl.store(sums + at, total)


@triton.jit
def _cross_kernel(
    x, vertical, horizontal, bias, y, H, W, pixels,
    C: tl.constexpr, FLIP: tl.constexpr, BIAS: tl.constexpr,
    BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    row, column, exists = (p // W) % H, p % W, p < pixels
    at = p[:, None] * C + c[None, :]
    known = (c < C)[None, :]
    here = tl.load(x + at, exists[:, None] & known, 0.0).to(tl.float32)
    total = here
    if BIAS:
        total += tl.load(bias + c, c < C, 0.0)[None, :]
    for k in tl.static_range(7):
        step = k - 3
        tap = 6 - k if FLIP else k
        down = tl.load(vertical + c * 7 + tap, c < C, 0.0)[None, :]
        right = tl.load(horizontal + c * 7 + tap, c < C, 0.0)[None, :]
        if step == 0:
            total += here * (down + right)
        else:
            inside = exists & (row + step >= 0) & (row + step < H)
            value = tl.load(x + at + step * W * C, inside[:, None] & known, 0.0)
            total += value.to(tl.float32) * down
            inside = exists & (column + step >= 0) & (column + step < W)
            value = tl.load(x + at + step * C, inside[:, None] & known, 0.0)
            total += value.to(tl.float32) * right
    tl.store(y + at, total.to(y.dtype.element_ty), exists[:, None] & known)


@triton.jit
def _shifted(x, at, known, inside, down, right, W, C: tl.constexpr):
    value = tl.load(x + at + (down * W + right) * C, inside[:, None] & known, 0.0)
    return value.to(tl.float32)


@triton.jit
def _cross_weights_kernel(
    x, d_y, sums, H, W, pixels, chunk,
    C: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    c = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    known = (c < C)[None, :]
    bias = tl.zeros((BLOCK, SIDE), tl.float32)
    v0, v1, v2, v4, v5, v6 = bias, bias, bias, bias, bias, bias
    h0, h1, h2, h4, h5, h6 = bias, bias, bias, bias, bias, bias
    middle = bias
    end = tl.minimum(pixels, (program + 1) * chunk)
    for start in range(program * chunk, end, BLOCK):
        p = start + tl.arange(0, BLOCK)
        row, column, exists = (p // W) % H, p % W, p < end
        at = p[:, None] * C + c[None, :]
        d = tl.load(d_y + at, exists[:, None] & known, 0.0).to(tl.float32)
        bias += d
        middle += d * _shifted(x, at, known, exists, 0, 0, W, C)
        v0 += d * _shifted(x, at, known, exists & (row >= 3), -3, 0, W, C)
        v1 += d * _shifted(x, at, known, exists & (row >= 2), -2, 0, W, C)
        v2 += d * _shifted(x, at, known, exists & (row >= 1), -1, 0, W, C)
        v4 += d * _shifted(x, at, known, exists & (row < H - 1), 1, 0, W, C)
        v5 += d * _shifted(x, at, known, exists & (row < H - 2), 2, 0, W, C)
        v6 += d * _shifted(x, at, known, exists & (row < H - 3), 3, 0, W, C)
        h0 += d * _shifted(x, at, known, exists & (column >= 3), 0, -3, W, C)
        h1 += d * _shifted(x, at, known, exists & (column >= 2), 0, -2, W, C)
        h2 += d * _shifted(x, at, known, exists & (column >= 1), 0, -1, W, C)
        h4 += d * _shifted(x, at, known, exists & (column < W - 1), 0, 1, W, C)
        h5 += d * _shifted(x, at, known, exists & (column < W - 2), 0, 2, W, C)
        h6 += d * _shifted(x, at, known, exists & (column < W - 3), 0, 3, W, C)
    to = sums + program * 15 * C + c
    tl.store(to + 0 * C, tl.sum(v0, 0), c < C)
    tl.store(to + 1 * C, tl.sum(v1, 0), c < C)
    tl.store(to + 2 * C, tl.sum(v2, 0), c < C)
    tl.store(to + 3 * C, tl.sum(middle, 0), c < C)
    tl.store(to + 4 * C, tl.sum(v4, 0), c < C)
    tl.store(to + 5 * C, tl.sum(v5, 0), c < C)
    tl.store(to + 6 * C, tl.sum(v6, 0), c < C)
    tl.store(to + 7 * C, tl.sum(h0, 0), c < C)
    tl.store(to + 8 * C, tl.sum(h1, 0), c < C)
    tl.store(to + 9 * C, tl.sum(h2, 0), c < C)
    tl.store(to + 10 * C, tl.sum(middle, 0), c < C)
    tl.store(to + 11 * C, tl.sum(h4, 0), c < C)
    tl.store(to + 12 * C, tl.sum(h5, 0), c < C)
    tl.store(to + 13 * C, tl.sum(h6, 0), c < C)
    tl.store(to + 14 * C, tl.sum(bias, 0), c < C)


@triton.jit
def _gate(gates, p, c, exists, which: tl.constexpr, C: tl.constexpr):
    at = p[:, None] * (4 * C) + (which * C + c)[None, :]
    return tl.load(gates + at, exists, 0.0).to(tl.float32)


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _activations(gates, p, c, exists, C: tl.constexpr):
    f = tl.sigmoid(_gate(gates, p, c, exists, 0, C))
    i = tl.sigmoid(_gate(gates, p, c, exists, 1, C))
    o = tl.sigmoid(_gate(gates, p, c, exists, 2, C))
    g = _tanh(_gate(gates, p, c, exists, 3, C))
    return f, i, o, g


@triton.jit
def _before(carried, at, c, exists, C: tl.constexpr, VARIES: tl.constexpr):
    if VARIES:
        before = tl.load(carried + at, exists, 0.0).to(tl.float32)
    else:
        before = tl.load(carried + c, c < C, 0.0).to(tl.float32)[None, :]
    return before


@triton.jit
def _cell_kernel(
    gates, carried, cell, passed, pixels,
    C: tl.constexpr, VARIES: tl.constexpr, BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, SIDE)
    exists = (p < pixels)[:, None] & (c < C)[None, :]
    at = p[:, None] * C + c[None, :]
    f, i, o, g = _activations(gates, p, c, exists, C)
    before = _before(carried, at, c, exists, C, VARIES)
    state = f * before + i * g
    tl.store(cell + at, state.to(cell.dtype.element_ty), exists)
    tl.store(passed + at, (o * _tanh(state)).to(passed.dtype.element_ty), exists)


@triton.jit
def _cell_backward_kernel(
    gates, carried, d_cell, d_passed, d_gates, d_carried, pixels, chunk,
    C: tl.constexpr, VARIES: tl.constexpr, FOLLOWS: tl.constexpr,
    BLOCK: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    c = tl.arange(0, SIDE)
    sums = tl.zeros((BLOCK, SIDE), tl.float32)
    end = tl.minimum(pixels, (program + 1) * chunk)
    for start in range(program * chunk, end, BLOCK):
        p = start + tl.arange(0, BLOCK)
        exists = (p < end)[:, None] & (c < C)[None, :]
        at = p[:, None] * C + c[None, :]
        f, i, o, g = _activations(gates, p, c, exists, C)
        before = _before(carried, at, c, exists, C, VARIES)
        tanh = _tanh(f * before + i * g)
        d_out = tl.load(d_passed + at, exists, 0.0).to(tl.float32)
        d_state = d_out * o * (1 - tanh * tanh)
        if FOLLOWS:
            d_state += tl.load(d_cell + at, exists, 0.0).to(tl.float32)
        if VARIES:
            tl.store(d_carried + at, (d_state * f).to(d_carried.dtype.element_ty), exists)
        else:
            sums += d_state * f
        d_f = d_state * before * f * (1 - f)
        d_i = d_state * g * i * (1 - i)
        d_o = d_out * tanh * o * (1 - o)
        d_g = d_state * i * (1 - g * g)
        kind = d_gates.dtype.element_ty
        to = d_gates + p[:, None] * (4 * C) + c[None, :]
        tl.store(to, d_f.to(kind), exists)
        tl.store(to + C, d_i.to(kind), exists)
        tl.store(to + 2 * C, d_o.to(kind), exists)
        tl.store(to + 3 * C, d_g.to(kind), exists)
    if not VARIES:
        tl.store(d_carried + program * C + c, tl.sum(sums, 0), c < C)
