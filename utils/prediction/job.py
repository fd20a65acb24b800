"""Many images, one after the other."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ..data.dataset import list_images
from ..data.images import read_image
from ..results import map_paths, read_record, write_maps, write_record
from .predictor import Predictor


def predict_split(predictor: Predictor, split: Path, folder: Path) -> int:
    """Predict every image of ``<split>/images``; masks are not looked at.

    The maps and their record go to ``folder``; maps that an earlier job left there for other images
    are removed.

    Returns:
        The number of images.

    Raises:
        InputError: an image that cannot be read, or a folder that cannot be written.
    """
    images = list_images(split / "images")
    with ThreadPoolExecutor() as pool:  # a bad file stops the job before it has written anything
        deque(pool.map(read_image, images.values()), maxlen=0)
    earlier = set(read_record(folder).get("images", ()))
    record = {
        "complete": False,
        "dataset": split.parent.name,
        "data_root": str(split.parent.parent),
        "split": split.name,
        "size": predictor.size,
        "weights_sha256": predictor.checkpoint.sha256,
        "images": sorted(earlier | images.keys()),
    }
    write_record(folder, record)
    for stem, path in tqdm(images.items(), unit="image", dynamic_ncols=True):
        write_maps(folder, stem, predictor(read_image(path)))
    for stem in earlier - images.keys():
        for path in map_paths(folder, stem):
            path.unlink(missing_ok=True)
    write_record(folder, record | {"complete": True, "images": sorted(images)})
    return len(images)
