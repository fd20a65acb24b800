"""What a job did with each file, written as it goes on, and the tables made of it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import append_line, leftovers, new_csv, new_text, remove, write_json
from ..group import Group
from ..options import InputError
from ..results import map_path
from .detections import Detection

JOURNAL = "images.jsonl"
_PARTS = "images.part*.jsonl"
_TABLES = ("detections.json", "detections.csv")
_COLUMNS = ("image", "frame", "time", *Detection._fields)

Entry = dict[str, Any]
Settings = dict[str, Any]  # what outputs depend on, the kinds of them as "outputs" among it


def _outputs(folder: Path, settings: Settings, entry: Entry) -> Iterator[Path]:
    """The files that a job wrote of an image or a video."""
    if "error" in entry:
        return
    if "begun" in entry:
        yield from unfinished(folder, settings.get("outputs", ()), entry)
        return
    name, frames = entry["name"], [entry["name"]]
    if "frames" in entry:
        yield video_path(folder, name)
        count = entry["frames"] if settings.get("outputs of frames") else 0
        frames = [frame_name(name, Path(entry.get("image", "")), number) for number in range(count)]
    for kind in settings.get("outputs", ()):
        if kind != "boxes":  # is in the tables
            yield from (map_path(folder, kind, frame) for frame in frames)


def begun(name: str, image: Path, is_video: bool) -> Entry:
    """The entry of a file of which outputs are going to be written."""
    return {"name": name, "image": str(image), "begun": "video" if is_video else "image"}


def unfinished(folder: Path, kinds: Iterable[str], entry: Entry) -> Iterator[Path]:
    """What a job may have written of a file that it had begun, temporary files among it."""
    name = entry["name"]
    kinds = [kind for kind in kinds if kind != "boxes"]
    wholes = [map_path(folder, kind, name) for kind in kinds]
    if entry["begun"] == "video":
        wholes = [video_path(folder, name)]
        frame = frame_name(name, Path(entry.get("image", "")), 0)
        for kind in kinds:
            yield from map_path(folder, kind, frame).parent.glob("*")
    for path in wholes:
        yield path
        yield from leftovers(path)


def stamp(path: Path) -> list[Any]:
    """By which a file is known again: its place, size in bytes and time of change in ns."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def video_path(folder: Path, name: str) -> Path:
    """Where an annotated video is."""
    return folder / "video" / f"{name}.mp4"


def frame_name(name: str, video: Path, number: int) -> str:
    """Of the outputs of a frame: in a folder of the video's whole name, which no image can have."""
    return f"{name}{video.suffix}/{number:06d}"


class Journal:
    """The record of a job, ``images.jsonl``: a line of settings, then a line for each file.

    Of each file: ``name``, ``image`` (its path), ``file`` (by which it is known again),
    ``image_id`` (its number in the tables; frame n of a video has n more) and, where it was
    predicted, ``width``, ``height``, ``limits`` (the grey levels that became 0 and 1; of a video
    whose frames differ, those of each) and ``detections``; else ``error``. Videos have ``frames``,
    ``frames_stated`` (by the file) and ``fps``, and ``frame`` and ``time`` in each detection.

    While a job runs, every process writes a part of its own, with a line that says ``begun`` before
    any output of a file; the end of the job makes one file of all of them, sorted by name.

    Args:
        folder: of the outputs.
        settings: what the outputs depend on.
        stamps: of the files, by name; see `stamp`.
        group: the processes of the job.
        keep: go on with an earlier job, as far as its files are still the same; else this job's
            are predicted anew, and others stay that were predicted with the same settings.
        origins: folders that the files are from; none given: wherever.

    Raises:
        InputError: there is an earlier job of files from other folders, or to go on with, but of
            other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        stamps: Mapping[str, list[Any]],
        group: Group,
        keep: bool,
        origins: Sequence[str] = (),
    ):
        self._folder, self._group = folder, group
        self._stamps = stamps
        self._places = {file[0] for file in stamps.values() if file}
        self._settings = json.loads(json.dumps(settings))  # as they are read back
        self._head = {"settings": self._settings, "origins": list(origins)}
        self._part = folder / f"images.part{group.rank}.jsonl"
        others = self._origins_before()
        if others and not others & set(origins):
            raise InputError(
                f"{folder}: holds outputs of images from {min(others)}; choose another folder with "
                "--results, or remove it"
            )
        self._keep = keep
        self._earlier = {
            name: entry
            for name, entry in self._read(strict=keep).items()
            if self._is_same(entry) and (keep or name not in stamps)
        }
        group.wait()  # until all have read it

    def start(self) -> None:
        """Remove outputs that an earlier job names and this one does not go on with."""
        if self._group.leads:
            tables = () if self._keep or not self._files() else _TABLES
            self._remove_others()
            # parts of an earlier job are of other processes: theirs must not stand against ours
            self._write_whole(self._earlier.values())
            for table in tables:
                remove(self._folder / table)
        self._group.wait()
        append_line(self._part, json.dumps(self._head))

    def add(self, entry: Entry) -> None:
        """Write down what was done with a file, or that it is begun."""
        append_line(self._part, json.dumps(entry, allow_nan=False))

    def has_outputs(self, name: str) -> bool:
        """Whether an earlier job wrote everything about a file, and it is still there."""
        entry = self._earlier.get(name)
        if entry is None or "error" in entry:
            return False
        return all(path.exists() for path in _outputs(self._folder, self._settings, entry))

    def finish(self, tables: bool) -> list[Entry]:
        """Make one file of all parts, and the tables of detections if they are wanted.

        Returns:
            The entries of this job's files, sorted by name; in the leading process, of the others
            none.
        """
        self._group.wait()
        if not self._group.leads:
            return []
        entries = [entry for _, entry in sorted(self._read(strict=True).items())]
        number = 1
        for entry in entries:
            entry["image_id"] = number
            number += entry.get("frames", 1)
        self._write_whole(entries)
        if tables:
            _write_tables(self._folder, entries)
        return [entry for entry in entries if entry["name"] in self._stamps]

    def _is_same(self, entry: Entry) -> bool:
        """Whether a file is as it was; one that this job is not about may also be elsewhere."""
        name, file = entry["name"], entry.get("file")
        if name in self._stamps:
            return file == self._stamps[name]
        return bool(file) and file[0] not in self._places and file == stamp(Path(file[0]))

    def _remove_others(self) -> None:
        folder = self._folder.resolve()
        for path in self._files():
            settings: Settings = {}
            for line in self._lines(path):
                settings = line.get("settings", settings)
                if "name" in line and line["name"] not in self._earlier:
                    for output in _outputs(self._folder, settings, line):
                        place = output.resolve()  # a name from a file can be any path
                        if folder in place.parents and str(place) not in self._places:
                            remove(output)

    def _write_whole(self, entries: Iterable[Entry]) -> None:
        with new_text(self._folder / JOURNAL) as file:
            for line in (self._head, *entries):
                file.write(json.dumps(line) + "\n")
        for path in self._folder.glob(_PARTS):
            remove(path)

    def _read(self, strict: bool) -> dict[str, Entry]:
        """What was done with the same settings; with others, an error if strict."""
        entries, same = {}, False
        for entry in (entry for path in self._files() for entry in self._lines(path)):
            if "settings" in entry:
                same = entry["settings"] == self._settings
                if strict and not same:
                    raise self._other_settings(entry["settings"])
            elif same and "begun" in entry:
                entries.pop(entry["name"], None)
            elif same:
                entries[entry["name"]] = entry
        return entries

    def _other_settings(self, settings: Settings) -> InputError:
        if settings.keys() != self._settings.keys():
            return InputError(
                f"{self._folder}: was made by another version; leave out --skip-existing"
            )
        differing = sorted(key for key, value in self._settings.items() if settings[key] != value)
        return InputError(
            f"{self._folder}: was made with other {', '.join(differing)}; "
            "repeat those, or leave out --skip-existing"
        )

    def _origins_before(self) -> set[str]:
        heads = (next(self._lines(path), {}) for path in self._files())
        return {origin for head in heads for origin in head.get("origins", ())}

    def _files(self) -> list[Path]:
        paths = (self._folder / JOURNAL, *sorted(self._folder.glob(_PARTS)))
        return [path for path in paths if path.exists()]

    def _lines(self, path: Path) -> Iterator[Entry]:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                try:
                    content = json.loads(line)
                except ValueError:  # cut off in a crash
                    continue
                if isinstance(content, dict) and ("name" in content or "settings" in content):
                    yield content


def _write_tables(folder: Path, entries: list[Entry]) -> None:
    """``detections.json``, in the format of COCO's results, and ``detections.csv``."""
    found = [(entry, detection) for entry in entries for detection in entry.get("detections", ())]
    rows = [
        {
            "image_id": entry["image_id"] + detection.get("frame", 0),
            "category_id": 1,
            "bbox": [detection[key] for key in ("left", "top", "width", "height")],
            "score": detection["peak"],
            "file_name": entry["image"],
            "centroid": [detection["x"], detection["y"]],
        }
        | {
            key: detection[key]
            for key in ("area", "peak", "mean", "contrast", "peak_logit", "frame", "time")
            if key in detection
        }
        for entry, detection in found
    ]
    write_json(folder / "detections.json", rows)
    with new_csv(folder / "detections.csv") as table:
        table.writerow(_COLUMNS)
        for entry, detection in found:
            table.writerow([entry["image"], *map(detection.get, _COLUMNS[1:])])
