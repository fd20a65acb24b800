"""The one way in and out for weights."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model import MSCoNet, build_model, from_published
from model.published import is_published

from .data.catalogue import BUILTIN, recorded_root, same_name
from .files import read_errors, read_json, write_bytes
from .options import InputError

RUNS = Path("runs")
WEIGHTS = Path("Weight")
_FOR_ALL = "SIRST"  # of the shipped weights those for other images: trained at native resolution
_FORMAT = "msconet/1"


class Checkpoint(NamedTuple):
    net: MSCoNet  # in evaluation mode, on the CPU
    info: dict[str, Any]  # data set, epoch and the like; empty for published weights
    training: dict[str, Any]  # the state to resume from; empty in weights made for prediction
    sha256: str  # of the file


def save(path: str | Path, net: MSCoNet, info: dict[str, Any], training: dict[str, Any]) -> None:
    """Write weights with the sizes of their network. ``info`` and ``training`` hold plain values.

    Raises:
        InputError: the file cannot be written; an older one is still whole.
    """
    content = {"format": _FORMAT, "model": net.config, "weights": net.state_dict()}
    buffer = io.BytesIO()
    torch.save(content | {"info": info, "training": training}, buffer)
    write_bytes(Path(path), buffer.getbuffer())


def load(path: str | Path) -> Checkpoint:
    """Read weights saved by `save`, or a published checkpoint.

    Nothing but tensors and plain values is ever unpickled.

    Raises:
        InputError: no such file, no weights, or those of another network.
    """
    path = Path(path)
    with read_errors(path):
        data = path.read_bytes()
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path}: not a weights file: damaged, or with objects other than tensors, "
            "which are refused because they can run code"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        if isinstance(content, dict) and content.get("format") == _FORMAT:
            net = build_model(**content["model"])
            net.load_state_dict(content["weights"])
            info, training = content["info"], content["training"]
            if isinstance(info, dict) and isinstance(training, dict):
                return Checkpoint(net.eval(), info, training, sha256)
            raise ValueError("damaged: its info or training state is no mapping")
        if isinstance(content, dict) and is_published(content):
            return Checkpoint(from_published(content), {}, {}, sha256)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    if isinstance(content, dict) and "decoupling.0.dbem.stem.weight" in content:
        raise InputError(
            f"{path}: a state_dict without the sizes of its network; load it into that network and "
            "write it with utils.checkpoint.save(path, net, {}, {})"
        )
    raise InputError(f"{path}: not MSCoNet weights ({_summary(content)})")


def newest_weights(dataset: str | None) -> Path:
    """``best.pkl`` of the newest run, else ``Weight/<dataset>/best.pkl``.

    Args:
        dataset: its name, in any spelling; None: of any, of shipped weights those of SIRST first.

    Raises:
        InputError: there is neither.
    """
    found = _newest(lambda name: dataset is None or same_name(name, dataset))
    if found is None:
        raise InputError(
            f"no weights for {dataset or 'any data set'} in {RUNS} or {WEIGHTS}; "
            "train with run_0.py, or name a file with --weights"
        )
    return found


def photo_weights(dataset: str | None = None) -> Path:
    """`newest_weights` for any images: of a data set, if they are its own and there are some, else
    of any other, those of the built-in scenes last.

    Raises:
        InputError: there are none at all.
    """
    own = _newest(lambda name: same_name(name, dataset)) if dataset else None
    return own or _newest(lambda name: not same_name(name, BUILTIN)) or newest_weights(None)


def data_root_of(weights: Path) -> Path:
    """The folder of data sets that the run of these weights read, if it is there."""
    config = weights.parent / "config.json"
    return recorded_root(read_json(config).get("data_root") if config.is_file() else None)


def _newest(wanted: Callable[[str], bool]) -> Path | None:
    """Of the data sets whose names are wanted: the newest run's weights, else the shipped."""
    runs = [path for path in RUNS.glob("*/*/best.pkl") if wanted(path.parts[1])]
    if runs:
        return max(runs, key=lambda path: path.stat().st_mtime_ns)
    shipped = [path for path in WEIGHTS.glob("*/best.pkl") if wanted(path.parts[1])]
    return min(shipped, key=lambda path: (path.parts[1] != _FOR_ALL, path), default=None)


def _summary(content: Any) -> str:
    if isinstance(content, dict) and content:
        return f"it holds {', '.join(map(str, list(content)[:3]))}, ..."
    return f"it holds a {type(content).__name__}"
