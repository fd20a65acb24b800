"""Make the weights of a run ready to be given to others: half precision, without local paths.

python tools/ship_weights.py runs/SIRST/20250101-120000      to Weight/SIRST/{best.pkl,log.txt}
"""

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
from utils.files import write_bytes
from utils.options import InputError, Parser, run_door

_SCENES = 16  # that the rounded weights are tried on
_TOLERANCE = 0.05  # of a probability


def main() -> None:
    parser = Parser("Write the best weights of a run to Weight/<dataset>, in half precision.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: Weight/<the run's data set>"
    )
    arguments = parser.parse_args()
    loaded = checkpoint.load(arguments.run / "best.pkl")
    log = _read_log(arguments.run / "log.txt")
    info = {key: value for key, value in loaded.info.items() if key != "data_root"}
    if "dataset" not in info:
        raise InputError(f"{arguments.run / 'best.pkl'}: does not say what it was trained on")
    folder = arguments.output or checkpoint.WEIGHTS / info["dataset"]
    before = list(_probabilities(loaded.net))
    after = _probabilities(loaded.net.half().float())
    difference = np.max([np.abs(a - b).max() for a, b in zip(after, before, strict=True)])
    if not difference <= _TOLERANCE:  # nor NaN
        raise InputError(f"{arguments.run}: half precision moves probabilities by {difference:.1e}")
    weights = folder / "best.pkl"
    checkpoint.save(weights, loaded.net.half(), info, {})
    write_bytes(folder / "log.txt", log)
    data = weights.read_bytes()
    print(f"{weights}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    print(f"probabilities within {difference:.1e} of the run's on {_SCENES} made scenes")


def _read_log(path: Path) -> bytes:
    """Raises InputError where the run is not finished, or there is none."""
    try:
        log = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name a run's folder"
        ) from None
    if b"\ntest, epoch " not in log:
        raise InputError(f"{path}: the run is not finished; run_0.py --resume {path.parent}")
    return log


def _probabilities(net: MSCoNet) -> Iterator[np.ndarray]:
    for seed in range(_SCENES):
        image = torch.from_numpy(make_scene(seed).image)[None, None] / 255
        with torch.inference_mode():
            yield net.target(image).sigmoid().numpy()


if __name__ == "__main__":
    run_door(main)
