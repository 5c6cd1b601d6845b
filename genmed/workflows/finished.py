"""A finished run: whether it is one, and the state that its results are of."""

from genmed.engine.checkpoint import Checkpoint, check_checkpoint, describe_whole, list_checkpoints
from genmed.engine.checkpoint_store import find_epoch_end
from genmed.ground.errors import RecordError, RequestError
from genmed.records.run_folder import RunDocument, RunFolder


def check_complete(document: RunDocument) -> None:
    """Raises RequestError where the run is not complete."""
    status = document.true_status
    if status != "completed":
        hint = "wait for its end" if status == "running" else f"finish it with: genmed resume {document.id}"
        raise RequestError(f"{document.name} is {status}, and this needs a finished run", hint)


def find_selected(folder: RunFolder, document: RunDocument) -> Checkpoint:
    """The checkpoint whose weights were tested. Raises RecordError where it is missing or damaged."""
    paths, best = list_checkpoints(folder.checkpoints_path), document.config["training.select"] == "best"
    path = find_epoch_end(paths, document.best_epoch) if best else next(reversed(paths), None)
    what = f"of epoch {document.best_epoch}, the best" if best else f"of step {document.steps_done}, the last"
    gone = RecordError(f"the checkpoint {what}, is gone from {folder.checkpoints_path}")
    if path is None:
        raise gone
    if problems := check_checkpoint(path):
        raise RecordError(f"the checkpoint {what}, is damaged: {problems[0]}")
    found = describe_whole(path)
    if not best and found.step != document.steps_done:
        raise gone
    return found
