"""How finely a network computes."""

import contextlib

import torch

from .options import InputError

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16", "pytorch")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device) -> str:
    """``auto``: bf16 on a GPU that computes in it, fp16 on another; on the CPU fp32, which is
    ``pytorch`` there, too.

    Raises:
        InputError: an unknown one; fp16 or tf32 on the CPU.
    """
    if name not in PRECISIONS:
        raise InputError(f"precision {name}: expected one of {', '.join(PRECISIONS)}")
    if device.type != "cuda":
        if name in ("fp16", "tf32"):
            raise InputError(f"--precision {name} needs a GPU; choose fp32 or bf16")
        return "fp32" if name in ("auto", "pytorch") else name
    if name == "auto":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return name


def set_products(precision: str) -> None:
    """How this process multiplies float32 on a GPU: with all 23 bits of mantissa for ``fp32``, with
    TF32's 10 for the others; ``pytorch``, PyTorch's own way, is TF32 in convolutions only."""
    whole = precision in ("fp32", "pytorch")
    torch.set_float32_matmul_precision("highest" if whole else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a network computes in a precision, for the thread that enters it."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, _AUTOCAST[precision])
