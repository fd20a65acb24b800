"""One image in, one result out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit

from ..data.images import grey, resize
from ..data.ranges import Limits, Range, checked_range, limits, normalised
from ..memory import memory_errors
from ..options import InputError, choose_device
from .detections import Detection, detect
from .networks import MeanOfOrientations, Network, StageMaps, load_network
from .tiles import predict_tiles

TILE = 512  # px
OVERLAP = 128  # px that neighbouring tiles share
WHOLE = 1024 * 1024  # pixels of the largest image that is not cut into tiles


@dataclass(frozen=True)
class Result:
    """What the network says about an image of H x W px."""

    levels: np.ndarray  # (H, W) uint8, uint16 or float32: the image, in grey
    limits: Limits  # the grey levels that the network saw as 0 and 1
    logits: np.ndarray  # (H, W) float32
    # (H, W) float32, B'_K, or None where it was not wanted. Training does not hold it to the grey
    # levels of the image: it is what the network subtracts, not a picture
    background: np.ndarray | None
    threshold: float
    min_area: int

    @cached_property
    def probability(self) -> np.ndarray:
        """Of a target, for each pixel: (H, W) float32 in [0, 1]."""
        return expit(self.logits)

    @property
    def mask(self) -> np.ndarray:
        """Pixels of the detections: (H, W) bool."""
        return self._detected[0]

    @property
    def detections(self) -> list[Detection]:
        """Components of the mask, the highest peak of probability first."""
        return self._detected[1]

    @cached_property
    def _detected(self) -> tuple[np.ndarray, list[Detection]]:
        return detect(self.logits, self.levels, self.limits, self.threshold, self.min_area)


class Predictor:
    """A trained network, ready for images. Several threads can use one at once.

        predictor = Predictor("best.pkl")
        for detection in predictor(image).detections:
            print(detection.x, detection.y, detection.peak)

    Args:
        weights: a file written by training, a published checkpoint, or an ``.onnx`` export.
        device: where the network runs; ``auto``: on the GPU where there is one, and for an
            ``.onnx`` export ONNX Runtime's support of it.
        level_range: the grey levels that become 0 and 1, see `utils.data.ranges.limits`.
        size: resize images to size x size for the network, and its maps back; 0: do not. Weights
            that were trained on resized images want that size: ``network.info["image_size"]``.
        threshold: a pixel belongs to a target if its probability exceeds this; in (0, 1).
        min_area: px; smaller detections are left out.
        precision: fp32, tf32, bf16, fp16 or pytorch, see `utils.precision`; ``auto``: bf16 or fp16
            on a GPU, fp32 on the CPU.
        tta: test-time augmentation, see `MeanOfOrientations`.

    Raises:
        InputError: the file holds no MSCoNet; no such device or precision.
        ValueError: a threshold or a size that is none.
    """

    def __init__(
        self,
        weights: str | Path,
        device: str | torch.device = "auto",
        *,
        level_range: Range = "auto",
        size: int = 0,
        threshold: float = 0.5,
        min_area: int = 1,
        precision: str = "auto",
        tta: bool = False,
    ):
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold}: expected a probability between 0 and 1")
        wanted = choose_device(device) if isinstance(device, str) else device
        if not (isinstance(size, int) and size >= 0):
            raise ValueError(f"size {size}: expected a number of pixels, or 0")
        network = load_network(Path(weights), wanted, precision)
        self.network: Network = MeanOfOrientations(network) if tta else network
        self.tta = tta
        self.device = network.device
        if device != "auto" and self.device.type != wanted.type:
            raise InputError(
                f"{weights}: ONNX Runtime does not compute on {wanted} here; install "
                "onnxruntime-gpu, or choose --device cpu"
            )
        self.level_range: Range = checked_range(level_range)
        self.size = size
        self.threshold = threshold
        self.min_area = min_area

    def __call__(self, image: np.ndarray) -> Result:
        """The result for an image of any size, in its own size.

        Images of more than a megapixel are predicted in tiles, unless they are resized.

        Args:
            image: (H, W), or (H, W, 3 or 4) with blue first, as OpenCV reads it; of any real type.

        Raises:
            ValueError: another shape or type, NaN, infinity.
            MemoryError: not enough of it.
        """
        return self.predict([grey(image)])[0]

    @memory_errors()
    def predict(self, images: Sequence[np.ndarray], background: bool = True) -> list[Result]:
        """`__call__` for several images of one shape at once: faster, if they are small.

        Args:
            images: as `utils.data.images.grey` returns them.
            background: whether it is wanted; it takes 4 bytes a pixel.
        """
        bounds = [limits(levels, self.level_range) for levels in images]
        if self.in_tiles(images[0]):
            found = [self._tiled(*image, background) for image in zip(images, bounds, strict=True)]
        else:
            batch = [self._seen(*image) for image in zip(images, bounds, strict=True)]
            found = list(zip(*self.network(np.stack(batch), background), strict=True))
        results = []
        for levels, limit, maps in zip(images, bounds, found, strict=True):
            target, *rest = (resize(m, levels.shape) for m in maps)
            estimate = rest[0] if rest else None
            results.append(Result(levels, limit, target, estimate, self.threshold, self.min_area))
        return results

    def in_tiles(self, levels: np.ndarray) -> bool:
        """Whether an image (H, W) is too large to be predicted as a whole."""
        return not self.size and levels.size > WHOLE

    @memory_errors()
    def stages(self, levels: np.ndarray, bounds: Limits) -> list[StageMaps]:
        """What every stage makes of an image, which is not cut into tiles.

        Raises:
            InputError: the weights are an ONNX export.
            MemoryError: not enough of it.
        """
        return self.network.stages(self._seen(levels, bounds))

    def _seen(self, levels: np.ndarray, bounds: Limits) -> np.ndarray:
        """An image as the network sees it."""
        image = normalised(levels, bounds)
        return resize(image, self.size) if self.size else image

    def _tiled(self, levels: np.ndarray, bounds: Limits, background: bool) -> Sequence[np.ndarray]:
        def predict(tile: np.ndarray) -> tuple[np.ndarray, ...]:
            return tuple(m[0] for m in self.network(normalised(tile, bounds)[None], background))

        return predict_tiles(levels, predict, TILE, OVERLAP)
