"""genmed predict"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import Debug, Json, Root, RunReference, root_folder

if TYPE_CHECKING:
    from genmed.workflows.predict import Predictions


def command(
    run: RunReference,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files, and folders of them.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Write it there; none is overwritten.", show_default=False),
    ] = None,
    any_kind: Annotated[
        bool, typer.Option("--any-kind", help="Score images of sizes or colours that the run has not seen, too.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Score images by a finished run's network: CSV, a column a class. Not for patients: it is no medical device."""
    from genmed.cli.output import print_json
    from genmed.cli.screen import open_screen
    from genmed.ground.files import write_text
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.identity import read_config
    from genmed.workflows.overview import find_run
    from genmed.workflows.places import check_place

    folder = find_run(run, root_folder(root))
    if out:
        check_place(out, "--out", ".csv")
    restart(interpreter_variables(read_config(folder, folder.read())))

    from genmed.workflows.predict import predict

    with open_screen() as screen:
        found = predict(folder, images, screen, device=device, any_kind=any_kind)
    if out:
        write_text(out, _to_csv(found))
    if json:
        print_json(found.to_json())
    elif not out:
        print(_to_csv(found), end="")


def _to_csv(found: "Predictions") -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *(f"score_{name}" for name in found.classes)])
    for path, scores in zip(found.images, found.scores.tolist(), strict=True):
        writer.writerow([path, *(f"{score:.9g}" for score in scores)])
    return text.getvalue()
