"""What a job did with each file, written as it goes on, and the tables made of it."""

import csv
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import append_line, new_text, remove, write_json
from ..group import Group
from ..options import InputError
from .detections import Detection

JOURNAL = "images.jsonl"
_PARTS = "images.part*.jsonl"
_TABLES = ("detections.json", "detections.csv")
_COLUMNS = ("image", "frame", "time", *Detection._fields)

Entry = dict[str, Any]


class Journal:
    """The record of a job, ``images.jsonl``: a line of settings, then a line for each file.

    Of each file: ``name``, ``image`` (its path), ``file`` (by which it is known again),
    ``image_id`` (its number in the tables; frame n of a video has n more) and, where it was
    predicted, ``width``, ``height``, ``limits`` (the grey levels that became 0 and 1; of a video
    whose frames differ, those of each) and ``detections``; else ``error``. Videos have ``frames``
    and ``fps``, and ``frame`` and ``time`` in each detection.

    While a job runs, every process writes a part of its own; the end of the job makes one file of
    all of them, sorted by name.

    Args:
        folder: of the outputs.
        settings: what the outputs depend on.
        group: the processes of the job.
        keep: go on with an earlier job; else forget it.
        origins: folders that the files are from; none given: wherever.

    Raises:
        InputError: there is an earlier job of files from other folders, or to go on with, but of
            other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        group: Group,
        keep: bool,
        origins: Sequence[str] = (),
    ):
        self._folder, self._group = folder, group
        self._settings = json.loads(json.dumps(settings))  # as they are read back
        self._head = {"settings": self._settings, "origins": list(origins)}
        self._part = folder / f"images.part{group.rank}.jsonl"
        self._lock = threading.Lock()
        others = self._origins_before()
        if origins and others and not others & set(origins):
            raise InputError(
                f"{folder}: holds outputs of images from {min(others)}; choose another folder with "
                "--results, or remove it"
            )
        self.earlier = self._read() if keep else {}  # entries by name
        group.wait()  # until all have read it
        if group.leads:
            # parts of an earlier job are of other processes: theirs must not stand against ours
            self._write_whole(self.earlier.values())
            for path in () if keep else (folder / table for table in _TABLES):
                remove(path)
        group.wait()
        append_line(self._part, json.dumps(self._head))

    def add(self, entry: Entry) -> None:
        """From any thread."""
        line = json.dumps(entry, allow_nan=False)
        with self._lock:
            append_line(self._part, line)

    def finish(self, names: set[str], tables: bool) -> list[Entry]:
        """Make one file of all parts, and the tables of detections if they are wanted.

        Returns:
            The entries of these names, sorted by name; in the leading process, of the others none.
        """
        self._group.wait()
        if not self._group.leads:
            return []
        entries = [entry for name, entry in sorted(self._read().items()) if name in names]
        number = 1
        for entry in entries:
            entry["image_id"] = number
            number += entry.get("frames", 1)
        self._write_whole(entries)
        if tables:
            _write_tables(self._folder, entries)
        return entries

    def _write_whole(self, entries: Iterable[Entry]) -> None:
        with new_text(self._folder / JOURNAL) as file:
            for line in (self._head, *entries):
                file.write(json.dumps(line) + "\n")
        for path in self._folder.glob(_PARTS):
            remove(path)

    def _read(self) -> dict[str, Entry]:
        entries = {}
        for entry in (entry for path in self._files() for entry in self._lines(path)):
            if "settings" not in entry:
                entries[entry["name"]] = entry
            elif entry["settings"] != self._settings:
                differing = {
                    key
                    for key, value in self._settings.items()
                    if entry["settings"].get(key) != value
                }
                raise InputError(
                    f"{self._folder}: was made with other {', '.join(sorted(differing))}; "
                    "repeat those, or leave out --skip-existing"
                )
        return entries

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
                    yield json.loads(line)
                except ValueError:  # cut off in a crash
                    continue


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
            for key in ("area", "peak", "mean", "contrast", "frame", "time")
            if key in detection
        }
        for entry, detection in found
    ]
    write_json(folder / "detections.json", rows)
    with new_text(folder / "detections.csv") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows({"image": entry["image"]} | detection for entry, detection in found)
