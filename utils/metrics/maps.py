"""Prediction files of any method to maps."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import scipy.io
from scipy.special import expit, logit

from ..data.images import SUFFIXES as IMAGE_SUFFIXES
from ..data.images import read_levels, unit_interval
from ..files import files_by_name, list_folder
from ..options import InputError


@dataclass(frozen=True)
class Map:
    """A method's answer for one image."""

    values: np.ndarray  # (H, W) float32
    are_logits: bool = True  # else probabilities in [0, 1]

    def logits(self) -> np.ndarray:
        """(H, W) float32; infinite where a probability is 0 or 1."""
        return self.values if self.are_logits else logit(self.values)

    @cached_property
    def relative(self) -> np.ndarray:
        """(H, W) float64: probability over its maximum in the image; 0 where all of it is 0."""
        values = self.values.astype(np.float64)
        probability = expit(values) if self.are_logits else values
        return probability / (probability.max() or 1.0)

    def positive(self) -> np.ndarray:
        """(H, W) bool: probability > 0.5."""
        return self.values > (0.0 if self.are_logits else 0.5)


Kind = Literal["logits", "probabilities", "binary"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SUFFIXES = (".mat", ".npy", ".png", ".tif", ".tiff", ".bmp")
_ROUNDING = 1e-6  # by which a softmax or a resized map can exceed 1
_ENDINGS = ("_Pred", "_pixels0")  # what other codebases append to the name of the image


def list_files(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """`files_by_name`, where the name is the stem, less ``_Pred`` or ``_pixels0``."""
    return files_by_name(folder, suffixes, _image_of)


def _image_of(path: Path) -> str:
    name = path.stem
    for ending in _ENDINGS:
        if name.lower().endswith(ending.lower()):
            name = name[: -len(ending)]
    return name


def list_predictions(folder: Path) -> dict[str, Path]:
    """`list_files` of maps, without the mask ``X_GT`` and the image ``X`` that DNANet writes beside
    ``X_Pred``."""
    predicted = _predicted(folder)
    others = predicted | {f"{name}_GT" for name in predicted}
    return files_by_name(
        folder, SUFFIXES, lambda path: None if path.stem in others else _image_of(path)
    )


def list_masks(folder: Path) -> dict[str, Path]:
    """`list_files` of masks: the ``X_GT`` where DNANet has written them beside ``X_Pred``."""
    masks = {f"{name}_GT": name for name in _predicted(folder)}
    if not any(path.stem in masks for path in list_folder(folder)):
        return list_files(folder, IMAGE_SUFFIXES)
    return files_by_name(folder, IMAGE_SUFFIXES, lambda path: masks.get(path.stem))


def _predicted(folder: Path) -> set[str]:
    """The names for which a folder has an ``X_Pred``."""
    return {p.stem[:-5] for p in list_folder(folder) if p.stem.lower().endswith("_pred")}


def read_map(path: Path, kind: Kind | None = None) -> Map:
    """Read ``T`` of a .mat file, a .npy array, or an image.

    Unsigned integers of 8 and 16 bits are probabilities, over the largest of their type; bool is 0
    or 1; all others are logits in a .mat file, and elsewhere what ``kind`` says.

    Args:
        path: the file; its array is (H, W), or has further axes of length 1.
        kind: what such others are, in a .mat file, too; "binary": whatever the type, > 0 is a
            target. None: as above.

    Raises:
        InputError: a file that cannot be read, values that are not finite or not of this kind.
    """
    values = _read(path)
    values = np.squeeze(values) if values.ndim > 2 else values
    if values.ndim != 2 or not values.size or values.dtype.kind not in "buif":
        raise InputError(
            f"{path}: expected a map (H, W) of numbers, not {values.dtype} of shape {values.shape}"
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinity, as float32 at least; replace them")
    if kind == "binary" or values.dtype.kind == "b":
        return Map((values > 0).astype(np.float32), are_logits=False)
    if values.dtype in (np.uint8, np.uint16):
        return Map(unit_interval(values), are_logits=False)
    if kind is None:
        if path.suffix.lower() != ".mat":
            raise InputError(
                f"{path}: {values.dtype} values; say what they are: --logits, --probabilities or, "
                "for masks, --binary"
            )
        kind = "logits"
    if kind == "probabilities" and not (values.min() >= 0 and values.max() <= 1 + _ROUNDING):
        raise InputError(
            f"{path}: values from {values.min():g} to {values.max():g} are no probabilities; "
            "give --logits or, for masks, --binary"
        )
    values = values.astype(np.float32)
    if kind == "probabilities":
        return Map(np.minimum(values, np.float32(1)), are_logits=False)
    return Map(values)


def doubt(prediction: Map) -> str | None:
    """What a map would look like if it were of another kind than it was read as.

    One such map proves nothing; a whole folder of them does, empty maps aside.
    """
    low, high = prediction.values.min(), prediction.values.max()
    if prediction.are_logits and low >= 0 and high <= 1:
        return (
            "every value lies in [0, 1]: if they are probabilities, give --probabilities, or "
            "NAME:probabilities=DIR for this method alone"
        )
    if not prediction.are_logits and 0 < high < 1.5 / 255:
        return (
            "no level is above 1: if they are masks of 0 and 1, give --binary, or NAME:binary=DIR "
            "for this method alone"
        )
    return None


def is_empty(prediction: Map) -> bool:
    """Probability 0 everywhere: looks the same of every kind."""
    return not prediction.are_logits and not prediction.values.any()


def _read(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix not in (".mat", ".npy"):
        return read_levels(path, floats=True)
    try:
        if suffix == ".npy":
            with path.open("rb") as file:  # np.load would take an archive of arrays, too
                return np.lib.format.read_array(file, allow_pickle=False)
        # as MATLAB has it, which stores a double array of whole numbers in the bytes of integers
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            content = scipy.io.loadmat(path, mat_dtype=True)
    except NotImplementedError as error:
        raise InputError(f"{path}: saved with -v7.3; save with -v7, or as .npy") from error
    except np.exceptions.ComplexWarning as error:
        raise InputError(f"{path}: holds complex numbers; save the real ones") from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path}: not a {suffix} file that can be read") from error
    if "T" not in content:
        found = ", ".join(name for name in content if not name.startswith("__")) or "none"
        raise InputError(f"{path}: expected a variable T, found {found}")
    return np.asarray(content["T"])
