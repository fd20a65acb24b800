"""The training loop."""

import gc
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import MSCoNet, build_model
from model.inference import accelerate
from model.msconet import STRIDE, Decomposition

from .. import checkpoint
from ..data.cache import CachedPairs
from ..data.dataset import PairDataset
from ..data.manifest import manifest
from ..data.sampling import EpochBatches, TrainingView, hold_out
from ..data.transforms import Jitter, Joint, Resize, TargetCrop, Transform, orientations
from ..metrics.counts import Counts, count, figures
from ..metrics.protocols import Map
from ..metrics.report import one_line
from ..options import InputError, Stopped
from .distributed import TrainingGroup
from .losses import LOSSES
from .recipes import Recipe
from .record import Record, read_config
from .runtime import Runtime, largest_batch, memory_mib

PICTURES = 4  # validation images that are drawn for TensorBoard


@dataclass
class Progress:
    """Where a run is; all of it is in last.pkl."""

    epoch: int = 1  # that is being trained
    step: int = 0  # steps of it that are done
    loss_sum: float = 0.0  # over these steps
    best: dict[str, Any] = field(default_factory=dict)  # figures of the best epoch, and its number
    waited: int = 0  # validations since then
    lines: list[str] = field(default_factory=list)  # of log.txt


class AllStages(nn.Module):
    """The network as training calls it: the decompositions of all stages."""

    def __init__(self, net: MSCoNet):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> list[Decomposition]:
        return list(self.net.stages(images))


class Trainee:
    """A network with everything that training changes."""

    def __init__(
        self,
        recipe: Recipe,
        runtime: Runtime,
        group: TrainingGroup,
        per_epoch: int,
        start: MSCoNet | None = None,
    ):
        torch.manual_seed(recipe.seed)
        net = build_model(stages=recipe.stages, width=recipe.width)
        if start:
            net.load_state_dict(start.state_dict())
        self.net = runtime.move(group.share_statistics(net, runtime.device))
        # what is validated and kept as best.pkl: the averaged weights, or the network itself
        self.averaged = (
            AveragedModel(self.net, multi_avg_fn=_ema(recipe.ema)) if recipe.ema else None
        )
        self.stages: nn.Module = AllStages(self.net)
        if runtime.compiled:  # part by part: those of all stages but the first share their code
            for stage in self.net.decoupling:
                for part in stage.children():
                    part.compile()
        self.stages = group.wrap(self.stages, runtime.device)
        fused = runtime.device.type == "cuda"  # one launch for all parameters
        self.optimizer = Adam(self.net.parameters(), recipe.lr, fused=fused)
        self.schedule = LambdaLR(self.optimizer, lambda step: _rate(step, recipe, per_epoch))
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")

    @property
    def best_net(self) -> MSCoNet:
        return self.averaged.module if self.averaged else self.net

    def state(self) -> dict[str, Any]:
        """All but the network's own weights."""
        return {
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all(),
        }

    def load(self, net: MSCoNet, state: dict[str, Any]) -> None:
        self.net.load_state_dict(net.state_dict())
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        fused = self.optimizer.defaults["fused"]  # as suits this device, not the saved one
        self.optimizer.load_state_dict(
            state["optimizer"]
            | {"param_groups": [g | {"fused": fused} for g in state["optimizer"]["param_groups"]]}
        )
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] and self.scaler.is_enabled():  # else begun, or gone on, without fp16
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if len(state["random_gpu"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_gpu"])


def train(
    recipe: Recipe,
    dataset: Path,
    run: Path,
    *,
    runtime: Runtime,
    group: TrainingGroup | None = None,
    origin: dict[str, Any] | None = None,
    start: MSCoNet | None = None,
    resume: bool = False,
) -> None:
    """Train on ``<dataset>/trainval``.

    Writes to the folder ``run``: ``best.pkl`` (the weights of the best epoch), ``last.pkl`` (the
    state to resume from), ``log.txt``, ``config.json``, ``split.json``, ``environment.json``,
    ``summary.json`` and TensorBoard events. The test split is read once, after the last epoch,
    unless the recipe chooses its epoch there.

    Args:
        recipe: the values of training.
        dataset: folder with ``trainval`` and ``test``.
        run: new, or to go on with.
        runtime: where and how to compute.
        group: the processes that train together; None: this one alone.
        origin: further entries of config.json.
        start: weights to begin with, of a network of the recipe's size; None: random ones.
        resume: go on from last.pkl.

    Raises:
        InputError: a bad data set, a folder that cannot be written, a loss that is not finite.
        Stopped: a signal asked for it; the state is saved.
    """
    group = group or TrainingGroup()
    device = runtime.device
    runtime.prepare()
    samples = PairDataset(dataset / "trainval")
    test = PairDataset(dataset / "test") if (dataset / "test").is_dir() else None
    data_sha256 = manifest(samples.pairs)
    if runtime.cache:
        with group.leader_first():
            samples = CachedPairs(samples, runtime.cache / "trainval.bin", data_sha256)
            if test and recipe.selection == "test":  # else it is read once
                test = CachedPairs(test, runtime.cache / "test.bin", manifest(test.pairs))
    areas = samples.check()
    if recipe.selection == "test":
        if test is None:
            raise InputError(f"{dataset / 'test'}: no such folder; --selection test chooses on it")
        chosen_on, chosen_areas = test, test.check()
        training, validation = list(range(len(samples))), list(range(len(test)))
    else:
        chosen_on, chosen_areas = samples, areas
        training, validation = hold_out(len(samples), recipe.val_fraction, recipe.seed)
    if not any(areas[i] for i in training):
        raise InputError(f"{dataset / 'trainval' / 'masks'}: every mask to train on is empty")
    if not any(chosen_areas[i] for i in validation):
        raise InputError(
            f"{dataset}: no target in the {len(validation)} masks that choose the best epoch; "
            "another --seed or --val-fraction holds out others"
        )
    side = recipe.crop_size or recipe.image_size
    if min(recipe.batch_size, len(training)) // group.world == 1 and side <= STRIDE:
        raise InputError(
            "batch normalisation needs more than one value: train on several images a step, "
            f"or on images larger than {STRIDE} px"
        )
    batches = EpochBatches(len(training), recipe.batch_size, recipe.seed, group.rank, group.world)
    loader = DataLoader(
        TrainingView(samples, training, training_transform(recipe), recipe.seed),
        batch_sampler=batches,
        num_workers=runtime.workers,
        persistent_workers=runtime.workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_group,
    )
    trainee = Trainee(recipe, runtime, group, batches.per_epoch, start)
    progress = Progress()
    # a run that was killed before it had saved anything begins again
    resume = resume and ((run / "last.pkl").exists() or (run / "best.pkl").exists())
    if resume:
        progress = _resume(trainee, recipe, run, data_sha256)
    done = (progress.epoch - 1) * batches.per_epoch + progress.step
    about = {"dataset": dataset.name, "data_sha256": data_sha256, "recipe": asdict(recipe)}
    about |= (origin or {}) | {"image_size": recipe.resized_to}

    def save() -> None:
        if group.leads:
            state = trainee.state() | {"progress": asdict(progress)}
            checkpoint.save(run / "last.pkl", trainee.net, about, state)

    with Record(run, group.leads, progress.lines, done) as record, Signals() as signals:
        record.session()
        if not resume:
            # not in the weights, which may go to others: a path says much about a machine
            record.write("config.json", about | {"data_root": str(dataset.parent.resolve())})
            record.write(
                "split.json",
                {
                    "training": [samples.pairs[i].name for i in training],
                    "validation": [chosen_on.pairs[i].name for i in validation],
                },
            )
            record.log(
                f"{dataset.name}: {len(training)} images to train on, {len(validation)} "
                f"{'of the test split' if recipe.selection == 'test' else 'held out'}; "
                f"batches of {batches.batch_size}, {batches.per_epoch} an epoch; "
                f"{recipe.stages} stages, "
                f"{sum(p.numel() for p in trainee.net.parameters()):,} parameters"
            )
            if recipe.selection == "test":
                record.log(
                    "the best epoch is chosen on the test split, as the paper did: its figures "
                    "there flatter the network"
                )
            if "begun_with" in about:
                record.log(f"begins with weights of SHA-256 {about['begun_with']['sha256']}")
            record.log(f"{device}: {runtime.describe()}")
            save()
        bar = tqdm(
            total=recipe.epochs * batches.per_epoch,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=not group.leads,
        )
        saved_at = time.monotonic()
        for epoch in range(progress.epoch, recipe.epochs + 1):
            if recipe.patience and progress.waited >= recipe.patience:
                break
            batches.epoch, batches.start = epoch, progress.step
            bar.set_description(f"epoch {epoch}/{recipe.epochs}")
            start, first = time.perf_counter(), progress.step
            for images, masks, names in _loaded(loader, batches, samples, training):
                step = (epoch - 1) * batches.per_epoch + progress.step
                values = train_step(trainee, recipe, runtime, images, masks)
                finite, stopped = math.isfinite(values["loss"]), signals.received is not None
                failed, stopped = group.any([not finite, stopped], device)
                if failed:
                    raise InputError(
                        f"the loss or its gradient is not finite at step {step} on "
                        f"{', '.join(names)}; {run / 'last.pkl'} holds the last good weights; try "
                        "a lower --lr"
                    )
                values["loss"] = group.mean([values["loss"]], device)[0]
                progress.step += 1
                progress.loss_sum += values["loss"]
                took = time.perf_counter() - start
                values["images_per_s"] = (progress.step - first) * batches.batch_size / took
                values["memory_mib"] = memory_mib(device)
                record.scalars({f"training/{k}": v for k, v in values.items()}, step)
                bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
                bar.update()
                if progress.step == batches.per_epoch:
                    break  # the epoch is saved with its validation
                if stopped:
                    save()
                    group.wait()
                    raise Stopped(signals.received or signal.SIGTERM, f"--resume {run} goes on")
                if time.monotonic() - saved_at >= 60 * runtime.save_minutes:
                    save()
                    saved_at = time.monotonic()

            line = f"epoch {epoch:3d}/{recipe.epochs}"
            line += f"  loss {progress.loss_sum / batches.per_epoch:.4f}"
            if epoch % recipe.val_every == 0 or epoch == recipe.epochs:
                counts = validate(
                    trainee.best_net, chosen_on, validation[group.rank :: group.world], recipe
                )
                counts = group.sum_counts(counts, device)
                found = figures(counts)
                step = epoch * batches.per_epoch - 1  # the last one
                record.scalars({f"validation/{k}": v for k, v in found.items()}, step)
                line += f"  {recipe.selection}: {one_line(counts)}"
                iou, best = found["iou"] or 0.0, progress.best.get("iou") or 0.0
                progress.waited = 0 if iou > best else progress.waited + 1
                if iou >= best:  # of two equal epochs the later one has seen more
                    progress.best = found | {"epoch": epoch}
                    if group.leads:
                        info = about | {"epoch": epoch, recipe.selection: found}
                        checkpoint.save(run / "best.pkl", trainee.best_net, info, {})
                        _draw(record, trainee.best_net, chosen_on, validation, recipe, step)
                    line += "  best so far"
            progress.epoch, progress.step, progress.loss_sum = epoch + 1, 0, 0.0
            record.log(f"{line}  {time.perf_counter() - start:.0f} s")
            record.write("summary.json", {"epoch": epoch, "best": progress.best})
            save()
            saved_at = time.monotonic()
            if group.any([signals.received is not None], device)[0] and epoch < recipe.epochs:
                group.wait()
                raise Stopped(signals.received or signal.SIGTERM, f"--resume {run} goes on")
        bar.close()
        scored = any(line.startswith("test, ") for line in progress.lines)
        if group.leads and recipe.selection != "test" and not scored:
            _test(record, test, run, recipe, device)
            save()  # the test split is read once, also if the run is resumed again


def train_step(
    trainee: Trainee, recipe: Recipe, runtime: Runtime, images: Tensor, masks: Tensor
) -> dict[str, float]:
    """One step: loss(T, mask) + tau * MSE(D_K, image); its values for the log.

    Where the loss or its gradient is not finite the weights stay, and "loss" is not finite.
    """
    device = runtime.device
    images, masks = (x.to(device, non_blocking=True) for x in (images, masks))
    rate = trainee.schedule.get_last_lr()[0]
    trainee.net.train()
    with runtime.autocast():
        stages = trainee.stages(images)
    last = stages[-1]
    formula = LOSSES[recipe.loss]
    supervised = stages if recipe.every_stage else [last]
    losses = [formula(stage.target.float(), masks) for stage in supervised]
    weights = [k / sum(range(1, len(losses) + 1)) for k in range(1, len(losses) + 1)]
    segmentation = sum(w * loss for w, loss in zip(weights, losses, strict=True))
    reconstruction = mse_loss(last.reconstruction.float(), images)
    loss = segmentation + recipe.tau * reconstruction

    trainee.optimizer.zero_grad(set_to_none=True)
    trainee.scaler.scale(loss).backward()
    trainee.scaler.unscale_(trainee.optimizer)
    limit = recipe.clip_norm or math.inf
    norm = clip_grad_norm_(trainee.net.parameters(), limit).item()
    value = loss.item()
    # the scaler passes over steps whose gradient overflows in fp16, and halves its factor, which
    # begins at 65536: below 1 it was no overflow
    overflow = trainee.scaler.is_enabled() and trainee.scaler.get_scale() >= 1
    if math.isfinite(value) and (math.isfinite(norm) or overflow):
        trainee.scaler.step(trainee.optimizer)
        trainee.scaler.update()
        trainee.schedule.step()
        if trainee.averaged:
            trainee.averaged.update_parameters(trainee.net)
    else:
        value = math.nan
    stages_values = {}
    if recipe.every_stage:
        stages_values = {f"stage_{k}": x.item() for k, x in enumerate(losses, start=1)}
    return {
        "loss": value,
        "segmentation": float(segmentation.detach()),
        "reconstruction": reconstruction.item(),
        "gradient_norm": norm,
        "lr": rate,
    } | stages_values


@torch.inference_mode()
def validate(net: MSCoNet, samples: PairDataset, indices: Sequence[int], recipe: Recipe) -> Counts:
    """Counts of the corrected protocol, at the size that the recipe trains on."""
    device = next(net.parameters()).device
    net = accelerate(net)
    counts = Counts()
    for index in indices:
        image, mask = _sized(samples, index, recipe)
        logits = net.target(image[None].to(device))
        counts += count(Map(logits[0, 0].float().cpu().numpy()), mask[0].numpy() > 0)
    return counts


def fitting(recipe: Recipe, runtime: Runtime) -> int:
    """The batch size that fits into the memory of the GPU; see `largest_batch`.

    Raises:
        InputError: there is no GPU.
    """
    if runtime.device.type != "cuda":
        raise InputError("--batch-size auto measures a GPU's memory, and there is none; give it")
    runtime.prepare()
    runtime = replace(runtime, compiled=False)  # it would compile for each size
    side = recipe.crop_size or recipe.image_size
    if recipe.loss == "soft_iou_pooled":  # waits for other processes, and takes about as much
        recipe = replace(recipe, loss="soft_iou_bce")

    def step(size: int) -> None:
        gc.collect()  # a trainee's optimiser and schedule hold each other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(runtime.device)
        trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=1)
        images = torch.rand(size, 1, side, side)
        train_step(trainee, recipe, runtime, images, (images > 0.99).float())
        room = torch.cuda.get_device_properties(runtime.device).total_memory
        if torch.cuda.max_memory_allocated(runtime.device) > 0.9 * room:
            raise torch.cuda.OutOfMemoryError  # validation and fragments need some, too

    found = largest_batch(step, least=2 if side <= STRIDE else 1)  # one value has no variance
    gc.collect()
    torch.cuda.empty_cache()
    return found


class Signals:
    """While it is open, Ctrl-C and SIGTERM are noted, not obeyed.

    A second Ctrl-C a second later or more interrupts; a launcher may send the same signal twice.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.time = 0.0

    def __enter__(self) -> "Signals":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self.time = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self.time >= 1:
            raise KeyboardInterrupt


def _leave_group(worker: int) -> None:
    """In a process that loads images: Ctrl-C and a launcher's signals go to the process group, and
    that which trains decides when to stop."""
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)


def _resume(trainee: Trainee, recipe: Recipe, run: Path, data_sha256: str) -> Progress:
    if read_config(run)["data_sha256"] != data_sha256:
        raise InputError(f"{run}: the data set has changed since this run was begun")
    saved = checkpoint.load(run / "last.pkl")
    if saved.net.config != trainee.net.config or saved.info.get("recipe") != asdict(recipe):
        raise InputError(f"{run / 'last.pkl'}: not of the run that config.json describes")
    try:
        trainee.load(saved.net, saved.training)
        return Progress(**saved.training["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{run / 'last.pkl'}: holds no state to resume from") from error


def _loaded(
    loader: DataLoader, batches: EpochBatches, samples: PairDataset, training: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """The batches of an epoch; what goes wrong in a worker becomes one line."""
    iterator = iter(loader)
    for planned in batches:
        try:
            yield next(iterator)
        except InputError as error:  # a worker's, with its traceback in the message
            raise InputError(str(error).rstrip().rsplit("InputError: ", 1)[-1]) from None
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            files = ", ".join(str(samples.pairs[training[index]].image) for _, index in planned)
            raise InputError(
                f"a process that loads images died at one of {files}; is there memory enough? "
                "--workers 0 loads them in this process"
            ) from error


def _ema(decay: float):
    """Of the averaged parameters; rises to ``decay``, so that a short run is averaged, too."""

    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        now = min(decay, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averaged, current, 1 - now)

    return torch.no_grad()(update)


def _rate(step: int, recipe: Recipe, per_epoch: int) -> float:
    """Poly schedule (1 - step / steps)^0.9, after a linear rise."""
    rise = min(1.0, (step + 1) / (recipe.warmup + 1))
    return rise * max(0.0, 1 - step / (recipe.epochs * per_epoch)) ** 0.9


def _sized(samples: PairDataset, index: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    image, mask, _ = samples[index]
    size = recipe.resized_to
    return Resize(size)(image, mask) if size else (image, mask)


@torch.inference_mode()
def _draw(
    record: Record,
    net: MSCoNet,
    samples: PairDataset,
    indices: Sequence[int],
    recipe: Recipe,
    step: int,
) -> None:
    """Side by side: image, mask, background, and the target map of every stage."""
    device = next(net.parameters()).device
    net.eval()
    for index in indices[:PICTURES]:
        image, mask = _sized(samples, index, recipe)
        stages = list(net.stages(image[None].to(device)))
        maps = [image[None], mask[None], stages[-1].background.cpu()]
        maps += [stage.target.sigmoid().float().cpu() for stage in stages]
        tiles = torch.cat([m[0, 0] for m in maps], dim=1)
        record.picture(f"validation/{samples.pairs[index].name}", tiles, step)


def _test(
    record: Record, samples: PairDataset | None, run: Path, recipe: Recipe, device: torch.device
) -> None:
    """Score the best weights on the test split, once."""
    if samples is None:
        record.log("there is no test split")
        return
    best = checkpoint.load(run / "best.pkl")
    counts = validate(best.net.to(device), samples, range(len(samples)), recipe)
    size = recipe.resized_to
    where = f"{size}x{size}" if size else "native size"
    record.log(f"test, epoch {best.info['epoch']}, {where}: {one_line(counts)}")
    record.write("test.json", figures(counts) | {"size": size, "epoch": best.info["epoch"]})


def training_transform(recipe: Recipe) -> Transform:
    """What a recipe does to each image and mask that it trains on."""
    size = recipe.resized_to
    steps: list[Transform] = [
        Resize(size) if size else TargetCrop(recipe.crop_size, recipe.target_share)
    ]
    if recipe.augment:
        steps += orientations()
    if recipe.jitter:
        steps.append(Jitter(recipe.jitter))
    return Joint(*steps)
