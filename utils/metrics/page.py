"""One self-contained page: the figures, the curves, and every image with what was found in it."""

import base64
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import find_objects

from ..data.images import read_photo
from ..data.ranges import stretched
from ..files import new_text
from ..options import InputError
from . import report
from .counts import compare
from .evaluation import Evaluation
from .matching import Components
from .plots import draw
from .scoring import Image, Job, MapAndMask, image_iou

PAGE = "report.html"
THUMBNAIL = 384  # px, the longest side of a picture

_STYLE = """
:root { color-scheme: dark; --ground: #14161a; --card: #1e2127; --text: #e6e8eb; --dim: #9aa1ab;
  --truth: #5ee06d; --hit: #4fc3ff; --missed: #ffb02e; --false: #ff5a5f; }
body { margin: 0 auto; max-width: 1500px; padding: 1rem; background: var(--ground);
  color: var(--text); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .2rem 0; } p { margin: .3rem 0 .8rem; color: var(--dim); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font: .85rem/1.45 ui-monospace, monospace; }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; white-space: pre; }
.curves { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
.curves img { width: 100%; border-radius: 6px; }
nav { position: sticky; top: 0; padding: .5rem 0; background: var(--ground); z-index: 1;
  display: flex; flex-wrap: wrap; gap: .5rem; }
button { font: inherit; padding: .45rem .9rem; border: 1px solid #444a55; border-radius: 999px;
  background: var(--card); color: var(--text); cursor: pointer; }
button[aria-pressed=true] { background: var(--text); color: var(--ground); }
.gallery { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; padding: .5rem; background: var(--card); border-radius: 8px; }
figure[hidden] { display: none; } figure.large { grid-column: 1 / -1; }
figure svg { display: block; width: 100%; height: auto; cursor: zoom-in; }
figcaption { font-size: .85rem; padding-top: .35rem; overflow-wrap: anywhere; }
path, circle { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.truth { stroke: var(--truth); } .hit { stroke: var(--hit); } .missed { stroke: var(--missed); }
.false { stroke: var(--false); } circle { stroke-dasharray: 5 4; }
.key { display: inline-block; width: 1.2em; border-top: 3px solid; margin: 0 .3em .25em .9em; }
"""

_SCRIPT = """
const buttons = document.querySelectorAll("button"), figures = document.querySelectorAll("figure");
for (const button of buttons) button.onclick = () => {
  for (const other of buttons) other.setAttribute("aria-pressed", other === button);
  const wanted = button.dataset.filter;
  for (const f of figures) f.hidden = wanted !== "all" && !f.dataset.is.split(" ").includes(wanted);
};
for (const f of figures) f.querySelector("svg").onclick = () => f.classList.toggle("large");
"""


def write_page(path: Path, evaluation: Evaluation, job: Job, pictures: dict[str, Path]) -> None:
    """Write the page of a method, by the first of its protocols.

    Args:
        path: the file.
        evaluation: the method.
        job: what it was scored from.
        pictures: of its images, by name; where one is missing or cannot be read, the probability is
            shown.

    Raises:
        InputError: a map that cannot be read, a file that cannot be written.
    """
    files = {name: (prediction, mask) for name, prediction, mask in job.files}
    order = sorted(evaluation.images, key=_worst_first)
    kinds = {image.name: _kinds(image) for image in evaluation.images}
    with new_text(path) as file:
        file.writelines(_head(evaluation, list(kinds.values())))
        for image in order:
            file.write(_card(image, kinds[image.name], *files[image.name], job, pictures))
        file.write(f"</div>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n")


def _worst_first(image: Image) -> tuple[bool, float, str]:
    iou = image_iou(image.counts)
    return iou is None, iou or 0.0, image.name


def _kinds(image: Image) -> list[str]:
    missed = image.counts.n_targets > image.counts.n_hits
    kinds = ["missed"] * missed + ["false"] * (image.counts.n_false > 0)
    return kinds or ["perfect"] * (not image.counts.n_left_out)


def _head(evaluation: Evaluation, kinds: list[list[str]]) -> Iterator[str]:
    protocol, result = next(iter(evaluation.results.items()))
    title = escape(f"{evaluation.name}: {result.counts.n_images} images")
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )
    for warning in evaluation.warnings:
        yield f"<p>Warning: {escape(warning)}</p>\n"
    yield '<div class="scroll"><table>\n'
    for row in report.rows(evaluation):
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
    yield '</table></div>\n<div class="curves">\n'
    for name, png in draw([evaluation], protocol).items():
        yield f'<img alt="{escape(name)}" src="{_data_uri("png", png)}">\n'
    yield (
        f"</div>\n<p>Each image by the {escape(protocol)} protocol, worst IoU first:"
        '<span class="key truth" style="border-color:var(--truth)"></span>target hit'
        '<span class="key" style="border-color:var(--hit)"></span>its prediction'
        '<span class="key" style="border-color:var(--missed)"></span>target missed'
        '<span class="key" style="border-color:var(--false)"></span>false alarm</p>\n<nav>\n'
    )
    for kind, label in (
        ("all", "All"), ("missed", "Missed"), ("false", "False alarm"), ("perfect", "Perfect"),
    ):  # fmt: skip
        n = len(kinds) if kind == "all" else sum(kind in of_image for of_image in kinds)
        pressed = str(kind == "all").lower()
        yield f'<button data-filter="{kind}" aria-pressed="{pressed}">{label} ({n})</button>\n'
    yield '</nav>\n<div class="gallery">\n'


def _card(
    image: Image,
    kinds: list[str],
    prediction_file: Path,
    mask_file: Path,
    job: Job,
    pictures: dict[str, Path],
) -> str:
    protocol = job.protocols[0]
    both = MapAndMask.read(prediction_file, mask_file, job.kind)
    prediction, true = both.sized(protocol, job.resize)
    _, true_parts, predicted_parts, pairs, hit = compare(prediction, true, protocol)
    picture = prediction.relative
    if image.name in pictures:
        with suppress(InputError):
            picture = stretched(read_photo(pictures[image.name]), "auto")
    height, width = true.shape

    missed = np.ones(len(true_parts.areas), bool)
    missed[[t for t, _ in pairs]] = False
    outlines = [
        *_outlines(true_parts, np.where(missed, "missed", "truth")),
        *_outlines(predicted_parts, np.where(hit, "hit", "false")),
    ]
    radius = max(height, width) / 20
    for kind, centroids in (
        ("missed", true_parts.centroids[missed]),
        ("false", predicted_parts.centroids[~hit]),
    ):
        for x, y in centroids + 0.5:  # pixel centres
            outlines.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')

    iou = image_iou(image.counts)
    c = image.counts
    caption = (
        f"<b>{escape(image.name)}</b> IoU {'-' if iou is None else f'{iou:.3f}'}, "
        f"{c.n_hits}/{c.n_targets} hit, {c.n_false} false"
    )
    return (
        f'<figure data-is="{" ".join(kinds)}"><svg viewBox="0 0 {width} {height}">'
        f'<image href="{_data_uri("jpeg", _jpeg(picture))}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none"/>{"".join(outlines)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _outlines(parts: Components, kinds: np.ndarray) -> Iterator[str]:
    """The outline of each component, half a pixel outside it."""
    for i, (box, kind) in enumerate(zip(find_objects(parts.labels), kinds, strict=True)):
        cut = (parts.labels[box] == i + 1).astype(np.uint8)
        # twice as large, so that the line through pixel centres runs outside the component
        grown = np.pad(cut.repeat(2, axis=0).repeat(2, axis=1), 2)
        grown = cv2.dilate(grown, np.ones((3, 3), np.uint8))
        contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        offset = np.array([box[1].start, box[0].start]) - 0.75
        path = "".join(
            "M" + "L".join(f"{x:g} {y:g}" for x, y in contour[:, 0] / 2 + offset) + "Z"
            for contour in contours
        )
        yield f'<path class="{kind}" d="{path}"/>'


def _jpeg(picture: np.ndarray) -> bytes:
    """(H, W) in [0, 1] -> a small JPEG, its contrast stretched."""
    scale = min(1.0, THUMBNAIL / max(picture.shape))
    fy, fx = (max(scale, 1 / side) for side in picture.shape)  # a pixel at least
    small = cv2.resize(picture.astype(np.float32), None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
    low, high = small.min(), small.max()
    levels = (255 * (small - low) / (high - low or 1)).astype(np.uint8)
    return cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
