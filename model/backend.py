"""Whose operations compute: PyTorch's, or `kernels` in training on a GPU."""

from types import ModuleType

import torch
from torch import Tensor

_LEAST_CAPABILITY = (8, 0)
KERNELS_NEED = f"a GPU of compute capability {'.'.join(map(str, _LEAST_CAPABILITY))}"
# earlier compilers give kernels maps of other strides than they ask for
_COMPILABLE = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 7)
_kernels: ModuleType | None = None


def can_use_kernels(device: torch.device) -> bool:
    """Whether a GPU has what the kernels need."""
    return torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY


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

        if device.type == "cuda" and not can_use_kernels(device):
            raise RuntimeError(f"they need {KERNELS_NEED} or later")
        kernels.check(device)
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
