"""genmed train"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from genmed.cli.completion import complete_dataset, complete_model, complete_tag
from genmed.cli.options import Debug, Json, Root, root_folder

FLAGS = {
    "model": "model.name",
    "weights": "model.weights",
    "mode": "model.mode",
    "dataset": "data.dataset",
    "data_root": "data.root",
    "seed": "seed",
    "split_seed": "data.split_seed",
    "val_ratio": "data.val_ratio",
    "test_ratio": "data.test_ratio",
    "image_size": "data.image_size",
    "on_bad_image": "data.on_bad_image",
    "augmentation": "augmentation.preset",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "patience": "training.patience",
    "optimizer": "optimizer.name",
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "schedule": "schedule.name",
    "device": "compute.device",
    "determinism": "compute.determinism",
    "precision": "compute.precision",
    "threads": "compute.threads",
    "cpu_isa": "compute.cpu_isa",
    "shards": "compute.shards",
    "processes": "compute.processes",
    "num_workers": "compute.num_workers",
    "name": "run.name",
    "tag": "run.tags",
    "note": "run.note",
    "trace_modules": "run.trace_modules",
    "tensorboard": "run.tensorboard",
}
"""Flag -> key of the config; all other keys go by --set."""
LEFT_OUT = ("tag", "trace_modules", "tensorboard")
"""Empty or false is as good as not given."""

Text = str | None
Complete = Callable[..., list[str]]


def _flag(name: str, help_text: str, panel: str, shown: str | None = None, complete: Complete | None = None) -> Any:
    """A flag whose text the config reads, so that a wrong one is refused in the config's words."""
    return typer.Option(
        f"--{name}",
        help=help_text,
        rich_help_panel=panel,
        show_default=False,
        metavar=shown,
        autocompletion=complete,
    )


def _number(name: str, help_text: str, panel: str) -> Any:
    return _flag(name, help_text, panel, "NUMBER")


def command(
    config: Annotated[Path | None, typer.Option(help="YAML file; a run's config.yaml starts it again.")] = None,
    seed: Annotated[Text, _number("seed", "Of weights, order, augmentation and dropout.", "Data and model")] = None,
    dataset: Annotated[
        Text,
        _flag("dataset", "One of `genmed data list`, or file.py:FACTS.", "Data and model", complete=complete_dataset),
    ] = None,
    data_root: Annotated[Text, _flag("data-root", "Folder of the data; data/<dataset>.", "Data and model")] = None,
    image_size: Annotated[Text, _number("image-size", "Side in pixels.", "Data and model")] = None,
    on_bad_image: Annotated[Text, _flag("on-bad-image", "stop, or skip what cannot be read.", "Data and model")] = None,
    val_ratio: Annotated[Text, _number("val-ratio", "Share of patients for validation.", "Data and model")] = None,
    test_ratio: Annotated[Text, _number("test-ratio", "Share of patients for the test.", "Data and model")] = None,
    split_seed: Annotated[Text, _number("split-seed", "Of the split, apart from --seed.", "Data and model")] = None,
    model: Annotated[
        Text, _flag("model", "torchvision's name, or file.py:function.", "Data and model", complete=complete_model)
    ] = None,
    weights: Annotated[Text, _flag("weights", "random, torchvision, or a file.", "Data and model")] = None,
    mode: Annotated[Text, _flag("mode", "full_finetune or linear_probe.", "Data and model")] = None,
    augmentation: Annotated[
        Text, _flag("augmentation", "none, light, standard, chexnet, crop, baltruschat or xrv.", "Training")
    ] = None,
    epochs: Annotated[Text, _number("epochs", "Passes over the training images.", "Training")] = None,
    batch_size: Annotated[Text, _number("batch-size", "Images a step.", "Training")] = None,
    optimizer: Annotated[Text, _flag("optimizer", "sgd, adam or adamw.", "Training")] = None,
    lr: Annotated[Text, _number("lr", "Learning rate at its highest.", "Training")] = None,
    weight_decay: Annotated[Text, _number("weight-decay", "Weight decay.", "Training")] = None,
    schedule: Annotated[Text, _flag("schedule", "cosine, multistep or constant.", "Training")] = None,
    patience: Annotated[Text, _number("patience", "Epochs without a better one; 0: no limit.", "Training")] = None,
    device: Annotated[Text, _flag("device", "auto, cpu, cuda or mps.", "Computing")] = None,
    determinism: Annotated[Text, _flag("determinism", "strict or seeded.", "Computing")] = None,
    precision: Annotated[Text, _flag("precision", "fp32, bf16 or fp16.", "Computing")] = None,
    threads: Annotated[Text, _number("threads", "CPU threads; part of the arithmetic.", "Computing")] = None,
    cpu_isa: Annotated[Text, _flag("cpu-isa", "native, avx2 or avx512.", "Computing")] = None,
    shards: Annotated[Text, _number("shards", "Fixed slices of a batch; a power of two.", "Computing")] = None,
    processes: Annotated[Text, _number("processes", "Compute the shards together; free to vary.", "Computing")] = None,
    num_workers: Annotated[Text, _number("num-workers", "Loader processes; free to vary.", "Computing")] = None,
    name: Annotated[Text, _flag("name", "Begins the run's name.", "Record")] = None,
    tag: Annotated[
        list[str] | None, _flag("tag", "A word to find the run by; repeatable.", "Record", complete=complete_tag)
    ] = None,
    note: Annotated[Text, _flag("note", "Anything worth remembering.", "Record")] = None,
    trace_modules: Annotated[
        bool,
        typer.Option(
            "--trace-modules", help="Record each module's digests, too; see verify.", rich_help_panel="Record"
        ),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write event files for TensorBoard, too; see docs.", rich_help_panel="Record"
        ),
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE for any key of the config; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")] = False,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a classifier: reproducible to the bit, with a record that says how."""
    given = locals()
    from genmed.cli.output import print_json
    from genmed.ground.interpreter import restart
    from genmed.records.config import write_document
    from genmed.workflows.configure import configure, interpreter_variables
    from genmed.workflows.launch import launch

    origins = {key: f"--{flag.replace('_', '-')}" for flag, key in FLAGS.items()}
    flags = {key: given[flag] or None if flag in LEFT_OUT else given[flag] for flag, key in FLAGS.items()}
    resolved = configure(flags, file=config, settings=settings or (), origins=origins)
    if dry_run:
        if json:
            print_json(resolved.config.model_dump(mode="json"))
        else:
            print(write_document(resolved.config, resolved.origins), end="")
        return
    launch(resolved.config)
    restart(interpreter_variables(resolved.config), beside=resolved.config.compute.processes > 1)

    from genmed.cli.results import print_next_steps, print_results
    from genmed.cli.screen import open_screen

    with open_screen() as screen:
        from genmed.workflows.overview import describe_run
        from genmed.workflows.train import train

        described = describe_run(train(resolved, root_folder(root), screen))
    if json:
        print_json(described)
    else:
        print_results(described)
        print_next_steps(described, root_folder(root))
