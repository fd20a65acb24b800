"""Two thousand damaged image files: each is named and refused, or still an image."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from tools.measuring import in_own_process
from utils.data.images import grey, read_photo
from utils.options import InputError

resource = pytest.importorskip("resource")  # not on Windows
SUFFIXES = (".png", ".jpg", ".bmp", ".tif", ".npy")
COUNT = 2000


def whole(path, random):
    """Write a smooth image of random size and depth."""
    height, width = random.integers(8, 90, 2)
    levels = cv2.GaussianBlur(random.random((height, width)), (0, 0), 2)
    deep = path.suffix in (".png", ".tif", ".npy") and random.random() < 0.5
    levels = (levels * 65535).astype(np.uint16) if deep else (levels * 255).astype(np.uint8)
    if path.suffix == ".npy":
        np.save(path, levels)
    else:
        path.write_bytes(cv2.imencode(path.suffix, levels)[1].tobytes())


def cut_off(content, random):
    return content[: random.integers(0, len(content) - 2)]


def flip(content, random):
    damaged = bytearray(content)
    for _ in range(random.integers(1, 9)):
        damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
    return bytes(damaged)


def lie(content, random):
    """A header that claims a size of millions of pixels."""
    height, width = (int(side) for side in random.integers(2000, 2**31 - 1, 2))
    if content.startswith(b"\x89PNG"):
        body = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
        return content[:12] + body + struct.pack(">I", zlib.crc32(body)) + content[33:]
    if content.startswith(b"BM"):
        return content[:18] + struct.pack("<ii", width, height) + content[26:]
    if content.startswith(b"\xff\xd8"):  # of JPEG, the frame header
        start = content.index(b"\xff\xc0") + 5
        return content[:start] + struct.pack(">HH", 65535, 65535) + content[start + 4 :]
    if content.startswith(b"\x93NUMPY"):
        shape = content[content.index(b"(") : content.index(b")") + 1]
        claimed = f"({height},{width})".encode()
        header = content[10:128].replace(shape, claimed).rstrip()
        return content[:10] + header[:117].ljust(117) + b"\n" + content[128:]
    # TIFF, little-endian: width is tag 256, height 257
    damaged, at = bytearray(content), struct.unpack("<I", content[4:8])[0]
    for entry in range(at + 2, at + 2 + 12 * struct.unpack("<H", content[at : at + 2])[0], 12):
        if struct.unpack("<H", content[entry : entry + 2])[0] in (256, 257):
            damaged[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 60000)
    return bytes(damaged)


def nonsense(content, random):
    return content[:8] + random.bytes(len(content))


DAMAGE = (cut_off, flip, lie, nonsense)


def read_all(folder):
    """What became of each file, by name, and the most memory that reading took, MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {}
    for path in sorted(folder.iterdir()):
        try:
            found[path.name] = read_photo(path).shape
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            found[path.name] = None
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found, (after - before) / 2**10


def test_each_is_named_or_still_an_image(tmp_path):
    random = np.random.default_rng(0)
    for i in range(COUNT):
        damage = DAMAGE[i % len(DAMAGE)]
        path = tmp_path / f"{damage.__name__}_{i}{SUFFIXES[i // len(DAMAGE) % len(SUFFIXES)]}"
        whole(path, random)
        path.write_bytes(damage(path.read_bytes(), random))
    found, mib = in_own_process(read_all, tmp_path)
    assert len(found) == COUNT and mib < 1024
    read = {name for name, shape in found.items() if shape is not None}
    # without checksums, as only PNG has them, changed pixels are other pixels
    assert not {name for name in read if name.endswith(".png") or not name.startswith("flip")}
    assert 0 < len(read) < COUNT / 5
    for name in read:
        levels = grey(read_photo(tmp_path / name))
        assert levels.shape == found[name] and np.isfinite(levels).all()
