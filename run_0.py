"""Train MSCoNet.

python run_0.py                                       built-in data where there is no other
python run_0.py --dataset NUDT-SIRST                  the paper's recipe on datasets/NUDT-SIRST
python run_0.py --dataset sirst --data-root ~/data    another folder of data sets
python run_0.py --resume runs/NUDT-SIRST/20250101-120000
"""

from dataclasses import replace
from pathlib import Path

from utils import checkpoint
from utils.data.catalogue import BUILTIN, choose_dataset
from utils.options import InputError, Parser, choose_device, non_negative, run_door
from utils.training.recipes import Recipe, add_options, given_options, recipe_for
from utils.training.record import new_run_folder, read_config
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
    add_options(parser)
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, ... (default %(default)s: the GPU where there is one)",
    )
    parser.add_argument(
        "--workers",
        type=non_negative,
        metavar="N",
        help="processes that load images (default 4 with a GPU, else 0)",
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="folder of the run (default: a new one in runs)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder"
    )
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    given = given_options(arguments)
    if arguments.resume:
        if given or arguments.dataset or arguments.data_root or arguments.run:
            raise InputError("--resume goes with --device and --workers alone")
        run = arguments.resume
        config = read_config(run)
        dataset = choose_dataset(config["dataset"], Path(config["data_root"]))
        recipe = Recipe(**config["recipe"])
    else:
        dataset = choose_dataset(arguments.dataset, arguments.data_root or Path("datasets"))
        recipe = replace(recipe_for(dataset.name), **given)
        run = arguments.run or new_run_folder(checkpoint.RUNS, dataset.name)
        if run.exists():
            raise InputError(f"{run}: exists already; --resume goes on with it")
    workers = arguments.workers
    if workers is None:
        workers = 4 if device.type == "cuda" else 0
    train(recipe, dataset, run, device=device, workers=workers, resume=bool(arguments.resume))
    print(f"weights: {run / 'best.pkl'}")


if __name__ == "__main__":
    run_door(main)
