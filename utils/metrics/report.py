"""Figures for people: lines and tables."""

from collections.abc import Sequence

from .counts import AREA_BINS, Counts, figures
from .evaluation import Difference, Evaluation, Result, differences

TABLE_FORMATS = {"markdown": "comparison.md", "latex": "comparison.tex", "csv": "comparison.csv"}

# name in metrics.json -> heading
_COMPARED = {
    "iou": "IoU", "niou": "nIoU", "precision": "Precision", "recall": "Recall", "f1": "F1",
    "pd": "Pd", "fa": "Fa", "hiou": "hIoU", "roc_auc": "AUC",
}  # fmt: skip
_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
)


def one_line(counts: Counts) -> str:
    """``IoU 0.7812  nIoU 0.7654  Pd 103/109  Fa 12.30e-6``"""
    f = figures(counts)
    return (
        f"IoU {_fixed(f['iou'])}  nIoU {_fixed(f['niou'])}  "
        f"Pd {counts.n_hits}/{counts.n_targets}  Fa {_millionths(f['fa'])}"
    )


def table(evaluation: Evaluation) -> str:
    """The protocols side by side: each figure, its 95 % interval, the counts it comes from."""
    lines = rows(evaluation)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    text = ("   ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in text)


def rows(evaluation: Evaluation) -> list[list[str]]:
    """The cells of `table`: a heading, and a row for each figure."""
    results = evaluation.results.values()
    columns = [_column(result) for result in results]
    names = dict.fromkeys(name for column in columns for name in column)
    heading = ["", *(f"{r.protocol.name}, {size_name(r.protocol.size)}" for r in results)]
    return [heading, *([name, *(c.get(name, "") for c in columns)] for name in names)]


def comparison(evaluations: Sequence[Evaluation], style: str = "markdown") -> str:
    """A table for each protocol: methods below each other, the best figure of each column in bold;
    below them the difference of each to the first, with its 95 % interval.

    Args:
        evaluations: the methods.
        style: one of `TABLE_FORMATS`; csv is one table, of the figures alone.
    """
    protocols = [result.protocol for result in evaluations[0].results.values()]
    if style == "csv":
        lines = [
            ["protocol", "method"]
            + [f"{h} (x1e-6)" if k == "fa" else f"{h} (%)" for k, h in _COMPARED.items()]
        ]
        for protocol in protocols:
            lines += ([protocol.name, *row] for row in _figures(evaluations, protocol.name, style))
        return "\n".join(",".join(map(_quoted, line)) for line in lines)
    table, comment = (_latex_table, "% ") if style == "latex" else (_markdown_table, "")
    return "\n\n".join(
        f"{comment}{p.name}, {size_name(p.size)}:\n\n"
        + table(_figures(evaluations, p.name, style) + _differences(evaluations, p.name))
        for p in protocols
    )


def _figures(evaluations: Sequence[Evaluation], protocol: str, style: str) -> list[list[str]]:
    """A row for each method."""
    found = [evaluation.results[protocol].figures for evaluation in evaluations]
    rows = [[evaluation.name] for evaluation in evaluations]
    for name in _COMPARED:
        values = [figure[name] for figure in found]
        texts = [_bare(name, value) for value in values]
        known = [t for t, v in zip(texts, values, strict=True) if v is not None]
        best = (min if name == "fa" else max)(known, key=float) if known else None
        for row, text in zip(rows, texts, strict=True):
            row.append(_bold(text, style) if text == best else text)
    return rows


def _differences(evaluations: Sequence[Evaluation], protocol: str) -> list[list[str]]:
    """A row for each method but the first."""
    first, *others = evaluations
    rows = []
    for other in others:
        found = differences(other.results[protocol], first.results[protocol])
        cells = (_signed(name, found[name]) for name in _COMPARED)
        rows.append([f"{other.name} - {first.name}", *cells])
    return rows


def _latex_table(rows: list[list[str]]) -> str:
    header = [
        "Method",
        *(h + (r" ($\times10^{-6}$)" if h == "Fa" else r" (\%)") for h in _COMPARED.values()),
    ]
    top = [
        rf"\begin{{tabular}}{{l{'r' * len(_COMPARED)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
    ]
    body = [r" & ".join([_latex(row[0]), *row[1:]]) + r" \\" for row in rows]
    return "\n".join([*top, *body, r"\bottomrule", r"\end{tabular}"])


def _markdown_table(rows: list[list[str]]) -> str:
    header = ["method", *(h + (" ×1e-6" if h == "Fa" else " %") for h in _COMPARED.values())]
    rule = ["---", *["---:"] * len(_COMPARED)]
    cells = [header, rule, *([row[0].replace("|", r"\|"), *row[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def size_name(size: int | None) -> str:
    return f"{size}x{size}" if size else "native size"


def _column(result: Result) -> dict[str, str]:
    f, intervals, c = result.figures, result.intervals, result.counts

    def percent(name: str, raw: str) -> str:
        return f"{_percent(f[name]):>9}  {_interval(intervals.get(name), 100):<14}  {raw}".rstrip()

    counted = c.n_images - c.n_left_out
    rows = {
        "IoU": percent("iou", f"{c.tp_px}/{c.tp_px + c.fp_px + c.fn_px} px"),
        "nIoU": percent("niou", f"{c.n_iou_images}/{c.n_images} images"),
        "precision": percent("precision", f"{c.tp_px}/{c.tp_px + c.fp_px} px"),
        "recall": percent("recall", f"{c.tp_px}/{c.tp_px + c.fn_px} px"),
        "F1": percent("f1", ""),
        "Pd": percent("pd", f"{c.n_hits}/{c.n_targets} targets"),
        "Fa x1e-6": f"{_millionths(f['fa'], ''):>9}  {_interval(intervals['fa'], 1e6):<14}  "
        f"{c.fa_px}/{c.fa_of_px} px",
        "pixel FPR x1e-6": f"{_millionths(f['pixel_fpr'], ''):>9}  "
        f"{_interval(intervals['pixel_fpr'], 1e6):<14}  {c.fp_px}/{c.background_px} px",
        "false per image": f"{_fixed(f['fa_per_image']):>9}  "
        f"{_interval(intervals['fa_per_image'], 1):<14}  {c.n_false}/{counted}",
        "target precision": percent(
            "target_precision", f"{c.n_predictions - c.n_false}/{c.n_predictions}"
        ),
        "target F1": percent("target_f1", ""),
        "seg IoU": percent("seg_iou", f"of {c.n_hits} hits"),
        "loc IoU": percent("loc_iou", f"{c.n_hits}/{c.n_targets + c.n_false}"),
        "hIoU": percent("hiou", ""),
    }
    for name, (low, high) in AREA_BINS.items():
        label = f"Pd, {low}-{high} px" if high < float("inf") else f"Pd, > {low - 1} px"
        hits, targets = getattr(c, f"n_hits_{name}"), getattr(c, f"n_targets_{name}")
        rows[label] = percent(f"pd_{name}", f"{hits}/{targets} targets")
    rows["ROC AUC"] = f"{_fixed(f['roc_auc']):>9}"
    for name, label in (
        ("average_precision", "average precision"),
        ("pd_at_fa_1e-6", "Pd at Fa 1e-6"),
        ("pd_at_fa_1e-5", "Pd at Fa 1e-5"),
    ):
        if name in f:
            rows[label] = f"{_percent(f[name]):>9}"
    return rows


def _bare(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1e6 * value:.2f}" if name == "fa" else f"{100 * value:.2f}"


def _signed(name: str, difference: Difference) -> str:
    value, bounds = difference
    if value is None:
        return "-"
    numbers = [f"{(1e6 if name == 'fa' else 100) * v:+.2f}" for v in (value, *(bounds or []))]
    return numbers[0] + (f" [{', '.join(numbers[1:])}]" if bounds else "")


def _bold(text: str, style: str) -> str:
    return {"markdown": f"**{text}**", "latex": rf"\textbf{{{text}}}"}.get(style, text)


def _quoted(cell: str) -> str:
    return f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\n') else cell


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _interval(bounds: list[float] | None, scale: float) -> str:
    return "" if bounds is None else f"[{scale * bounds[0]:.2f}, {scale * bounds[1]:.2f}]"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"


def _fixed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _millionths(value: float | None, unit: str = "e-6") -> str:
    return "undefined" if value is None else f"{1e6 * value:.2f}{unit}"
