"""Import of checkpoints of the published implementation."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .build import build_model
from .msconet import MSCoNet

_STEM = "decos.0.lowrank.unet.conv_in.weight"
_GATES = ("conv_f", "conv_i", "conv_o", "cell_state")  # f, i, o, g

# Our names -> the published ones, inside a stage, applied in this order.
_RENAMES = (
    (r"^dbem\.", "lowrank.unet."),
    (r"\.stem\.", ".conv_in."),
    (r"\.head\.", ".conv_out."),
    (r"\.encoder\.(\d)\.pointwise\.", lambda m: f".e{int(m[1]) + 1}.pw."),
    (r"\.decoder\.(\d)\.pointwise\.", lambda m: f".d{5 - int(m[1])}.pw2."),
    (r"\.decoder\.(\d)\.reduce\.", lambda m: f".d{5 - int(m[1])}.pw."),
    (r"\.encoder\.(\d)\.", lambda m: f".e{int(m[1]) + 1}."),
    (r"\.decoder\.(\d)\.", lambda m: f".d{5 - int(m[1])}."),
    (r"\.ddc\.vertical\.", ".dw.dw_h."),
    (r"\.ddc\.horizontal\.", ".dw.dw_w."),
    (r"\.bottleneck\.0\.dilated\.(\d)\.", lambda m: f".b5.mdcr.block{int(m[1]) + 1}."),
    (r"\.bottleneck\.0\.mix\.", ".b5.mdcr.out_s."),
    (r"\.bottleneck\.0\.out\.", ".b5.mdcr.out."),
    (r"(\.b5\.mdcr\.\w+)\.0\.", r"\1.conv."),
    (r"(\.b5\.mdcr\.\w+)\.1\.", r"\1.norm."),
    (r"\.bottleneck\.1\.qkv\.", ".b5.att.lnqkv."),
    (r"\.bottleneck\.1\.out\.", ".b5.att.ln."),
    (r"^bsgu\.lift\.", "sparse.conv_x."),
    (r"^bsgu\.cell\.", "sparse.conv_c2."),
    (r"^bsgu\.initial_cell$", "sparse.conv_c.bias"),  # this convolution is applied to zeros
    (r"^bsgu\.epsilon$", "sparse.epsilon_per_channel"),
    (r"^bsgu\.out\.", "sparse.conv_out."),
    (r"^reconstruct\.layers\.", "merge.mapping."),
)

# Entries without effect on the output, in every stage, in the first, in the later ones.
_DEAD = r"decos\.\d+\.(lowrank\.convs|sparse\.conv_h|sparse\.conv_x2|sparse\.conv_h2)\..+"
_DEAD_FIRST = r"decos\.0\.sparse\.(conv_c2\..+|conv_c\.weight)"
_DEAD_LATER = r"decos\.[1-9]\d*\.sparse\.conv_c\..+"
_IS_DEAD = re.compile("|".join((_DEAD, _DEAD_FIRST, _DEAD_LATER)))


def is_published(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of the published code."""
    return _STEM in state_dict


def from_published(state_dict: Mapping[str, Tensor]) -> MSCoNet:
    """Build the network of a published checkpoint, with its weights, in evaluation mode.

    Args:
        state_dict: entries by their published names (``decos.0.lowrank.unet.conv_in.weight``, ...).
            K is read from the names, the width from the stem; entries without effect on the output
            are dropped.

    Raises:
        ValueError: entries that are unknown, missing or of a wrong shape, by name.
    """
    if not is_published(state_dict):
        raise ValueError(f"no published MSCoNet checkpoint: it has no {_STEM}")
    stages = 1 + max(int(m[1]) for m in map(re.compile(r"decos\.(\d+)\.").match, state_dict) if m)
    net = build_model(stages=stages, width=len(state_dict[_STEM]))
    expected = net.state_dict()
    sources = {name: _published_names(name) for name in expected}

    wanted = {source for names in sources.values() for source in names}
    unknown = [name for name in state_dict if name not in wanted and not _IS_DEAD.fullmatch(name)]
    missing = sorted(wanted - state_dict.keys())
    if unknown or missing:
        raise ValueError(f"no published MSCoNet checkpoint: {_differences(unknown, missing)}")

    weights = {}
    for name, names in sources.items():
        parts = [state_dict[source] for source in names]
        shape = list(expected[name].shape)
        if len(parts) > 1:
            shape[0] //= len(parts)
        for source, part in zip(names, parts, strict=True):
            if list(part.shape) != shape:
                raise ValueError(
                    f"no published MSCoNet checkpoint: {source} has shape {list(part.shape)}, "
                    f"expected {shape}"
                )
        weights[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    net.load_state_dict(weights)
    return net.eval()


def _published_names(name: str) -> list[str]:
    """Where an entry of our state dict comes from: one published entry, or one for each gate."""
    _, stage, inner = name.split(".", 2)  # decoupling.<stage>.<inner>
    for pattern, replacement in _RENAMES:
        inner = re.sub(pattern, replacement, inner)
    if inner.startswith("bsgu.gates."):
        parts = [inner.replace("bsgu.gates", f"sparse.{gate}") for gate in _GATES]
    else:
        parts = [inner]
    return [f"decos.{stage}.{part}" for part in parts]


def _differences(unknown: list[str], missing: list[str]) -> str:
    """One line that names the entries."""
    kinds = (("unknown", unknown), ("missing", missing))
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)
