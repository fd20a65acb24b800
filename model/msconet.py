"""MSCoNet: background and target, decoupled over several stages that refine each other.

The network of "Iterative Dual-Task Decoupling for Infrared Small Target Detection" (DCNet).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .bsgu import BSGU
from .dbem import DBEM, DEPTH
from .layout import FromMapConv2d, MapConv2d
from .recompute import normalised

STRIDE = 2**DEPTH  # heights and widths inside the network are multiples of this


class Decomposition(NamedTuple):
    """An image taken apart by stage k. Every map is (N, 1, H, W)."""

    target: Tensor  # T_k, logits: their sigmoid is the probability of a target
    background: Tensor  # B'_k, the background before the physical constraint
    reconstruction: Tensor  # D_k, the image that background and target together explain


class Reconstruct(nn.Module):
    """D = Reconstruct(B' + T).

    Shape: (N, 1, H, W) -> the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        convs: list[nn.Conv2d] = [FromMapConv2d(1, channels, 3, padding=1)]
        convs += [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        for conv in convs:
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        self.layers = nn.Sequential(*layers, MapConv2d(channels, 1, 3, padding=1))

    def forward(self, explained: Tensor) -> Tensor:
        x = self.layers[0](explained)
        for k in range(1, len(self.layers), 3):
            bn, relu, conv = self.layers[k : k + 3]
            x = normalised(bn, nn.Sequential(relu, conv), x)
        return x


class Stage(nn.Module):
    """One decoupling of background and target.

    Shape: D_{k-1}, B_{k-1}, T_{k-1}: (N, 1, H, W); C_{k-1}: (N, 2*width, H, W), None in stage 1.
        Returns B'_k, T_k, D_k and C_k in these shapes.
    """

    def __init__(self, width: int, first: bool):
        super().__init__()
        self.dbem = DBEM(width)
        self.bsgu = BSGU(2 * width, first)
        self.reconstruct = Reconstruct(2 * width)

    def forward(
        self, reconstruction: Tensor, background: Tensor, target: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        background, target, cell = self.decouple(reconstruction, background, target, cell)
        reconstruction = self.reconstruct(background + target)
        return background, target, reconstruction, cell

    def decouple(
        self, reconstruction: Tensor, background: Tensor, target: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """B'_k, T_k and C_k alone."""
        background = self.dbem(background)
        target, cell = self.bsgu(reconstruction, background, target, cell)
        return background, target, cell


class MSCoNet(nn.Module):
    """The whole network; `build_model` is the way to make one.

    Args:
        stages: K, each with weights of its own.
        width: channels of the background module's stem; everything else is a multiple of it.

    Shape: images (N, 1, H, W), grey levels in [0, 1]. H and W are free: where they are no
        multiples of 32, the images are padded below and to the right (reflected; where an image is
        too small to reflect, its edge is repeated), and the maps are cropped to H x W.
    """

    def __init__(self, stages: int, width: int):
        super().__init__()
        self.config = {"stages": stages, "width": width}
        self.decoupling = nn.ModuleList(Stage(width, first=k == 0) for k in range(stages))
        _initialise(self)

    def forward(self, images: Tensor) -> Decomposition:
        """The decomposition by the last stage."""
        for decomposition in self.stages(images):  # noqa: B007 (only the last one is kept)
            pass
        return decomposition

    def stages(self, images: Tensor) -> Iterator[Decomposition]:
        """The decomposition by every stage, first to last."""
        height, width = images.shape[-2:]
        reconstruction, background, target, cell = _start(images)
        for stage in self.decoupling:
            estimate, target, reconstruction, cell = stage(reconstruction, background, target, cell)
            maps = (target, estimate, reconstruction)
            yield Decomposition(*(m[..., :height, :width] for m in maps))
            background = reconstruction - target  # image = background + target

    def target(self, images: Tensor) -> Tensor:
        """T_K alone."""
        return self.target_and_background(images)[0]

    def target_and_background(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """T_K and B'_K, without the last reconstruction, which only the loss needs."""
        height, width = images.shape[-2:]
        reconstruction, background, target, cell = _start(images)
        for stage in self.decoupling[:-1]:
            _, target, reconstruction, cell = stage(reconstruction, background, target, cell)
            background = reconstruction - target
        last = self.decoupling[-1]
        estimate, target, _ = last.decouple(reconstruction, background, target, cell)
        return target[..., :height, :width], estimate[..., :height, :width]


def _start(images: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    """D_0, B_0, T_0 and C_0."""
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"expected images of shape (N, 1, H, W), got {tuple(images.shape)}")
    if not torch.compiler.is_compiling() and not images.numel():
        raise ValueError(f"expected at least one image of one pixel, got {tuple(images.shape)}")
    images = _pad_to_stride(images)
    return images, images, torch.zeros_like(images), None


def _pad_to_stride(images: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, 1, H', W'): the next multiples of the stride."""
    for axis in (2, 3):
        size = images.shape[axis]
        missing = -size % STRIDE
        if torch.compiler.is_compiling() or missing:  # where sizes are symbols, there is no asking
            index = torch.arange(size + missing, device=images.device)
            last = torch.full_like(index, size - 1)
            reflected = 2 * last - index
            beyond = torch.where(reflected[-1] >= 0, reflected, last)
            images = images.index_select(axis, torch.where(index < size, index, beyond))
    return images


def _initialise(net: MSCoNet) -> None:
    """Start values of the published code; what is not named here keeps PyTorch's default."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight)
        if isinstance(module, BSGU):
            for name, parameter in module.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
    for stage in net.decoupling:
        for gate in stage.bsgu.gates.weight.chunk(4):  # four convolutions, not one of 4 x the width
            nn.init.xavier_normal_(gate)
