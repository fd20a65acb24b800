"""Time, memory and operations of a piece of work."""

import math
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from utils.memory import memory_errors

MIB = 2**20


def alternate(
    ways: dict[str, Callable[[], Any]], runs: int, wait: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Wall seconds of each way: in turn, after one warm-up of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, work in ways.items():
            wait()
            start = time.perf_counter()
            work()
            wait()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def waiting(device: Any) -> Callable[[], Any]:
    """What makes sure that a device has finished."""
    import torch

    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations, as PyTorch counts them: a multiplication with addition is two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def in_own_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new process, which holds no memory of earlier work.

    Raises MemoryError where there is too little, for which a process may be killed, too.
    """
    try:
        with (
            memory_errors(),
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            return pool.submit(measure, *arguments).result()
    except BrokenProcessPool as error:
        raise MemoryError("a process was ended from outside") from error


def peak_mib(work: Callable[[], Any], device: Any) -> float:
    """The most memory that work takes beyond what is taken before it: of the GPU, or of this
    process, which only Linux tells; NaN elsewhere."""
    import torch

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the most so far
        except OSError:
            return math.nan
        before = _resident("VmRSS")
    work()
    after = torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM")
    return (after - before) / MIB


def _resident(entry: str) -> int:
    """Bytes of this process's memory, by an entry of Linux's /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{entry}:")]
    return 1024 * int(line.split()[1])
