import gzip
import io
import stat
import struct
import tarfile
import zipfile

import pytest

from tests.utils.data.published import packed, tarred, zipped
from utils.data import archives
from utils.data.archives import unpack
from utils.files import folded
from utils.options import InputError

GOOD = {"set/images/a.png": b"image", "set/train.txt": b"a\n"}


@pytest.fixture
def unpacked(tmp_path):
    """Unpack bytes; returns what came out, by relative path."""
    folder = tmp_path / "out"
    folder.mkdir()

    def run(content):
        (tmp_path / "archive").write_bytes(content)
        try:
            unpack(tmp_path / "archive", folder)
        finally:
            assert {path.name for path in tmp_path.iterdir()} == {"archive", "out"}
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return run


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_member(name, mode=0, flag=0, method=zipfile.ZIP_STORED, content=b"x"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, method
        archive.writestr(info, content)
        info.flag_bits |= flag  # in the central directory alone, which is what counts
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_images_and_lists_come_out(unpacked, kind):
    others = {"set/paper.pdf": b"1", "__MACOSX/set/images/._a.png": b"2", "set/.b.png": b"3"}
    assert unpacked(packed(GOOD | others, kind)) == GOOD


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_names_in_any_alphabet(unpacked, kind):
    files = {"红外/图像/目标 1.png": b"1", "Ünïcode/θ.png": b"2", "मास्क.txt": b"3"}
    assert unpacked(packed(files, kind)) == files


def test_names_of_a_zip_that_does_not_say_that_they_are_utf8(unpacked):
    plain = zipped({"abcdef.png": b"1"})
    assert unpacked(plain.replace(b"abcdef", "红外".encode())) == {"红外.png": b"1"}


def test_backslashes_of_a_windows_zip_are_folders(unpacked):
    assert unpacked(zip_member("set\\images\\a.png")) == {"set/images/a.png": b"x"}


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize(
    "name",
    ["../a.png", "/a.png", "set/../../a.png", "\\a.png", "..\\a.png", "set/..", "//host/a.png"],
)
def test_a_name_that_leads_out(unpacked, kind, name):
    with pytest.raises(InputError, match="leads out of the archive"):
        unpacked(packed(GOOD | {name: b"x"}, kind))


@pytest.mark.parametrize(
    "name", ["C:a.png", "a.png:b.png", "con.png", "images/NUL.png", "a\n.png", "a?.png", "b./a.png"]
)
def test_a_name_that_some_system_cannot_store(unpacked, name):
    with pytest.raises(InputError, match="no file name on every system") as refused:
        unpacked(tarred(GOOD | {name: b"x"}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["set/images/A.png", "SET/b.png", "set/images/a.png", "set/train.txt/c.png"]
)
def test_names_that_a_disk_takes_for_one(unpacked, name):
    for pack in (zipped, tarred):
        content = pack(GOOD)
        twice = pack({**GOOD, "set/images/b.png": b"x"})
        if name == "set/images/a.png":
            content = twice.replace(b"images/b.png", b"images/a.png")
            if pack is tarred:  # the checksum of the header: a is one less than b
                content = content.replace(
                    _checksum(twice, b"images/b.png"),
                    b"%06o" % (int(_checksum(twice, b"images/b.png"), 8) - 1),
                )
        else:
            content = pack({**GOOD, name: b"x"})
        with pytest.raises(InputError, match="one name on some disks"):
            unpacked(content)


def _checksum(archive, name):
    at = archive.index(b"set/" + name)
    return archive[at + 148 : at + 154]


def test_folded_names():
    assert folded("Å.PNG") == folded("A\u030a.png") == folded("å.png")
    assert folded("ß") == folded("SS") and folded("a") != folded("b")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("name", ["set/images/b.png", "set/other"])
def test_links_in_a_tar(unpacked, kind, name):
    for link in ("/etc/passwd", "a.png", "../../.."):
        with pytest.raises(InputError, match="is a link; refused"):
            unpacked(tarred(GOOD, member(name, kind, link)))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"?"])
def test_devices_in_a_tar(unpacked, kind):
    with pytest.raises(InputError, match="is a device or of an unusual kind|damaged"):
        unpacked(tarred(GOOD, member("set/a.txt", kind)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": stat.S_IFLNK | 0o777}, "is a link"),
        ({"mode": stat.S_IFCHR}, "is a device"),
        ({"mode": stat.S_IFIFO}, "is a device"),
        ({"flag": 1}, "is encrypted"),
        ({"method": zipfile.ZIP_LZMA}, "is packed in an unusual way"),
    ],
)
def test_members_of_a_zip_that_are_no_files(unpacked, options, message):
    with pytest.raises(InputError, match=message):
        unpacked(zip_member("images/a.png", **options))


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(unpacked, monkeypatch, kind):
    monkeypatch.setattr(archives, "_FREE_BYTES", 2**20)
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        unpacked(packed({"a.png": bytes(2**21)}, kind))
    assert unpacked(packed({"a.png": bytes(2**19)}, kind)) == {"a.png": bytes(2**19)}


def test_a_bomb_that_lies_about_its_size(unpacked, monkeypatch):
    monkeypatch.setattr(archives, "_FREE_BYTES", 2**16)
    bomb = zipped({"a.png": bytes(2**20)})
    lying = bomb.replace(struct.pack("<I", 2**20), struct.pack("<I", 100))
    assert lying != bomb
    with pytest.raises(InputError, match="damaged"):
        unpacked(lying)


def test_members_beyond_counting(unpacked, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 50)
    for pack in (zipped, tarred):
        with pytest.raises(InputError, match="more than 50 members"):
            unpacked(pack({f"{i}.md": b"" for i in range(51)}))


def test_a_header_that_would_fill_the_memory(unpacked):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with pytest.raises(InputError, match="damaged"):
        unpacked(info.tobuf(tarfile.GNU_FORMAT) + tarred(GOOD))


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_a_cut_archive_is_not_taken_for_a_smaller_one(unpacked, kind):
    whole = packed({f"{i}.png": bytes(range(200)) for i in range(20)}, kind)
    end = 20 * 1024 if kind == ".tar" else len(whole) - 1  # what follows in a tar is zeros
    for length in range(0, end, 97):
        with pytest.raises(InputError, match="damaged"):
            unpacked(whole[:length])
    with pytest.raises(InputError, match="damaged"):
        unpacked(whole[: end - end % 512] if kind == ".tar" else whole[:end])


def test_what_is_no_archive(unpacked, tmp_path):
    for content in (b"", b"PK", b"\x1f\x8b", b"text", gzip.compress(b"text")):
        with pytest.raises(InputError, match="damaged, or none of"):
            unpacked(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(tmp_path / "missing.zip", tmp_path)
