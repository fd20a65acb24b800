"""How the values of one-channel maps lie in memory, and how finely they are computed."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from .backend import kernels_for


def channels_last(maps: Tensor) -> Tensor:
    """A view of (N, 1, H, W) maps from which convolutions go on in the channels_last layout.

    Maps of one channel are in both layouts at once; their strides decide which of them a
    convolution takes, and ``Tensor.to(memory_format=...)`` does not change them. Convolutions,
    pooling and batch normalisation are faster in channels_last, and slow where layouts mix.
    """
    n, _, h, w = maps.shape
    return maps.reshape(n, h, w, 1).permute(0, 3, 1, 2)


def from_map(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution from a map of grey levels or logits: in float32 even under autocast (cuDNN's
    products may be of TF32, with 10 bits of mantissa).

    bf16 has 7 bits of mantissa: the grey levels of a dim target differ by less from those around
    it, and a logit of -28 hides all of an image's that are added to it. The channels, which may
    hold differences, are of autocast's type.

    Shape: (N, 1, H, W), (C, 1, K, K) and (C) -> (N, C, H, W). K is odd; zeros are around.
    """
    device = x.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else x.dtype
    kernels = kernels_for(x, len(bias))
    if kernels:
        return kernels.from_map(x, weight, bias, dtype)
    x, padding = channels_last(x), weight.shape[-1] // 2
    if autocast:
        with torch.autocast(device, enabled=False):
            return conv2d(x.float(), weight, bias, padding=padding).to(dtype)
    return conv2d(x, weight, bias, padding=padding)


class FromMapConv2d(nn.Conv2d):
    """`from_map` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return from_map(x, self.weight, self.bias)


class MapConv2d(nn.Conv2d):
    """A convolution to a map of grey levels or logits: in float32 even under autocast.

    ``scale`` (C) is a factor for each channel of the input; the weights take it.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        weight = self.weight if scale is None else self.weight * scale.view(1, -1, 1, 1)
        kernels = kernels_for(x, x.shape[1])
        if kernels:
            return kernels.to_map(x, weight, self.bias)
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._conv_forward(x.float(), weight, self.bias)
        return self._conv_forward(x, weight, self.bias)
