"""Train MSCoNet.

python run_0.py                                       built-in data where there is no other
python run_0.py --dataset NUDT-SIRST                  our recipe on datasets/NUDT-SIRST
python run_0.py --dataset NUDT-SIRST --recipe published
python run_0.py --dataset sirst --data-root ~/data    another folder of data sets
python run_0.py --dataset mine --weights best.pkl     begin with trained weights
python run_0.py --resume runs/NUDT-SIRST/20250101-120000
torchrun --nproc_per_node=4 run_0.py --dataset NUDT-SIRST --batch-size 32
"""

import argparse
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from utils import checkpoint
from utils.data.catalogue import BUILTIN
from utils.memory import memory_errors
from utils.options import InputError, Parser, non_negative, non_negative_float, run_door
from utils.precision import PRECISIONS
from utils.training.distributed import TrainingGroup
from utils.training.plan import new_plan, resumed_plan
from utils.training.recipes import AUTO, BEGINS_WITH, add_options, given_options
from utils.training.record import list_runs, new_run_folder
from utils.training.runtime import choose_runtime
from utils.training.step import fitting
from utils.training.trainer import train


def main() -> None:
    starts = [
        f"{recipe} of {dataset}: those in Weight/{other}"
        for (recipe, dataset), other in BEGINS_WITH.items()
    ]
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
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: a new one in runs/<dataset>; only there --list and "
        "t_models.py find it)",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder"
    )
    parser.add_argument(
        "--finish",
        action="store_true",
        help="with --resume: train no further; score the best weights so far on the test split",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="begin with these weights, of a run or published, for images of your own; K, width "
        f"and what is left out are theirs. random: with none ({'; '.join(starts)}; else random)",
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
        help="of the network's arithmetic: tf32 is float32 with products of TF32, pytorch with "
        "convolutions of TF32 only (default %(default)s: bf16 on a GPU that has it, fp16 on "
        "another; fp32 on the CPU; pytorch for --recipe published)",
    )
    how.add_argument(
        "--compile", action="store_true", help="compile the network: slow to start, then faster"
    )
    how.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="replay a step's kernels as one CUDA graph, which takes half as long (default: on one "
        "GPU, except in fp16)",
    )
    how.add_argument(
        "--kernels",
        action=argparse.BooleanOptionalAction,
        help="compute by Triton kernels what cuDNN is slow at, where they run (default: on a GPU)",
    )
    how.add_argument(
        "--save-minutes",
        type=non_negative_float,
        default=10.0,
        metavar="N",
        help="from one checkpoint within an epoch to the next; 0: every step (default %(default)s)",
    )
    arguments = parser.parse_args()
    given = given_options(arguments)
    named = (arguments.recipe, arguments.dataset, arguments.output, arguments.weights)
    if arguments.list:
        if given or any((*named, arguments.data_root, arguments.resume, arguments.finish)):
            raise InputError("--list takes no other options")
        print(list_runs(checkpoint.RUNS))
        return
    if arguments.resume and (given or any(named)):
        raise InputError(
            "--resume takes no options but --finish, --data-root and those of how to compute"
        )
    if arguments.finish and not arguments.resume:
        raise InputError("--finish: name the run that it ends, with --resume")
    group = TrainingGroup(arguments.device)
    choose = partial(
        choose_runtime,
        group.device,
        world=group.world,
        workers=arguments.workers,
        compiled=arguments.compile,
        kernels=arguments.kernels,
        save_minutes=arguments.save_minutes,
    )
    choose(precision=arguments.precision)  # what no recipe changes is refused before any reading
    with group.leader_first():
        if arguments.resume:
            plan = resumed_plan(arguments.resume, arguments.data_root)
        else:
            plan = new_plan(
                arguments.dataset,
                arguments.data_root,
                arguments.recipe,
                given,
                arguments.weights,
                arguments.output,
            )
        precision, cache = arguments.precision, arguments.cache
        if plan.recipe_name == "published" and precision == "auto":
            precision = "pytorch"  # as the paper's
        if cache is not None:
            cache = plan.dataset / "cache" if cache is True else cache / plan.dataset.name
        runtime = choose(precision=precision, graph=arguments.graph, cache=cache)
        run, recipe = plan.run, plan.recipe
        if recipe.batch_size == AUTO and group.leads:
            recipe = replace(recipe, batch_size=fitting(recipe, runtime) * group.world)
        if run is None and group.leads:
            run = new_run_folder(checkpoint.RUNS, plan.dataset.name)
    run, recipe = group.share((run, recipe))
    try:
        with memory_errors(), group.sole_writer(run):
            train(
                recipe,
                plan.dataset,
                run,
                others=plan.others,
                runtime=runtime,
                group=group,
                origin=plan.origin,
                start=plan.start,
                resume=plan.resume,
                finish=arguments.finish,
            )
    except MemoryError as error:
        raise InputError(
            f"{plan.dataset}: batches of {recipe.batch_size}, or the images to validate on, do not "
            "fit into memory; begin again with a smaller --batch-size or --crop-size, or with "
            "--crop-size 0 and a smaller --image-size"
        ) from error
    except RuntimeError as error:
        if arguments.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            reason = next(filter(None, map(str.strip, str(error).splitlines())), "")
            raise InputError(f"--compile: {reason}; leave it out") from error
        raise
    finally:
        if plan.run is None and group.leads:
            with suppress(OSError):  # they stay, but where nothing was written
                for folder in (run, *run.parents[:2]):
                    folder.rmdir()
    if group.leads:
        print(f"weights: {run / 'best.pkl'}")
    group.close()


if __name__ == "__main__":
    run_door(main)
