"""Bring a data set into the layout that training reads, or check one.

python tools/prepare_dataset.py IRSTD-1k.zip --name IRSTD-1k
python tools/prepare_dataset.py my_images --name mine --split 0.8
python tools/prepare_dataset.py --check IRSTD-1k
python tools/prepare_dataset.py datasets/SIRST --name sirst_aug_like --augment-sirst
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.data.augment import PER_IMAGE, PER_TARGET, augment
from utils.data.catalogue import DATA_ROOT, count_warning, find_dataset
from utils.data.check import check, manifest, table
from utils.data.contact import contact_sheet
from utils.data.images import encode_png
from utils.data.layouts import Division
from utils.data.prepare import prepare, set_folder
from utils.files import write_bytes, write_json
from utils.options import InputError, Parser, fraction, non_negative, run_door


def main() -> int:
    parser = Parser(
        "Bring a data set as it was published into <data root>/NAME/{trainval,test}/"
        "{images,masks}, or check one that is there."
    )
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="SOURCE",
        help="a folder, .zip, .tar or .tar.gz: images and masks with split lists, IRSTD-1k's, "
        "SIRST's and SIRST-V2's folders, or this project's own",
    )
    parser.add_argument("--name", help="of the new data set")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=DATA_ROOT,
        metavar="DIR",
        help="folder of the data sets (default %(default)s)",
    )
    how = parser.add_argument_group(
        "how to split, where the source does not say, or otherwise than it says"
    )
    how.add_argument(
        "--split-file",
        type=Path,
        nargs=2,
        metavar=("TRAINVAL", "TEST"),
        help="two lists, the name of an image a line",
    )
    how.add_argument("--split", type=fraction, metavar="PART", help="drawn for trainval, as 0.8")
    how.add_argument(
        "--seed", type=non_negative, metavar="N", help="of --split and --augment-sirst (default 0)"
    )
    how = parser.add_argument_group("how to write")
    how.add_argument(
        "--move", action="store_true", help="remove the files from SOURCE; else they are linked"
    )
    how.add_argument("--replace", action="store_true", help="what is there under NAME")
    how.add_argument("--dry-run", action="store_true", help="say what would be done")
    how.add_argument(
        "--augment-sirst",
        action="store_true",
        help="make a set that is like sirst_aug but is not it, and whose figures are not its: "
        f"256x256 windows of a set in our layout, turned and mirrored, {PER_IMAGE} around the "
        f"targets of each image in trainval, {PER_TARGET} around each target in test",
    )
    other = parser.add_argument_group("check")
    other.add_argument(
        "--check",
        metavar="NAME",
        help="look for wrong pairs, sizes, masks and repeated images; write manifest.json and "
        "contact_sheet.png; exit code 1 if the set is wrong",
    )
    other.add_argument(
        "--output", type=Path, metavar="DIR", help="of these two files (default: the set's folder)"
    )
    arguments = parser.parse_args()
    if arguments.check is not None:
        allowed = {"check", "data_root", "output"}
        given = {k for k, v in vars(arguments).items() if v is not None and v is not False}
        if given - allowed:
            raise InputError("--check takes --data-root and --output alone")
        return _check(find_dataset(arguments.check, arguments.data_root), arguments.output)
    if arguments.source is None or arguments.name is None:
        raise InputError("give SOURCE and --name, or --check (--help says more)")
    if arguments.output:
        raise InputError("--output is for --check")
    folder = set_folder(arguments.name, arguments.data_root)
    if arguments.augment_sirst:
        if arguments.split_file or arguments.split or arguments.move or arguments.dry_run:
            raise InputError("--augment-sirst takes --name, --data-root, --seed and --replace")
        counts = augment(arguments.source, folder, arguments.seed or 0, arguments.replace)
        _say_counts(folder, counts, "written")
        print("like sirst_aug, but not it: figures on the two cannot be compared")
        return 0
    if arguments.split and arguments.split_file:
        raise InputError("--split and --split-file: choose one")
    if arguments.seed is not None and not arguments.split:
        raise InputError("--seed has no effect here without --split")
    lists = tuple(arguments.split_file) if arguments.split_file else None
    found, was_there = prepare(
        arguments.source,
        folder,
        Division(lists, arguments.split, arguments.seed or 0),
        move=arguments.move,
        replace=arguments.replace,
        dry_run=arguments.dry_run,
    )
    print(f"{arguments.source}: {found.layout}")
    for note in found.notes:
        print(f"note: {note}")
    counts = {split: len(pairs) for split, pairs in found.splits.items()}
    done = (
        "is there already" if was_there else "would be written" if arguments.dry_run else "written"
    )
    _say_counts(folder, counts, done)
    if not arguments.dry_run:
        root = arguments.data_root
        elsewhere = "" if root == DATA_ROOT else f' --data-root "{root}"'
        print(f'next: python tools/prepare_dataset.py --check "{arguments.name}"{elsewhere}')
    return 0


def _say_counts(folder: Path, counts: dict[str, int], done: str) -> None:
    print(f"{folder}: {done}, {counts['trainval']} pairs in trainval, {counts['test']} in test")
    if warning := count_warning(folder.name, counts["trainval"], counts["test"]):
        print(f"warning: {warning}")


def _check(folder: Path, output: Path | None) -> int:
    report = check(folder)
    print(table(report))
    for kind, lines in (("error", report.errors), ("warning", report.warnings)):
        for line in lines:
            print(f"{kind}: {line}")
    output = output or folder
    write_json(output / "manifest.json", manifest(report))
    written = "manifest.json"
    if report.images:
        sheet = contact_sheet([(image.title, image.pair) for image in report.images])
        write_bytes(output / "contact_sheet.png", encode_png(sheet))
        written += ", contact_sheet.png"
    print(f"written to {output}: {written}")
    return 1 if report.errors else 0


if __name__ == "__main__":
    run_door(main)
