"""Measure speed and memory: ratios of two ways to do the same work, in one run.

python tools/benchmark.py metrics    scoring, against the published protocol's loops
"""

import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.utils.metrics import plain  # the published protocol as it is worded
from utils.data.scenes import make_scene
from utils.files import write_json
from utils.metrics.counts import compare
from utils.metrics.curves import froc_sums, pixel_sums, target_sums
from utils.metrics.intervals import resampled
from utils.metrics.protocols import CORRECTED, PUBLISHED, Map
from utils.metrics.scoring import Job, score
from utils.options import Parser, positive, run_door

SIZE = 256  # px


def main() -> None:
    parser = Parser("Measure speed and memory of parts of this project; medians of paired runs.")
    parser.add_argument("subject", choices=["metrics"], help="what to measure")
    parser.add_argument(
        "--runs", type=positive, default=7, metavar="N", help="of each way (default %(default)s)"
    )
    parser.add_argument(
        "--images", type=positive, default=32, metavar="N", help="of a run (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    found = metrics(arguments.runs, arguments.images)
    for name, value in found.items():
        print(f"{name:<58} {value:>10.3f}" if isinstance(value, float) else f"{name:<58} {value}")
    if arguments.json:
        write_json(arguments.json, found)


def metrics(runs: int, n_images: int) -> dict[str, Any]:
    """Milliseconds an image at 256 x 256 on one core, and the memory of scoring."""
    cv2.setNumThreads(1)
    items = [_prediction(seed) for seed in range(n_images)]
    ways = {
        "corrected with ROC and intervals": lambda: [_corrected(*item) for item in items],
        "corrected with ROC, FROC and intervals": lambda: [
            _corrected(*item, froc=True) for item in items
        ],
        "published": lambda: [_published(*item) for item in items],
        "published, as worded": lambda: [plain.evaluate(*item) for item in items],
    }
    seconds = alternate(ways, runs)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    }
    found |= {f"ms an image, {n}": 1e3 * v / n_images for n, v in median.items()}
    worded = seconds["published, as worded"]
    for name in list(ways)[:-1]:
        ratios = [slow / fast for slow, fast in zip(worded, seconds[name], strict=True)]
        found[f"times faster than as worded, {name}"] = statistics.median(ratios)
    for factor in (5, 30):
        found[f"peak MiB, {factor * n_images} images"] = _peak(items, factor * n_images)
    return found


def alternate(ways: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Wall seconds of each way: in turn, after one warm-up of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _prediction(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits as a network gives them, targets and clutter found in part; and the mask."""
    scene = make_scene(seed, SIZE, SIZE)
    random = np.random.default_rng(seed)
    true = scene.mask > 0
    logits = cv2.GaussianBlur(random.normal(size=true.shape), (0, 0), 2)
    logits = -8 + 1.5 * logits / logits.std() + 14 * cv2.GaussianBlur(true.astype(float), (0, 0), 1)
    return logits.astype(np.float32), true


def _corrected(logits: np.ndarray, true: np.ndarray, froc: bool = False) -> None:
    prediction = Map(logits)
    comparison = compare(prediction, true, CORRECTED)
    pixel_sums(prediction, true)
    resampled("image", comparison.counts, 0)
    if froc:
        froc_sums(prediction, comparison.true)


def _published(logits: np.ndarray, true: np.ndarray) -> None:
    prediction = Map(logits)
    comparison = compare(prediction, true, PUBLISHED)
    target_sums(prediction, comparison.true)
    resampled("image", comparison.counts, 0)


def _peak(items: list[tuple[np.ndarray, np.ndarray]], n: int) -> float:
    """Most memory that Python and NumPy hold while n images are scored from files, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, (logits, true) in enumerate(items):
            prediction, mask = Path(folder, f"{i}.npy"), Path(folder, f"{i}.png")
            np.save(prediction, logits)
            cv2.imwrite(str(mask), true.astype(np.uint8) * 255)
            files.append((str(i), prediction, mask))
        files = [files[i % len(files)] for i in range(n)]
        tracemalloc.start()
        total = None
        for chunk in score(Job(files, [CORRECTED, PUBLISHED], "logits")):
            scores = chunk.scores
            total = [a + b for a, b in zip(total, scores, strict=True)] if total else scores
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 2**20


if __name__ == "__main__":
    run_door(main)
