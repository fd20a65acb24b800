"""Small data sets in the layouts that the real ones are published in: relative path to bytes."""

import gzip
import io
import tarfile
import warnings
import zipfile

import numpy as np

from utils.data.images import encode_png

TRAINVAL, TEST = ("a1", "a2", "b10", "红外"), ("b9", "c.1")
Files = dict[str, bytes]


def image(name: str) -> bytes:
    return encode_png(np.random.default_rng(list(name.encode())).integers(0, 200, (12, 16), "u1"))


def mask(name: str) -> bytes:
    levels = np.zeros((12, 16), np.uint8)
    levels[3 + len(name) : 6 + len(name), 4:7] = 255
    return encode_png(levels)


def text(names, ending: str = "", end: str = "\n") -> bytes:
    return "".join(f"{name}{ending}{end}" for name in names).encode()


def pairs(images: str, masks: str, ending: str = "") -> Files:
    names = TRAINVAL + TEST
    return {f"{images}/{name}.png": image(name) for name in names} | {
        f"{masks}/{name}{ending}.png": mask(name) for name in names
    }


def ours() -> Files:
    files = {}
    for split, names in (("trainval", TRAINVAL), ("test", TEST)):
        files |= {f"{split}/images/{name}.png": image(name) for name in names}
        files |= {f"{split}/masks/{name}.png": mask(name) for name in names}
    return files


LAYOUTS: dict[str, Files] = {
    "ours": ours(),
    "BasicIRSTD": pairs("images", "masks")
    | {"img_idx/train_X.txt": text(TRAINVAL), "img_idx/test_X.txt": text(TEST)},
    "BasicIRSTD, one set": pairs("images", "masks")
    | {"img_idx/train.txt": text(TRAINVAL), "img_idx/test.txt": text(TEST)},
    "DNANet": pairs("images", "masks")
    | {"50_50/train.txt": text(TRAINVAL, ".png"), "50_50/test.txt": text(TEST, ".png", "\r\n")},
    "SIRST": pairs("images", "masks", "_pixels0")
    | {"idx_427/trainval.txt": text(TRAINVAL), "idx_427/test.txt": text(TEST)}
    | {"masks/a1.xml": b"<annotation/>", "README.md": b"SIRST", "images/.DS_Store": b"\0"},
    "IRSTD-1k": pairs("IRSTD1k_Img", "IRSTD1k_Label")
    | {"trainval.txt": b"\xef\xbb\xbf" + text(TRAINVAL), "test.txt": b"\n" + text(TEST)},
    "SIRST-V2": pairs("mixed", "annotations/masks", "_pixels0")
    | {"splits/trainval_full.txt": text(TRAINVAL), "splits/test_full.txt": text(TEST)}
    | {"splits/mini_test.txt": text(TEST[:1])},
    "lists": pairs("images", "masks") | {"train.txt": text(TRAINVAL), "test.txt": text(TEST)},
}


def write(folder, files: Files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Files, *further: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in further:
            archive.addfile(info)
    return buffer.getvalue()


def packed(files: Files, kind: str) -> bytes:
    """kind: .zip, .tar or .tar.gz."""
    if kind == ".zip":
        return zipped(files)
    return tarred(files) if kind == ".tar" else gzip.compress(tarred(files), mtime=0)
