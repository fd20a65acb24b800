"""Damaged and hostile sources: each is refused in one line, or gives a valid set.

FUZZ_CASES=5000 pytest tests/utils/data/test_hostile_sources.py runs more of them.
"""

import gzip
import os
import random
import shutil
import tarfile
from collections import Counter

from tests.utils.data.published import LAYOUTS, mask, packed, tarred, write
from utils.data import archives
from utils.data.dataset import PairDataset
from utils.data.layouts import SPLITS, Division
from utils.data.prepare import prepare
from utils.options import InputError

CASES = int(os.environ.get("FUZZ_CASES", 150))
HOSTILE_NAMES = (
    "../escaped.png",
    "/tmp/escaped.png",
    "images/../../escaped.png",
    "..\\escaped.png",
    "C:\\escaped.png",
    "images/a1.png:stream.png",
    "images/A1.PNG",
    "Images/a1.png",
    "images/a1.png/b.png",
    "images/con.png",
    "images/" + "n" * 300 + ".png",
    "images/\x07\n.png",
    "images/\udcff.png",
    "",
)
LISTS = (
    b"",
    b"\xff\xfe\0",
    b"a1\na1\n",
    b"../../etc/passwd\n",
    b"a1\0b\n",
    b"b9\n" * 50,
    b"\n" * 9,
)
OLD = {f"{s}/{kind}/old.png": mask("o") for s in SPLITS for kind in ("images", "masks")}


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    if not data:
        return content
    how = rng.randrange(5)
    if how == 0:
        del data[rng.randrange(len(data)) :]
    elif how == 1:
        for _ in range(rng.choice((1, 3, 30))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 2:  # a length that lies
        at = rng.randrange(len(data))
        data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"7777", b"\x80\0\0\0"))
    elif how == 3:
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 600)]
    else:
        start, at = rng.randrange(len(data)), rng.randrange(len(data))
        data[at:at] = data[start : start + rng.randrange(1, 600)]
    return bytes(data)


def damage_files(rng: random.Random, files: dict[str, bytes]) -> None:
    name = rng.choice(list(files))
    how = rng.randrange(5)
    if how == 0:
        del files[name]
    elif how == 1:
        files[name] = damage_bytes(rng, files[name])
    elif how == 2:
        lists = [path for path in files if path.endswith(".txt")] or [name]
        files[rng.choice(lists)] = rng.choice(LISTS)
    elif how == 3:
        files[name] = files[rng.choice(list(files))]
    else:
        files[rng.choice(list(files)).replace("a1", "new")] = files[name]


def hostile_archive(rng: random.Random, files: dict[str, bytes], kind: str) -> bytes:
    how = rng.randrange(4)
    if how == 0:
        files = files | {rng.choice(HOSTILE_NAMES): mask("x")}
    elif how == 1:
        files = files | {"images/bomb.png": bytes(2**20)}
    elif how == 2:
        files = files | {f"{i}.md": b"" for i in range(120)}
    elif kind != ".zip":
        info = tarfile.TarInfo(rng.choice(("images/l.png", "images", "l", *HOSTILE_NAMES)))
        info.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S", b"L"))
        info.linkname = rng.choice(("/etc/passwd", "..", "a1.png", "../outside.txt"))
        content = tarred({}, info)[:-10240] + tarred(files)
        return content if kind == ".tar" else gzip.compress(content)
    try:
        return packed(files, kind)
    except (ValueError, IndexError):  # a name that this kind cannot hold
        return packed(LAYOUTS["lists"], kind)


def snapshot(folder) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def run_case(seed: int, folder) -> str:
    """Prepare one source in an empty folder; returns what came of it."""
    rng = random.Random(seed)
    files = dict(LAYOUTS[rng.choice(list(LAYOUTS))])
    (folder / "outside.txt").write_text("outside")
    for _ in range(rng.choice((0, 0, 1, 2))):
        damage_files(rng, files)
    kind = rng.choice(("folder", ".zip", ".tar", ".tar.gz"))
    source = folder / f"source{kind}"
    if kind == "folder":
        write(source, files)
        if rng.random() < 0.3 and os.name != "nt":
            link = rng.choice([path for path in source.rglob("*")] or [source / "x"])
            shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
            link.symlink_to(rng.choice((folder / "outside.txt", folder, "missing", link)))
    else:
        content = packed(files, kind)
        if rng.random() < 0.5:
            content = hostile_archive(rng, files, kind)
        if rng.random() < 0.5:
            content = damage_bytes(rng, content)
        source.write_bytes(content)
    target = folder / "datasets" / "set"
    if rng.random() < 0.3:
        write(target, OLD)
    target.parent.mkdir(exist_ok=True)
    before = snapshot(folder)
    division = Division(share=rng.choice((None, None, None, 0.5)))
    try:
        prepare(source, target, division, replace=True)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        assert snapshot(folder) == before
        return str(error).replace(str(folder), "")
    after = snapshot(folder)
    written = {k for k in after if k not in before or after[k] != before[k]}
    assert all(path.startswith(os.path.join("datasets", "set")) for path in written)
    assert [path.name for path in target.parent.iterdir()] == ["set"]
    for split in SPLITS:
        assert PairDataset(target / split).check()
    return "a valid set"


def test_damaged_and_hostile_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_FREE_BYTES", 2**18)
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 100)
    outcomes = Counter()
    for seed in range(CASES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            outcome = run_case(seed, folder)
        except Exception as error:
            raise AssertionError(f"case {seed}") from error
        outcomes["a valid set" if outcome == "a valid set" else "refused"] += 1
        shutil.rmtree(folder)
    print(dict(outcomes))
    assert min(outcomes["a valid set"], outcomes["refused"]) > CASES / 10
