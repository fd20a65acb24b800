"""Where and how fast to train: device, precision, memory layout. Nothing here is a recipe's."""

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.backend import use_kernels

from ..memory import memory_errors
from ..options import InputError
from ..precision import autocast, set_products

_LARGEST_BATCH = 1024  # images that --batch-size auto tries


@dataclass(frozen=True)
class Runtime:
    device: torch.device
    workers: int = 0  # processes that load images
    precision: str = "fp32"  # of PRECISIONS, but auto
    compiled: bool = False
    graph: bool = False  # replay a step's kernels as one CUDA graph
    kernels: bool = False  # compute by model/kernels.py where that runs
    save_minutes: float = 10.0  # from one checkpoint within an epoch to the next
    cache: Path | None = None  # folder of decoded images; None: decode them every time

    def autocast(self) -> contextlib.AbstractContextManager:
        return autocast(self.device, self.precision)

    def prepare(self) -> None:
        """Settings of the whole process."""
        if self.device.type != "cuda":
            return
        if self.device.index is not None:
            torch.cuda.set_device(self.device)
        set_products(self.precision)
        try:
            use_kernels(self.device if self.kernels else None)
        except RuntimeError as error:
            warnings.warn(f"without the Triton kernels, which is slower: {error}", stacklevel=2)

    def move(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, memory_format=torch.channels_last)

    def describe(self) -> str:
        """For the log: the GPU, or how the CPU computes."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"{torch.get_num_threads()} threads, {allocator()}, {self.precision}"


def allocator() -> str:
    """The memory allocator of this process: glibc's slows training on the CPU down."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "the system's allocator"
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in maps:
            return name
    return "glibc's allocator (jemalloc is faster, see README)"


def memory_mib(device: torch.device) -> float | None:
    """The most memory used so far: of the GPU, else of this process; None where none says it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def largest_batch(step: Callable[[int], Any], least: int = 1) -> int:
    """The largest power of two of images with which a training step fits into memory.

    Args:
        step: runs one, with so many images; raises an error of memory where they do not fit.
        least: not fewer than this.

    Raises:
        InputError: not even these fit.
    """
    fits = 0
    size = least
    while size <= _LARGEST_BATCH:
        try:
            with memory_errors():
                step(size)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            break
        fits, size = size, 2 * size
    if not fits:
        raise InputError(f"--batch-size auto: the GPU's memory does not hold a batch of {least}")
    return fits
