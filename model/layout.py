"""How the values of one-channel maps lie in memory, and how finely they are computed."""

import torch
from torch import Tensor, nn


def channels_last(maps: Tensor) -> Tensor:
    """A view of (N, 1, H, W) maps from which convolutions go on in the channels_last layout.

    Maps of one channel are in both layouts at once; their strides decide which of them a
    convolution takes, and ``Tensor.to(memory_format=...)`` does not change them. Convolutions,
    pooling and batch normalisation are faster in channels_last, and slow where layouts mix.
    """
    n, _, h, w = maps.shape
    return maps.reshape(n, h, w, 1).permute(0, 3, 1, 2)


class MapConv2d(nn.Conv2d):
    """A convolution to a map of grey levels or logits: in float32 even under autocast.

    bf16 has 8 bits of mantissa, and the grey levels of a dim target differ by less from those
    around it. ``scale`` (C) is a factor for each channel of the input; the weights take it.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        weight = self.weight if scale is None else self.weight * scale.view(1, -1, 1, 1)
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._conv_forward(x.float(), weight, self.bias)
        return self._conv_forward(x, weight, self.bias)
