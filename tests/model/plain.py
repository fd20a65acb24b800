"""The equations of MSCoNet once more, as plainly as they can be written.

No modules and nothing batched that the paper writes one by one: MDCR loops over its channels, the
four gates are four convolutions. It is the oracle that the network is tested against, and the
baseline for its speed.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def stages(weights: Weights, images: Tensor, training: bool = False):
    """Yield B'_k, T_k, D_k and C_k for every stage k.

    Args:
        weights: state dict of an MSCoNet.
        images: (N, 1, H, W); B', T and D come back in this size, C padded to multiples of 32.
        training: batch normalisation by the statistics of the batch; the running ones stay.
    """
    n, _, height, width = images.shape
    padded = _pad(_pad(images, 2), 3)
    d, b, t, c = padded, padded, torch.zeros_like(padded), None
    k = 0
    while any(name.startswith(f"decoupling.{k}.") for name in weights):
        w = _part(weights, f"decoupling.{k}.")
        b_estimate = dbem(_part(w, "dbem."), b, training)
        t, c = bsgu(_part(w, "bsgu."), d, b_estimate, t, c)
        d = reconstruct(_part(w, "reconstruct.layers."), b_estimate + t, training)
        b = d - t
        yield *(m[:, :, :height, :width] for m in (b_estimate, t, d)), c
        k += 1


def dbem(w: Weights, x: Tensor, training: bool) -> Tensor:
    x = conv(x, w, "stem", padding=3)
    skips = []
    for level in range(5):
        block = _part(w, f"encoder.{level}.")
        skip = batch_norm(ddc(x, block), block, "bn", training)
        x = F.gelu(F.max_pool2d(conv(skip, block, "pointwise"), 2))
        skips.append(skip)
    x = mdcr(_part(w, "bottleneck.0."), x, training)
    x = soa(_part(w, "bottleneck.1."), x)
    for level in range(5):
        block = _part(w, f"decoder.{level}.")
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = conv(torch.cat([x, skips[4 - level]], dim=1), block, "reduce")
        x = ddc(batch_norm(x, block, "bn", training), block)
        x = F.gelu(conv(x, block, "pointwise"))
    return conv(x, w, "head")


def ddc(x: Tensor, w: Weights) -> Tensor:
    vertical = conv(x, w, "ddc.vertical", padding=(3, 0), groups=x.shape[1])
    horizontal = conv(x, w, "ddc.horizontal", padding=(0, 3), groups=x.shape[1])
    return x + vertical + horizontal


def mdcr(w: Weights, x: Tensor, training: bool) -> Tensor:
    channels = x.shape[1]
    quarter = channels // 4
    branches = []
    for j, dilation in enumerate((2, 8, 12, 18)):
        part = x[:, j * quarter : (j + 1) * quarter]
        options = {"padding": dilation, "dilation": dilation, "groups": quarter}
        part = conv(part, w, f"dilated.{j}.0", **options)
        branches.append(torch.relu(batch_norm(part, w, f"dilated.{j}.1", training)))
    mixed = []
    for i in range(quarter):
        four = torch.cat([branch[:, i : i + 1] for branch in branches], dim=1)
        mixed.append(conv(four, w, "mix.0"))
    if training:  # one set of statistics for all i
        together = torch.relu(batch_norm(torch.cat(mixed), w, "mix.1", training))
        mixed = list(together.chunk(quarter))
    else:
        mixed = [torch.relu(batch_norm(four, w, "mix.1", training)) for four in mixed]
    out = conv(torch.cat(mixed, dim=1), w, "out.0")
    return torch.relu(batch_norm(out, w, "out.1", training))


def soa(w: Weights, x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    out = []
    for image in x:  # one at a time
        tokens = image.reshape(c, height * width).T  # (L, C)
        qkv = tokens @ w["qkv.weight"].T + w["qkv.bias"]
        q, k, v = qkv[:, :c], qkv[:, c : 2 * c], qkv[:, 2 * c :]
        q, k = ((a - a.mean(1, keepdim=True)) ** 2 for a in (q, k))
        q, k = (a / (a.sum(1, keepdim=True) + 1e-7) for a in (q, k))
        q = q / q.norm(dim=1, keepdim=True).clamp_min(1e-12)
        k = k / k.norm(dim=0, keepdim=True).clamp_min(1e-12)
        attended = (q @ k.T) @ v / (height * width) ** 0.5  # by the L x L map
        y = (v + attended + tokens) @ w["out.weight"].T + w["out.bias"]
        out.append(y.T.reshape(c, height, width))
    return torch.stack(out)


def bsgu(w: Weights, d: Tensor, b: Tensor, t: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    r = d - b + t
    u = conv(r, w, "lift", padding=1)
    channels = u.shape[1]
    gates = []
    for j in range(4):
        own = slice(j * channels, (j + 1) * channels)
        gates.append(F.conv2d(u, w["gates.weight"][own], w["gates.bias"][own], padding=1))
    f, i, o, g = gates
    if c is None:
        carried = w["initial_cell"][None, :, None, None].expand_as(u)
    else:
        carried = conv(c, w, "cell", padding=1)
    c = torch.sigmoid(f) * carried + torch.sigmoid(i) * torch.tanh(g)
    clutter = w["epsilon"][None, :, None, None] * torch.sigmoid(o) * torch.tanh(c)
    return r - conv(clutter, w, "out", padding=1), c


def reconstruct(w: Weights, x: Tensor, training: bool) -> Tensor:
    for layer in (0, 3, 6):
        x = conv(x, w, str(layer), padding=1)
        x = torch.relu(batch_norm(x, w, str(layer + 1), training))
    return conv(x, w, "9", padding=1)


def conv(x: Tensor, w: Weights, name: str, **options) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def batch_norm(x: Tensor, w: Weights, name: str, training: bool) -> Tensor:
    mean, var = (None, None) if training else (w[f"{name}.running_mean"], w[f"{name}.running_var"])
    return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"], training)


def _part(weights: Weights, prefix: str) -> Weights:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def _pad(images: Tensor, axis: int) -> Tensor:
    """To the next multiple of 32, at the end of an axis."""
    size = images.shape[axis]
    missing = -size % 32
    index = np.pad(np.arange(size), (0, missing), "reflect" if missing < size else "edge")
    return images.index_select(axis, torch.from_numpy(index).to(images.device))
