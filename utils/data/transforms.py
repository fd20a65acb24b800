"""Image and mask, changed together. What is random is drawn from torch's global generator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision import tv_tensors
from torchvision.transforms import v2

from .images import resize

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_SKIRT = 3  # px around a target's mask that it lights, too
_MARGIN = _SKIRT + 2  # px around it, the outer ones background
_TRIES = 10  # places looked at for a target
_VISIBLE = 3.0  # peak signal-to-clutter ratio that is enough anywhere


class Lifted(NamedTuple):
    """A target without its background."""

    # arrays: of tensors, DataLoader sends each to its workers as an open file
    light: np.ndarray  # (h, w) float32, what it adds to the background
    mask: np.ndarray  # (h, w) float32, 0 or 1
    scr: float  # its peak over the standard deviation of what is around it


class Resize:
    """To size x size: the image bilinear, the mask nearest.

    Shape: two (1, H, W) -> two (1, size, size).
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        resized = resize(image[0].numpy(), self.size)
        resized_mask = resize(mask[0].numpy(), self.size, nearest="corner")
        return torch.from_numpy(resized)[None], torch.from_numpy(resized_mask)[None]


class Shift:
    """Moved at random along both axes, mirrored where it leaves the frame, and its mask with it.

    A network that halves its maps five times sees a target in another way at each of 32 x 32
    places; whole images, turned and mirrored, show it at no more than eight.

    Args:
        reach: the furthest, px of the image after `Resize` to ``size``.
        size: px.

    Shape: two (1, H, W) -> two (1, H, W).
    """

    def __init__(self, reach: int, size: int):
        self.reach, self.size = reach, size

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for axis in (1, 2):
            length = mask.shape[axis]
            reach = round(self.reach * length / self.size)
            period = max(1, 2 * (length - 1))
            place = (torch.arange(length) + _draw(-reach, reach + 1)) % period
            place = torch.minimum(place, period - place)
            image, mask = (x.index_select(axis, place) for x in (image, mask))
        return image, mask


class TargetCrop:
    """A random size x size window at native resolution, or about it.

    Where the image is smaller, its edge is repeated below and to the right; the mask gets zeros.

    Args:
        size: px.
        share: the part of the windows that is drawn around a pixel of a target, if there is one.
        zoom: z. What is seen is up to 1 + z times larger, or smaller, than it is in the image; all
            factors between are as likely on a logarithmic scale. Both are bilinear, the mask then
            cut at one half: a target of one pixel may vanish.

    Shape: two (1, H, W) -> two (1, size, size).
    """

    def __init__(self, size: int, share: float, zoom: float = 0.0):
        self.size, self.share, self.zoom = size, share, zoom

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if not self.zoom:
            return self._window(image, mask, self.size)
        factor = (1 + self.zoom) ** (2 * float(torch.rand(())) - 1)
        image, mask = self._window(image, mask, max(1, round(self.size / factor)))
        image, mask = (interpolate(x[None], self.size, mode="bilinear")[0] for x in (image, mask))
        return image, (mask >= 0.5).to(mask.dtype)

    def _window(self, image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
        below, right = (max(0, size - length) for length in mask.shape[-2:])
        image = pad(image, (0, right, 0, below), mode="replicate")
        mask = pad(mask, (0, right, 0, below))
        target = mask[0].nonzero()
        drawn = len(target) and torch.rand(()) < self.share
        pixel = target[_draw(0, len(target))] if drawn else None
        window = [slice(None)]
        for axis, length in enumerate(mask.shape[-2:]):
            first, last = 0, length - size
            if pixel is not None:  # only windows that hold this pixel
                first = max(first, int(pixel[axis]) - size + 1)
                last = min(last, int(pixel[axis]))
            start = _draw(first, last + 1)
            window.append(slice(start, start + size))
        return image[tuple(window)], mask[tuple(window)]


class PasteTarget:
    """A target more, lifted off some image, at a random place; in a part of the images.

    It is turned and mirrored at random, and put where it is apart from others, where 0 and 1 do not
    cut it off, and where it stands out: with a peak signal-to-clutter ratio of 3, or of what it
    had. Where none of ten places is such a one, or the image is smaller than the target, the image
    stays as it is.

    Args:
        targets: those it draws from, one at least.
        share: the part of the images that are to get one.

    Shape: two (1, H, W) -> two (1, H, W).
    """

    def __init__(self, targets: Sequence[Lifted], share: float):
        self.targets, self.share = targets, share

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if torch.rand(()) >= self.share:
            return image, mask
        target = self.targets[_draw(0, len(self.targets))]
        light, shape = (torch.from_numpy(x)[None] for x in (target.light, target.mask))
        light, shape = Joint(*orientations())(light, shape)
        height, width = shape.shape[1:]
        rows, columns = mask.shape[1] - height + 1, mask.shape[2] - width + 1
        if rows < 1 or columns < 1:
            return image, mask
        inside = shape > 0
        most_clutter = light[inside].max() / min(target.scr, _VISIBLE)
        for _ in range(_TRIES):
            top, left = _draw(0, rows), _draw(0, columns)
            window = np.s_[:, top : top + height, left : left + width]
            before = image[window]
            after = before + light
            fits = after[inside].min() >= 0 and after[inside].max() <= 1
            if fits and not mask[window].any() and before.std(correction=0) <= most_clutter:
                image, mask = image.clone(), mask.clone()
                image[window], mask[window] = after.clamp(0, 1), shape
                break
        return image, mask


def lift(image: Tensor, mask: Tensor) -> list[Lifted]:
    """The targets of an image that are whole, apart from others, and brighter than what is around.

    A target is what it adds to the background: in and up to 3 px around its mask, the image less
    what Navier-Stokes inpainting makes of the pixels around that.

    Args:
        image: in [0, 1].
        mask: 0 or 1.

    Shape: two (1, H, W).

    Returns:
        Arrays that hold 5 px around the mask of a target, where the outer 2 add nothing.
    """
    levels, drawn = image[0].numpy(), mask[0].numpy().astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(drawn, connectivity=8)
    touched = cv2.dilate(drawn, np.ones((2 * _SKIRT + 1,) * 2, np.uint8))
    background = cv2.inpaint(levels, touched, _SKIRT, cv2.INPAINT_NS)  # Telea is wrong for floats
    light, found = levels - background, []
    for k in range(1, count):
        left, top, width, height = (int(v) for v in boxes[k][:4])
        rows = slice(top - _MARGIN, top + height + _MARGIN)
        columns = slice(left - _MARGIN, left + width + _MARGIN)
        whole = rows.start >= 0 and columns.start >= 0
        whole = whole and rows.stop <= drawn.shape[0] and columns.stop <= drawn.shape[1]
        if not whole or not np.isin(labels[rows, columns], (0, k)).all():
            continue
        here, shape = light[rows, columns].copy(), mask[0].numpy()[rows, columns].copy()
        clutter = float(levels[rows, columns][touched[rows, columns] == 0].std())
        if here[shape > 0].mean() > 0:
            scr = float(here[shape > 0].max()) / max(clutter, 1e-6)
            found.append(Lifted(here, shape, scr))
    return found


class QuarterTurn:
    """A turn by 90 degrees, or none; with both flips every orientation is equally likely.

    Shape: two (1, H, W) -> two (1, H, W) or (1, W, H).
    """

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return (image.rot90(1, (1, 2)), mask.rot90(1, (1, 2))) if _draw(0, 2) else (image, mask)


class Jitter:
    """Another camera: the image times a gain, plus an offset, plus noise; clipped to [0, 1].

    Args:
        strength: s. The gain is in [1 - s, 1 + s] about the image's mean, the offset in
            [-s / 2, s / 2], the standard deviation of the noise in [0, s / 10].
    """

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        gain, offset, noise = torch.rand(3).tolist()
        mean = image.mean()
        changed = mean + (image - mean) * (1 + self.strength * (2 * gain - 1))
        changed = changed + self.strength * (offset - 0.5)
        changed = changed + self.strength / 10 * noise * torch.randn(image.shape)
        return changed.clamp(0, 1), mask


class Joint:
    """Transforms one after the other, of torchvision's v2 or of this module.

    torchvision knows an image from its mask by their types, which arithmetic drops: each step is
    handed them anew.
    """

    def __init__(self, *steps: Transform):
        self.steps = steps

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for step in self.steps:
            image, mask = step(tv_tensors.Image(image), tv_tensors.Mask(mask))
            image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        return image, mask


def orientations() -> list[Transform]:
    """Steps that turn and mirror at random."""
    return [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), QuarterTurn()]


def _draw(low: int, high: int) -> int:
    """A random integer in [low, high)."""
    return int(torch.randint(low, high, ()))
