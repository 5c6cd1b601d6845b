"""What changes while training: model, optimizer, gradient scaler; and its fingerprints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any

from genmed.engine.gradient_sums import GradientSums
from genmed.engine.progress import Progress
from genmed.engine.task import Task
from genmed.ground.fingerprints import digest_json
from genmed.ground.randomness import derive_seed
from genmed.ground.team import Team
from genmed.ground.tensor_fingerprints import Snapshot
from genmed.ground.tensor_reading import Reader, Reading
from genmed.parts.models.build import build_model, count_input_channels
from genmed.records.config.sections import Optimizer
from genmed.seed import seed_generators

if TYPE_CHECKING:
    import torch
    from torch import nn


class Roll:
    """The names of a learner's tensors; made anew where one has come, gone or been replaced by another.

    Names are found by a walk through the modules, in Python, which takes longer than a digest of what they hold.
    """

    def __init__(self) -> None:
        self._keys: list[Any] = []
        self._members: list[Any] = []
        self._groups: list[tuple[list[str], list[torch.Tensor]]] = []
        self._readers = [Reader() for _ in range(3)]

    def read(self, learner: Learner) -> list[Reading]:
        """Parameters, buffers and the optimizer's tensors."""
        modules = list(learner.model.modules())
        tables: list[dict[str, Any]] = [*learner.optimizer.state.values()]
        for module in modules:
            tables += module._modules, module._parameters, module._buffers
        keys, members = list(chain.from_iterable(tables)), list(chain.from_iterable(map(dict.values, tables)))
        if keys != self._keys or not all(map(is_, members, self._members)):
            model = learner.model
            groups = dict(model.named_parameters()), dict(model.named_buffers()), learner.optimizer_tensors()
            self._groups = [(list(group), list(group.values())) for group in groups]
            self._keys, self._members = keys, members
        return [reader.read(*group) for reader, group in zip(self._readers, self._groups, strict=True)]


@dataclass(frozen=True)
class Learner:
    """Holds references; the tensors behind them are changed in place."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    """For fp16 alone."""
    channels: int
    """1 or 3: what the model takes; grey images are repeated for 3."""
    _roll: Roll = field(default_factory=Roll, init=False)
    _gradients: Reader = field(default_factory=Reader, init=False)
    _sums: dict[Team, GradientSums] = field(default_factory=dict, init=False)

    @cached_property
    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that the optimizer changes, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def sums_over(self, team: Team) -> GradientSums:
        """Of its gradients, over the processes of the team."""
        if team not in self._sums:
            self._sums[team] = GradientSums(team, list(self.trained.values()))
        return self._sums[team]

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name, each once even where two modules share it."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """The optimizer's tensors by parameter and key, e.g. 'fc.weight/exp_avg'; empty before the first step."""
        return {
            f"{name}/{key}": value
            for name, parameter in self.trained.items()
            for key, value in sorted(self.optimizer.state.get(parameter, {}).items())
            if value is not None
        }

    def scaler_state(self) -> dict[str, Any]:
        """Scale and growth counter, where there is a scaler."""
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def read_gradients(self) -> Reading:
        """Of the parameters that one reached, to be fingerprinted."""
        present = {name: value.grad for name, value in self.trained.items() if value.grad is not None}
        return self._gradients.read(list(present), list(present.values()))

    def read_state(self) -> list[Reading]:
        """Parameters, buffers and the optimizer's tensors, to be fingerprinted."""
        return self._roll.read(self)


def fingerprint_state(parameters: str, buffers: str, optimizer: str, lr: float, epoch: int, step: int) -> str:
    """The state fingerprint: of everything that the next step depends on."""
    return digest_json([parameters, buffers, optimizer, lr.hex(), epoch, step])


def fingerprint_learner(learner: Learner, progress: Progress) -> str:
    """The state fingerprint of the learner as it stands after `progress`."""
    parameters, buffers, tensors = Snapshot(learner.read_state()).wait()
    optimizer = fingerprint_optimizer(tensors, learner.scaler_state())
    return fingerprint_state(parameters, buffers, optimizer, progress.lr, progress.epoch, progress.step)


def fingerprint_optimizer(tensors: str, scaler: dict[str, Any]) -> str:
    """Of the fingerprint of its tensors, and of the scaler's figures where there is one."""
    return digest_json([tensors, scaler]) if scaler else tensors


def build_learner(task: Task) -> Learner:
    """Model with its initial weights on the device, and a fresh optimizer. Weights are drawn on the CPU for any device.

    Raises ConfigError.
    """
    import torch

    compute = task.config.compute
    seed_generators(derive_seed(task.config.seed, "init"))
    model = build_model(task.config.model, task.outputs, task.config.data.image_size, task.images.channels)
    memory = torch.channels_last if compute.memory_format == "channels_last" else torch.contiguous_format
    model = model.to(device=task.device, memory_format=memory)  # type: ignore[call-overload]
    optimizer = _build_optimizer([p for p in model.parameters() if p.requires_grad], task.config.optimizer, task.device)
    scaler = torch.amp.GradScaler(task.device) if compute.precision == "fp16" else None
    return Learner(model, optimizer, scaler, count_input_channels(model))


def _build_optimizer(parameters: list[torch.nn.Parameter], config: Optimizer, device: str) -> torch.optim.Optimizer:
    """One fused kernel a tensor where there is one (CPU, CUDA); never chosen by torch, whose choice may change."""
    from torch import optim

    how = {"fused": device in ("cpu", "cuda"), "foreach": False}
    if config.name == "sgd":
        return optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, **how)
    kind = optim.Adam if config.name == "adam" else optim.AdamW
    return kind(parameters, lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, **how)
