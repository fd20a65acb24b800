"""Where and how fast to train: device, precision, memory layout. Nothing here is a recipe's."""

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.backend import KERNELS_NEED, can_use_kernels, use_kernels

from ..memory import memory_errors
from ..options import InputError
from ..precision import autocast, choose_precision, set_products

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


def choose_runtime(
    device: torch.device,
    *,
    world: int = 1,
    workers: int | None = None,
    precision: str = "auto",
    compiled: bool = False,
    graph: bool | None = None,
    kernels: bool | None = None,
    save_minutes: float = 10.0,
    cache: Path | None = None,
) -> Runtime:
    """What is asked for; where nothing is (None, or ``auto``), what a device is fastest with.

    Args:
        world: processes that train together.

    Raises:
        InputError: an option that this device cannot follow.
    """
    on_gpu = device.type == "cuda"
    triton = on_gpu and find_spec("triton") is not None
    if kernels and not on_gpu:
        raise InputError("--kernels: for a GPU; leave it out")
    for name, wanted in (("compile", compiled), ("kernels", kernels)):
        if wanted and on_gpu and not triton:
            raise InputError(f"--{name}: needs the package triton, which is not there")
    capable = triton and can_use_kernels(device)
    if kernels and not capable:
        raise InputError(f"--kernels: needs {KERNELS_NEED}; leave it out")
    precision = choose_precision(precision, device)
    graphs = on_gpu and world == 1 and precision != "fp16"
    if graph and not graphs:
        raise InputError("--graph: for one GPU, and not in fp16; leave it out")
    return Runtime(
        device,
        (4 if on_gpu else 0) if workers is None else workers,
        precision,
        compiled,
        graph=graphs and graph is not False,
        kernels=capable and kernels is not False,
        save_minutes=save_minutes,
        cache=cache,
    )


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
