"""The training loop."""

import math
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import MSCoNet
from model.inference import accelerate
from model.msconet import STRIDE

from .. import checkpoint
from ..data.dataset import PairDataset
from ..data.sampling import EpochBatches, TrainingView
from ..files import some_names
from ..metrics.counts import Counts, count, figures
from ..metrics.maps import Map
from ..metrics.report import one_line
from ..options import InputError, Stopped, unheard
from .distributed import TrainingGroup
from .images import Images, select_images, sized, training_transform
from .recipes import Recipe, recipe_from
from .record import Record, read_config
from .runtime import Runtime, memory_mib
from .signals import Signals, leave_group, loaded
from .step import Trainee, train_step

EPOCH_SAVED = 30.0  # seconds after which the end of an epoch is worth a checkpoint
PICTURES = 4  # validation images that are drawn for TensorBoard
_COMPUTES_ON = re.compile(r"(cpu|cuda(:\d+)?): ")  # in log.txt


@dataclass
class Progress:
    """Where a run is; all of it is in last.pkl."""

    epoch: int = 1  # that is being trained
    step: int = 0  # steps of it that are done
    loss_sum: float = 0.0  # over these steps
    best: dict[str, Any] = field(default_factory=dict)  # figures of the best epoch, and its number
    waited: int = 0  # validations since then
    finished: bool = False  # the test split, too, if it is to be scored
    lines: list[str] = field(default_factory=list)  # of log.txt

    def summary(self) -> dict[str, Any]:
        """What summary.json says."""
        return {"epoch": self.epoch - 1, "best": self.best, "finished": self.finished}


def train(
    recipe: Recipe,
    dataset: Path,
    run: Path,
    *,
    runtime: Runtime,
    others: Sequence[Path] = (),
    group: TrainingGroup | None = None,
    origin: dict[str, Any] | None = None,
    start: MSCoNet | None = None,
    resume: bool = False,
    finish: bool = False,
) -> None:
    """Train on ``<dataset>/trainval``.

    Writes to the folder ``run``: ``best.pkl`` (the weights of the best epoch), ``last.pkl`` (the
    state to resume from), ``log.txt``, ``config.json``, ``split.json``, ``environment.json``,
    ``summary.json``, ``test.json`` and TensorBoard events. The test split is scored once, after the
    last epoch, unless the recipe chooses its epoch there; before the first, its files are looked
    at, and images of ``others`` compared with them.

    Args:
        recipe: the values of training.
        dataset: folder with ``trainval`` and ``test``.
        run: new, or to go on with.
        runtime: where and how to compute.
        others: further data sets, of whose ``trainval`` an epoch shows as many images again.
        group: the processes that train together; None: this one alone.
        origin: further entries of config.json and of what the checkpoints say of themselves.
        start: weights to begin with, of a network of the recipe's size; None: random ones.
        resume: go on from last.pkl.
        finish: train no further; the run ends with the best weights so far.

    Raises:
        InputError: a bad data set, a folder that cannot be written, a loss that is not finite;
            nothing yet to finish with.
        Stopped: a signal asked for it; the state is saved.
    """
    group = group or TrainingGroup.alone()
    # asked by the leader alone, who writes it: another process may have begun one meanwhile
    if group.leads and not resume and (run / "config.json").exists():
        raise InputError(f"{run}: holds a run already; name a new folder, or go on by --resume")
    runtime.prepare()
    images = select_images(recipe, dataset, others, runtime, group)
    view = TrainingView(
        images.samples, images.training, training_transform(recipe), recipe.seed, images.others
    )
    if min(recipe.batch_size, len(view)) // group.world == 1 and recipe.side <= STRIDE:
        raise InputError(
            "batch normalisation needs more than one value: train on several images a step, "
            f"or on images larger than {STRIDE} px"
        )
    batches = EpochBatches(len(view), recipe.batch_size, recipe.seed, group.rank, group.world)
    trainee = Trainee(recipe, runtime, group, batches.per_epoch, start)
    progress = Progress()
    # a run that was killed before it had saved anything begins again
    resume = resume and ((run / "last.pkl").exists() or (run / "best.pkl").exists())
    if resume:
        progress = _resume(trainee, recipe, run, images)
    if finish:
        if not (run / "best.pkl").exists():
            raise InputError(f"{run}: has no best.pkl yet; go on without --finish")
        info = checkpoint.load(run / "best.pkl").info
        try:  # last.pkl may be older
            progress.best = info[recipe.selection] | {"epoch": info["epoch"]}
        except (KeyError, TypeError) as error:
            raise InputError(f"{run / 'best.pkl'}: not of this run") from error
    done = (progress.epoch - 1) * batches.per_epoch + progress.step
    about = {"dataset": dataset.name, "recipe": asdict(recipe)} | images.sha256
    about |= (origin or {}) | {"image_size": recipe.resized_to, "range": recipe.range}
    with (
        unheard(),
        Record(run, group.leads, progress.lines, done) as record,
        Signals() as signals,
    ):
        training = _Training(
            recipe,
            run,
            runtime,
            group,
            images,
            view,
            batches,
            trainee,
            progress,
            about,
            record,
            signals,
        )
        if resume:
            training.go_on()
        else:
            training.begin(dataset, others)
        record.session(runtime)
        if not finish and not progress.finished:
            training.epochs(done)
        training.finish()


@dataclass
class _Training:
    """A run under way."""

    recipe: Recipe
    run: Path
    runtime: Runtime
    group: TrainingGroup
    images: Images
    view: TrainingView
    batches: EpochBatches
    trainee: Trainee
    progress: Progress
    about: dict[str, Any]  # what the checkpoints say of themselves
    record: Record
    signals: Signals
    saved_at: float = 0.0  # by the monotonic clock

    @property
    def computes_on(self) -> str:
        """A line of log.txt, such as `_COMPUTES_ON` finds."""
        return f"{self.runtime.device}: {self.runtime.describe()}"

    def go_on(self) -> None:
        """Write down what the rest is computed on, if that is not what it was."""
        before = [line for line in self.record.lines if _COMPUTES_ON.match(line)]
        if before[-1:] != [self.computes_on] and not self.progress.finished:
            self.record.log(self.computes_on)

    def begin(self, dataset: Path, others: Sequence[Path]) -> None:
        """Write down what is going to be done."""
        recipe, images, record = self.recipe, self.images, self.record
        # not in the weights, which may go to others: a path says much about a machine
        record.write("config.json", self.about | {"data_root": str(dataset.parent.resolve())})
        record.write(
            "split.json",
            {
                "training": [images.samples.pairs[i].name for i in images.training],
                "validation": [images.chosen_on.pairs[i].name for i in images.validation],
            },
        )
        further = ", ".join(other.name for other in others)
        record.log(
            f"{dataset.name}: {len(images.training)} images to train on"
            f"{f' and as many of the {len(images.others)} of {further}' if others else ''}, "
            f"{len(images.validation) or 'none'} "
            f"{'of the test split' if recipe.selection == 'test' else 'held out'}; "
            f"batches of {self.batches.batch_size}, {self.batches.per_epoch} an epoch; "
            f"{recipe.stages} stages, "
            f"{sum(p.numel() for p in self.trainee.net.parameters()):,} parameters"
        )
        if images.left_out:
            record.log(
                "left out, as they are nearly images of validation or test: "
                f"{len(images.left_out)} ({some_names(images.left_out)})"
            )
        if recipe.selection == "test":
            record.log(
                "the best epoch is chosen on the test split, as the paper did: its figures "
                "there flatter the network"
            )
        if "begun_with" in self.about:
            record.log(f"begins with weights of SHA-256 {self.about['begun_with']['sha256']}")
        record.log(self.computes_on)
        self.save()

    def epochs(self, done: int) -> None:
        """Train from where it is to the last epoch, or until patience ends.

        Args:
            done: steps before these.
        """
        recipe, progress = self.recipe, self.progress
        workers = self.runtime.workers
        loader = DataLoader(
            self.view,
            batch_sampler=self.batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.runtime.device.type == "cuda",
            worker_init_fn=leave_group,
        )
        self.saved_at = time.monotonic()
        with tqdm(
            total=recipe.epochs * self.batches.per_epoch,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=not self.group.leads,
        ) as bar:
            for epoch in range(progress.epoch, recipe.epochs + 1):
                if 0 < recipe.patience <= progress.waited:
                    break
                bar.set_description(f"epoch {epoch}/{recipe.epochs}")
                began = time.perf_counter()
                self._steps(loader, bar)
                line = f"epoch {epoch:3d}/{recipe.epochs}"
                line += f"  loss {progress.loss_sum / self.batches.per_epoch:.4f}"
                chosen = epoch % recipe.val_every == 0 or epoch == recipe.epochs
                if chosen:
                    line += self._choose()
                progress.epoch, progress.step, progress.loss_sum = epoch + 1, 0, 0.0
                self.record.log(f"{line}  {time.perf_counter() - began:.0f} s")
                self.record.summary(progress.summary())
                stopped = self.signals.received is not None
                stopped = self.group.any([stopped], self.runtime.device)[0]
                # on a GPU an epoch may take no longer than its checkpoint
                if chosen or stopped or self._unsaved_for(EPOCH_SAVED):
                    self.save()
                if stopped and epoch < recipe.epochs:
                    self._stop()

    def _steps(self, loader: DataLoader, bar: tqdm) -> None:
        """The steps of an epoch that are not done yet."""
        progress, batches, device = self.progress, self.batches, self.runtime.device
        batches.epoch, batches.start = progress.epoch, progress.step
        began, first = time.perf_counter(), progress.step
        log = None
        for images, masks, names in loaded(loader, batches, self.view, self.signals):
            step = (progress.epoch - 1) * batches.per_epoch + progress.step
            # the step before is logged while the GPU computes this one
            values = train_step(self.trainee, self.recipe, self.runtime, images, masks, log)
            finite, stopped = math.isfinite(values["loss"]), self.signals.received is not None
            failed, stopped = self.group.any([not finite, stopped], device)
            if failed:
                if not finite:  # in fp16 one process may have taken a step that others did not
                    with suppress(InputError):  # the older checkpoint is whole, too
                        self.save()
                self.group.wait()
                raise InputError(
                    f"the loss or its gradient is not finite at step {step} on "
                    f"{', '.join(names)}; {self.run / 'last.pkl'} holds the last good weights; "
                    "try a lower --lr"
                )
            values["loss"] = self.group.mean([values["loss"]], device)[0]
            progress.step += 1
            progress.loss_sum += values["loss"]
            took = time.perf_counter() - began
            values["images_per_s"] = (progress.step - first) * batches.batch_size / took
            values["memory_mib"] = memory_mib(device)
            named = {f"training/{k}": v for k, v in values.items()}
            log = partial(self.record.scalars, named, step)
            bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
            bar.update()
            last = progress.step == batches.per_epoch  # it is saved with the epoch's validation
            due = stopped or self._unsaved_for(math.inf)
            if last or due:
                log()
                log = None
            if last:
                break
            if due:
                self.save()
            if stopped:
                self._stop()

    def _choose(self) -> str:
        """Validate; keep the weights if they are the best so far. Returns a part of the log.

        Where nothing is validated, the last weights are the best.
        """
        recipe, progress, net = self.recipe, self.progress, self.trainee.best_net
        images, group = self.images, self.group
        if not images.validation:
            self._keep({})
            return ""
        mine = images.validation[group.rank :: group.world]
        counts = validate(net, images.chosen_on, mine, recipe)
        counts = group.sum_counts(counts, self.runtime.device)
        found = figures(counts)
        step = progress.epoch * self.batches.per_epoch - 1  # the last one
        self.record.scalars({f"validation/{k}": v for k, v in found.items()}, step)
        line = f"  {recipe.selection}: {one_line(counts)}"
        iou, best = found["iou"] or 0.0, progress.best.get("iou") or 0.0
        progress.waited = 0 if iou > best else progress.waited + 1
        if iou >= best:  # of two equal epochs the later one has seen more
            self._keep(found)
            if group.leads:
                _draw(self.record, net, images, recipe, step)
            line += "  best so far"
        return line

    def _keep(self, found: dict[str, Any]) -> None:
        """These weights, with the figures that chose them, are the best so far."""
        self.progress.best = found | {"epoch": self.progress.epoch}
        if self.group.leads:
            info = self.about | {"epoch": self.progress.epoch, self.recipe.selection: found}
            checkpoint.save(self.run / "best.pkl", self.trainee.best_net, info, {})

    def finish(self) -> None:
        """Score the best weights on the test split, once, also if the run is resumed again."""
        to_score = self.recipe.selection != "test"
        # a run without a test split is finished, and scored if one comes later
        late = to_score and self.images.test and not (self.run / "test.json").exists()
        if self.group.leads and (late or not self.progress.finished):
            if to_score:
                self._test()
            self.progress.finished = True
            self.save()
        self.record.summary(self.progress.summary())

    def _test(self) -> None:
        """Score the best weights on the test split, once."""
        samples, size = self.images.test, self.recipe.resized_to
        if samples is None:
            self.record.log("there is no test split")
            return
        best = checkpoint.load(self.run / "best.pkl")
        net, epoch = best.net.to(self.runtime.device), best.info["epoch"]
        try:
            counts = validate(net, samples, range(len(samples)), self.recipe)
        except InputError as error:  # it has changed since the run was begun
            raise InputError(
                f"{error}; the weights are in {self.run}; --resume {self.run} scores them then"
            ) from error
        where = f"{size}x{size}" if size else "native size"
        self.record.log(f"test, epoch {epoch}, {where}: {one_line(counts)}")
        self.record.write("test.json", figures(counts) | {"size": size, "epoch": epoch})

    def _unsaved_for(self, seconds: float) -> bool:
        """Whether the last checkpoint is so old, or as old as the runtime lets it become."""
        oldest = min(seconds, 60 * self.runtime.save_minutes)
        return time.monotonic() - self.saved_at >= oldest

    def save(self) -> None:
        if self.group.leads:
            state = self.trainee.state() | {"progress": asdict(self.progress)}
            checkpoint.save(self.run / "last.pkl", self.trainee.net, self.about, state)
        self.saved_at = time.monotonic()

    def _stop(self) -> NoReturn:
        self.group.wait()
        raise Stopped(self.signals.received or signal.SIGTERM, f"--resume {self.run} goes on")


@torch.inference_mode()
def validate(net: MSCoNet, samples: PairDataset, indices: Sequence[int], recipe: Recipe) -> Counts:
    """Counts of the corrected protocol, at the size that the recipe trains on.

    Raises:
        InputError: a map is not finite, though the loss was: here statistics that were gathered
            take the place of the batch's own.
    """
    device = next(net.parameters()).device
    net = accelerate(net)
    counts = Counts()
    for index in indices:
        image, mask = sized(samples, index, recipe)
        logits = net.target(image[None].to(device))[0, 0].float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise InputError(
                f"the map of {samples.pairs[index].name} has NaN or infinity: the weights have run "
                "away; begin a new run with a lower --lr"
            )
        counts += count(Map(logits), mask[0].numpy() > 0)
    return counts


def _resume(trainee: Trainee, recipe: Recipe, run: Path, images: Images) -> Progress:
    config = read_config(run)
    if any(config.get(key, value) != value for key, value in images.sha256.items()):
        raise InputError(f"{run}: the data set has changed since this run was begun")
    saved = checkpoint.load(run / "last.pkl")
    trained = recipe_from(saved.info.get("recipe"), run / "last.pkl")
    if saved.net.config != trainee.net.config or trained != recipe:
        raise InputError(f"{run / 'last.pkl'}: not of the run that config.json describes")
    try:
        trainee.load(saved.net, saved.training)
        progress = Progress(**saved.training["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{run / 'last.pkl'}: holds no state to resume from") from error
    if progress.best and not (run / "best.pkl").exists():
        raise InputError(f"{run / 'best.pkl'}: is gone; put it back, or begin a new run")
    return progress


@torch.inference_mode()
def _draw(record: Record, net: MSCoNet, images: Images, recipe: Recipe, step: int) -> None:
    """Side by side: image, mask, background, and the target map of every stage."""
    device = next(net.parameters()).device
    net = accelerate(net)
    for index in images.validation[:PICTURES]:
        image, mask = sized(images.chosen_on, index, recipe)
        stages = list(net.stages(image[None].to(device)))
        maps = [image[None], mask[None], stages[-1].background.cpu()]
        maps += [stage.target.sigmoid().float().cpu() for stage in stages]
        tiles = torch.cat([m[0, 0] for m in maps], dim=1)
        record.picture(f"validation/{images.chosen_on.pairs[index].name}", tiles, step)
