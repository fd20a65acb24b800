"""Export a network to ONNX: any number of images of any size in, targets and background out.

python tools/export_onnx.py --weights best.pkl --output msconet.onnx
python t_models.py --weights msconet.onnx --images photo.png
"""

import copy
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import MSCoNet
from model.inference import accelerate
from utils import checkpoint
from utils.data.images import read_photo, unit_interval
from utils.data.ranges import stretched
from utils.data.scenes import make_scene
from utils.files import write_bytes
from utils.options import InputError, Parser, run_door
from utils.prediction.networks import ONNX_FORMAT, onnx_session
from utils.prediction.sources import find_sources

TOLERANCE = 1e-4  # largest difference of a probability from PyTorch's
_CHECKED = ((256, 256), (128, 160), (100, 37), (1, 1))  # px, of made scenes
_IMAGES = 16  # of the user's own, at most
_SIDE = 1024  # px of them


def main() -> None:
    parser = Parser("Export a network to ONNX; the file is written once it agrees with PyTorch.")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of this project or published (default: the newest run's best.pkl, else "
        "Weight/SIRST/best.pkl)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("msconet.onnx"), metavar="FILE", help="%(default)s"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="WHAT",
        help=f"files, folders, patterns: their first {_IMAGES} images are compared, beside "
        "made scenes (default: the test images of the data set that the weights are from)",
    )
    arguments = parser.parse_args()
    if arguments.output.suffix.lower() != ".onnx":  # t_models.py knows a network by it
        raise InputError(f"--output {arguments.output}: name a file that ends in .onnx")
    weights = arguments.weights or checkpoint.newest_weights(None)
    loaded = checkpoint.load(weights)
    images = dict([*_scenes(), *_photos(arguments.images, weights, loaded.info)])
    model = export(loaded.net, loaded.info, loaded.sha256)
    differences = compare(model, loaded.net, list(images.values()))
    for (name, image), difference in zip(images.items(), differences, strict=True):
        # where float32 itself is less exact, nothing can agree better
        if not difference <= TOLERANCE and not difference <= 2 * rounding(loaded.net, image):
            raise InputError(
                f"{weights}: on {name} ONNX Runtime's probabilities are off by {difference:.1e}; "
                "nothing is written"
            )
    write_bytes(arguments.output, model)
    print(
        f"{arguments.output}: probabilities within {max(differences):.1e} of PyTorch's on "
        f"{len(images)} images, {len(images) - len(_CHECKED)} of them from files"
    )


def _scenes() -> Iterator[tuple[str, np.ndarray]]:
    for seed, (height, width) in enumerate(_CHECKED):
        scene = make_scene(seed, max(height, 64), max(width, 64)).image
        yield f"a made scene of {width}x{height} px", unit_interval(scene)[:height, :width]


def _photos(
    inputs: list[str] | None, weights: Path, info: dict
) -> Iterator[tuple[str, np.ndarray]]:
    """(H, W) float32 in [0, 1], by name; of the default ones, those that can be read."""
    folder = checkpoint.data_root_of(weights) / info.get("dataset", "") / "test" / "images"
    unasked = suppress(InputError) if inputs is None else nullcontext()
    sources = []
    with unasked:
        sources = find_sources([str(folder)] if inputs is None else inputs)
    for source in islice((s for s in sources if not s.is_video), _IMAGES):
        with unasked:
            yield str(source.path), stretched(read_photo(source.path)[:_SIDE, :_SIDE], "auto")


class _Maps(nn.Module):
    def __init__(self, net: MSCoNet):
        super().__init__()
        self.net = accelerate(net)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.target_and_background(images)


def export(net: MSCoNet, info: dict, weights_sha256: str) -> bytes:
    """The ONNX model: ``images`` -> ``target`` and ``background``, (N, 1, H, W) each.

    Args:
        net: the network.
        info: of its checkpoint, which the metadata hold; with the version of this format, the
            meaning of inputs and outputs, and ``weights_sha256``.
        weights_sha256: of the checkpoint.

    Raises:
        InputError: a package is missing, or PyTorch is too old.
    """
    try:
        import onnxscript  # noqa: F401 (what torch.onnx.export works with)
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed: pip install onnx onnxscript onnxruntime"
        ) from error
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise InputError(f"PyTorch {torch.__version__} exports no free sizes; 2.7 and later do")
    dynamic = torch.export.Dim.DYNAMIC
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # what it does not fold, it leaves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Maps(net).eval(),
            (torch.rand(2, 1, 100, 140),),
            input_names=["images"],
            output_names=["target", "background"],
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
            verbose=False,
        )
    model = program.model_proto
    described = {
        "format": ONNX_FORMAT,
        "normalisation": "images: (grey level - low) / (high - low), clipped to [0, 1]",
        "outputs": "target: logits of target pixels; background: B'_K",
        "weights_sha256": weights_sha256,
        "info": json.dumps(info),
    }
    for key, value in described.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


@torch.inference_mode()
def compare(model: bytes, net: MSCoNet, images: list[np.ndarray]) -> list[float]:
    """The largest difference of a probability, or of the background relative to its own size,
    between ONNX Runtime and PyTorch, of each image; NaN where there is one.

    Args:
        model: what `export` made.
        net: what it was made of.
        images: (H, W) float32 in [0, 1].
    """
    runtime = onnx_session(model)
    differences = []
    for batch in map(_turned, images):
        found = runtime.run(["target", "background"], {"images": batch.numpy()})
        differences.append(_difference([*map(torch.from_numpy, found)], net(batch)))
    return differences


@torch.inference_mode()
def rounding(net: MSCoNet, image: np.ndarray) -> float:
    """The same difference between PyTorch in float32 and in float64."""
    batch = _turned(image)
    return _difference(net(batch), copy.deepcopy(net).double()(batch.double()))


def _turned(image: np.ndarray) -> Tensor:
    """(2, 1, H, W): an image, and the same upside down."""
    return torch.from_numpy(np.stack([image, image[::-1, ::-1]])[:, None])


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of targets (logits) and backgrounds, the first two of each."""
    target = found[0].sigmoid() - expected[0].sigmoid()
    size = expected[1].abs().max().clamp(min=1)
    return float(torch.cat([target, (found[1] - expected[1]) / size]).abs().max())


if __name__ == "__main__":
    run_door(main)
