"""What a step computes, operation by operation: in which module, forward, backward or update, and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genmed.ground.fingerprints import digest_names
from genmed.ground.tensor_fingerprints import fingerprint_tensors

if TYPE_CHECKING:
    from torch import nn

OUTSIDE = "(outside)"
"""In place of a module, for what is computed outside of the network: its input, the loss, the update."""
UNINITIALISED = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_"}


@dataclass(frozen=True)
class Operation:
    """One call of torch's dispatcher that computed numbers."""

    phase: str
    """forward, backward or update."""
    module: str
    """Dotted name of the innermost module, or OUTSIDE."""
    name: str
    """e.g. aten::mul."""
    digest: str
    """Of the floating-point tensors that it made or changed."""


class Frames:
    """Which module's forward runs, and later, whose part of the graph is differentiated.

    Autograd numbers its nodes as they are made, so the numbers between a module's start and end are its own.
    """

    def __init__(self, model: nn.Module) -> None:
        self.kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self._model = model
        self._running: list[tuple[str, int, nn.Module]] = []
        self._done: list[tuple[str, int, int]] = []
        """(name, first node, the one after the last), the innermost before what holds them."""
        self._owners: dict[int, str] = {}

    @property
    def running(self) -> str | None:
        """The innermost module whose forward runs."""
        return self._running[-1][0] if self._running else None

    def find_owner(self, node: int) -> str:
        """The module in whose forward autograd made the node of this number."""
        if node not in self._owners:
            self._owners[node] = next((name for name, first, end in self._done if first <= node < end), OUTSIDE)
        return self._owners[node]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts the modules' forwards are followed."""
        handles = []
        for name, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            self._running.append((name, torch._C._autograd._get_sequence_nr(), module))

        return hook

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Also of a forward that ended by an exception, as checkpointed ones do when they are computed again."""
        while self._running:
            name, first, left = self._running.pop()
            self._done.append((name, first, torch._C._autograd._get_sequence_nr()))
            if left is module:
                break


class OperationLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context around one step: its operations in the order in which they ran.

    Changes no bit of the step: hooks and the mode only look. Views make no numbers and memory that nobody wrote has
    none worth a digest; integers are left out, for kernels return scratch memory as such.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.frames = Frames(model)
        self.operations: list[Operation] = []
        self._optimizer, self._updates = optimizer, False

    @contextmanager
    def watching(self) -> Iterator[OperationLog]:
        """While this lasts operations are recorded."""
        handles = [
            self._optimizer.register_step_pre_hook(lambda *_: self._set_updates(True)),
            self._optimizer.register_step_post_hook(lambda *_: self._set_updates(False)),
        ]
        try:
            with self.frames.watched(), self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _set_updates(self, updates: bool) -> None:
        self._updates = updates

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = list(_list_made(func, args, kwargs, result))
        if made:
            phase, module = self._place()
            digest = fingerprint_tensors((str(number), tensor) for number, tensor in enumerate(made))
            self.operations.append(Operation(phase, module, func._schema.name, digest))
        return result

    def _place(self) -> tuple[str, str]:
        node = torch._C._current_autograd_node()
        running = self.frames.running
        if running is not None or node is None:
            return "update" if self._updates else "forward", running or OUTSIDE
        return "backward", self.frames.find_owner(node._sequence_nr())


def _list_made(func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Iterator[torch.Tensor]:
    """Floating-point tensors that an operation made or changed."""
    if func.overloadpacket.__name__ in UNINITIALISED:
        return
    schema = func._schema
    for returned, value in zip(schema.returns, _as_list(result, len(schema.returns)), strict=False):
        if returned.alias_info is None:
            yield from _list_floating(value)
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _list_floating(args[position] if position < len(args) else kwargs.get(argument.name))


def _as_list(result: Any, count: int) -> Sequence[Any]:
    return result if count > 1 else [result]


def _list_floating(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _list_floating(item)


@dataclass(frozen=True)
class ModuleRecord:
    """All operations that ran one after another in one module."""

    phase: str
    module: str
    digest: str


def group_by_module(operations: Sequence[Operation]) -> list[ModuleRecord]:
    """Without the single operations, whose names change between versions of torch."""
    groups: list[tuple[str, str, list[str]]] = []
    for operation in operations:
        if not groups or groups[-1][:2] != (operation.phase, operation.module):
            groups.append((operation.phase, operation.module, []))
        groups[-1][2].append(operation.digest)
    return [ModuleRecord(phase, module, digest_names(digests)) for phase, module, digests in groups]
