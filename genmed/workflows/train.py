"""train: from a config to a finished run, its folder and its row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genmed.engine.checkpoint_store import CheckpointStore, Retention
from genmed.engine.progress import Progress
from genmed.ground.files import write_text
from genmed.ground.team import TookPart
from genmed.ground.wording import say_count
from genmed.parts.data.datasets import find_dataset
from genmed.records.config import ResolvedConfig, write_document
from genmed.records.registry import open_registry
from genmed.records.run_folder import RUNS, RunDocument, RunFolder, check_root, new_run_folder, now, this_process
from genmed.workflows.assemble import Session, assemble, write_data
from genmed.workflows.code import write_copies, write_environment
from genmed.workflows.execute import execute
from genmed.workflows.identity import list_former
from genmed.workflows.index import Index, row_of
from genmed.workflows.known import open_for_writing
from genmed.workflows.oddities import refuse_unlearnable
from genmed.workflows.reporting import Reporter
from genmed.workflows.team import agree, assist, find_begun, joined, name_launch


def train(resolved: ResolvedConfig, root: Path, reporter: Reporter) -> RunFolder:
    """Trains a new run below `root` and returns its folder; raises TookPart in the other processes of a team.

    Where torchrun has started its processes again, or a batch system has started torchrun again under the same name,
    the run goes on that was begun under it.
    Runs in a process that was started with the config's variables. Raises RequestError before anything is written
    (but the image cache), Interrupted, RunError.
    """
    check_root(root)
    open_registry(root, create=False)  # what cannot be used is said before torch is imported and data are read
    data = resolved.config.data
    if check_layout := find_dataset(data.dataset).check_layout:
        check_layout(Path(data.root), resolved.config)
    with joined(resolved.config) as team:
        begun = team.hear(find_begun(root, resolved.config) if team.leads else None, patiently=True)
        if begun:
            from genmed.workflows.resume import go_along, go_on  # which needs what is below

            if not team.leads:
                go_along(team, resolved.config)
            reporter.message(f"{begun} was begun under the same name of torchrun's: it goes on")
            return go_on(team, RunFolder(root / RUNS / begun), root, reporter)
        session = assemble(resolved.config, reporter, team=team)
        refuse_unlearnable(session.data.records, session.data.split.sides)
        agree(session)
        if team.leads:
            return _lead(session, resolved, root, reporter)
        assist(session, Progress())
        raise TookPart


def _lead(session: Session, resolved: ResolvedConfig, root: Path, reporter: Reporter) -> RunFolder:
    """Trains and keeps the record."""
    registry = open_for_writing(root)
    with new_run_folder(root, run_prefix(session)) as (run_id, building, folder):
        document = write_record(building, run_id, folder.name, session, resolved, launch=name_launch())
    index, row = Index(registry, reporter), row_of(folder, document)
    index.attempt(lambda registry: registry.add_run(row))
    for line in introduce(session, folder):
        folder.log(line)
        reporter.message(line)
    execute(session, folder, index, reporter, open_store(folder, document, session), Progress())
    return folder


def run_prefix(session: Session) -> str:
    """What a run's name begins with."""
    config = session.task.config
    model = Path(config.model.name).name.replace(".py:", "-")
    dataset = re.sub(r"[^A-Za-z0-9._-]+", "-", session.data.facts.name).strip("-.")
    return config.run.name or f"{dataset}-{model}-s{config.seed}"


def open_store(folder: RunFolder, document: RunDocument, session: Session) -> CheckpointStore:
    """The run's checkpoints, kept as the config says; each has a copy of what the run cannot do without."""
    kept = session.task.config.checkpoints
    first_step = document.start.step if document.start else 0
    retention = Retention(kept.keep, kept.keep_every_epochs, kept.keep_every_steps, first_step)
    companions = (folder.document_path, folder.environment_path, folder.metrics_path)
    return CheckpointStore(folder.checkpoints_path, session.identity, retention, list_former(document), companions)


def write_record(
    folder: RunFolder, run_id: str, name: str, session: Session, resolved: ResolvedConfig, **more: Any
) -> RunDocument:
    """All that is known of a run before its first step; run.json last, for it makes the folder a run.

    more: fields of run.json that a run has for its descent.
    """
    task = session.task
    origins = dict(resolved.origins)
    if resolved.config.compute.device != task.device:
        origins["compute.device"] = f"{resolved.config.compute.device}, resolved here"
    write_text(folder.config_path, write_document(task.config, origins))
    write_copies(folder, session.code, session.code.paths)
    write_environment(folder, session.environment, session.code)
    write_data(folder, session)
    moment = now()
    return folder.write(
        RunDocument(
            id=run_id,
            name=name,
            status="running",
            seed=task.config.seed,
            dataset=session.data.facts.name,
            model=task.config.model.name,
            device=task.device,
            created=moment,
            started=moment,
            process=this_process(),
            tags=task.config.run.tags,
            note=task.config.run.note,
            config=task.config.affecting_bits(),
            config_fingerprint=task.config.fingerprint,
            data_fingerprint=session.data.fingerprint,
            code_digest=session.code.digest,
            weights=session.weights,
            epochs_total=task.total_epochs,
            **more,
        )
    )


def introduce(session: Session, folder: RunFolder) -> list[str]:
    """The first lines of the log: what is trained on what."""
    task, data = session.task, session.data
    config, environment = task.config, session.environment
    counts = ", ".join(f"{data.count(side)} {side}" for side in ("train", "val", "test"))
    lines = [
        f"Run: {folder.name}",
        f"Seed: {config.seed}",
        f"PyTorch: {environment['packages']['torch']}",
        f"Device: {describe_device(environment, task.device)}",
        f"Threads: {config.compute.threads}, determinism: {config.compute.determinism}, {config.compute.precision}",
        *describe_processes(session),
        f"Data: {data.facts.name}, {len(task.ids)} images ({counts}), {config.data.image_size} px",
        f"Split: {data.split.source}",
        f"Model: {config.model.name}, {sum(p.numel() for p in session.learner.model.parameters()):,} parameters,"
        f" {config.model.weights} weights",
    ]
    return lines + list(data.records.notes) + list(session.warnings)


def describe_processes(session: Session) -> list[str]:
    """`Shards: 4, on 2 processes`, where a batch has more than one."""
    task = session.task
    shards = task.config.compute.shards
    return [f"Shards: {shards}, on {say_count(task.team.size, 'process')}"] if shards > 1 else []


def describe_device(environment: dict[str, Any], device: str) -> str:
    """`cuda:0 (NVIDIA H200)`, `cpu (AMD EPYC)`."""
    if device == "cuda":
        return f"cuda:0 ({environment['gpus'][0]['name']})"
    return f"{device} ({environment['cpu']['model']})"
