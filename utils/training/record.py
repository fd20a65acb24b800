"""What a run leaves behind: its folder with configuration, log, TensorBoard events and weights."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..files import make_folder, read_json, write_bytes, write_errors, write_json
from ..options import InputError
from .runtime import Runtime

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "scipy", "tensorboard")


class Record:
    """The run folder; made here if it is new. Of several processes only the leader writes.

    Args:
        folder: of a new run, or of one to go on with.
        active: whether this process writes.
        lines: of log.txt so far; what else is in it is of steps that are taken again.
        step: of training, from which on events are written again.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, active: bool, lines: list[str], step: int):
        self.folder, self.active, self.lines = folder, active, lines
        self.events = None
        if active:
            make_folder(folder)
            self._write_log()
            with write_errors(folder):
                self.events = SummaryWriter(str(folder), purge_step=step)

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *error: object) -> None:
        if self.events:
            with write_errors(self.folder):
                self.events.close()

    def write(self, name: str, content: Any) -> None:
        """A JSON file of the folder."""
        if self.active:
            write_json(self.folder / name, content)

    def log(self, line: str) -> None:
        """A line for people: on the terminal and in log.txt."""
        self.lines.append(line)
        if self.active:
            tqdm.write(line)
            self._try(self._write_log)

    def summary(self, content: dict[str, Any]) -> None:
        """summary.json."""
        self._try(lambda: self.write("summary.json", content))

    def scalars(self, values: dict[str, float | None], step: int) -> None:
        if self.events:
            with write_errors(self.folder):
                for name, value in values.items():
                    if value is not None:
                        self.events.add_scalar(name, value, step)

    def picture(self, name: str, maps: Tensor, step: int) -> None:
        """maps: (H, W) in [0, 1]."""
        if self.events:
            with write_errors(self.folder):
                self.events.add_image(name, maps[None].clamp(0, 1), step)

    def session(self, runtime: Runtime) -> None:
        """Add what this process runs on, and how it is to, to environment.json, for each start."""
        if not self.active:
            return
        path = self.folder / "environment.json"
        sessions = read_json(path).get("sessions", []) if path.exists() else []
        plain = (int, float, type(None))
        how = {k: v if isinstance(v, plain) else str(v) for k, v in vars(runtime).items()}
        write_json(path, {"sessions": [*sessions, environment() | {"runtime": how}]})

    def _try(self, write: Callable[[], None]) -> None:
        """Write what is written whole again soon: another program may hold the file just now."""
        try:
            write()
        except InputError as error:
            tqdm.write(f"warning: {error}", file=sys.stderr)

    def _write_log(self) -> None:
        text = "".join(f"{line}\n" for line in self.lines)
        # a path need not be text
        write_bytes(self.folder / "log.txt", text.encode(errors="backslashreplace"))


def environment() -> dict[str, Any]:
    """Versions, hardware, command line and commit."""
    # GPUs are counted, too, where the driver is too old for this PyTorch
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(count)]
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def new_run_folder(runs: Path, dataset: str) -> Path:
    """Make ``<runs>/<dataset>/<date>-<time>``, also where another run begins at the same moment.

    Raises:
        InputError: it cannot be made.
    """
    stem = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder, copies = runs / dataset / stem, 1
    make_folder(folder.parent)
    with write_errors(folder):
        while True:
            try:
                folder.mkdir(parents=True)  # another run may have removed its own just now
                return folder
            except FileExistsError:
                copies += 1
                folder = folder.with_name(f"{stem}-{copies}")


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        InputError: this is no run folder, or not one of this version.
    """
    if not os.access(folder / "config.json", os.R_OK):
        raise InputError(f"{folder}: no run folder, there is no config.json to read in it")
    config = read_json(folder / "config.json")
    for key in ("dataset", "data_root", "data_sha256"):
        if not isinstance(config.get(key), str):
            raise InputError(f"{folder / 'config.json'}: not of this version, it has no {key}")
    return config


def list_runs(runs: Path) -> str:
    """A line for each run, newest last: how far it came, and its best epoch."""
    rows = [("run", "recipe", "epochs", "best", "IoU", "nIoU", "Pd", "Fa x1e-6")]
    for path in sorted(runs.glob("*/*/config.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            rows.append(_row(path))
        except (InputError, AttributeError, TypeError, ValueError):  # the others are shown
            rows.append((str(path.parent), "?", "damaged", *"-----"))
    if len(rows) == 1:
        return f"no run in {runs}"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(path: Path) -> tuple[str, ...]:
    """Of the run of a config.json."""
    config, state = read_json(path), path.with_name("summary.json")
    summary = read_json(state) if state.exists() else {}
    best = summary.get("best") or {}
    figures = [best.get(name) for name in ("iou", "niou", "pd")]
    fa = best.get("fa")
    return (
        str(path.parent),
        str(config.get("recipe_name", "?")),
        f"{summary.get('epoch', 0)}/{config.get('recipe', {}).get('epochs', '?')}",
        str(best.get("epoch", "-")),
        *("-" if value is None else f"{100 * value:.2f}" for value in figures),
        "-" if fa is None else f"{1e6 * fa:.2f}",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of this code; "+" where it has been changed since."""
    here = Path(__file__).resolve().parent
    try:
        run = lambda *command: subprocess.run(  # noqa: E731
            ["git", *command], cwd=here, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return run("rev-parse", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
