"""Whose operations compute: PyTorch's, or `kernels` in training on a GPU."""

from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import conv2d

# earlier compilers give kernels maps of other strides than they ask for
_COMPILABLE = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 7)
_kernels: ModuleType | None = None


def use_kernels(device: torch.device | None) -> None:
    """Have the kernels compute from here on, in all training on GPUs; with None, no longer.

    A small case is computed with and without them first.

    Raises:
        RuntimeError: they do not run on this GPU, or not rightly.
    """
    global _kernels
    _kernels = None
    if device is None:
        return
    try:
        from . import kernels

        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            raise RuntimeError("they need a GPU of compute capability 8.0 or later")
        _compare(kernels, device)
    except Exception as error:  # Triton, its compiler and the driver have many of their own
        raise RuntimeError(str(error).strip().split("\n")[0]) from error
    _kernels = kernels


def kernels_for(x: Tensor, channels: int) -> ModuleType | None:
    """The kernels, if they are to compute a map of so many channels and of x's other sizes."""
    if _kernels is None or not x.is_cuda or not torch.is_grad_enabled():
        return None
    if torch.compiler.is_compiling() and not _COMPILABLE:
        return None
    n, _, height, width = x.shape
    return _kernels if n * height * width * channels < 2**31 else None  # they count in 32 bits


def _compare(kernels: ModuleType, device: torch.device) -> None:
    """Each kernel with what it stands for."""

    def values(*shape: int) -> Tensor:
        x = torch.randn(shape, generator=generator).to(device, torch.bfloat16).float()
        if len(shape) == 4 and shape[0] == 2:
            x = x.contiguous(memory_format=torch.channels_last)
        return x.requires_grad_()

    def cross(x: Tensor, vertical: Tensor, horizontal: Tensor, bias: Tensor) -> Tensor:
        channels = x.shape[1]
        y = x + conv2d(x, vertical, bias, padding=(3, 0), groups=channels)
        return y + conv2d(x, horizontal, padding=(0, 3), groups=channels)

    def cell_update(gates: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        f, i, o, g = gates.chunk(4, dim=1)
        cell = f.sigmoid() * carried + i.sigmoid() * g.tanh()
        return cell, o.sigmoid() * cell.tanh()

    generator = torch.Generator().manual_seed(0)
    cases = [
        (
            "from_map",
            lambda x, w, b: conv2d(x, w, b, padding=3),
            (values(2, 1, 16, 16), values(16, 1, 7, 7), values(16)),
        ),
        (
            "to_map",
            lambda x, w, b: conv2d(x, w, b, padding=1),
            (values(2, 16, 16, 16), values(1, 16, 3, 3), values(1)),
        ),
        (
            "cross",
            cross,
            (values(2, 16, 16, 16), values(16, 1, 7, 1), values(16, 1, 1, 7), values(16)),
        ),
        ("cell_update", cell_update, (values(2, 64, 16, 16), values(2, 16, 16, 16))),
        ("cell_update", cell_update, (values(2, 64, 16, 16), values(1, 16, 1, 1))),
    ]
    for name, plain, arguments in cases:
        found, expected = (
            _with_gradients(function, arguments) for function in (getattr(kernels, name), plain)
        )
        for a, b in zip(found, expected, strict=True):
            if not (a - b).norm() < 0.01 * b.norm():  # TF32 is finer; nan is not
                raise RuntimeError(f"{name} is wrong on this GPU")


def _with_gradients(function, arguments: tuple[Tensor, ...]) -> list[Tensor]:
    """What a function returns, and the gradient of each argument."""
    results = function(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    loss = sum(x.square().sum() for x in results)
    return [x.detach() for x in results] + list(torch.autograd.grad(loss, arguments))
