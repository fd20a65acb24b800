"""Make the weights of a run ready to be given to others: in half precision where that moves no
probability in made scenes by more than 0.1.

python tools/ship_weights.py runs/SIRST/20250101-120000      to Weight/SIRST/{best.pkl,log.txt}
"""

import copy
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import MSCoNet
from utils import checkpoint
from utils.data.scenes import make_scene
from utils.files import read_errors, read_json, write_bytes
from utils.options import InputError, Parser, run_door

_SCENES = 16  # that the rounded weights are tried on
_TOLERANCE = 0.1  # of a probability; beyond it they stay in full precision


def main() -> None:
    parser = Parser("Write the best weights of a run to Weight/<dataset>.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: Weight/<the run's data set>"
    )
    arguments = parser.parse_args()
    summary = arguments.run / "summary.json"
    if not summary.is_file():
        raise InputError(f"{summary}: no such file; name the folder of a run")
    if not read_json(summary).get("finished"):
        raise InputError(
            f"{arguments.run}: the run is not finished; run_0.py --resume {arguments.run}"
        )
    loaded = checkpoint.load(arguments.run / "best.pkl")
    with read_errors(arguments.run / "log.txt"):
        log = (arguments.run / "log.txt").read_bytes()
    info = loaded.info
    if "dataset" not in info:
        raise InputError(f"{arguments.run / 'best.pkl'}: does not say what it was trained on")
    folder = arguments.output or checkpoint.WEIGHTS / info["dataset"]
    if folder.resolve() == arguments.run.resolve():
        raise InputError(f"--output {folder}: the run itself, whose weights would be rounded")
    before = _probabilities(loaded.net)
    after = _probabilities(_halved(loaded.net).float())
    difference = np.max([np.abs(a - b).max() for a, b in zip(after, before, strict=True)])
    halved = bool(difference <= _TOLERANCE)  # NaN is not
    weights = folder / "best.pkl"
    checkpoint.save(weights, _halved(loaded.net) if halved else loaded.net, info, {})
    write_bytes(folder / "log.txt", log)
    data = weights.read_bytes()
    print(f"{weights}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    kept = "in half precision" if halved else "in full precision; half would be half the size"
    print(f"{kept}: it moves probabilities in {_SCENES} made scenes by up to {difference:.1e}")


def _halved(net: MSCoNet) -> MSCoNet:
    """A copy with parameters in half precision. Running statistics stay: variances exceed it."""
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.data = parameter.data.half()
    return net


def _probabilities(net: MSCoNet) -> Iterator[np.ndarray]:
    for seed in range(_SCENES):
        image = torch.from_numpy(make_scene(seed).image)[None, None] / 255
        with torch.inference_mode():
            probability = net.target(image).sigmoid().numpy()
        yield probability


if __name__ == "__main__":
    run_door(main)
