"""Score predictions against the masks: those of t_models.py, or of any method.

python cal_from_mask.py                               the newest export of t_models.py
python cal_from_mask.py --dataset IRSTD-1k --size 256 --report
python cal_from_mask.py --predictions A=a/mat B=b/png --masks masks --table latex --plots
"""

from argparse import Namespace
from pathlib import Path

from utils.data.catalogue import choose_dataset, recorded_root
from utils.metrics.job import Method, run
from utils.metrics.maps import KINDS
from utils.metrics.protocols import PROTOCOLS
from utils.metrics.report import TABLE_FORMATS
from utils.options import LARGEST_SIDE, InputError, Parser, non_negative, run_door, side
from utils.results import RECORD, find_export, read_record


def main() -> None:
    parser = Parser("Score predicted maps against masks, by named protocols side by side.")
    parser.add_argument(
        "--dataset", metavar="NAME", help="data set (default: that of the newest export)"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of the data sets (default: as in prediction, else datasets)",
    )
    parser.add_argument(
        "--split",
        choices=["test", "trainval"],
        help="of the masks (default: as in prediction, else test)",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default %(default)s"
    )
    parser.add_argument(
        "--predictions",
        nargs="+",
        metavar="[NAME=]DIR",
        help="folders of .mat (T: logits), .npy, .png, .tif or .bmp, one for each method; "
        f"NAME:KIND=DIR where its values are of another kind than the others' ({', '.join(KINDS)}) "
        "(default: results/<dataset>/mat)",
    )
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="folder of masks (default: the data set's)"
    )
    parser.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="score these images alone: their names, one a line, such as a test.txt beside the "
        "masks of all images",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images, for --report (default: images beside the masks)",
    )
    kinds = parser.add_mutually_exclusive_group()
    for kind, text in (
        ("logits", "floats are logits (in .mat they are by default)"),
        ("probabilities", "floats are probabilities"),
        ("binary", "values above 0 are targets"),
    ):
        kinds.add_argument(f"--{kind}", action="store_const", const=kind, dest="kind", help=text)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        type=side,
        metavar="N",
        help="bring maps and masks to N x N for every protocol; the paper's is 256 (default: as in "
        "prediction, else each protocol's own)",
    )
    sizes.add_argument(
        "--resize",
        action="store_true",
        help="bring maps to the size of their masks for the protocols that score at native size "
        f"({', '.join(p.name for p in PROTOCOLS.values() if not p.size)}), and maps of any size to "
        "that of the others",
    )
    parser.add_argument(
        "--protocols",
        nargs="+",
        default=["corrected", "published"],
        choices=list(PROTOCOLS),
        metavar="NAME",
        help=f"of {', '.join(PROTOCOLS)}; pictures and lists of targets are by the first "
        "(default: corrected published)",
    )
    parser.add_argument(
        "--table",
        choices=TABLE_FORMATS,
        help="print and write a table that compares the methods (default: markdown, if there are "
        "several)",
    )
    parser.add_argument(
        "--plots", action="store_true", help="draw ROC, FROC and precision-recall curves"
    )
    parser.add_argument(
        "--report", action="store_true", help="write report.html: figures, curves, every image"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of what is written (default: the export's own; of --predictions "
        "results/scores, or its folder of the name of a single method)",
    )
    parser.add_argument(
        "--workers",
        type=non_negative,
        default=0,
        metavar="N",
        help="processes (default %(default)s: this one alone)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative,
        default=0,
        metavar="N",
        help="of the bootstrap intervals (default %(default)s)",
    )
    arguments = parser.parse_args()
    _refuse_idle(arguments)

    record = {}
    if arguments.predictions:
        if not arguments.masks and arguments.dataset is None:
            raise InputError("--predictions: say what to score against, --masks or --dataset")
        methods = [Method.parse(text) for text in arguments.predictions]
        output = arguments.output or arguments.results / "scores"
        if len(methods) == 1 and not arguments.output:
            output /= methods[0].folder
    else:
        export = find_export(arguments.results, arguments.dataset)
        record = read_record(export)
        size = record.get("size")
        if not (size is None or isinstance(size, int) and 0 < size <= LARGEST_SIDE):
            raise InputError(f"{export / RECORD}: {size!r} is no size; run t_models.py again")
        methods = [Method(export.name, export / "mat")]
        output = arguments.output or export
    masks, facts = arguments.masks, {"dataset": None, "split": None}
    if not masks:
        data_root = arguments.data_root or recorded_root(record.get("data_root"))
        name = arguments.dataset
        if name is None:
            name = record.get("dataset") or methods[0].name
        dataset = choose_dataset(name, data_root)
        predicted = record.get("dataset") or dataset.name
        if predicted != dataset.name:
            raise InputError(
                f"{methods[0].predictions}: made for {predicted}, not for {dataset.name}; predict "
                "that with t_models.py, or name these with --predictions"
            )
        split = arguments.split or record.get("split", "test")
        masks = dataset / split / "masks"
        facts = {"dataset": dataset.name, "split": split}
    run(
        methods,
        masks,
        output,
        images=arguments.images,
        chosen=arguments.list,
        protocols=[PROTOCOLS[name] for name in dict.fromkeys(arguments.protocols)],
        size=arguments.size or (None if arguments.resize else record.get("size")),
        resize=arguments.resize,
        kind=arguments.kind,
        seed=arguments.seed,
        workers=arguments.workers,
        facts=facts | {key: record.get(key) for key in ("weights_sha256", "tta")},
        table=arguments.table,
        plots=arguments.plots,
        report=arguments.report,
    )


def _refuse_idle(arguments: Namespace) -> None:
    """Raises InputError for an option that would not be read."""
    if arguments.images and not arguments.report:
        raise InputError("--images has no effect without --report")
    if arguments.masks:
        idle = ["split", "data_root", *(["dataset"] if arguments.predictions else [])]
        if given := [name for name in idle if getattr(arguments, name) is not None]:
            flag = "--" + given[0].replace("_", "-")
            raise InputError(f"{flag} has no effect with --masks; leave out one of them")


if __name__ == "__main__":
    run_door(main)
