"""One method or several: scored, printed, drawn."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..data.images import SUFFIXES
from ..files import (
    checked_name,
    folded,
    is_storable,
    read_json,
    remove,
    write_bytes,
    write_json,
)
from ..options import InputError
from . import report as text
from .evaluation import FILES, comparison_json, evaluate, write_evaluation
from .maps import KINDS, Kind, list_files
from .page import PAGE, write_page
from .plots import PLOTS, draw
from .protocols import Protocol
from .scoring import Job, pair_files

DIFFERENCES = "comparison.json"
SCORES = (
    *FILES, PAGE, DIFFERENCES, *text.TABLE_FORMATS.values(), *(f"{name}.png" for name in PLOTS)
)  # fmt: skip
_MARKS = {"metrics.json": "schema", DIFFERENCES: "first"}  # files of any score, with a key of each


class Method(NamedTuple):
    """A name for a folder of predictions."""

    name: str
    predictions: Path
    kind: Kind | None = None  # of their values, where it differs from that of the others

    @property
    def folder(self) -> str:
        """Of what is written of it.

        Raises InputError where a folder can't have the name.
        """
        if not is_storable(self.name):
            raise InputError(
                f"--predictions: {self.name or self.predictions}: give the method a NAME= that is "
                "fit for a folder"
            )
        return self.name

    @classmethod
    def parse(cls, argument: str) -> "Method":
        """``NAME=DIR`` or, with one of `KINDS`, ``NAME:KIND=DIR``; ``DIR`` alone is its own name,
        ``DIR/mat`` and ``DIR/img`` that of DIR.

        What names a folder as it stands, or has a separator before the ``=``, is a ``DIR``.
        """
        path = Path(argument)
        name, equals, folder = argument.partition("=")
        if equals and name and not set(name) & set("/\\") and not path.is_dir():
            start, _, kind = name.rpartition(":")
            if start and kind in KINDS:
                return cls(start, Path(folder), kind)
            return cls(name, Path(folder))
        stem = path.resolve().parent.name if path.name in ("mat", "img") else path.resolve().name
        return cls(stem, path)


def run(
    methods: Sequence[Method],
    masks: Path,
    output: Path,
    *,
    images: Path | None,
    chosen: Path | None = None,
    protocols: Sequence[Protocol],
    size: int | None,
    resize: bool,
    kind: Kind | None,
    seed: int,
    workers: int,
    facts: dict[str, Any],
    table: str | None,
    plots: bool,
    report: bool,
) -> None:
    """Score each method; print its figures; write them, and what is asked for.

    What an earlier score wrote to the same folders is removed.

    Args:
        methods: one, whose files go to ``output``, or several, with a folder of its name each.
        masks: folder of the true masks.
        output: folder of all that is written.
        images: folder of the images, for the report; None: beside the masks, if they are there.
        chosen: a list of the names of the images that are scored; None: all.
        protocols: the rules; pictures, plots and lists of images and targets are by the first.
        size: replaces the size of every protocol.
        resize: bring predictions to the size of their mask, or of the protocol.
        kind: what the values of the predictions are, where neither their type nor the method tells.
        seed: of the bootstrap intervals.
        workers: processes.
        facts: entries of metrics.json.
        table: format of the table of methods, printed and written; None: Markdown, if there are
            several.
        plots: draw the curves of all methods.
        report: write a page of each method.

    Raises:
        InputError: bad predictions or masks, two methods of one name, names that are not text,
            nowhere to write.
    """
    names = [method.name for method in methods]
    for method in methods:
        checked_name(method.name, method.predictions)
    for path in (masks, *(method.predictions for method in methods)):
        checked_name(str(path), path.parent)
    if len(set(map(folded, names))) < len(names):
        raise InputError(f"--predictions: {', '.join(names)}: give each method a NAME= of its own")
    if size:
        protocols = [replace(protocol, size=size) for protocol in protocols]
    jobs = [
        Job(
            pair_files(method.predictions, masks, chosen),
            protocols,
            method.kind or kind,
            resize or bool(size),
            seed,
        )
        for method in methods
    ]
    pictures = _pictures(images, masks) if report else {}
    folders = [output if len(methods) == 1 else output / method.folder for method in methods]
    evaluations = [
        evaluate(name, job, workers) for name, job in zip(names, jobs, strict=True)
    ]  # of all, before anything is written: files of two scores would not go together
    for folder in {output, *folders}:
        remove_scores(folder)
    first = protocols[0].name
    with _whole({output, *folders}):
        if len(methods) > 1:
            table = table or "markdown"
            write_json(output / DIFFERENCES, comparison_json(evaluations))
        for method, job, folder, evaluation in zip(
            methods, jobs, folders, evaluations, strict=True
        ):
            about = {"predictions": str(method.predictions), "masks": str(masks)}
            about["list"] = None if chosen is None else str(chosen)
            about |= {"kind": job.kind, "resize": resize, "seed": seed}
            write_evaluation(folder, evaluation, facts | about)
            if report:
                write_page(folder / PAGE, evaluation, job, pictures)
        if plots:
            for name, png in draw(evaluations, first).items():
                write_bytes(output / f"{name}.png", png)
        if table:
            compared = text.comparison(evaluations, table)
            write_bytes(output / text.TABLE_FORMATS[table], (compared + "\n").encode())
    # all is written: whoever reads what is printed may close the pipe
    for evaluation, folder in zip(evaluations, folders, strict=True):
        counts = evaluation.results[first].counts
        print(f"{evaluation.name}: {counts.n_images} images, {counts.n_targets} targets, {masks}")
        print(text.table(evaluation))
        for warning in evaluation.warnings:
            print(f"warning: {warning}")
        print(f"written to {folder / 'metrics.json'}")
        if report:
            print(f"report: {folder / PAGE}")
    if table:
        print(f"\n{compared}\nwritten to {output / text.TABLE_FORMATS[table]}")
    if plots:
        print(f"curves: {output / '*.png'}")


def _pictures(images: Path | None, masks: Path) -> dict[str, Path]:
    """The images by name; where no folder is named, those beside the masks, if there are any."""
    if images:
        return list_files(images, SUFFIXES)
    with suppress(InputError):
        return list_files(masks.resolve().with_name("images"), SUFFIXES)
    return {}


@contextmanager
def _whole(folders: Collection[Path]) -> Iterator[None]:
    """All that is written to the folders, or nothing of it."""
    new = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in folders:
            remove_scores(folder)
        for folder in sorted(new, reverse=True):  # what is in another before that
            with suppress(OSError):
                folder.rmdir()
        raise


def remove_scores(folder: Path) -> None:
    """Remove what an earlier score wrote to a folder, where one did: other files are not ours."""
    if any(_has_key(folder / name, key) for name, key in _MARKS.items()):
        for name in sorted(SCORES, key=_MARKS.__contains__):  # these last: by them it is known
            remove(folder / name)


def _has_key(path: Path, key: str) -> bool:
    """Whether a file holds a JSON object with the key."""
    with suppress(InputError):
        return key in read_json(path)
    return False
