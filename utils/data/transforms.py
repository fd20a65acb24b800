"""Image and mask, changed together. What is random is drawn from torch's global generator."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from .images import resize

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Resize:
    """To size x size: the image bilinear, the mask nearest.

    Shape: two (1, H, W) -> two (1, size, size).
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        resized = resize(image[0].numpy(), self.size)
        resized_mask = resize(mask[0].numpy(), self.size, nearest=True)
        return torch.from_numpy(resized)[None], torch.from_numpy(resized_mask)[None]


class TargetCrop:
    """A random size x size window at native resolution.

    Where the image is smaller, its edge is repeated below and to the right; the mask gets zeros.

    Args:
        size: px.
        share: the part of the windows that is drawn around a pixel of a target, if there is one.

    Shape: two (1, H, W) -> two (1, size, size).
    """

    def __init__(self, size: int, share: float):
        self.size, self.share = size, share

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        below, right = (max(0, self.size - length) for length in mask.shape[-2:])
        image = pad(image, (0, right, 0, below), mode="replicate")
        mask = pad(mask, (0, right, 0, below))
        target = mask[0].nonzero()
        drawn = len(target) and torch.rand(()) < self.share
        pixel = target[_draw(0, len(target))] if drawn else None
        window = [slice(None)]
        for axis, length in enumerate(mask.shape[-2:]):
            first, last = 0, length - self.size
            if pixel is not None:  # only windows that hold this pixel
                first = max(first, int(pixel[axis]) - self.size + 1)
                last = min(last, int(pixel[axis]))
            start = _draw(first, last + 1)
            window.append(slice(start, start + self.size))
        return image[tuple(window)], mask[tuple(window)]


class RandomOrientation:
    """One of the eight orientations that flips and transposition make, all equally likely.

    Shape: two (1, H, W) -> two (1, H, W) or (1, W, H).
    """

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        turns, mirrored = _draw(0, 4), _draw(0, 2)
        image, mask = (torch.rot90(maps, turns, (1, 2)) for maps in (image, mask))
        return (image.flip(2), mask.flip(2)) if mirrored else (image, mask)


class Compose:
    """Transforms one after the other."""

    def __init__(self, *transforms: Transform):
        self.transforms = transforms

    def __call__(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for transform in self.transforms:
            image, mask = transform(image, mask)
        return image, mask


def _draw(low: int, high: int) -> int:
    """A random integer in [low, high)."""
    return int(torch.randint(low, high, ()))
