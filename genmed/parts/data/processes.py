"""Loader processes: how they start, and a function run over many rows in them."""

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from genmed.ground.errors import GenmedError

Progress = Callable[[str, int, int], None]
"""(what is done, how many so far, how many in all)"""

ROWS_AT_ONCE = 32


def start_method() -> str | None:
    """How loader processes start: forked where that is usual, 0.02 s against 4 s. They run no kernel of torch's."""
    return "fork" if sys.platform == "linux" else None


class _Portions:
    """A map-style torch dataset: each item is a portion of rows through the function."""

    def __init__(self, function: Callable[[int], Any], rows: list[int]) -> None:
        self.function, self.rows = function, rows

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / ROWS_AT_ONCE)

    def __getitem__(self, portion: int) -> list[tuple[int, Any]] | GenmedError:
        """An error is handed on as it is: torch would raise it again with the worker's traceback for a message."""
        rows = self.rows[portion * ROWS_AT_ONCE : (portion + 1) * ROWS_AT_ONCE]
        try:
            return [(row, self.function(row)) for row in rows]
        except GenmedError as error:
            return error


def run_over_rows(
    function: Callable[[int], Any], rows: list[int], processes: int, progress: Progress, what: str
) -> Iterator[tuple[int, Any]]:
    """(row, function(row)) for all rows, in worker processes where that pays. Raises what the function raises."""
    if not rows:
        return
    from torch.utils.data import DataLoader

    from genmed.seed import get_generator

    portions = _Portions(function, rows)
    workers = processes if len(portions) > 2 * processes else 0
    loader: DataLoader[Any] = DataLoader(
        portions,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=start_method() if workers else None,
        collate_fn=_as_it_is,
        generator=get_generator(0),  # creating an iterator draws a seed: not from the global generator
    )
    done = 0
    for portion in loader:
        if isinstance(portion, GenmedError):
            raise portion
        yield from portion
        done += len(portion)
        progress(what, done, len(rows))


def _as_it_is(portion: Any) -> Any:
    return portion
