"""What a run leaves behind: its folder with configuration, log, TensorBoard events and weights."""

from datetime import datetime
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..files import append_line, make_folder, read_json, write_json
from ..options import InputError


class Record:
    """The run folder; made here if it is new.

    Args:
        folder: of a new run, or of one to go on with.
    """

    def __init__(self, folder: Path):
        make_folder(folder)
        self.folder = folder
        self.events = SummaryWriter(str(folder))

    def write_config(self, config: dict[str, Any]) -> None:
        write_json(self.folder / "config.json", config)

    def log(self, line: str) -> None:
        """A line for people: on the terminal and in log.txt."""
        tqdm.write(line)
        append_line(self.folder / "log.txt", line)

    def scalars(self, values: dict[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.events.add_scalar(name, value, step)

    def close(self) -> None:
        self.events.close()


def new_run_folder(runs: Path, dataset: str) -> Path:
    """A name that is not taken: ``<runs>/<dataset>/<date>-<time>``."""
    stem = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder, copies = runs / dataset / stem, 1
    while folder.exists():
        copies += 1
        folder = runs / dataset / f"{stem}-{copies}"
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        InputError: this is no run folder.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no run folder, there is no config.json in it")
    return read_json(folder / "config.json")
