"""Export a network to ONNX: any number of images of any size in, logits of target pixels out.

python tools/export_onnx.py --weights best.pkl --output msconet.onnx
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import MSCoNet
from model.inference import accelerate
from utils import checkpoint
from utils.data.images import unit_interval
from utils.data.scenes import make_scene
from utils.files import write_bytes
from utils.options import InputError, Parser, run_door

TOLERANCE = 1e-4  # largest difference of a probability from PyTorch's
_CHECKED = ((256, 256), (128, 160), (100, 37), (1, 1))  # px


def main() -> None:
    parser = Parser("Export a network to ONNX; the file is written once it agrees with PyTorch.")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of this project or published (default: the newest run's best.pkl)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("msconet.onnx"), metavar="FILE", help="%(default)s"
    )
    arguments = parser.parse_args()
    weights = arguments.weights or checkpoint.newest_weights(None)
    loaded = checkpoint.load(weights)
    model = export(loaded.net, {"weights_sha256": loaded.sha256})
    difference = compare(model, loaded.net)
    if not difference <= TOLERANCE:
        raise InputError(f"{weights}: ONNX Runtime's probabilities are off by {difference:.1e}")
    write_bytes(arguments.output, model)
    print(f"{arguments.output}: probabilities within {difference:.1e} of PyTorch's")


class _Target(nn.Module):
    def __init__(self, net: MSCoNet):
        super().__init__()
        self.net = accelerate(net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.target(images)


def export(net: MSCoNet, metadata: dict[str, str]) -> bytes:
    """The ONNX model: ``images`` (N, 1, H, W) in [0, 1] -> ``target`` (N, 1, H, W), logits.

    Raises:
        InputError: a package is missing, or PyTorch is too old.
    """
    try:
        import onnxscript  # noqa: F401 (what torch.onnx.export works with)
    except ImportError as error:
        raise InputError(f"{error.name} is not installed: pip install onnx onnxscript") from error
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise InputError(f"PyTorch {torch.__version__} exports no free sizes; 2.7 and later do")
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Target(net).eval(),
            (torch.rand(2, 1, 100, 140),),
            input_names=["images"],
            output_names=["target"],
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
            verbose=False,
        )
    model = program.model_proto
    described = {"input": "grey levels in [0, 1]", "output": "logits"} | metadata
    for key, value in described.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def session(model: bytes, threads: int = 0):
    """An ONNX Runtime session on the CPU; 0 threads: its own choice."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is not installed: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compare(model: bytes, net: MSCoNet) -> float:
    """The largest difference of a probability between ONNX Runtime and PyTorch, on made scenes."""
    runtime = session(model)
    largest = 0.0
    for seed, (height, width) in enumerate(_CHECKED):
        scene = unit_interval(make_scene(seed, max(height, 64), max(width, 64)).image)
        images = np.stack([scene, scene[::-1, ::-1]])[:, None, :height, :width]
        images = np.ascontiguousarray(images, dtype=np.float32)
        (found,) = runtime.run(None, {"images": images})
        with torch.inference_mode():
            expected = net(torch.from_numpy(images)).target
        difference = torch.from_numpy(found).sigmoid() - expected.sigmoid()
        largest = max(largest, float(difference.abs().max()))
    return largest


if __name__ == "__main__":
    run_door(main)
