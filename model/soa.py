"""Second-order attention (SOA; after the ESSA block of ESSAformer, Zhang et al., ICCV 2023)."""

from torch import Tensor, nn
from torch.nn.functional import normalize


class SOA(nn.Module):
    """Attention between tokens by the squares of their centred channels.

    Its cost is linear in the number of tokens L = H*W: ``k.T @ v`` is (C, C), no L x L map is made.

    Shape: (N, channels, H, W) -> the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (N, L, C)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        q = normalize(_channel_energy(q), dim=2)
        k = normalize(_channel_energy(k), dim=1)
        attended = q @ (k.transpose(1, 2) @ v) / tokens.shape[1] ** 0.5
        return self.out(v + attended + tokens).transpose(1, 2).reshape(x.shape)


def _channel_energy(tokens: Tensor) -> Tensor:
    """Share of each channel in a token's variance over channels; (N, L, C) -> the same."""
    squared = (tokens - tokens.mean(dim=2, keepdim=True)).square()
    return squared / (squared.sum(dim=2, keepdim=True) + 1e-7)
