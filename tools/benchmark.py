"""Measure speed and memory: ratios of two ways to do the same work, in one run.

python tools/benchmark.py inference  the network, against its equations written plainly
python tools/benchmark.py training   a training step, against the same; on a GPU also run_0.py's
python tools/benchmark.py metrics    scoring, against the published protocol's loops
python tools/benchmark.py data       an epoch's images from a cache, against their files
"""

import math
import platform
import statistics
import sys
import tempfile
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.measuring import alternate, in_own_process, operations, peak_mib, waiting
from utils.data.images import encode_png
from utils.data.scenes import make_scene
from utils.files import write_bytes, write_json
from utils.memory import memory_errors
from utils.metrics.counts import compare
from utils.metrics.curves import froc_sums, pixel_sums, target_sums
from utils.metrics.intervals import resampled
from utils.metrics.maps import Map
from utils.metrics.protocols import CORRECTED, PUBLISHED
from utils.metrics.scoring import Job, score
from utils.options import InputError, Parser, positive, run_door

SIZE = 256  # px
STAGES = 5
Figures = Iterator[tuple[str, Any]]


def main() -> None:
    parser = Parser("Measure speed and memory of parts of this project; medians of paired runs.")
    subjects = {"inference": inference, "training": training, "metrics": metrics, "data": data}
    parser.add_argument("subject", choices=subjects, help="what to measure")
    parser.add_argument(
        "--runs", type=positive, default=7, metavar="N", help="of each way (default %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the smallest case alone, to see that it runs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    }
    for name, value in found.items():
        print(f"{name:<58} {value}")
    try:
        with memory_errors():
            for name, value in subjects[arguments.subject](arguments.runs, arguments.quick):
                found[name] = value
                shown = f"{value:>10.3f}" if isinstance(value, float) else str(value)
                print(f"{name:<58} {shown}", flush=True)
    except MemoryError as error:
        raise InputError("too little memory; --quick needs less") from error
    if arguments.json:
        write_json(arguments.json, found)


def inference(runs: int, quick: bool) -> Figures:
    """Milliseconds a batch and ratios, by size, batch and K; and what the machine can do."""
    import torch

    from model.inference import accelerate
    from utils.options import choose_device

    device = choose_device("auto")
    yield from _machine(device)
    cases = [(SIZE, 1, STAGES)]
    cases += [(side, 1, STAGES) for side in (128, 512, 1024)]
    cases += [(SIZE, batch, STAGES) for batch in (4, 16)]
    cases += [(SIZE, 1, stages) for stages in (1, 3, 9)]
    runtime = None
    for size, batch, stages in [(64, 2, 1)] if quick else cases:
        net = _network(stages).eval().to(device)
        weights, fast = net.state_dict(), accelerate(net)
        images = torch.rand(batch, 1, size, size, device=device)
        ways = {
            "plain": lambda w=weights, x=images: list(equations(w, x)),
            "PyTorch": lambda net=fast, x=images: net.target(x),
        }
        if device.type == "cuda":
            ways["PyTorch, autocast"] = lambda net=fast, x=images: _autocast(net, x)
        if stages == STAGES and device.type == "cpu":  # where its session computes
            # exports are slow: one serves all sizes and batches
            runtime = runtime or _onnx(net)
        if runtime and stages == STAGES:
            array = images.cpu().numpy()
            ways["ONNX Runtime"] = lambda r=runtime, x=array: r.run(["target"], {"images": x})
        with torch.inference_mode():
            if size == SIZE and batch == 1:
                yield f"GFLOP, K = {stages}, plain", operations(ways["plain"]) / 1e9
                yield f"GFLOP, K = {stages}, PyTorch", operations(ways["PyTorch"]) / 1e9
            difference = list(equations(weights, images))[-1][1] - fast.target(images)
            seconds = alternate(ways, runs, waiting(device))
        case = f"{size}x{size}, batch {batch}, K = {stages}"
        yield f"largest difference of a logit, {case}", float(difference.abs().max())
        yield from _peaks(_pass_memory, ["plain", "PyTorch"], (size, batch, stages), case)
        yield from _compared(seconds, case)


def _pass_memory(way: str, size: int, batch: int, stages: int) -> float:
    """The most memory that predicting a batch takes, MiB."""
    import torch

    from model.inference import accelerate
    from utils.options import choose_device

    device = choose_device("auto")
    net = _network(stages).eval().to(device)
    weights, fast = net.state_dict(), accelerate(net)
    images = torch.rand(batch, 1, size, size, device=device)

    @torch.inference_mode()
    def work() -> None:
        deque(equations(weights, images), maxlen=1) if way == "plain" else fast.target(images)

    return peak_mib(work, device)


def _autocast(net: Any, images: Any) -> Any:
    """The target maps in the precision that `t_models.py` takes on a GPU."""
    from utils.precision import autocast, choose_precision

    with autocast(images.device, choose_precision("auto", images.device)):
        return net.target(images)


def training(runs: int, quick: bool) -> Figures:
    """Milliseconds and memory of a training step, and ratios, by size, batch and K."""
    from utils.options import choose_device

    device = choose_device("auto")
    yield from _machine(device)
    cases = [(128, 8, STAGES), (SIZE, 8, STAGES)]
    cases += [(128, batch, STAGES) for batch in (1, 4)] + [(128, 8, stages) for stages in (1, 9)]
    ways = ["plain", "PyTorch"]
    if device.type == "cuda":  # the others are in float32, kernel by kernel
        ways.append("run_0.py")
    for size, batch, stages in [(64, 2, 1)] if quick else cases:
        case = f"step, {size}x{size}, batch {batch}, K = {stages}"
        yield from _peaks(_step_memory, ways, (size, batch, stages), case)
        steps = {way: _step(way, size, batch, stages) for way in ways}
        yield from _compared(alternate(steps, runs, waiting(device)), case)


def _peaks(measure: Callable[..., float], ways: list[str], case: tuple, name: str) -> Figures:
    """The most memory that each way takes, and the share of the first."""
    peaks = {way: in_own_process(measure, way, *case) for way in ways}
    for way, peak in peaks.items():
        if not math.isnan(peak):  # only Linux tells
            yield f"peak MiB, {name}, {way}", peak
            if way != ways[0]:
                yield f"peak memory of {ways[0]}'s, {name}, {way}", peak / peaks[ways[0]]


def _step(way: str, size: int, batch: int, stages: int, graph: bool = True) -> Callable[[], Any]:
    """One step of training: forward, the published loss, backward, Adam."""
    import torch
    from torch.nn.functional import mse_loss

    from utils.options import choose_device
    from utils.training.losses import soft_iou

    device = choose_device("auto")
    images = torch.rand(batch, 1, size, size)
    masks = (images > 0.999).float()
    if way == "run_0.py":
        return _own_step(device, stages, images, masks, graph)
    images, masks = images.to(device), masks.to(device)
    net = _network(stages).train().to(device, memory_format=torch.channels_last)
    names = [name for name, _ in net.named_parameters()]
    weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
    if way == "plain":
        parameters = [weights[name].requires_grad_() for name in names]
    else:
        parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters)

    def step() -> None:
        if way == "plain":
            *_, (_, target, reconstruction, _) = equations(weights, images, training=True)
        else:
            target, _, reconstruction = net(images)
        optimizer.zero_grad(set_to_none=True)
        (soft_iou(target, masks) + 0.1 * mse_loss(reconstruction, images)).backward()
        optimizer.step()

    return step


def _own_step(
    device: Any, stages: int, images: Any, masks: Any, graph: bool = True
) -> Callable[[], Any]:
    """A step as `run_0.py` takes it where no option says how.

    Args:
        graph: as one CUDA graph, where one serves: its memory is taken once, and not counted then.
    """
    from utils.training.distributed import TrainingGroup
    from utils.training.recipes import Recipe
    from utils.training.runtime import Runtime, choose_runtime
    from utils.training.step import Replayed, Trainee, train_step

    runtime = choose_runtime(device, graph=None if graph else False)
    recipe = Recipe(stages=stages)
    runtime.prepare()
    trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=1)

    def step() -> float:
        return train_step(trainee, recipe, runtime, images, masks)["loss"]

    for _ in range(Replayed.EAGER + 1):  # the last is captured as a graph, where one serves
        step()
    if runtime.graph:
        Runtime(device).prepare()  # as the other ways compute; the graph keeps what it holds
    return step


def _step_memory(way: str, size: int, batch: int, stages: int) -> float:
    """The most memory that two steps take, MiB."""
    from utils.options import choose_device

    step = _step(way, size, batch, stages, graph=False)
    return peak_mib(lambda: (step(), step()), choose_device("auto"))


def _network(stages: int) -> Any:
    import torch

    from model import build_model

    torch.manual_seed(0)
    return build_model(stages=stages)


def equations(*arguments: Any, **options: Any) -> Any:
    """The network, one plain operation after the other."""
    from tests.model.plain import stages

    return stages(*arguments, **options)


def _onnx(net: Any) -> Any:
    """An ONNX Runtime session, or None where it is not installed."""
    from tools.export_onnx import export
    from utils.prediction.networks import onnx_session

    try:
        return onnx_session(export(net, {}, ""), threads=_threads())
    except InputError as error:
        print(f"without ONNX Runtime: {error}", file=sys.stderr)
        return None


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _machine(device: Any) -> Figures:
    """What it computes with, and how fast it multiplies and copies."""
    import torch

    from utils.training.runtime import Runtime

    runtime = Runtime(device)
    runtime.prepare()  # float32 without TF32
    yield "computes on", f"{device}: {runtime.describe()}, PyTorch {torch.__version__}"
    square = torch.rand(2048, 2048, device=device)
    wait = waiting(device)
    product = statistics.median(alternate({"": lambda: square @ square}, 7, wait)[""])
    yield "measured GFLOP/s of a matrix product", 2 * 2048**3 / product / 1e9
    block = torch.rand(2**26, device=device)  # 256 MiB
    target = torch.empty_like(block)
    copy = statistics.median(alternate({"": lambda: target.copy_(block)}, 7, wait)[""])
    yield "measured GB/s of a copy, read and written", 2 * block.nbytes / copy / 1e9


def _compared(seconds: dict[str, list[float]], case: str) -> Figures:
    for way, values in seconds.items():
        yield f"ms, {case}, {way}", 1e3 * statistics.median(values)
    for way in list(seconds)[1:]:
        ratios = [a / b for a, b in zip(seconds["plain"], seconds[way], strict=True)]
        yield f"times faster, {case}, {way}", statistics.median(ratios)


def metrics(runs: int, quick: bool) -> Figures:
    """Milliseconds an image at 256 x 256 on one core, and the memory of scoring."""
    try:
        from tests.utils.metrics import plain  # the published protocol as it is worded
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is missing: pip install -r requirements-dev.txt") from None
    cv2.setNumThreads(1)
    n_images = 1 if quick else 32
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
    for name, values in seconds.items():
        yield f"ms an image, {name}", 1e3 * statistics.median(values) / n_images
    worded = seconds["published, as worded"]
    for name in list(ways)[:-1]:
        ratios = [slow / fast for slow, fast in zip(worded, seconds[name], strict=True)]
        yield f"times faster than as worded, {name}", statistics.median(ratios)
    for factor in (5, 30):
        yield f"peak MiB, {factor * n_images} images", _peak(items, factor * n_images)


def data(runs: int, quick: bool) -> Figures:
    """Milliseconds an image of an epoch, from files and from a cache, by size; one process."""
    cv2.setNumThreads(1)
    for side, count in [(64, 4)] if quick else [(SIZE, 128), (512, 64)]:
        with tempfile.TemporaryDirectory() as folder:
            yield from _epochs(Path(folder), side, count, runs)


def _epochs(folder: Path, side: int, count: int, runs: int) -> Figures:
    from utils.data.cache import CachedPairs
    from utils.data.dataset import PairDataset
    from utils.data.manifest import data_sha256
    from utils.data.sampling import EpochBatches, TrainingView
    from utils.training.images import training_transform
    from utils.training.recipes import RECIPES

    for seed in range(count):
        scene = make_scene(seed, side, side)
        write_bytes(folder / "images" / f"{seed}.png", encode_png(scene.image))
        write_bytes(folder / "masks" / f"{seed}.png", encode_png(scene.mask))
    files, path = PairDataset(folder), folder / "cache.bin"
    key = data_sha256(files.pairs)
    cached = CachedPairs(files, path, key)
    transform = training_transform(RECIPES["default"])

    def read(samples: PairDataset) -> None:
        for index in range(count):
            samples[index]

    def epoch(samples: PairDataset) -> None:
        view = TrainingView(samples, range(count), transform, seed=0)
        for batch in EpochBatches(count, count, seed=0):
            for draw in batch:
                view[draw]

    ways = {
        "SHA-256 of both files": lambda: data_sha256(files.pairs),
        "writing the cache": lambda: CachedPairs(files, _without(folder / "new.bin"), key),
        "reading, files": lambda: read(files),
        "reading, cache": lambda: read(cached),
        "an epoch of the default recipe, files": lambda: epoch(files),
        "an epoch of the default recipe, cache": lambda: epoch(cached),
    }
    seconds = alternate(ways, runs)
    for way, values in seconds.items():
        yield f"ms an image, {side}x{side}, {way}", 1e3 * statistics.median(values) / count
    for what in ("reading", "an epoch of the default recipe"):
        pairs = zip(seconds[f"{what}, files"], seconds[f"{what}, cache"], strict=True)
        yield f"times faster, {side}x{side}, {what}", statistics.median(a / b for a, b in pairs)


def _without(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


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
            mask.write_bytes(encode_png(true.astype(np.uint8) * 255))
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
