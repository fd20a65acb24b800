"""The conventions of scoring, as data."""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import numpy as np

from ..data.images import target_pixels


@dataclass(frozen=True)
class Protocol:
    """How masks and predictions become counts, and counts become figures.

    Attributes:
        size: masks (nearest) and predictions (bilinear) are brought to size x size; None: they
            stay as they are.
        sampling: where a pixel of a mask is taken from then, see `utils.data.images.resize`.
        mask_rule: which pixels of a mask are a target's. "threshold": > 127 where the mask's
            maximum exceeds 1, else > 0; > half of it where it exceeds 255. "maximum": equal to it.
        pixel_rule: which pixels of a prediction the segmentation figures take. "probability":
            > 0.5, which is logit > 0. "relative": probability over its maximum in the image > 0.5.
        detection_rule: the same for Pd and Fa.
        matching: which predicted component hits which true one. "assignment": the most hits, among
            those the least total distance. "first": for each true one in raster order the first
            unused predicted one in raster order. "overlap": any common pixel.
        distance: px that the centroids of a hit are less than apart; None with "overlap".
        false_area: the pixels that Fa counts. "unmatched": of predicted components without a match.
            "area value": of those whose area is not also the area of a matched one. "pixels": all
            outside the targets.
        denominator: what Fa divides them by: pixels of the "image", of its "background", or a
            constant per image.
        empty_rule: an image without a target. "skip": its IoU enters nIoU only where something is
            predicted in it. "zero": its IoU is 0. "leave out": as "skip", and nothing of it enters
            Pd, Fa and the other figures of components.
        roc_rule: "pixels": both rates of pixels, all thresholds. "targets": 201 thresholds k/200
            on relative probability; x: false pixels over background; y: targets with a pixel at or
            over the threshold.
        undefined: the value of 0/0.
    """

    name: str
    size: int | None = None
    sampling: Literal["corner", "centre"] = "corner"
    mask_rule: Literal["threshold", "maximum"] = "threshold"
    pixel_rule: Literal["probability", "relative"] = "probability"
    detection_rule: Literal["probability", "relative"] = "probability"
    matching: Literal["assignment", "first", "overlap"] = "assignment"
    distance: float | None = 3.0
    false_area: Literal["unmatched", "area value", "pixels"] = "unmatched"
    denominator: Literal["image", "background"] | int = "image"
    empty_rule: Literal["skip", "zero", "leave out"] = "skip"
    roc_rule: Literal["pixels", "targets"] = "pixels"
    undefined: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a rule that is none of those above."""
        for name, hint in get_type_hints(type(self)).items():
            found = (choice for part in (hint, *get_args(hint)) for choice in get_args(part))
            choices = [choice for choice in found if isinstance(choice, str)]
            value = getattr(self, name)
            if choices and isinstance(value, str) and value not in choices:
                raise ValueError(f"{name} {value!r}: expected one of {', '.join(choices)}")

    def mask(self, levels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 or uint16, as stored -> (H, W) bool."""
        if self.mask_rule == "maximum" and levels.any():
            return levels == levels.max()
        return target_pixels(levels)


CORRECTED = Protocol("corrected")
PUBLISHED = Protocol(
    "published",
    size=256,
    mask_rule="maximum",
    pixel_rule="relative",
    matching="first",
    distance=2.0,
    false_area="area value",
    denominator=512 * 512,
    empty_rule="zero",
    roc_rule="targets",
    undefined=0.0,
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        CORRECTED,
        PUBLISHED,
        Protocol(
            "drpca",
            size=256,
            mask_rule="maximum",
            pixel_rule="relative",
            detection_rule="relative",
            matching="first",
            false_area="area value",
            roc_rule="targets",
        ),
        Protocol(
            "rpcanet",
            size=256,
            mask_rule="maximum",
            pixel_rule="relative",
            detection_rule="relative",
            matching="overlap",
            distance=None,
            false_area="pixels",
            denominator="background",
            empty_rule="leave out",
            roc_rule="targets",
        ),
        Protocol(
            "dnanet",
            size=256,
            sampling="centre",
            matching="first",
            false_area="area value",
        ),
        Protocol("sctransnet", matching="first", false_area="area value"),
        Protocol("basicirstd", matching="first"),
    )
}
