import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png, read_photo
from utils.options import InputError
from utils.prediction import Predictor, job, videos
from utils.prediction.job import Job, predict_files
from utils.prediction.journal import Journal
from utils.prediction.pictures import stage_figure, surface_figure
from utils.prediction.sources import find_sources, origins

ROOT = Path(__file__).parents[3]


@pytest.fixture
def predictor(weights):
    return Predictor(weights, "cpu", threshold=0.4)


@pytest.fixture
def run(predictor, tmp_path):
    """Predict into ``out``; returns what was done."""

    def predict(*inputs, **options):
        sources = find_sources(list(map(str, inputs)))
        return predict_files(predictor, sources, Job(tmp_path / "out", **options))

    return predict


def written(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def entries(folder):
    lines = (folder / "images.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][1:]


def test_the_outputs_of_every_image(run, photos, predictor, tmp_path):
    kinds = ("img", "mat", "mask", "overlay", "boxes")
    assert run(photos, kinds=kinds) == (4, 0)
    out = tmp_path / "out"
    tables = {"images.jsonl", "detections.json", "detections.csv"}
    assert {path.name for path in out.iterdir()} == {*kinds, *tables} - {"boxes"}
    for name, file in (
        ("a_png", "a.png"),
        ("a_npy", "a.npy"),
        ("b", "b.png"),
        ("sub/a", "sub/a.png"),
    ):
        result = predictor(read_photo(photos / file))
        found = {
            kind: cv2.imread(str(out / kind / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            for kind in ("img", "mask", "overlay")
        }
        logits = scipy.io.loadmat(out / "mat" / f"{name}.mat")["T"]
        np.testing.assert_allclose(logits, result.logits, atol=1e-4)
        np.testing.assert_allclose(found["img"], 255 * result.probability, atol=0.52)
        assert np.array_equal(found["mask"] > 0, result.mask)
        height, width = result.logits.shape
        tall, wide, _ = found["overlay"].shape
        assert tall % height == wide % width == 0 and tall // height == wide // width
    assert not list(out.rglob("*.tmp"))


def test_figures(run, photos, predictor, tmp_path):
    assert run(photos / "sub", kinds=("stages", "surface")) == (1, 0)
    result = predictor(read_photo(photos / "sub" / "a.png"))
    figures = {"stages": stage_figure(predictor, result), "surface": surface_figure(result)}
    for kind, figure in figures.items():
        assert (tmp_path / "out" / kind / "a.png").read_bytes() == figure


def test_the_tables_agree(run, photos, predictor, tmp_path):
    run(photos, kinds=("boxes",))
    out = tmp_path / "out"
    rows = json.loads((out / "detections.json").read_text())
    with (out / "detections.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(rows) == len(table) == sum(len(e["detections"]) for e in entries(out)) > 0
    assert [row["file_name"] for row in rows] == [row["image"] for row in table]
    for row, line in zip(rows, table, strict=True):
        assert set(row) >= {"image_id", "category_id", "bbox", "score"}  # COCO's results format
        left, top, width, height = row["bbox"]
        assert [left, top, width, height] == [
            int(line[k]) for k in ("left", "top", "width", "height")
        ]
        assert row["centroid"] == [float(line["x"]), float(line["y"])]
        assert left <= row["centroid"][0] < left + width
        assert top <= row["centroid"][1] < top + height
        assert row["score"] == float(line["peak"]) and 0 < width * height >= row["area"]
    expected = predictor(read_photo(photos / "b.png")).detections
    assert len(expected) == sum(row["file_name"].endswith("b.png") for row in rows)


def test_the_range_that_was_chosen_is_recorded(run, photos, tmp_path):
    run(photos)
    limits = {entry["name"]: entry["limits"] for entry in entries(tmp_path / "out")}
    assert limits["b"] == [0, 255]
    low, high = limits["a_npy"]
    assert 250 < low < 300 < high < 350
    first = (tmp_path / "out" / "images.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["settings"]["level range"] == "auto"


DAMAGED = {"cut.png": encode_png(np.zeros((40, 50), np.uint8))[:60], "text.png": b"no image"}


def test_files_that_cannot_be_read_are_named_and_passed_over(run, photos, tmp_path, capfd):
    for name, content in DAMAGED.items():
        (photos / name).write_bytes(content)
    assert run(photos) == (4, 2)
    errors = capfd.readouterr().err
    assert "skipped: " in errors and all(name in errors for name in DAMAGED)
    failed = {e["name"] for e in entries(tmp_path / "out") if "error" in e}
    assert failed == {"cut", "text"}
    assert not list((tmp_path / "out").rglob("cut.*"))


def test_strict_stops_at_once(run, photos):
    (photos / "b.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="b.png: not an image"):
        run(photos, strict=True)


def test_an_interrupted_job_goes_on(run, photos, predictor, tmp_path, monkeypatch):
    (photos / "cut.png").write_bytes(DAMAGED["cut.png"])
    predict, calls = predictor.predict, []

    def counted(images, background):
        calls.append(len(images))
        if sum(calls) > 2:
            raise KeyboardInterrupt
        return predict(images, background)

    monkeypatch.setattr(predictor, "predict", counted)
    monkeypatch.setattr(job, "_AHEAD", 1)
    with pytest.raises(KeyboardInterrupt):
        run(photos, kinds=("img", "boxes"))
    calls.clear()
    monkeypatch.setattr(
        predictor,
        "predict",
        lambda images, background: calls.append(len(images)) or predict(images, background),
    )
    assert run(photos, kinds=("img", "boxes"), skip_existing=True) == (4, 1)
    assert sum(calls) == 2  # what was there is not predicted again
    names = [entry["name"] for entry in entries(tmp_path / "out")]
    assert names == ["a_npy", "a_png", "b", "cut", "sub/a"]
    # a file that is gone is made again, one that is there is not
    calls.clear()
    (tmp_path / "out" / "img" / "b.png").unlink()
    assert run(photos, kinds=("img", "boxes"), skip_existing=True) == (4, 1)
    assert calls == [1] and (tmp_path / "out" / "img" / "b.png").exists()


def test_another_job_is_not_gone_on_with(run, photos, predictor):
    run(photos)
    predictor.threshold, predictor.network.precision = 0.6, "bf16"
    with pytest.raises(InputError, match="was made with other precision, threshold"):
        run(photos, skip_existing=True)
    assert run(photos) == (4, 0)


def test_a_file_of_the_same_name_is_another_file(run, photos, tmp_path):
    run(photos)
    (tmp_path / "other" / "sub").mkdir(parents=True)
    for name in ("b.png", "sub/a.png"):
        shutil.copy(photos / name, tmp_path / "other" / name)
    before = (tmp_path / "out" / "img" / "b.png").stat().st_mtime_ns
    assert run(tmp_path / "other", skip_existing=True) == (2, 0)
    after = (tmp_path / "out" / "img" / "b.png").stat().st_mtime_ns
    assert after > before
    assert run(tmp_path / "other", skip_existing=True) == (2, 0)
    assert (tmp_path / "out" / "img" / "b.png").stat().st_mtime_ns == after
    (tmp_path / "other" / "b.png").write_bytes(encode_png(np.zeros((9, 9), np.uint8)))
    run(tmp_path / "other", skip_existing=True)
    assert cv2.imread(str(tmp_path / "out" / "img" / "b.png")).shape[:2] == (9, 9)


def test_what_another_number_of_processes_left_does_not_stand_against_us(run, photos, tmp_path):
    run(photos)
    whole = tmp_path / "out" / "images.jsonl"
    settings, *_ = whole.read_text().splitlines()
    failed = {"name": "b", "image": "b.png", "file": [], "error": "once"}
    part = tmp_path / "out" / "images.part3.jsonl"
    part.write_text(f"{settings}\n{json.dumps(failed)}\n")
    assert run(photos, skip_existing=True) == (4, 0)
    assert not part.exists()


def test_a_torn_line_and_a_strange_name(run, photos, tmp_path):
    strange = photos / "a\u2028b \u7ea2\u5916.png"
    strange.write_bytes(encode_png(np.zeros((9, 9), np.uint8)))
    assert run(photos) == (5, 0)
    with (tmp_path / "out" / "images.jsonl").open("ab") as file:
        file.write(b'{"name": "\xe7\xba')
    assert run(photos, skip_existing=True) == (5, 0)
    assert strange.stem in {entry["name"] for entry in entries(tmp_path / "out")}


def test_damage_in_a_header_passes_no_trouble_on(run, photos):
    for kind, value in ((2, b"5\0\0\0"), (11, b"\0\0\xc8B"), (7, b"abcd"), (9, b"\xff" * 4)):
        entry = struct.pack("<HHI", 256, kind, 1) + value
        height = struct.pack("<HHII", 257, 4, 1, 20)
        content = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entry + height + bytes(4)
        (photos / f"header{kind}.tif").write_bytes(content)
    assert run(photos) == (4, 4)


@pytest.mark.parametrize("code, reason", [(-4, "Insufficient memory"), (-215, "Assertion failed")])
def test_too_little_memory_to_read(run, photos, capfd, code, reason):
    def read(path):
        raise cv2.error(f"OpenCV(5.0.0) a.cpp:73: error: ({code}:{reason}) in function 'f'")

    if code == -4:
        assert run(photos, read=read) == (0, 4)
        assert capfd.readouterr().err.count("does not fit into memory") == 4
    else:
        with pytest.raises(cv2.error, match=reason):
            run(photos, read=read)


def test_too_little_memory_to_decode(run, photos, monkeypatch, capfd):
    def decode(*_):
        raise error

    error = cv2.error("OpenCV(5.0.0) a.cpp:73: error: (-4:Insufficient memory) in function 'f'")
    error.code = cv2.Error.STS_NO_MEM
    monkeypatch.setattr(cv2, "imdecode", decode)
    assert run(photos) == (1, 3)  # a .npy needs no decoder
    assert capfd.readouterr().err.count("does not fit into memory") == 3


def test_too_little_memory_to_write(run, photos, monkeypatch, capfd):
    def fail(path, logits):
        raise MemoryError

    monkeypatch.setattr(job, "write_probability", fail)
    assert run(photos) == (0, 4)
    assert capfd.readouterr().err.count("does not fit into memory") == 4


def test_an_image_too_large_for_memory_is_passed_over(run, photos, predictor, monkeypatch):
    predict = predictor.predict

    def narrow(images, background):
        if len(images) > 1 or images[0].shape == (20, 64):
            raise MemoryError
        return predict(images, background)

    monkeypatch.setattr(predictor, "predict", narrow)
    assert run(photos) == (3, 1)  # images of one batch are tried one by one


def test_small_images_are_batched_by_size(run, tmp_path, predictor, monkeypatch):
    (tmp_path / "many").mkdir()
    for i in range(12):
        side = 16 + 16 * (i % 2)
        levels = np.full((side, side), 10 * i, np.uint8)
        (tmp_path / "many" / f"{i}.png").write_bytes(encode_png(levels))
    predict, batches = predictor.predict, []

    def noted(images, background):
        batches.append({image.shape for image in images})
        return predict(images, background)

    monkeypatch.setattr(predictor, "predict", noted)
    assert run(tmp_path / "many") == (12, 0)
    assert batches == [{(16, 16)}, {(32, 32)}]
    monkeypatch.setattr(job, "_BATCH_ON_CPU", 2 * 32 * 32)  # the network pads to 32 px
    batches.clear()
    run(tmp_path / "many")
    assert len(batches) == 3 + 3
    monkeypatch.setattr(predictor, "size", 64)
    batches.clear()
    run(tmp_path / "many")
    assert len(batches) == 12


def test_a_video_there_and_back(run, film, photos, tmp_path, monkeypatch, predictor):
    predict = predictor.predict

    def marked(images, background):
        results = predict(images, background)
        for image, result in zip(images, results, strict=True):
            result.logits[:] = -9
            frame = round(float(image.mean()) / 40)
            result.logits[5:7, 5 + frame] = 9  # a target that moves
        return results

    monkeypatch.setattr(predictor, "predict", marked)
    assert run(film, kinds=("mask",), frames=True) == (1, 0)
    out = tmp_path / "out"
    video = cv2.VideoCapture(str(out / "video" / "film.mp4"))
    shapes, count = set(), 0
    while (frame := video.read()[1]) is not None:
        shapes.add(frame.shape)
        count += 1
    ((height, width, _),) = shapes
    assert count == 5 and video.get(cv2.CAP_PROP_FPS) == 10
    assert height >= 33 and width >= 47
    rows = json.loads((out / "detections.json").read_text())
    assert [(row["frame"], row["time"], row["bbox"]) for row in rows] == [
        (k, k / 10, [5 + k, 5, 1, 2]) for k in range(5)
    ]
    assert sorted(path.stem for path in (out / "mask" / "film.avi").iterdir()) == [
        f"{k:06d}" for k in range(5)
    ]
    (entry,) = entries(out)
    assert entry["frames"] == entry["frames_stated"] == 5 and entry["limits"] == [0, 255]
    assert [row["image_id"] for row in rows] == [1, 2, 3, 4, 5]  # a frame is an image to COCO
    assert run(film, photos, kinds=("mask",)) == (5, 0)
    begins = [entry["image_id"] for entry in entries(out)]
    counts = [entry.get("frames", 1) for entry in entries(out)]
    assert begins == [1 + sum(counts[:k]) for k in range(5)] and sum(counts) == 9


def test_a_frame_that_is_gone_is_made_again(run, film, tmp_path):
    job = {"kinds": ("mask",), "frames": True}
    run(film, **job)
    frame = tmp_path / "out" / "mask" / "film.avi" / "000003.png"
    frame.unlink()
    assert run(film, skip_existing=True, **job) == (1, 0)
    assert frame.exists()


def test_outputs_of_an_earlier_job_do_not_stay(run, photos, film, tmp_path):
    out = tmp_path / "out"
    run(photos, film, kinds=("img", "overlay"), frames=True)
    (out / "overlay" / "own.png").write_bytes(b"a user's")
    (photos / "b.png").unlink()
    run(photos, kinds=("img",))
    left = {"images.jsonl", "overlay/own.png", "img/a_npy.png", "img/a_png.png", "img/sub/a.png"}
    assert written(out) == left
    # one of the images: the others are as they were, and so are their outputs
    for skip in (True, False):
        run(photos / "a.npy", kinds=("img",), skip_existing=skip)
        assert "img/sub/a.png" in written(out)
        assert "sub/a" in {entry["name"] for entry in entries(out)}
    # with other options they are no longer what they say
    run(photos / "a.npy", kinds=("mask",))
    assert written(out) == {"images.jsonl", "overlay/own.png", "mask/a.png"}
    run(photos, kinds=("img",))
    (photos / "a.npy").write_bytes(b"no image")
    (photos / "sub" / "a.png").unlink()
    run(photos, kinds=("img",), skip_existing=True)
    assert written(out) == left - {"img/a_npy.png", "img/sub/a.png"}


@pytest.mark.parametrize("skip_existing", [False, True])
def test_nothing_stays_of_what_a_killed_job_had_begun(
    run, photos, film, tmp_path, monkeypatch, skip_existing
):
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    out, options = tmp_path / "out", {"kinds": ("img", "overlay"), "frames": True}
    run(photos, film, **options)
    whole = written(out)
    shutil.rmtree(out)
    add = Journal.add
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", lambda j, entry: "begun" in entry and add(j, entry))
        patch.setattr(Journal, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(photos, film, **options)
    for name in ("img/.b.png.0a1b2c3d.tmp", "video/.film.mp4.0a1b2c3d.tmp.mp4"):
        (out / name).write_bytes(b"half")
    (out / "overlay" / "film.avi" / "000009.png").write_bytes(b"of a longer film")
    if skip_existing:
        assert run(photos, film, **options, skip_existing=True) == (5, 0)
        assert written(out) == whole
    else:
        run(photos / "a.npy", kinds=("mask",))
        assert written(out) == {"images.jsonl", "mask/a.png"}


def test_a_journal_of_others_removes_nothing_elsewhere(run, photos, tmp_path):
    run(photos)
    kept = [tmp_path / "absolute.png", tmp_path / "relative.png"]
    with (tmp_path / "out" / "images.jsonl").open("a") as file:
        for path, name in zip(kept, (str(tmp_path / "absolute"), "../../relative"), strict=True):
            path.write_bytes(b"a user's")
            file.write(json.dumps({"name": name, "image": "x"}) + "\n[]\n")
    assert run(photos) == (4, 0)
    assert all(path.exists() for path in kept)


def test_a_video_that_is_none(run, film, photos, capfd):
    film.write_bytes(b"no video")
    assert run(film, photos) == (4, 1)
    assert "film.avi: not a video" in capfd.readouterr().err


def test_a_video_whose_frames_change_their_size(run, film, tmp_path, monkeypatch):
    class Capture:
        def __init__(self, path):
            self.count = 0

        isOpened = release = lambda self: True  # noqa: N815 (OpenCV's name)
        get = lambda self, what: 0.0  # noqa: E731

        def read(self):
            self.count += 1
            return True, np.zeros((20 if self.count == 3 else 33, 47, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    assert run(film) == (0, 1)
    (entry,) = entries(tmp_path / "out")
    assert "frame 2 has another size" in entry["error"]
    assert not [path for path in (tmp_path / "out" / "video").iterdir() if path.is_file()]
    assert run(film, kinds=("mask",), frames=True) == (0, 1)
    assert not [path for path in (tmp_path / "out" / "mask").rglob("*") if path.is_file()]


def test_a_video_of_16_bits_keeps_them(run, tmp_path):
    path = tmp_path / "deep.avi"
    options = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    codec = cv2.VideoWriter.fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 10, (64, 48), options)
    if not writer.isOpened():
        pytest.skip("OpenCV writes no such video here")
    levels = np.random.default_rng(0).integers(6900, 7100, (3, 48, 64)).astype(np.uint16)
    for frame in levels:
        writer.write(frame)
    writer.release()
    video = videos.open_video(path)
    assert video.shape == (48, 64)
    for frame, expected in zip(video.frames, levels, strict=True):
        assert frame.levels.dtype == np.uint16 and np.array_equal(frame.levels, expected)
    assert run(path) == (1, 0)
    (entry,) = entries(tmp_path / "out")
    low, high = entry["limits"]
    assert entry["frames"] == 3 and 6000 < low < high < 8000


def test_a_rate_that_is_ticks_of_a_clock(film, monkeypatch):
    assert videos.open_video(film).fps == 10
    monkeypatch.setattr(videos, "_MOST_FPS", 5.0)
    assert videos.open_video(film).fps == 25


def test_a_video_that_mpeg_4_does_not_hold(run, film, photos, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(job, "open_video", lambda path: videos.open_video(path)._replace(fps=9e4))
    assert run(film, photos) == (4, 1)
    assert "px at 90000 frames a second cannot be written as MPEG-4" in capfd.readouterr().err
    assert not list((tmp_path / "out" / "video").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size are Linux's")
def test_a_video_on_a_full_disk_is_none(tmp_path):
    import resource

    random = np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with (
            pytest.raises(InputError, match=r"film\.mp4: cannot be written whole"),
            videos.new_video(tmp_path / "film.mp4", 10) as add,
        ):
            for _ in range(10):
                add(random.integers(0, 255, (240, 320, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_outputs_of_other_folders_are_not_mixed(run, photos, tmp_path):
    assert run(photos, origins=origins([str(photos)])) == (4, 0)
    other = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos, other)
    with pytest.raises(InputError, match=r"out: holds outputs of images from .*photos; choose"):
        run(other, origins=origins([str(other)]))
    both = [str(other), str(photos)]
    assert run(*both, origins=origins(both)) == (8, 0)
    assert run(other, origins=origins([str(other)])) == (4, 0)


@pytest.mark.skipif(os.name == "nt", reason="several processes need Linux")
def test_processes_share_the_files(photos, weights, tmp_path):
    (photos / "cut.png").write_bytes(DAMAGED["cut.png"])
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        ROOT / "t_models.py", "--images", photos, "--weights", weights, "--device", "cpu",
        "--save", "img", "boxes", "--results", tmp_path / "shared",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode != 0  # torchrun hands on that a file was passed over
    assert "4 predicted" in done.stdout and "1 skipped" in done.stderr, done.stderr
    out = tmp_path / "shared" / "photos"
    assert [entry["name"] for entry in entries(out)] == ["a_npy", "a_png", "b", "cut", "sub/a"]
    assert len(list(out.glob("images*.jsonl"))) == 1
    alone = predict_files(
        Predictor(weights, "cpu"), find_sources([str(photos)]), Job(tmp_path / "alone", ("boxes",))
    )
    assert alone == (4, 1)
    for table in ("detections.json", "detections.csv"):
        assert (out / table).read_text() == (tmp_path / "alone" / table).read_text()
