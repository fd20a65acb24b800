"""Parameters, operations, memory and speed of the network, by size, batch and device.

python tools/complexity.py                                   as published: K = 5, width 16
python tools/complexity.py --stages 3 --width 8 --sizes 256 512 --batches 1 8 --device cpu
"""

import math
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model import build_model
from model.ablation import LEAVE_OUT
from model.inference import accelerate
from tools.measuring import alternate, in_own_process, operations, peak_mib, waiting
from utils.files import write_json
from utils.memory import memory_errors
from utils.options import InputError, Parser, choose_device, positive, run_door
from utils.precision import PRECISIONS, autocast, choose_precision, set_products

_COLUMNS = (("px", 9), ("batch", 5), ("GFLOP/image", 11), ("MiB", 8), ("ms/batch", 10))
_COLUMNS += (("images/s", 9),)


def main() -> None:
    parser = Parser(
        "Parameters, operations, memory and speed of prediction, with random weights; medians. "
        "GFLOP are those of the network as it is run, a multiplication with addition counted as "
        "two; MiB are what a batch takes beyond weights and libraries."
    )
    parser.add_argument("--stages", type=positive, metavar="K", help="default: as published, 5")
    parser.add_argument("--width", type=positive, metavar="N", help="default: as published, 16")
    parser.add_argument(
        "--without", choices=list(LEAVE_OUT), default="nothing", metavar="PART",
        help="an ablation: %(choices)s (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=positive, nargs="+", default=[256, 512, 1024], metavar="PX",
        help="sides of square images (default 256 512 1024)",
    )  # fmt: skip
    parser.add_argument(
        "--batches", type=positive, nargs="+", default=[1], metavar="N", help="default 1"
    )
    parser.add_argument(
        "--runs", type=positive, default=7, metavar="N", help="of each case (default %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default %(default)s)")
    parser.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="default %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    try:
        with memory_errors():
            net = build_model(
                stages=arguments.stages, width=arguments.width, without=arguments.without
            )
    except MemoryError as error:
        raise InputError("the network does not fit into memory; choose a smaller one") from error
    found: dict[str, Any] = {
        **net.config,
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": _name(device),
        "precision": precision,
        "pytorch": torch.__version__,
        "cases": [],
    }
    part = "" if arguments.without == "nothing" else f", without {arguments.without}"
    print("K = {stages}, width {width}{part}: {parameters:,} parameters".format(**found, part=part))
    print("{device}, {precision}, PyTorch {pytorch}".format(**found))
    print("  ".join(f"{name:>{width}}" for name, width in _COLUMNS))
    for size in arguments.sizes:
        for batch in arguments.batches:
            try:
                case = in_own_process(
                    _measure, net.config, size, batch, str(device), precision, arguments.runs
                )
            except MemoryError as error:
                raise InputError(
                    f"{batch} images of {size}x{size} px do not fit into the memory of {device}; "
                    "choose fewer or smaller ones"
                ) from error
            found["cases"].append(case)
            print("  ".join(_shown(case[name], width) for name, width in _COLUMNS), flush=True)
            if arguments.json:
                write_json(arguments.json, found)


def _measure(
    config: dict[str, Any], size: int, batch: int, device: str, precision: str, runs: int
) -> dict[str, Any]:
    on = torch.device(device)
    net = accelerate(build_model(**config).eval()).to(on)
    images = torch.rand(batch, 1, size, size, device=on)
    if on.type == "cuda":
        set_products(precision)

    def predict() -> None:
        net.target(images)

    with torch.inference_mode(), autocast(on, precision):
        net.target(images[:1, :, :32, :32])  # the libraries' own memory is taken now
        memory = peak_mib(predict, on)
        seconds = statistics.median(alternate({"": predict}, runs, waiting(on))[""])
        flop = operations(predict)
    return {
        "px": f"{size}x{size}",
        "batch": batch,
        "GFLOP/image": flop / batch / 1e9,
        "MiB": None if math.isnan(memory) else memory,
        "ms/batch": 1e3 * seconds,
        "images/s": batch / seconds,
    }


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def _shown(value: Any, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}.2f}" if isinstance(value, float) else f"{value:>{width}}"


if __name__ == "__main__":
    run_door(main)
