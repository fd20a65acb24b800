"""Exported predictions: ``<results>/<dataset>/{img/*.png, mat/*.mat, predictions.json}``."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from scipy.special import expit

from .data.catalogue import same_name
from .data.images import encode_png
from .files import read_json, write_bytes, write_json
from .options import InputError

RECORD = "predictions.json"  # what the maps were made from, and whether they are complete


def map_paths(folder: Path, stem: str) -> tuple[Path, Path]:
    """Where the probability (PNG) and the logits (MAT) of an image are."""
    return folder / "img" / f"{stem}.png", folder / "mat" / f"{stem}.mat"


def write_maps(folder: Path, stem: str, logits: np.ndarray) -> None:
    """Write logits (H, W) as probability x 255 in 8 bits, and as float32 variable ``T``."""
    probability, mat = map_paths(folder, stem)
    write_bytes(probability, encode_png(np.rint(expit(logits) * 255).astype(np.uint8)))
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"T": logits.astype(np.float32)}, do_compression=True)
    write_bytes(mat, buffer.getvalue())


def write_record(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of an export; empty where there is none."""
    path = folder / RECORD
    return read_json(path) if path.exists() else {}


def remove_scores(folder: Path) -> None:
    """Remove what was written about earlier maps of an export: figures, tables, pictures."""
    for pattern in ("metrics.json", "*.csv", "report.html", "*.png"):
        for path in folder.glob(pattern):
            path.unlink()


def find_export(results: Path, dataset: str | None) -> Path:
    """The folder of a data set's predictions, or for None that of the newest export.

    Raises:
        InputError: there is none, or it was interrupted.
    """
    if dataset:
        folders = [p for p in results.glob("*") if p.is_dir() and same_name(p.name, dataset)]
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
