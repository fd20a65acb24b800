"""Exported predictions: ``<results>/<dataset>/{img/*.png, mat/*.mat, predictions.json}``."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat
from scipy.special import expit

from .data.catalogue import same_name
from .data.images import png_buffer, row_blocks
from .files import new_file, read_json, write_bytes, write_json
from .options import InputError

RECORD = "predictions.json"  # what the maps were made from, and whether they are complete
_COMPRESSED = 2**22  # pixels of the largest map that is: compressing takes two more copies


def map_path(folder: Path, kind: str, name: str) -> Path:
    """Where a kind of output of an image is: ``img``, ``mat``, ``mask``, ``overlay``, ..."""
    return folder / kind / f"{name}.{'mat' if kind == 'mat' else 'png'}"


def write_probability(path: Path, logits: np.ndarray) -> None:
    """Write logits (H, W) as probability x 255, in 8 bits."""
    levels = np.empty(logits.shape, np.uint8)
    for rows in row_blocks(logits):
        np.rint(expit(logits[rows]) * 255, out=levels[rows], casting="unsafe")
    write_bytes(path, png_buffer(levels))


def write_logits(path: Path, logits: np.ndarray) -> None:
    """Write logits (H, W) as float32 variable ``T``."""
    content = {"T": logits.astype(np.float32, copy=False)}
    with new_file(path) as file:
        savemat(file, content, do_compression=logits.size <= _COMPRESSED)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of an export; empty where there is none."""
    path = folder / RECORD
    return read_json(path) if path.exists() else {}


def find_export(results: Path, dataset: str | None) -> Path:
    """The folder of a data set's predictions, or for None that of the newest export.

    Args:
        dataset: a folder of this very name goes before one of another spelling.

    Raises:
        InputError: there is none, or it was interrupted.
    """
    if dataset:
        folders = [p for p in results.glob("*") if p.is_dir() and same_name(p.name, dataset)]
        folders.sort(key=lambda path: (path.name == dataset, path.name))
    else:
        records = sorted(results.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime_ns)
        folders = [path.parent for path in records]
    if not folders:
        raise InputError(
            f"{results}: no predictions of {dataset or 'any data set'}; run t_models.py"
        )
    if not read_record(folders[-1]).get("complete", True):
        raise InputError(f"{folders[-1]}: its export was interrupted; run t_models.py again")
    return folders[-1]
