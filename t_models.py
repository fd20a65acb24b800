"""Predict images: a data set, or any files.

python t_models.py                                    the newest run, on its own data set
python t_models.py --dataset IRSTD-1k --weights best.pkl --image-size 256
python t_models.py --images photo.png flights/ "night/**/*.tif" film.mp4 --save overlay boxes
torchrun --nproc_per_node=4 t_models.py --images flights/
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from utils import checkpoint
from utils.data.catalogue import BUILTIN, DATA_ROOT, choose_dataset, list_datasets, same_name
from utils.data.ranges import level_range
from utils.group import Group
from utils.options import (
    InputError,
    Parser,
    fraction,
    positive,
    run_door,
    side_or_0,
)
from utils.precision import PRECISIONS
from utils.prediction.job import (
    KINDS,
    Job,
    Outcome,
    predict_files,
    predict_split,
    scoring_job,
)
from utils.prediction.journal import JOURNAL
from utils.prediction.networks import NO_STAGES
from utils.prediction.predictor import Predictor
from utils.prediction.sources import find_sources, origins, title
from utils.results import read_record


def main() -> int:
    parser = Parser(
        "Predict a data set, or any images and videos; outputs go to results/<name>/<kind>."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dataset", metavar="NAME", help="data set (default: the one the weights are from)"
    )
    what.add_argument(
        "--images",
        nargs="+",
        metavar="WHAT",
        help="files, folders with all below them, patterns, videos, or names of data sets, whose "
        "images are then predicted as any others, at their own size",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of the data sets (default datasets; where none of them is named, that of the "
        "training)",
    )
    parser.add_argument(
        "--split", choices=["test", "trainval"], help="of the data set (default test)"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of this project, published, or an .onnx export (default: the newest run's best.pkl, "
        "else Weight/<dataset>/best.pkl; for --images, names of data sets aside, a run on "
        "built-in scenes comes last)",
    )
    parser.add_argument(
        "--image-size",
        type=side_or_0,
        metavar="N",
        help="resize images to N x N, the paper's is 256; outputs of --dataset, boxes, too, stay "
        "of this size, those of --images are brought back. 0: do not (default: as the weights were "
        "trained for --dataset, else 0)",
    )
    parser.add_argument(
        "--range",
        type=level_range,
        metavar="RANGE",
        help="the grey levels of --images that become 0 and 1: full, percentile, LO,HI, or auto: "
        "full for 8 bits, and for deeper images that fill theirs, else percentile; HI,LO for dark "
        "targets (default auto)",
    )
    parser.add_argument(
        "--save",
        nargs="+",
        choices=KINDS,
        metavar="KIND",
        help=f"outputs: {' '.join(KINDS)} (default img mat; a video always gives an annotated "
        "video and a table, and these for each frame only where they are named)",
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        default=0.5,
        metavar="P",
        help="a target pixel has a probability above this (default %(default)s)",
    )
    parser.add_argument(
        "--min-area",
        type=positive,
        default=1,
        metavar="PX",
        help="leave out smaller detections (default %(default)s)",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default %(default)s"
    )
    parser.add_argument(
        "--skip-existing", action="store_true", help="go on with an interrupted job"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="with --images: stop at the first file that cannot be read (default: skip it, exit "
        "code 1); --dataset always stops",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default %(default)s)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="auto: bf16 or fp16 on a GPU, fp32 on the CPU (default %(default)s)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: the mean over the image turned and mirrored in all eight "
        "ways, in eight times the time",
    )
    arguments = parser.parse_args()
    # files are shared out by number, not by work: one process may long wait for another
    group = Group(arguments.device, timeout=timedelta(days=7))

    data_root = arguments.data_root or DATA_ROOT
    if arguments.images:
        return _predict_files(arguments, data_root, group)
    name, dataset = arguments.dataset, None
    if name is not None:
        with group.leader_first():  # the built-in scenes may be written
            dataset = choose_dataset(name, data_root)
    if arguments.range is not None:
        raise InputError("--range is for --images; a data set is read as in training")
    if arguments.save and "mat" not in arguments.save:
        arguments.save.append("mat")  # what is scored: it must not be that of other weights
    weights = arguments.weights or checkpoint.newest_weights(dataset.name if dataset else None)
    predictor = _predictor(arguments, weights, group, level_range="full")
    info = predictor.network.info
    if not dataset:
        name = info.get("dataset")
        if not name and not arguments.weights:  # published weights in Weight/<dataset>
            name = weights.parent.name
        data_root = arguments.data_root or checkpoint.data_root_of(weights)
        with group.leader_first():
            dataset = choose_dataset(name, data_root)
    size = info.get("image_size") if arguments.image_size is None else arguments.image_size
    split = arguments.split or "test"
    job = scoring_job(
        arguments.results / dataset.name,
        size or 0,
        info.get("range", "full"),
        **_job_options(arguments),
    )
    if group.leads:
        print(f"{weights}: predicting {dataset / split}")
    with group.sole_writer(job.folder):
        outcome = predict_split(predictor, dataset / split, job, group)
    return _report(outcome, job, group, job.kinds)


def _predict_files(arguments: Namespace, data_root: Path, group: Group) -> int:
    inputs, split = list(arguments.images), arguments.split or "test"
    sets: dict[int, str] = {}  # the inputs that are names of data sets
    for i, text in enumerate(inputs):
        if name := _dataset_meant(text, data_root):
            with group.leader_first():
                dataset = choose_dataset(name, data_root)
            inputs[i], sets[i] = str(dataset / split / "images"), dataset.name
    if arguments.split is not None and not sets:
        raise InputError("--split is for data sets; name the files themselves")
    folder = arguments.results / (f"{sets[0]}_{split}" if 0 in sets else title(inputs))
    sources = find_sources(inputs, without=(arguments.results, folder))
    if read_record(folder) or str(folder.resolve()) in origins(inputs):
        raise InputError(
            f"{folder}: holds the images themselves, or the maps of a data set; choose another "
            "folder with --results"
        )
    weights = arguments.weights or checkpoint.photo_weights(next(iter(sets.values()), None))
    predictor = _predictor(
        arguments,
        weights,
        group,
        level_range=arguments.range or "auto",
        size=arguments.image_size or 0,
    )
    job = Job(folder, origins=origins(inputs), **_job_options(arguments))
    if group.leads:
        if (side := predictor.network.info.get("image_size")) and arguments.image_size is None:
            print(
                f"note: {weights}: trained on whole images of {side}x{side} px; these keep their "
                f"size, where it may find less: try --image-size {side}",
                file=sys.stderr,
            )
        print(f"{weights}: predicting {len(sources)} files")
    with group.sole_writer(folder):
        outcome = predict_files(predictor, sources, job, group)
    has_videos = any(source.is_video for source in sources)
    written = job.kinds if job.frames or not all(source.is_video for source in sources) else ()
    return _report(outcome, job, group, (*written, "video", "boxes") if has_videos else written)


def _dataset_meant(text: str, data_root: Path) -> str | None:
    """The data set that an input names, if it names one and no file."""
    # os.path: False, too, where it cannot be said; what is wrong there, find_sources tells
    if os.path.exists(text) or set(text) & set("*?[/\\."):  # a pattern, or a path to nowhere
        return None
    names = (*list_datasets(data_root), BUILTIN)
    return next((name for name in names if same_name(name, text)), None)


def _predictor(arguments: Namespace, weights: Path, group: Group, **options) -> Predictor:
    if "stages" in (arguments.save or ()) and weights.suffix.lower() == ".onnx":
        raise InputError(f"{weights}: {NO_STAGES}")
    return Predictor(
        weights,
        # one process may find that ONNX Runtime does not use the GPU, if it was not asked for
        arguments.device if group.world == 1 else group.device,
        threshold=arguments.threshold,
        min_area=arguments.min_area,
        precision=arguments.precision,
        tta=arguments.tta,
        **options,
    )


def _job_options(arguments: Namespace) -> dict[str, Any]:
    return {
        "kinds": tuple(arguments.save or ("img", "mat")),
        "frames": arguments.save is not None,
        "skip_existing": arguments.skip_existing,
        "strict": arguments.strict,
    }


def _report(outcome: Outcome, job: Job, group: Group, written: Sequence[str]) -> int:
    """Say what was done; returns the exit code."""
    group.close()
    if not group.leads:
        return 0
    print(f"{outcome.predicted} predicted, in {job.folder}: {', '.join(dict.fromkeys(written))}")
    if outcome.failed:
        print(f"{outcome.failed} skipped, see {job.folder / JOURNAL}", file=sys.stderr)
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    run_door(main)
