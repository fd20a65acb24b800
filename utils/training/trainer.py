"""The training loop."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn.functional import mse_loss
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from model import MSCoNet, build_model
from model.msconet import STRIDE

from .. import checkpoint
from ..data.dataset import PairDataset
from ..data.sampling import EpochSampler, TrainingView, hold_out
from ..data.transforms import Compose, RandomOrientation, Resize, TargetCrop, Transform
from ..metrics.counts import Counts, count, figures
from ..metrics.protocols import Map
from ..metrics.report import one_line
from ..options import InputError
from .losses import soft_iou
from .recipes import Recipe
from .record import Record, read_config


def train(
    recipe: Recipe, dataset: Path, run: Path, *, device: torch.device, workers: int, resume: bool
) -> None:
    """Train on ``<dataset>/trainval``; the test split is not touched.

    Writes ``best.pkl`` (the epoch of the highest IoU on the held-out part), ``last.pkl`` (the state
    to resume from), ``log.txt``, ``config.json`` and TensorBoard events to the folder ``run``.

    Raises:
        InputError: a bad data set, a folder that cannot be written, a loss that is not finite.
    """
    samples = PairDataset(dataset / "trainval")
    if not samples.check():
        raise InputError(f"{dataset / 'trainval' / 'masks'}: every mask is empty")
    training, held_out = hold_out(len(samples), recipe.val_fraction, recipe.seed)
    view = TrainingView(samples, training, _transform(recipe), recipe.seed)
    sampler = EpochSampler(len(view), recipe.seed)
    loader = DataLoader(
        view,
        recipe.batch_size,
        sampler=sampler,
        drop_last=len(view) > recipe.batch_size,  # batch normalisation wants more than one image
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )

    if min(recipe.batch_size, len(view)) == 1 and (recipe.crop_size or recipe.image_size) <= STRIDE:
        raise InputError(
            "batch normalisation needs more than one value: train on several images a step, "
            f"or on images larger than {STRIDE} px"
        )

    torch.manual_seed(recipe.seed)
    net = build_model(stages=recipe.stages, width=recipe.width).to(device)
    optimizer = Adam(net.parameters(), recipe.lr)
    steps = recipe.epochs * len(loader)
    schedule = LambdaLR(optimizer, lambda step: (1 - step / steps) ** 0.9)
    done, best = 0, -1.0  # epochs, and their highest IoU
    names = [samples.pairs[i].name for i in held_out]
    if resume:
        if names != read_config(run)["held_out"]:
            raise InputError(f"{dataset}: not the images that {run} was begun with")
        saved = checkpoint.load(run / "last.pkl")
        net.load_state_dict(saved.net.state_dict())
        optimizer.load_state_dict(saved.training["optimizer"])
        schedule.load_state_dict(saved.training["schedule"])
        done, best = saved.training["epoch"], saved.training["best"]

    origin = {"dataset": dataset.name, "data_root": str(dataset.parent), "recipe": asdict(recipe)}
    record = Record(run)
    if not resume:
        record.write_config(origin | {"device": str(device), "held_out": names})
        record.log(
            f"{dataset.name}: {len(training)} images to train on, {len(held_out)} held out; "
            f"{recipe.stages} stages, {sum(p.numel() for p in net.parameters()):,} parameters; "
            f"{device}"
        )
    with tqdm(total=steps, initial=done * len(loader), unit="step", dynamic_ncols=True) as bar:
        for epoch in range(done + 1, recipe.epochs + 1):
            start = time.perf_counter()
            sampler.epoch = epoch
            bar.set_description(f"epoch {epoch}/{recipe.epochs}")
            loss = train_one_epoch(net, loader, optimizer, schedule, recipe.tau, record, bar)
            line = f"epoch {epoch:3d}/{recipe.epochs}  loss {loss:.4f}"
            if epoch % recipe.val_every == 0 or epoch == recipe.epochs:
                counts = validate(net, samples, held_out, resized_to(recipe))
                values = figures(counts)
                record.scalars({f"validation/{k}": v for k, v in values.items()}, epoch)
                line += f"  held out: {one_line(counts)}"
                iou = values["iou"] or 0.0
                if iou > best:
                    best = iou
                    info = origin | {"epoch": epoch, "held_out": values}
                    checkpoint.save(run / "best.pkl", net, info, {})
                    line += "  best so far"
            state = {
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch,
                "best": best,
            }
            checkpoint.save(run / "last.pkl", net, origin | {"epoch": epoch}, state)
            record.log(f"{line}  {time.perf_counter() - start:.0f} s")
    record.close()


def train_one_epoch(
    net: MSCoNet,
    loader: DataLoader,
    optimizer: Adam,
    schedule: LambdaLR,
    tau: float,
    record: Record,
    bar: tqdm,
) -> float:
    """One pass; returns the mean loss, SoftIoU(T_K, mask) + tau * MSE(D_K, image)."""
    device = next(net.parameters()).device
    net.train()
    total = 0.0
    for images, masks, names in loader:
        images, masks = (x.to(device, non_blocking=True) for x in (images, masks))
        decomposition = net(images)
        segmentation = soft_iou(decomposition.target, masks)
        reconstruction = mse_loss(decomposition.reconstruction, images)
        loss = segmentation + tau * reconstruction
        if not loss.isfinite():
            raise InputError(f"the loss is not finite on {', '.join(names)}; try a lower --lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        record.scalars(
            {
                "training/loss": loss.item(),
                "training/soft_iou": segmentation.item(),
                "training/reconstruction": reconstruction.item(),
                "training/lr": schedule.get_last_lr()[0],
            },
            schedule.last_epoch,
        )
        schedule.step()
        total += loss.item()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
        bar.update()
    return total / len(loader)


@torch.inference_mode()
def validate(
    net: MSCoNet, samples: PairDataset, indices: Sequence[int], size: int | None
) -> Counts:
    """Counts of the corrected protocol, at size x size, or at the images' own size for None."""
    device = next(net.parameters()).device
    net.eval()
    counts = Counts()
    for index in indices:
        image, mask, _ = samples[index]
        if size:
            image, mask = Resize(size)(image, mask)
        logits = net(image[None].to(device)).target
        counts += count(Map(logits[0, 0].cpu().numpy()), mask[0].numpy() > 0)
    return counts


def resized_to(recipe: Recipe) -> int | None:
    """The side of the images that the recipe trains on; None: windows at native resolution."""
    return None if recipe.crop_size else recipe.image_size


def _transform(recipe: Recipe) -> Transform:
    size = resized_to(recipe)
    transforms: list[Transform] = [
        Resize(size) if size else TargetCrop(recipe.crop_size, recipe.target_share)
    ]
    if recipe.augment:
        transforms.append(RandomOrientation())
    return Compose(*transforms)
