"""How a workflow speaks to whoever started it; the command line draws it, a script may leave it silent."""

from typing import Protocol

from genmed.engine.loop import EpochReport


class Reporter(Protocol):
    """Is told what happens. Nothing that it does can change a run."""

    def message(self, text: str) -> None:
        """One line for people."""

    def progress(self, what: str, done: int, total: int) -> None:
        """How far a preparation is, e.g. decoding images."""

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None:
        """Training, or what else is named, begins, or goes on after `done` steps."""

    def step(self, step: int, epoch: int, loss: float) -> None:
        """A step is done."""

    def epoch(self, report: EpochReport, epochs: int) -> None:
        """An epoch is done."""

    def end_steps(self) -> None:
        """Training is over, or broken off."""


class Silent:
    """Says nothing."""

    def message(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def begin_steps(self, done: int, total: int, images_a_step: int, what: str = "training") -> None: ...

    def step(self, step: int, epoch: int, loss: float) -> None: ...

    def epoch(self, report: EpochReport, epochs: int) -> None: ...

    def end_steps(self) -> None: ...
