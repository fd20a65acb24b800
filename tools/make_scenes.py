"""Make a data set of scenes whose targets are known.

python tools/make_scenes.py --name dim --scr 2 4
python tools/make_scenes.py --name pasted --backgrounds sky --blur 2.1
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.data.catalogue import DATA_ROOT
from utils.data.generated import Order, generate
from utils.data.pasting import PSFS, Kind
from utils.data.prepare import set_folder
from utils.options import (
    InputError,
    Parser,
    non_negative,
    non_negative_float,
    positive,
    positive_float,
    run_door,
)


def main() -> None:
    parser = Parser(
        "Make a data set of scenes whose targets are known: <data root>/NAME, with targets.csv. "
        "The same options give the same files."
    )
    parser.add_argument("--name", required=True, help="of the data set")
    parser.add_argument(
        "--data-root",
        type=Path,
        default=DATA_ROOT,
        metavar="DIR",
        help="folder of the data sets (default %(default)s)",
    )
    for split, number in (("trainval", 240), ("test", 64)):
        parser.add_argument(
            f"--{split}",
            type=non_negative,
            default=number,
            metavar="N",
            help="scenes in it (default %(default)s)",
        )
    parser.add_argument("--seed", type=non_negative, default=0, metavar="N", help="%(default)s")
    parser.add_argument("--replace", action="store_true", help="what is there under NAME")
    what = parser.add_argument_group("what is in a scene")
    what.add_argument(
        "--backgrounds",
        type=Path,
        metavar="DIR",
        help="images without targets, brought to 8 bits; none is behind both splits (default: "
        "backgrounds are generated)",
    )
    what.add_argument(
        "--size",
        type=positive,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="px (default 256 256; with --backgrounds, their own)",
    )
    what.add_argument(
        "--targets",
        type=non_negative,
        nargs=2,
        default=(0, 4),
        metavar=("LEAST", "MOST"),
        help="in a scene (default 0 4)",
    )
    what.add_argument(
        "--diameter",
        type=non_negative_float,
        nargs=2,
        default=(0.0, 4.0),
        metavar=("LEAST", "MOST"),
        help="of a target before the blur, px; 0 is a point (default 0 4)",
    )
    what.add_argument(
        "--scr",
        type=positive_float,
        nargs=2,
        default=(4.0, 10.0),
        metavar=("LEAST", "MOST"),
        help="peak signal-to-clutter ratio: a target's highest pixel above its background, over "
        "the standard deviation of the 17x17 window around it (default 4 10)",
    )
    what.add_argument(
        "--blur",
        type=positive_float,
        default=1.5,
        metavar="PX",
        help="width of the lens's point spread at half its height (default %(default)s)",
    )
    what.add_argument("--psf", choices=PSFS, default="airy", help="its form (default %(default)s)")
    arguments = parser.parse_args()
    for name, highest in (("targets", 1000), ("diameter", 64), ("scr", 100)):
        low, high = getattr(arguments, name)
        if not low <= high <= highest:
            raise InputError(f"--{name} {low:g} {high:g}: LEAST comes first; MOST is {highest}")
    if not 0.3 <= arguments.blur <= 16:
        raise InputError(f"--blur {arguments.blur:g}: expected 0.3 to 16 px")
    if arguments.size and not 16 <= min(arguments.size) <= max(arguments.size) <= 8192:
        raise InputError("--size: expected 16 to 8192 px")
    if not arguments.trainval + arguments.test:
        raise InputError("--trainval 0 --test 0: nothing to make")
    folder = set_folder(arguments.name, arguments.data_root)
    kind = Kind(tuple(arguments.diameter), arguments.blur, arguments.psf, tuple(arguments.scr))
    order = Order(
        arguments.trainval,
        arguments.test,
        tuple(arguments.size) if arguments.size else None,
        tuple(arguments.targets),
        kind,
        arguments.seed,
    )
    made = generate(folder, order, arguments.backgrounds, arguments.replace)
    done = "is there already" if made["was_there"] else "written"
    print(f"{folder}: {done}, {made['scenes']} scenes with {made['targets']} targets")
    if made["no_place"]:
        print(
            f"warning: {made['no_place']} targets found no place where they fit and do not "
            "saturate; a lower --scr, fewer --targets or darker backgrounds have room"
        )


if __name__ == "__main__":
    run_door(main)
