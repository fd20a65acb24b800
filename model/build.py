"""The one builder: every size of the network by name."""

from .ablation import LEAVE_OUT
from .msconet import MSCoNet

SIZES = {
    "msconet": {"stages": 5, "width": 16},  # as published: 9.6 million parameters
}
ALIASES = {"dcnet": "msconet"}


def build_model(
    name: str = "msconet",
    stages: int | None = None,
    width: int | None = None,
    without: str = "nothing",
) -> MSCoNet:
    """Build a network with fresh weights.

    Args:
        name: "msconet", or its alias "dcnet".
        stages: K, at least 1; published: 5.
        width: channels of the background module's stem, at least 1; published: 16. The module ends
            at 32 times as many; the gates and the reconstruction have twice as many.
        without: "soa", the second-order attention; "ddc", whose place depthwise 3x3 convolutions
            take; or
            "gates", with which the whole BSGU goes: for ablations.

    Raises:
        ValueError: an unknown name or part, or a size below 1.
    """
    name = ALIASES.get(name.lower(), name.lower())
    if name not in SIZES:
        raise ValueError(f"no network is named {name!r}; known: {', '.join([*SIZES, *ALIASES])}")
    size = SIZES[name] | {k: v for k, v in (("stages", stages), ("width", width)) if v is not None}
    for key, value in size.items():
        if value < 1:
            raise ValueError(f"{key} must be at least 1, got {value}")
    if without not in LEAVE_OUT:
        raise ValueError(f"no part to leave out is {without!r}; known: {', '.join(LEAVE_OUT)}")
    net = MSCoNet(**size)
    LEAVE_OUT[without](net)
    net.config["without"] = without
    return net
