"""Folders of predictions and masks to counts."""

from pathlib import Path

import numpy as np
import scipy.io
from tqdm import tqdm

from ..data.dataset import list_images
from ..data.images import read_mask, resize
from ..options import InputError
from .counts import Counts, count


def score(predictions: Path, masks: Path, size: int | None = None) -> Counts:
    """Count over all masks of a folder, each against the prediction of its stem.

    Args:
        predictions: ``<stem>.mat`` with the variable ``T``, logits.
        masks: images.
        size: bring predictions (bilinear) and masks (nearest) to size x size; None: as they are.

    Raises:
        InputError: a mask without a prediction or the reverse, sizes that differ, a file that
            cannot be read, a prediction that is not finite.
    """
    mask_paths = list_images(masks)
    prediction_paths = _list_predictions(predictions)
    missing, extra = mask_paths.keys() - prediction_paths, prediction_paths.keys() - mask_paths
    if missing or extra:
        raise InputError(
            f"{predictions}: made for other images than {masks}: {len(missing)} of its "
            f"{len(mask_paths)} masks have no prediction and {len(extra)} predictions no mask "
            f"(such as {min(missing | extra)}); run t_models.py on this data set"
        )
    counts = Counts()
    bar = tqdm(mask_paths.items(), unit="image", dynamic_ncols=True, leave=False, delay=2)
    for stem, path in bar:
        logits, mask = read_logits(prediction_paths[stem]), read_mask(path)
        if size:
            logits, mask = resize(logits, size), resize(mask, size, nearest=True)
        if logits.shape != mask.shape:
            raise InputError(
                f"{prediction_paths[stem]}: {logits.shape[1]}x{logits.shape[0]} px, but its mask "
                f"has {mask.shape[1]}x{mask.shape[0]}; --size brings both to one size"
            )
        counts += count(logits > 0, mask)
    return counts


def read_logits(path: Path) -> np.ndarray:
    """``T`` of a .mat file: (H, W) float32.

    Raises:
        InputError: no .mat file, no such variable, or not a finite map.
    """
    try:
        content = scipy.io.loadmat(path, variable_names=["T"])
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path}: not a .mat file that can be read") from error
    logits = content.get("T")
    if logits is None or logits.ndim != 2 or logits.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected a variable T, a map (H, W) of logits")
    if not np.isfinite(logits).all():
        raise InputError(f"{path}: T holds NaN or infinity")
    return logits.astype(np.float32)


def _list_predictions(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; t_models.py writes it")
    return {path.stem: path for path in sorted(folder.glob("*.mat"))}
