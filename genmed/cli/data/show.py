"""genmed data show"""

from pathlib import Path
from typing import Annotated

import typer

from genmed.cli.data.options import DataPath, Dataset, OnBadImage, Settings
from genmed.cli.options import Debug, Json


def command(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The file to write; none is overwritten.")],
    path: DataPath = None,
    dataset: Dataset = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Images on the page.")] = 24,
    seed: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Chooses the images; augments as this training does.", show_default=False),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(metavar="PRESET", help="As of `genmed train`.", show_default=False),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Side in pixels.", show_default=False)
    ] = None,
    classes: Annotated[bool, typer.Option("--classes", help="As many of each class, under its name.")] = False,
    on_bad_image: OnBadImage = None,
    settings: Settings = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw a page of images as the network sees them, with their labels, before and after augmentation."""
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs
    from genmed.cli.screen import open_screen
    from genmed.workflows.inspection.choosing import choose_data, own_words

    flags = {
        "data.dataset": dataset,
        "seed": seed,
        "augmentation.preset": augmentation,
        "data.image_size": image_size,
        "data.on_bad_image": on_bad_image,
    }
    config = choose_data(path, flags, settings or (), context.args)
    with own_words(), open_screen() as screen:
        from genmed.workflows.inspection.contact_sheet import draw_sheet

        sheet = draw_sheet(config, out, count, screen, by_class=classes)
    if json:
        print_json(sheet.to_json())
        return
    print_pairs(
        [
            ("file", str(sheet.file)),
            ("page", f"{sheet.width} x {sheet.height} px, images drawn at {sheet.drawn_at:g}x"),
            ("images", f"{len(sheet.shown)} of {sheet.images:,}"),
            ("seed", str(sheet.seed)),
        ]
    )
