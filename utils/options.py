"""The command line: one line for bad input, and the help that all doors share."""

import argparse
import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    import torch

LARGEST_SIDE = 16384  # px, of the largest image that is read
_OF_THE_PLACE = (  # errors that say nothing of the code
    errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO
)  # fmt: skip
_CONTROL = re.compile("[\\x00-\\x1f\\x7f\\x85\\u2028\\u2029]")


class InputError(Exception):
    """What the person at the keyboard can put right: which file, what was expected, what to do.

    A door prints the message as one line and ends with exit code 2.
    """


class Stopped(Exception):
    """A signal asked a job to stop, and it has saved its state; a door says how to go on."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


class Parser(argparse.ArgumentParser):
    """An argument parser with errors of one line and without abbreviated options."""

    def __init__(self, description: str):
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
        )
        # no option begins with a digit: what does is a value, in the -20,-5 of --range, too
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def parse_known_args(self, args=None, namespace=None):
        """As `argparse` has it, but for empty values: a shell's variable that is not set would mean
        the current folder."""
        given = sys.argv[1:] if args is None else list(args)
        if "" in given or any(re.fullmatch(r"--[\w-]+=", text) for text in given):
            self.error("an argument is empty; is a variable of the shell not set?")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} ({self.prog} --help lists the options)")


def run_door(door: Callable[[], int | None]) -> NoReturn:
    """Run a script's main function; exit code 2 for bad input, 128 + the signal if stopped, else
    what it returns, or 0."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed by what started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # a name that the terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    try:
        with _unwound_by_sigterm():
            code = door()
            sys.stdout.flush()
    except InputError as error:
        _fail(str(error))
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
            raise
        _fail(str(error))
    except OSError as error:
        if error.filename is not None and error.errno in _OF_THE_PLACE:
            _fail(f"{error.filename}: cannot be read or written ({error.strerror})")
        if not _of_closed_pipe(error) and error.errno not in _OF_THE_PLACE:
            raise
        try:
            print(flush=True)
        except OSError as failed:
            _silence(sys.stdout)
            if not _of_closed_pipe(failed):
                _fail(f"the output cannot be written ({failed.strerror})")
            sys.exit(141)  # whoever read it, such as head, has enough
        raise
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    line = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], message)  # a name may hold line feeds
    with suppress(OSError):  # of stderr
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def _unwound_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does, so that nothing half-written is left."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"  # others of a group wait where none is heard
    if (
        not alone
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    process = os.getpid()

    def stop(number: int, frame: object) -> NoReturn:
        if os.getpid() != process:  # forked of it, with nothing of its own to unwind
            os._exit(128 + number)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher may send it twice
        for child in multiprocessing.active_children():  # else their work is waited for
            child.kill()  # one that has just been forked may not hear another signal
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _of_closed_pipe(error: OSError) -> bool:
    # Windows says EINVAL, https://github.com/python/cpython/issues/79935
    return isinstance(error, BrokenPipeError) or (
        sys.platform == "win32" and error.errno == errno.EINVAL
    )


def _silence(stream: TextIO) -> None:
    """Have what is written to a stream go nowhere."""
    with suppress(OSError):  # a stream of no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Unheard:
    """An output stream, or nothing once it has failed."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _silence(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unheard() -> Iterator[None]:
    """While it is open, work goes on where nobody reads the output any more: Ctrl-C also ends a
    ``tee`` that it is piped to, and a disk can be full."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Unheard(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def positive(text: str) -> int:
    """An integer of at least 1, less than any that torch cannot take; like those below, for
    ``type=``."""
    return _checked(int, text, lambda value: 1 <= value <= 10**9, "a whole number from 1 to 10^9")


def non_negative(text: str) -> int:
    """An integer of at least 0, of 63 bits: torch takes no larger seed."""
    return _checked(int, text, lambda value: 0 <= value < 2**63, "a whole number of at least 0")


def side(text: str) -> int:
    """The side of an image in px: of at least 1, of at most the largest that is read."""
    expected = f"a number of px from 1 to {LARGEST_SIDE}"
    return _checked(int, text, lambda value: 1 <= value <= LARGEST_SIDE, expected)


def side_or_0(text: str) -> int:
    """0, or what `side` takes."""
    expected = f"0 or a number of px up to {LARGEST_SIDE}"
    return _checked(int, text, lambda value: 0 <= value <= LARGEST_SIDE, expected)


def positive_float(text: str) -> float:
    """A number above 0 that float32 can hold."""
    return _checked(float, text, lambda value: 0 < value < 1e38, "a number above 0")


def non_negative_float(text: str) -> float:
    """A number of at least 0 that float32 can hold."""
    return _checked(float, text, lambda value: 0 <= value < 1e38, "a number of at least 0")


def fraction(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    return _checked(float, text, lambda value: 0 < value < 1, "a number between 0 and 1")


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _checked(float, text, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _checked(kind: type, text: str, holds: Callable[[Any], bool], expected: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"{text} is not {expected}")
    return value


def choose_device(name: str) -> "torch.device":
    """``auto`` is the GPU where there is one.

    Raises:
        InputError: no such device on this machine.
    """
    import torch  # here, for it takes seconds, and scoring does without

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # some devices fail only when they must compute
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0][:120]
        raise InputError(f"--device {name}: not usable here ({reason}); try auto or cpu") from error
    return device
