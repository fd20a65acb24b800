"""Train MSCoNet.

python run_0.py                                       built-in data where there is no other
python run_0.py --dataset NUDT-SIRST                  our recipe on datasets/NUDT-SIRST
python run_0.py --dataset NUDT-SIRST --recipe published
python run_0.py --dataset sirst --data-root ~/data    another folder of data sets
python run_0.py --dataset mine --weights best.pkl     begin with trained weights
python run_0.py --resume runs/NUDT-SIRST/20250101-120000
torchrun --nproc_per_node=4 run_0.py --dataset NUDT-SIRST --batch-size 32
"""

from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from utils import checkpoint
from utils.data.catalogue import BUILTIN, DATA_ROOT, choose_dataset
from utils.options import (
    InputError,
    Parser,
    choose_device,
    non_negative,
    non_negative_float,
    run_door,
)
from utils.precision import PRECISIONS, choose_precision
from utils.training.distributed import TrainingGroup
from utils.training.recipes import (
    AUTO,
    Recipe,
    add_options,
    given_options,
    recipe_for,
    recipe_from,
    recipe_name,
)
from utils.training.record import list_runs, new_run_folder, read_config
from utils.training.runtime import Runtime
from utils.training.step import fitting
from utils.training.trainer import train


def main() -> None:
    parser = Parser("Train MSCoNet; the run is written to runs/<dataset>/<date>-<time>.")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="NUDT-SIRST, IRSTD-1k, sirst_aug or another folder of the data root (default: the "
        f"first of these that is there, else {BUILTIN}, made on the spot)",
    )
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder of the data sets (default datasets)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the run (default: a new one in runs)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="begin with these weights, of a run or published, instead of random ones: for images "
        "of your own; K and width are theirs",
    )
    parser.add_argument("--list", action="store_true", help="list the runs and their best epochs")
    add_options(parser)
    how = parser.add_argument_group("how to compute")
    how.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, ... (default %(default)s: the GPU where there is one)",
    )
    how.add_argument(
        "--workers",
        type=non_negative,
        metavar="N",
        help="processes that load images (default 4 with a GPU, else 0)",
    )
    how.add_argument(
        "--cache",
        type=Path,
        nargs="?",
        const=True,
        metavar="DIR",
        help="decode each image once, into a file in the data set's folder, or in DIR/NAME",
    )
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the network's arithmetic: fp32 is PyTorch's own, tf32 float32 with products of "
        "TF32 (default %(default)s: bf16 on a GPU that has it, fp16 on another; fp32 on the CPU "
        "and for --recipe published)",
    )
    how.add_argument(
        "--compile", action="store_true", help="compile the network: slow to start, then faster"
    )
    how.add_argument(
        "--save-minutes",
        type=non_negative_float,
        default=10.0,
        metavar="N",
        help="from one checkpoint within an epoch to the next; 0: every step (default %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.list:
        print(list_runs(checkpoint.RUNS))
        return
    given = given_options(arguments)
    named = (arguments.recipe, arguments.dataset, arguments.output, arguments.weights)
    if arguments.resume and (given or any(named)):
        raise InputError("--resume takes no options but --data-root and those of how to compute")
    if arguments.device == "auto":
        on_gpu = choose_device("auto").type == "cuda"
    else:
        on_gpu = arguments.device.startswith("cuda")
    group = TrainingGroup(on_gpu)
    gpu = f"cuda:{group.local_rank}" if group.world > 1 and on_gpu else arguments.device
    device = choose_device(gpu)
    if arguments.compile and device.type == "cuda" and find_spec("triton") is None:
        raise InputError("--compile: needs the package triton, which is not there; leave it out")
    workers = arguments.workers
    if workers is None:
        workers = 4 if device.type == "cuda" else 0
    runtime = Runtime(
        device, workers, compiled=arguments.compile, save_minutes=arguments.save_minutes
    )
    start = checkpoint.load(arguments.weights) if arguments.weights else None
    with group.leader_first():
        if arguments.resume:
            run = arguments.resume
            config = read_config(run)
            if "begun_with" in config and not (run / "last.pkl").exists():
                raise InputError(f"{run}: stopped before it had saved anything; begin it again")
            root = arguments.data_root or Path(config["data_root"])
            dataset = choose_dataset(config["dataset"], root)
            recipe = recipe_from(config.get("recipe"), run / "config.json")
            name = config.get("recipe_name", "")
            origin = {k: config[k] for k in ("recipe_name", "origin", "begun_with") if k in config}
        else:
            data_root = arguments.data_root or DATA_ROOT
            dataset = choose_dataset(arguments.dataset, data_root, to_train=True)
            name = arguments.recipe or recipe_name(dataset.name)
            recipe = recipe_for(name, dataset.name, given)
            if start:
                recipe = _of_size(recipe, start.net.config, given, arguments.weights)
            run = arguments.output or new_run_folder(checkpoint.RUNS, dataset.name)
            if run.exists() and (not run.is_dir() or any(run.iterdir())):
                raise InputError(f"{run}: exists already; --resume goes on with it")
            origin = {
                "recipe_name": name,
                "origin": {
                    f.name: "command line" if f.name in given else f"recipe {name}"
                    for f in fields(Recipe)
                },
            }
            if start:
                origin["origin"] |= dict.fromkeys(start.net.config, "weights")
                origin["begun_with"] = {"sha256": start.sha256} | {
                    key: start.info[key] for key in ("dataset", "epoch") if key in start.info
                }
        cache = arguments.cache
        if cache is not None:
            cache = dataset / "cache" if cache is True else cache / dataset.name
        precision = arguments.precision
        if name == "published" and precision == "auto":  # PyTorch's own arithmetic, as the paper's
            precision = "fp32"
        precision = choose_precision(precision, device)
        runtime = replace(runtime, precision=precision, cache=cache)
        if recipe.batch_size == AUTO and group.leads:
            recipe = replace(recipe, batch_size=fitting(recipe, runtime) * group.world)
    run, recipe = group.share((run, recipe))
    try:
        train(
            recipe,
            dataset,
            run,
            runtime=runtime,
            group=group,
            origin=origin,
            start=start.net if start else None,
            resume=bool(arguments.resume),
        )
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f"{dataset}: batches of {recipe.batch_size}, or the images to validate on, do not fit "
            "into the GPU's memory; begin again with a smaller --batch-size or --crop-size"
        ) from error
    if group.leads:
        print(f"weights: {run / 'best.pkl'}")
    group.close()


def _of_size(recipe: Recipe, size: dict[str, int], given: dict[str, Any], weights: Path) -> Recipe:
    """The recipe with the network that the weights are of."""
    for option, value in size.items():
        if given.get(option, value) != value:
            raise InputError(f"{weights}: has {option} {value}; leave out --{option}")
    return replace(recipe, **size)


if __name__ == "__main__":
    run_door(main)
