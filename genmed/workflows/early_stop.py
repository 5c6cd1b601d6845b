"""Early stopping: whether it ended a run, and why, from what the run recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genmed.ground.wording import say_count
from genmed.records.run_folder import RunDocument

FIGURES = {"auroc_macro": ("val AUROC", "above"), "loss": ("val loss", "below")}
"""What `training.monitor` names, as it is printed, and where a better one would lie."""


def is_stopped_early(status: str, epochs_done: int, epochs_total: int | None) -> bool:
    """Whether a run is complete with fewer epochs than it could have had: nothing else ends one before."""
    return status == "completed" and epochs_total is not None and epochs_done < epochs_total


def explain_early_stop(document: RunDocument, rows: Sequence[Mapping[str, float | None]]) -> str:
    """`after epoch 12: val AUROC not above 0.9130 (epoch 9) for 3 epochs`.

    document: of a run that early stopping has ended. rows: of its metrics.csv; without that of the best epoch, the
    figure is left out.
    """
    config = document.config
    name, better = FIGURES[config["training.monitor"]]
    column = f"val_{config['training.monitor']}"
    found = [row.get(column) for row in rows if row["epoch"] == document.best_epoch]
    best = found[0] if found else None
    if best is not None:
        figure = f"{better} {best:.4f} (epoch {document.best_epoch})"
    else:
        figure = "defined" if found else f"{better} that of epoch {document.best_epoch}"
    unit = "epoch" if config["training.validate_every"] == 1 else "validation"
    patience = say_count(config["training.patience"], unit)
    return f"after epoch {document.epochs_done}: {name} not {figure} for {patience}"
