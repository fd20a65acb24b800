"""Many images, one after the other."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.dataset import list_images
from ..data.images import read_image
from ..options import InputError
from ..results import map_paths, read_record, remove_scores, write_maps, write_record
from .predictor import Predictor


def predict_split(predictor: Predictor, split: Path, folder: Path) -> int:
    """Predict every image of ``<split>/images``; masks are not looked at.

    The maps and their record go to ``folder``; maps that an earlier job left there for other images
    are removed.

    Returns:
        The number of images.

    Raises:
        InputError: an image that cannot be read, a folder that cannot be written or holds maps of
            unknown origin, weights that predict no finite numbers.
    """
    images = list_images(split / "images")
    with ThreadPoolExecutor() as pool:  # a bad file stops the job before it has written anything
        deque(pool.map(read_image, images.values()), maxlen=0)
    earlier = set(read_record(folder).get("images", ()))
    foreign = {path.stem for path in (folder / "mat").glob("*.mat")} - earlier - images.keys()
    if foreign:
        raise InputError(
            f"{folder / 'mat'}: holds {len(foreign)} maps of unknown origin (such as "
            f"{min(foreign)}.mat); remove them, or choose another folder with --results"
        )
    record = {
        "complete": False,
        "dataset": split.parent.name,
        "data_root": str(split.parent.parent.resolve()),
        "split": split.name,
        "size": predictor.size,
        "weights_sha256": predictor.checkpoint.sha256,
        "images": sorted(earlier | images.keys()),
    }
    write_record(folder, record)
    remove_scores(folder)
    for stem, path in tqdm(images.items(), unit="image", dynamic_ncols=True):
        logits = predictor(read_image(path))
        if not np.isfinite(logits).all():
            raise InputError(f"{path}: its map has NaN or infinity: the weights are damaged")
        write_maps(folder, stem, logits)
    for stem in earlier - images.keys():
        for path in map_paths(folder, stem):
            path.unlink(missing_ok=True)
    write_record(folder, record | {"complete": True, "images": sorted(images)})
    return len(images)
