"""Image and mask, changed together. What is random is drawn from torch's global generator."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision import tv_tensors
from torchvision.transforms import v2

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
