"""Predict a data set and export the maps.

python t_models.py                                    the newest run, on its own data set
python t_models.py --dataset IRSTD-1k --weights best.pkl --image-size 256
"""

from pathlib import Path

from utils import checkpoint
from utils.data.catalogue import DATA_ROOT, choose_dataset
from utils.options import Parser, choose_device, non_negative, run_door
from utils.prediction.job import predict_split
from utils.prediction.predictor import Predictor


def main() -> None:
    parser = Parser("Predict the images of a data set; maps go to results/<dataset>/{img,mat}.")
    parser.add_argument(
        "--dataset", metavar="NAME", help="data set (default: the one the weights are from)"
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="folder of the data sets (default: as in training, else datasets)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of this project or published (default: the newest run's best.pkl, "
        "else Weight/<dataset>/best.pkl)",
    )
    parser.add_argument(
        "--split", default="test", choices=["test", "trainval"], help="default %(default)s"
    )
    parser.add_argument(
        "--image-size",
        type=non_negative,
        metavar="N",
        help="resize images to N x N and export maps of this size, the paper's is 256; 0: at their "
        "own size (default: as the weights were trained)",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default %(default)s"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default %(default)s)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)

    dataset = None
    if arguments.dataset is not None:
        dataset = choose_dataset(arguments.dataset, arguments.data_root or DATA_ROOT)
    weights = arguments.weights or checkpoint.newest_weights(dataset.name if dataset else None)
    predictor = Predictor(weights, device, arguments.image_size)
    if not dataset:
        info = predictor.checkpoint.info
        name = info.get("dataset")
        if not name and not arguments.weights:  # published weights in Weight/<dataset>
            name = weights.parent.name
        data_root = arguments.data_root or Path(info.get("data_root", DATA_ROOT))
        dataset = choose_dataset(name, data_root)
    results = arguments.results / dataset.name
    print(f"{weights}: predicting {dataset / arguments.split}")
    count = predict_split(predictor, dataset / arguments.split, results)
    print(f"{count} maps in {results / 'img'} and {results / 'mat'}")


if __name__ == "__main__":
    run_door(main)
