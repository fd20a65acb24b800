"""Score exported maps against the masks.

python cal_from_mask.py                               the newest export of t_models.py
python cal_from_mask.py --dataset IRSTD-1k --size 256
"""

from pathlib import Path

from utils.data.catalogue import choose_dataset
from utils.files import write_json
from utils.metrics.report import as_json, table
from utils.metrics.scoring import score
from utils.options import Parser, positive, run_door
from utils.results import find_export, read_record


def main() -> None:
    parser = Parser("Score results/<dataset>/mat against the data set's masks: corrected protocol.")
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
        "--size",
        type=positive,
        metavar="N",
        help="bring maps and masks to N x N; the paper's is 256 (default: as in prediction, "
        "else their own size)",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default %(default)s"
    )
    arguments = parser.parse_args()

    folder = find_export(arguments.results, arguments.dataset)
    record = read_record(folder)
    data_root = arguments.data_root or Path(record.get("data_root", "datasets"))
    dataset = choose_dataset(record.get("dataset", folder.name), data_root)
    split = arguments.split or record.get("split", "test")
    size = arguments.size or record.get("size")
    counts = score(folder / "mat", dataset / split / "masks", size)

    print(f"{dataset.name} {split}, {f'at {size}x{size}' if size else 'at native size'}")
    print(table(counts))
    facts = {
        "dataset": dataset.name,
        "split": split,
        "size": size,
        "weights_sha256": record.get("weights_sha256"),
    }
    write_json(folder / "metrics.json", facts | as_json(counts))
    print(f"written to {folder / 'metrics.json'}")


if __name__ == "__main__":
    run_door(main)
