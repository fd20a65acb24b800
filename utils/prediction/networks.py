"""The network in a file of weights: PyTorch's own, or exported to ONNX."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from model.inference import accelerate

from .. import checkpoint
from ..files import read_errors
from ..options import InputError
from ..precision import autocast, choose_precision, set_products

ONNX_FORMAT = "msconet-onnx/1"  # what the input and the outputs of an exported network mean
NO_STAGES = "an ONNX export has no stages; use the .pkl it is from"
_ON_GPU = "CUDAExecutionProvider"

# (N, H, W) float32 each: logits of targets and, where it is wanted, the background B'_K
BatchMaps = tuple[np.ndarray, ...]


class StageMaps(NamedTuple):
    """Of one stage and one image; (H, W) float32 each."""

    background: np.ndarray  # B'_k
    target: np.ndarray  # T_k, logits
    reconstruction: np.ndarray  # D_k


class Network(Protocol):
    """Several threads can use one at once."""

    info: dict[str, Any]  # data set, epoch and the like, as `checkpoint.save` took them
    sha256: str  # of the file of weights in PyTorch's format
    device: torch.device  # where it computes
    precision: str  # of PRECISIONS, but auto

    def __call__(self, images: np.ndarray, background: bool = True) -> BatchMaps:
        """(N, H, W) float32 in [0, 1] -> maps."""

    def stages(self, image: np.ndarray) -> list[StageMaps]:
        """(H, W) float32 in [0, 1] -> what every stage makes of it, first to last."""


def load_network(weights: Path, device: torch.device, precision: str = "auto") -> Network:
    """The network of a file written by training, a published checkpoint, or an ``.onnx`` export.

    Raises:
        InputError: the file holds no MSCoNet; a package is missing; no such precision here.
    """
    if weights.suffix.lower() == ".onnx":
        if precision not in ("auto", "fp32"):
            raise InputError(f"{weights}: an ONNX export computes in fp32; leave out --precision")
        return OnnxNetwork(weights, device)
    return TorchNetwork(weights, device, precision)


class TorchNetwork:
    def __init__(self, weights: Path, device: torch.device, precision: str):
        loaded = checkpoint.load(weights)
        self.info, self.sha256 = loaded.info, loaded.sha256
        self._net = accelerate(loaded.net).to(device)
        self.device = device
        self.precision = choose_precision(precision, device)
        if device.type == "cuda":
            set_products(self.precision)

    def __call__(self, images: np.ndarray, background: bool = True) -> BatchMaps:
        with torch.inference_mode(), autocast(self.device, self.precision):
            maps = self._net.target_and_background(self._batch(images))[: 1 + background]
            return tuple(m[:, 0].float().cpu().numpy() for m in maps)

    def stages(self, image: np.ndarray) -> list[StageMaps]:
        with torch.inference_mode(), autocast(self.device, self.precision):
            found = []
            for target, background, reconstruction in self._net.stages(self._batch(image[None])):
                maps = background, target, reconstruction
                found.append(StageMaps(*(m[0, 0].float().cpu().numpy() for m in maps)))
            return found

    def _batch(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(images))[:, None].to(self.device)


class OnnxNetwork:
    """On the GPU where that is asked for and ONNX Runtime has support for it, else on the CPU."""

    precision = "fp32"

    def __init__(self, weights: Path, device: torch.device):
        with read_errors(weights):
            model = weights.read_bytes()
        self._path = weights
        self._session = onnx_session(model, device, source=str(weights))
        on_gpu = _ON_GPU in self._session.get_providers()
        self.device = device if on_gpu else torch.device("cpu")
        described = self._session.get_modelmeta().custom_metadata_map
        if described.get("format") != ONNX_FORMAT:
            raise InputError(f"{weights}: not written by tools/export_onnx.py of this version")
        try:
            self.info, self.sha256 = json.loads(described["info"]), described["weights_sha256"]
        except (KeyError, ValueError) as error:
            raise InputError(f"{weights}: its description is damaged; export it again") from error

    def __call__(self, images: np.ndarray, background: bool = True) -> BatchMaps:
        names = ["target", "background"][: 1 + background]
        found = self._session.run(names, {"images": images[:, None]})
        return tuple(m[:, 0] for m in found)

    def stages(self, image: np.ndarray) -> list[StageMaps]:
        raise InputError(f"{self._path}: {NO_STAGES}")


class MeanOfOrientations:
    """Test-time augmentation: the mean of what a network says of an image turned and mirrored in
    all eight ways, of targets that of their logits. It takes eight times the time.

    Targets have no orientation; where the maps differ from one to the next, it is by chance.
    """

    def __init__(self, network: Network):
        self._network = network
        self.info, self.sha256 = network.info, network.sha256
        self.device, self.precision = network.device, network.precision

    def __call__(self, images: np.ndarray, background: bool = True) -> BatchMaps:
        return tuple(_mean(lambda turned: self._network(turned, background), images))

    def stages(self, image: np.ndarray) -> list[StageMaps]:
        maps = _mean(lambda turned: [m for s in self._network.stages(turned) for m in s], image)
        per_stage = len(StageMaps._fields)
        return [StageMaps(*maps[k : k + per_stage]) for k in range(0, len(maps), per_stage)]


def _mean(
    predict: Callable[[np.ndarray], Sequence[np.ndarray]], images: np.ndarray
) -> list[np.ndarray]:
    """Of the maps (..., H, W) of images (..., H, W) in all orientations."""
    means: list[np.ndarray] = []
    axes = (-2, -1)
    for mirror in (1, -1):
        for turns in range(4):
            turned = np.rot90(images[..., ::mirror], turns, axes)
            for k, found in enumerate(predict(turned.copy())):
                part = np.rot90(found, -turns, axes)[..., ::mirror] / np.float32(8)
                if k < len(means):
                    means[k] += part
                else:
                    means.append(part)
    return means


def onnx_session(
    model: bytes, device: torch.device | None = None, threads: int = 0, source: str = "the model"
):
    """An ONNX Runtime session.

    Args:
        model: the content of an .onnx file.
        device: where to run; the CPU serves where ONNX Runtime has no support for it.
        threads: on the CPU; 0: its own choice.
        source: named in errors.

    Raises:
        InputError: ONNX Runtime is not installed, or cannot load the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is not installed: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu and _ON_GPU in onnxruntime.get_available_providers():
        providers.insert(0, (_ON_GPU, {"device_id": device.index or 0, "use_tf32": 0}))
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: not an ONNX model that can be run ({reason})") from error
