"""A pass in training and one at rest before the first step: what cannot be deterministic, or cannot run, is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genmed.engine.learner import Learner
from genmed.engine.operations import Frames
from genmed.engine.step import compute_gradients, compute_logits, to_input
from genmed.engine.task import Task
from genmed.ground.errors import ConfigError, DeterminismError
from genmed.ground.team import ALONE
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.loader import Batch
from genmed.parts.models.build import set_training_mode

# Operations that have no deterministic form on CUDA (torch.use_deterministic_algorithms lists them), by ATen name, and
# the way out. The CPU has a deterministic form for each and refuses none, so a table is needed to tell beforehand.
CUDA_HAZARDS = {
    "_adaptive_avg_pool2d_backward": "pool to 1 x 1, or use AvgPool2d",
    "_adaptive_avg_pool3d_backward": "pool to 1 x 1 x 1, or use AvgPool3d",
    "adaptive_max_pool2d_backward": "use MaxPool2d",
    "fractional_max_pool2d_backward": "use MaxPool2d",
    "upsample_linear1d_backward": "use mode nearest",
    "upsample_bilinear2d_backward": "use mode nearest or a transposed convolution",
    "_upsample_bilinear2d_aa_backward": "use mode nearest or a transposed convolution",
    "upsample_bicubic2d_backward": "use mode nearest or a transposed convolution",
    "upsample_trilinear3d_backward": "use mode nearest or a transposed convolution",
    "grid_sampler_2d_backward": "keep grid_sample out of what is differentiated",
    "grid_sampler_3d_backward": "keep grid_sample out of what is differentiated",
    "reflection_pad1d_backward": "use zero padding",
    "reflection_pad2d_backward": "use zero padding",
    "reflection_pad3d_backward": "use zero padding",
    "replication_pad1d_backward": "use zero padding",
    "replication_pad2d_backward": "use zero padding",
    "replication_pad3d_backward": "use zero padding",
    "max_unpool2d": "use nearest upsampling",
    "_ctc_loss_backward": "choose another loss",
    "nll_loss2d_backward": "flatten the input to (N, C)",
    "histc": "use bincount without weights",
}


@dataclass
class _Watch:
    """What a pass ran: the module in whose forward it is, the modules that ran each operation, the hazards."""

    frames: Frames
    last: str = "the model"
    ran: dict[str, str] = field(default_factory=dict)
    hazards: dict[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        name = self.frames.running
        return f"{name or 'the model'} ({self.frames.kinds[name]})" if name is not None else "the model"


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watch: _Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, self.watch.last = func.overloadpacket.__name__, self.watch.module
        self.watch.ran.setdefault(name, self.watch.module)
        if name in CUDA_HAZARDS:
            forward = name.removesuffix("_backward")
            self.watch.hazards.setdefault(name, self.watch.ran.get(forward, self.watch.module))
        return func(*args, **(kwargs or {}))


def try_step(task: Task, learner: Learner) -> list[str]:
    """A pass in training and one at rest on the real device; leaves parameters, buffers and gradients as they were.

    Returns what CUDA would refuse, for the log of a run elsewhere. Raises DeterminismError where strict mode has to
    refuse an operation: its name, the module, a way out; ConfigError where the model cannot take such a batch.
    """
    task = replace(task, team=ALONE)  # each process for itself, and all shards
    strict = task.config.compute.determinism == "strict"
    model = learner.model
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    set_training_mode(model, task.config.model, task.outputs)
    watch = _Watch(Frames(model))
    try:
        with watch.frames.watched(), _Operations(watch):
            batch = _small_batch(task)
            compute_gradients(learner, task, batch, draw_epoch(task.config.seed, 1, len(task.ids)), 0)
            model.eval()
            with torch.no_grad():
                compute_logits(learner, task, to_input(batch.images, learner, task, None))
    except RuntimeError as error:
        if strict and "does not have a deterministic implementation" in str(error):
            operation = str(error).split(" does not have a deterministic implementation")[0].split()[-1]
            raise _refusal(
                operation, watch.ran.get(operation.removesuffix("_cuda"), watch.last), task.device
            ) from error
        raise ConfigError(f"{task.config.model.name} fails on a batch of {_describe(task)}: {_first(error)}") from error
    except (ValueError, TypeError, LookupError, ImportError, NameError, AttributeError, AssertionError) as error:
        raise ConfigError(f"{task.config.model.name} fails on a batch of {_describe(task)}: {_first(error)}") from error
    finally:
        learner.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            now = dict(model.named_buffers())  # a pass may have made new ones: they are part of the initial state
            for name, value in buffers.items():
                now[name].copy_(value)
    if strict and task.device == "cuda":
        for operation, module in watch.hazards.items():
            raise _refusal(operation, module, task.device)
    return [f"{operation} in {module}: {CUDA_HAZARDS[operation]}" for operation, module in watch.hazards.items()]


def _refusal(operation: str, module: str, device: str) -> DeterminismError:
    way_out = CUDA_HAZARDS.get(operation, "replace this operation")
    return DeterminismError(
        f"{operation} in {module} has no deterministic form on {device}",
        f"{way_out}, or give up bit-equality with --determinism seeded",
    )


def _small_batch(task: Task) -> Batch:
    """Two training images a shard: enough for BatchNorm."""
    rows = task.rows["train"][: 2 * task.config.compute.shards]
    return Batch(torch.from_numpy(rows), torch.from_numpy(task.images.read(rows)), torch.from_numpy(task.targets[rows]))


def _describe(task: Task) -> str:
    size = task.config.data.image_size
    return f"{size} x {size} px images"


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
