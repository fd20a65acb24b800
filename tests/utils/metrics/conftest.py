import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png


@pytest.fixture
def folders(tmp_path):
    """Logits and masks of 20 images: hits, misses, false alarms, an empty one; two sizes."""
    predictions, masks, images = (tmp_path / name for name in ("mat", "masks", "images"))
    for folder in (predictions, masks, images):
        folder.mkdir()
    random = np.random.default_rng(3)
    for i in range(20):
        shape = (40, 60) if i % 2 else (64, 48)
        mask = np.zeros(shape, np.uint8)
        logits = random.normal(-6, 1, shape).astype(np.float32)
        if i:
            row, column = random.integers(2, 34, 2)
            mask[row : row + 3, column : column + 3] = 255
            if i % 5:
                logits[row : row + 3, column : column + 2] = 4 + i
        if i % 4 == 0:
            logits[36, 40:43] = 2 + i
        (masks / f"{i:02}.png").write_bytes(encode_png(mask))
        (images / f"{i:02}.png").write_bytes(encode_png(mask // 2 + 60))
        scipy.io.savemat(predictions / f"{i:02}.mat", {"T": logits})
    return predictions, masks
