"""Memory for time: what is cheap to compute is computed again in the backward pass, not kept.

On the CPU it costs no time, for memory is slow there. On a GPU it cost a sixth of a step: there all
is kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, of which only the arguments are kept for the backward pass.

    The function draws nothing at random and changes nothing; the first argument is a tensor. A
    compiler chooses for itself what to keep.
    """
    saves = torch.is_grad_enabled() and not arguments[0].is_cuda
    if saves and not torch.compiler.is_compiling():
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return function(*arguments)


def normalised(bn: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(bn(x))``, of which only x is kept for the backward pass.

    The running statistics are updated once. A normalisation over several processes is not computed
    again: that would have to wait for all of them.
    """
    if type(bn) is not nn.BatchNorm2d or x.is_cuda:
        return function(bn(x))
    if not bn.training:
        return recomputed(lambda x: function(bn(x)), x)
    bn.num_batches_tracked.add_(1)
    # of the running statistics, in the forward pass; 0 after it; None: the mean of all batches
    momentum = 1 / int(bn.num_batches_tracked) if bn.momentum is None else bn.momentum

    def apply(x: Tensor) -> Tensor:
        nonlocal momentum
        share, momentum = momentum, 0.0
        running = (bn.running_mean, bn.running_var)
        return function(batch_norm(x, *running, bn.weight, bn.bias, True, share, bn.eps))

    return recomputed(apply, x)
