"""What training changes, and one step of it."""

import copy
import gc
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from model import MSCoNet, build_model
from model.msconet import STRIDE, Decomposition

from ..options import InputError
from .distributed import TrainingGroup
from .losses import LOSSES
from .recipes import Recipe
from .runtime import Runtime, largest_batch


class Average:
    """Exponential moving average of a network's parameters; the buffers are its last ones.

    `torch.optim.swa_utils.AveragedModel` does the same, but goes through all modules several times
    a step, which a GPU waits for: ten times as long.

    Args:
        net: the network.
        decay: it rises to this, so that a short run is averaged, too.
    """

    def __init__(self, net: MSCoNet, decay: float):
        self._net = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._parameters = list(self._net.parameters()), list(net.parameters())
        self._buffers = _of_one_type(self._net.buffers(), net.buffers())

    @torch.no_grad()
    def update(self) -> None:
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(*self._parameters, 1 - decay)
        self.updates += 1

    @property
    @torch.no_grad()
    def net(self) -> MSCoNet:
        """With the buffers that the network has now."""
        for own, current in self._buffers:
            torch._foreach_copy_(own, current)
        return self._net

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        self._net.load_state_dict(state["net"])
        self.updates = int(state["updates"])


def _of_one_type(
    first: Iterable[Tensor], second: Iterable[Tensor]
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Pairs of tensors as pairs of lists, one for each type: a GPU copies such a list at once."""
    lists: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(first, second, strict=True):
        of_first, of_second = lists.setdefault(a.dtype, ([], []))
        of_first.append(a)
        of_second.append(b)
    return list(lists.values())


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
        net = build_model(stages=recipe.stages, width=recipe.width, without=recipe.without)
        if start:
            net.load_state_dict(start.state_dict())
        self.net = runtime.move(group.share_statistics(net, runtime.device))
        # what is validated and kept as best.pkl: the averaged weights, or the network itself
        self.averaged = Average(self.net, recipe.ema) if recipe.ema else None
        self.stages: nn.Module = AllStages(self.net)
        if runtime.compiled:
            _compile(self.net)
        self.stages = group.wrap(self.stages, runtime.device)
        fused = runtime.device.type == "cuda"  # one launch for all parameters
        self.parameters = list(self.net.parameters())  # found once: a step takes them twice
        statistics = list(self.net.buffers())  # a forward pass changes them, if all else fails
        self._statistics = _of_one_type(statistics, [x.clone() for x in statistics])
        self.optimizer = Adam(self.parameters, recipe.lr, fused=fused)
        self.schedule = LambdaLR(self.optimizer, lambda step: _rate(step, recipe, per_epoch))
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        # only the fused one can pass over a step without asking the processor
        self.queues = fused and not self.scaler.is_enabled()
        self.graph: Replayed | None = None
        if runtime.graph:
            compute = partial(gradient, self, recipe, runtime)
            self.graph = Replayed(compute, self.parameters, runtime.device)

    @property
    def best_net(self) -> MSCoNet:
        return self.averaged.net if self.averaged else self.net

    def keep_statistics(self) -> None:
        """Of batch normalisation, before a step."""
        for now, before in self._statistics:
            torch._foreach_copy_(before, now)

    def restore_statistics(self) -> None:
        """As they were before a step that failed."""
        for now, before in self._statistics:
            torch._foreach_copy_(now, before)

    def state(self) -> dict[str, Any]:
        """All but the network's own weights."""
        return {
            "averaged": self.averaged.state() if self.averaged else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            # the network draws nothing; one with dropout, say, would
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load(self, net: MSCoNet, state: dict[str, Any]) -> None:
        self.net.load_state_dict(net.state_dict())
        if self.averaged:
            self.averaged.load(state["averaged"])
        fused = self.optimizer.defaults["fused"]  # as suits this device, not the saved one
        self.optimizer.load_state_dict(
            state["optimizer"]
            | {"param_groups": [g | {"fused": fused} for g in state["optimizer"]["param_groups"]]}
        )
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] and self.scaler.is_enabled():  # else begun, or gone on, without fp16
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and len(state["random_gpu"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_gpu"])


def _compile(net: MSCoNet) -> None:
    """Part by part: those of all stages but the first share their code."""
    try:
        for stage in net.decoupling:
            for part in stage.children():
                part.compile()
    except RuntimeError as error:  # not for this Python, or on this system
        raise InputError(f"--compile: {error}; leave it out") from error
    # in DistributedDataParallel it would split what is compiled; PyTorch 2.4 then refuses functions
    # that have gradients of their own
    torch._dynamo.config.optimize_ddp = False


def train_step(
    trainee: Trainee,
    recipe: Recipe,
    runtime: Runtime,
    images: Tensor,
    masks: Tensor,
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, float]:
    """One step: loss(T, mask) + tau * MSE(D_K, image); its values for the log.

    Where the loss or its gradient is not finite the network stays as it is, and "loss" is not
    finite.

    Args:
        meanwhile: what the processor does while a GPU computes.
    """
    rate = trainee.schedule.get_last_lr()[0]
    if not trainee.net.training:
        trainee.net.train()
    trainee.keep_statistics()
    if trainee.graph is None:
        values = gradient(trainee, recipe, runtime, images, masks)
    else:
        values = trainee.graph(images, masks)
    if trainee.queues:
        # as a scaler says it: what is not finite passes over the step
        trainee.optimizer.found_inf = 1 - values[:2].isfinite().all().float()
        _update(trainee)
    if meanwhile:
        meanwhile()
    # at once: the processor waits for the GPU here
    value, norm, segmentation, reconstruction, *losses = values.tolist()
    # the scaler passes over steps whose gradient overflows in fp16, and halves its factor, which
    # begins at 65536: below 1 it was no overflow
    overflow = trainee.scaler.is_enabled() and trainee.scaler.get_scale() >= 1
    if math.isfinite(value) and (math.isfinite(norm) or overflow):
        if not trainee.queues:
            _update(trainee)
        if trainee.averaged:
            trainee.averaged.update()
        trainee.schedule.step()
    else:
        trainee.restore_statistics()
        value = math.nan
    stages_values = {}
    if recipe.every_stage:
        stages_values = {f"stage_{k}": x for k, x in enumerate(losses, start=1)}
    return {
        "loss": value,
        "segmentation": segmentation,
        "reconstruction": reconstruction,
        "gradient_norm": norm,
        "lr": rate,
    } | stages_values


def _update(trainee: Trainee) -> None:
    """The weights, by their gradients."""
    trainee.scaler.step(trainee.optimizer)
    trainee.scaler.update()


def gradient(
    trainee: Trainee, recipe: Recipe, runtime: Runtime, images: Tensor, masks: Tensor
) -> Tensor:
    """Set the gradient of every parameter, clipped.

    Returns:
        (4 + number of target maps with a loss,): loss, norm of the gradient before it is clipped,
        loss of the target maps, of the reconstruction, of each target map.
    """
    images, masks = (x.to(runtime.device, non_blocking=True) for x in (images, masks))
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
    norm = clip_grad_norm_(trainee.parameters, recipe.clip_norm or math.inf)
    values = [loss, norm, segmentation, reconstruction, *losses]
    return torch.stack([x.detach().float() for x in values])


class Replayed:
    """`gradient` as one CUDA graph: its thousands of kernels, launched one by one, keep a GPU
    waiting for most of a step.

    The first steps run as they are, so that libraries and compilers have made what they need; then
    one is captured, and replayed from there on, for images of that shape.

    Args:
        compute: images and masks to values, as `gradient`.
        parameters: whose gradients it sets.
        device: a GPU.
    """

    EAGER = 3  # steps

    def __init__(
        self,
        compute: Callable[[Tensor, Tensor], Tensor],
        parameters: list[nn.Parameter],
        device: torch.device,
    ):
        self.compute, self.parameters, self.device = compute, parameters, device
        self.stream = torch.cuda.Stream(device)
        self.steps, self.failed = 0, False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, masks: Tensor) -> Tensor:
        self.steps += 1
        if self.steps <= self.EAGER or self.failed:
            return self._aside(images, masks)
        if self.graph is None:
            try:
                self._capture(images, masks)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.failed = True
                reason = str(error).split("\n")[0]
                warnings.warn(f"no CUDA graph of a step, which is slower: {reason}", stacklevel=2)
                return self._aside(images, masks)
        self.images.copy_(images, non_blocking=True)
        self.masks.copy_(masks, non_blocking=True)
        self.graph.replay()
        return self.values

    def _aside(self, images: Tensor, masks: Tensor) -> Tensor:
        """On the stream of the capture: what is made on another one would be waited for there."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            values = self.compute(images, masks)
        current.wait_stream(self.stream)
        return values

    def _capture(self, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images.to(self.device), masks.to(self.device)
        for parameter in self.parameters:
            parameter.grad = None
        torch.cuda.empty_cache()  # the graph has memory of its own
        graph = torch.cuda.CUDAGraph()
        # other threads, which pin the next images' memory, are none of its business
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.values = self.compute(self.images, self.masks)
        self.graph = graph


def fitting(recipe: Recipe, runtime: Runtime) -> int:
    """The batch size that fits into the memory of the GPU; see `largest_batch`.

    Raises:
        InputError: there is no GPU.
    """
    if runtime.device.type != "cuda":
        raise InputError("--batch-size auto measures a GPU's memory, and there is none; give it")
    runtime.prepare()
    # it would compile, and capture, for each size
    runtime = replace(runtime, compiled=False, graph=False)
    if recipe.loss == "soft_iou_pooled":  # waits for other processes, and takes about as much
        recipe = replace(recipe, loss="soft_iou_bce")

    def step(size: int) -> None:
        gc.collect()  # a trainee's optimiser and schedule hold each other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(runtime.device)
        trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=1)
        images = torch.rand(size, 1, recipe.side, recipe.side)
        train_step(trainee, recipe, runtime, images, (images > 0.99).float())
        room = torch.cuda.get_device_properties(runtime.device).total_memory
        if torch.cuda.max_memory_allocated(runtime.device) > 0.9 * room:
            raise torch.cuda.OutOfMemoryError  # validation and fragments need some, too

    least = 2 if recipe.side <= STRIDE else 1  # one value has no variance
    found = largest_batch(step, least=least)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(runtime.device)  # the run's own is logged
    return found


def _rate(step: int, recipe: Recipe, per_epoch: int) -> float:
    """Poly schedule (1 - step / steps)^0.9, after a linear rise."""
    rise = min(1.0, (step + 1) / (recipe.warmup + 1))
    return rise * max(0.0, 1 - step / max(1, recipe.epochs * per_epoch)) ** 0.9
