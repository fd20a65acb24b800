"""The network. Nothing here knows of files, training or metrics."""

from .build import build_model
from .msconet import Decomposition, MSCoNet
from .published import from_published

__all__ = ["Decomposition", "MSCoNet", "build_model", "from_published"]
