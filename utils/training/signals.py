"""Signals that ask a training to stop, and the processes that load its images."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from torch import Tensor
from torch.utils.data import DataLoader

from ..data.sampling import EpochBatches, TrainingView
from ..options import InputError

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")  # the last: Ctrl-Break, of Windows
    if hasattr(signal, name)
]


class Signals:
    """While it is open, Ctrl-C, SIGTERM and Windows' Ctrl-Break are noted, not obeyed.

    A second Ctrl-C a second later or more interrupts; a launcher may send the same signal twice.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.time = 0.0

    def __enter__(self) -> "Signals":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self.time = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self.time >= 1:
            raise KeyboardInterrupt


def leave_group(worker: int) -> None:
    """In a process that loads images: Ctrl-C and a launcher's signals go to the process group, and
    that which trains decides when to stop."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    else:  # Windows
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _own_handler_of_children() -> Iterator[None]:
    """Leave the handling of SIGCHLD as it was.

    PyTorch's raises wherever the process is when a worker has died, in the middle of a step, too;
    without it, the next batch is waited for a few seconds, and the error comes from there.
    """
    number = getattr(signal, "SIGCHLD", None)  # not on Windows
    before = number and signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, before)


def loaded(
    loader: DataLoader, batches: EpochBatches, view: TrainingView, signals: Signals
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """The batches of an epoch; what goes wrong in a worker becomes one line.

    Where a signal that was sent to all processes has ended a worker, this process loads the batch:
    other ranks may be in the step, and wait for this one before they look at the signal.
    """
    try:
        with _own_handler_of_children():
            iterator = iter(loader)
    except OSError as error:
        raise InputError(
            f"--workers {loader.num_workers}: a process did not start ({error}); use fewer"
        ) from error
    for planned in batches:
        try:
            yield next(iterator)
        except InputError as error:  # a worker's, with its traceback in the message
            raise InputError(str(error).rstrip().rsplit("InputError: ", 1)[-1]) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            if signals.received is not None:
                yield loader.collate_fn([view[draw] for draw in planned])
                continue
            pairs = [view.samples.pairs[view.shown(draw)] for draw in planned]
            files = ", ".join(str(pair.image) for pair in pairs)
            raise InputError(
                f"a process that loads images died at one of {files}; is there memory enough? "
                "--workers 0 loads them in this process"
            ) from error
