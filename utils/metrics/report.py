"""Figures for people and for programs."""

from dataclasses import asdict
from typing import Any

from .counts import Counts, figures

SCHEMA = 1  # of metrics.json; raised when a name in it changes its meaning


def one_line(counts: Counts) -> str:
    """``IoU 0.7812  nIoU 0.7654  Pd 103/109  Fa 12.30e-6``"""
    f = figures(counts)
    return (
        f"IoU {_fixed(f['iou'])}  nIoU {_fixed(f['niou'])}  "
        f"Pd {counts.n_hits}/{counts.n_targets}  Fa {_millionths(f['fa'])}"
    )


def table(counts: Counts) -> str:
    """The figures with the counts they come from, a line each."""
    f, c = figures(counts), counts
    union = c.tp_px + c.fp_px + c.fn_px
    rows = [
        ("IoU", _percent(f["iou"]), f"{c.tp_px} of {union} px"),
        ("nIoU", _percent(f["niou"]), f"mean over {c.n_iou_images} of {c.n_images} images"),
        ("precision", _percent(f["precision"]), f"{c.tp_px} of {c.tp_px + c.fp_px} predicted px"),
        ("recall", _percent(f["recall"]), f"{c.tp_px} of {c.tp_px + c.fn_px} target px"),
        ("F1", _percent(f["f1"]), ""),
        ("Pd", _percent(f["pd"]), f"{c.n_hits} of {c.n_targets} targets"),
        ("Fa", _millionths(f["fa"]), f"{c.fa_px} of {c.n_pixels} px"),
    ]
    return "\n".join(f"{name:<10}{value:>10}   {raw}".rstrip() for name, value, raw in rows)


def as_json(counts: Counts) -> dict[str, Any]:
    """The content of metrics.json: figures as fractions, None where undefined, and the counts."""
    sums = {name: value for name, value in asdict(counts).items() if name != "iou_sum"}
    return {"schema": SCHEMA, "corrected": figures(counts) | sums}


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"


def _fixed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _millionths(value: float | None) -> str:
    return "undefined" if value is None else f"{1e6 * value:.2f}e-6"
