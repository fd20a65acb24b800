"""Drawings of curves.

Matplotlib, which takes a second to load, is imported where it draws: processes that score do not.
"""

import io
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np

from .evaluation import Evaluation

_AXES = {
    "roc": ("false positive rate of pixels", "true positive rate of pixels", 1e-7),
    "froc": ("Fa (false pixels per pixel)", "Pd", 1e-8),
    "precision_recall": ("recall of pixels", "precision of pixels", None),
}
_CHINESE = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
)
PLOTS = tuple(_AXES)  # what `draw` may give
_AXES_OF_TARGETS = ("false positive rate of pixels", "touched targets", 1e-7)


def draw(evaluations: Sequence[Evaluation], protocol: str) -> dict[str, bytes]:
    """PNG files by the name of the curve, the methods together in each."""
    from matplotlib.figure import Figure

    results = [evaluation.results[protocol] for evaluation in evaluations]
    drawn = {}
    for curve in results[0].curves:
        x_label, y_label, left = _AXES[curve]
        if curve == "roc" and results[0].protocol.roc_rule == "targets":
            x_label, y_label, left = _AXES_OF_TARGETS
        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.add_subplot()
        for evaluation, result in zip(evaluations, results, strict=True):
            _, x, y = result.curves[curve]
            if left and curve == "roc":
                x, y = _straight(x, y, left)
            if left:  # a point at 0 lies at the left edge
                x = x.clip(left)
            style = "steps-post" if curve == "froc" else "default"
            marker = "." if curve == "froc" else ""
            axes.plot(x, y, label=_label(evaluation.name), drawstyle=style, marker=marker)
        if left:
            axes.set_xscale("log")
            axes.set_xlim(left, 1)
        else:
            axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(f"{curve.replace('_', '-')}, {protocol} protocol", fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(prop={"family": _families()})
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
        drawn[curve] = buffer.getvalue()
    return drawn


def _straight(x: np.ndarray, y: np.ndarray, left: float) -> tuple[np.ndarray, np.ndarray]:
    """More points on the lines between those of a rising curve, which a logarithmic axis bends: the
    area under them is what is reported."""
    if not len(x) or np.isnan(x).any() or np.isnan(y).any():
        return x, y
    between = np.geomspace(left, 1, 1000)
    x, y = np.r_[x, between], np.r_[y, np.interp(between, x, y)]
    order = np.lexsort((y, x))
    return x[order], y[order]


def _label(name: str) -> str:
    """A name as Matplotlib shows it: no formula, and left out of no legend."""
    return ("\u200a" if name.startswith("_") else "") + name.replace("$", r"\$")


@cache
def _families() -> list[str]:
    """Matplotlib's own font, and the first of this system with Chinese characters."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _CHINESE if name in installed][:1]]
