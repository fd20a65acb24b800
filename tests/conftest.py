import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings

from utils.data.images import encode_png
from utils.options import run_door

# On a shared machine the time of a single example says nothing, and a test that fails once must
# fail every time.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported: its kernels run on the CPU

torch.set_num_threads(1)  # the maps are small: threads cost more than they bring


@pytest.fixture
def without_rights(tmp_path):
    """A context in which the rights of others apply to what the test has made by then."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions of POSIX")

    @contextmanager
    def another_user():  # as root can be one
        for folder in (tmp_path, *tmp_path.parents[:3]):
            if folder.stat().st_uid == 0:
                folder.chmod(folder.stat().st_mode | 0o755)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    @contextmanager
    def rights_of_others():
        modes = {path: path.stat().st_mode for path in tmp_path.rglob("*")}
        for path, mode in reversed(modes.items()):  # what is in a folder before it
            path.chmod((mode & 7) << 6)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    return another_user if os.geteuid() == 0 else rights_of_others


@pytest.fixture
def door(tmp_path, monkeypatch, capsys):
    """Run a script, such as run_0 or tools.make_scenes, in an empty folder: its exit code, output
    and errors."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(script, *arguments):
        name = script.rpartition(".")[2]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_door(importlib.import_module(script).main)
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture
def refused(door):
    """Run a script that must refuse: one line, exit code 2, and nothing new on the disk."""

    def run(*arguments):
        before = sorted(Path.cwd().rglob("*"))
        code, _, errors = door(*arguments)
        assert code == 2
        assert errors.startswith("error: ") and errors.count("\n") == 1, errors
        assert sorted(Path.cwd().rglob("*")) == before
        return errors

    return run


@pytest.fixture
def data_root(tmp_path):
    """A folder with the data set ``tiny``: bright squares on noise, 12 + 4 images of 48 x 40 px."""
    random = np.random.default_rng(0)
    for split, count in (("trainval", 12), ("test", 4)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / "tiny" / split / kind).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 60, (40, 48)).astype(np.uint8)
            mask = np.zeros_like(image)
            row, column = random.integers(4, 34, 2)
            mask[row : row + 3, column : column + 3] = 255
            image[mask > 0] = 220
            for kind, levels in (("images", image), ("masks", mask)):
                path = tmp_path / "data" / "tiny" / split / kind / f"{split}{i}.png"
                path.write_bytes(encode_png(levels))
    return tmp_path / "data"


@pytest.fixture
def film(tmp_path):
    """Five frames of 33 x 47 px, each of one grey level."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (47, 33))
    for level in range(5):
        writer.write(np.full((33, 47, 3), 40 * level, np.uint8))
    writer.release()
    return path
