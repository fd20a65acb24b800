"""One image in, its target map out."""

from pathlib import Path

import numpy as np
import torch

from model.inference import accelerate

from .. import checkpoint
from ..data.images import resize
from ..options import InputError


class Predictor:
    """A trained network, ready for images.

    Args:
        weights: a file written by training, or a published checkpoint.
        device: where the network runs.
        size: resize every image to size x size first; 0: predict at its own size; None: as the
            weights were trained, if they say so, else at its own size.

    Raises:
        InputError: the file holds no MSCoNet weights.
    """

    def __init__(self, weights: Path, device: torch.device, size: int | None = None):
        self.checkpoint = checkpoint.load(weights)
        self.net = accelerate(self.checkpoint.net).to(device)
        self.device = device
        if size is None:
            size = self.checkpoint.info.get("image_size")
        self.size = size or None

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Logits of target pixels.

        Args:
            image: (H, W) float32 in [0, 1].

        Returns:
            (H, W) float32, or (size, size).

        Raises:
            InputError: not enough memory.
        """
        if self.size:
            image = resize(image, self.size)
        try:
            batch = torch.from_numpy(image)[None, None].to(self.device)
            return self.net.target(batch)[0, 0].cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error).lower():
                raise
            height, width = image.shape
            raise InputError(
                f"an image of {width}x{height} px does not fit into the memory of {self.device}; "
                "choose a smaller --image-size"
            ) from error
