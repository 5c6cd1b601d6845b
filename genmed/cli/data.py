"""genmed data: list, check, show, cache"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genmed.cli.options import Debug, Json
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.workflows.inspection.groups import Group
    from genmed.workflows.inspection.image_cache import CacheState
    from genmed.workflows.inspection.report import Check, LabelCount

app = typer.Typer(
    help="Name the datasets, check one, look at its images, mind the image cache.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="[PATH]",
        help="Folder that the dataset lies in; data/<dataset> unless given; phantom needs none.",
        show_default=False,
    ),
]


def complete_dataset(incomplete: str) -> list[str]:
    from genmed.parts.data.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="One that `genmed data list` names, or file.py:FACTS of your own; phantom unless given.",
        autocompletion=complete_dataset,
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config; repeatable.", show_default=False),
]


@app.command("list")
def list_datasets(json: Json = False, debug: Debug = False) -> None:
    """Name the datasets, and what each needs."""
    import sys

    from genmed.cli.output import print_json, print_table
    from genmed.workflows.inspection.listing import describe_datasets

    datasets = describe_datasets()
    if json:
        print_json(datasets)
    elif sys.stdout.isatty():
        for entry in datasets:
            _print_dataset(entry)
    else:
        columns = ["name", "title", "task", "needs", "licence"]
        print_table(columns, [[entry[column] or "-" for column in columns] for entry in datasets])


@app.command("check")
def check(
    path: DataPath = None,
    dataset: Dataset = None,
    settings: Settings = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="So many groups of equal images, and broken ones, are named.")
    ] = 10,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read every image of a dataset and say what is in it: exit code 1 where a training should not begin."""
    from genmed.cli.output import print_json
    from genmed.cli.screen import open_screen
    from genmed.workflows.inspection.choosing import choose_data

    config = choose_data(path, {"data.dataset": dataset}, settings or ())
    with open_screen() as screen:
        from genmed.workflows.inspection.check import check_data

        found = check_data(config, screen)
    print_json(found.to_json()) if json else _print_check(found, limit)
    raise typer.Exit(found.exit_code)


@app.command("show")
def show(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The file to write; none is overwritten.")],
    path: DataPath = None,
    dataset: Dataset = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Images on the page.")] = 24,
    seed: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Chooses the images; augments as this training does.", show_default=False),
    ] = None,
    augmentation: Annotated[
        str | None, typer.Option(metavar="PRESET", help="none, light, standard or chexnet.", show_default=False)
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Side in pixels.", show_default=False)
    ] = None,
    classes: Annotated[bool, typer.Option("--classes", help="As many of each class, under its name.")] = False,
    settings: Settings = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw a page of images as the network sees them, with their labels, before and after augmentation."""
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs
    from genmed.cli.screen import open_screen
    from genmed.workflows.inspection.choosing import choose_data

    flags = {
        "data.dataset": dataset,
        "seed": seed,
        "augmentation.preset": augmentation,
        "data.image_size": image_size,
    }
    config = choose_data(path, flags, settings or ())
    with open_screen() as screen:
        from genmed.workflows.inspection.contact_sheet import draw_sheet

        sheet = draw_sheet(config, out, count, screen, by_class=classes)
    if json:
        print_json(sheet.to_json())
        return
    print_pairs(
        [
            ("file", str(sheet.file)),
            ("page", f"{sheet.width} x {sheet.height} px"),
            ("images", f"{len(sheet.shown)} of {sheet.images:,}"),
            ("seed", str(sheet.seed)),
        ]
    )


@app.command("cache")
def cache(
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="So much it may take from now on: 20GB, 512MiB, bytes, or none; what was used longest ago is removed.",
            show_default=False,
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that is not in use.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the image cache, limit it, or clear it; what a running training reads stays."""
    from genmed.cli.output import print_json
    from genmed.workflows.inspection.image_cache import mind_cache

    if limit is not None and clear:
        raise RequestError("--limit and --clear exclude each other", "set the limit, then clear")
    state = mind_cache(limit, empty=clear)
    print_json(state.to_json()) if json else _print_cache(state)


def _print_dataset(entry: dict[str, Any]) -> None:
    """A block: a table of all this would be too wide for a terminal."""
    import shutil
    import textwrap

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = min(shutil.get_terminal_size().columns, 120)
    console.print(Text.assemble((entry["name"], "bold"), f"  {entry['title']}"), soft_wrap=False)
    for what in ("task", "needs", "licence", "lineage"):
        told = entry[what] or {"task": "as the data say", "needs": "nothing", "lineage": ""}.get(what, "-")
        if told:
            lines = textwrap.wrap(told, max(width - 12, 20))
            for number, line in enumerate(lines):
                print(f"  {what if number == 0 else '':<10}{line}")
    print()


def _print_check(found: "Check", limit: int) -> None:
    from genmed.cli.output import print_table
    from genmed.cli.results import print_pairs
    from genmed.parts.data.records import SPLITS

    sides = [(side, *found.describe_side(side)) for side in SPLITS]
    rows = [[side, f"{images:,}", "-" if patients is None else f"{patients:,}"] for side, images, patients in sides]
    print_table(["side", "images", "patients"], rows, numbers=["images", "patients"])
    rows = [
        [
            entry.name,
            "-" if entry.total.prevalence is None else f"{100 * entry.total.prevalence:.1f}%",
            _show_share(entry.total),
            f"{entry.total.unknown:,}",
            *(_show_share(entry.by_side[side]) for side in SPLITS),
        ]
        for entry in found.classes
    ]
    columns = ["prevalence", "positive/labelled", "unknown", *SPLITS]
    print_table(["class", *columns], rows, numbers=columns)
    if len(found.sites) > 1:
        print_table(["site", "images"], [[name, f"{count:,}"] for name, count in found.sites.items()], ["images"])
    _print_groups("equal images", found.equal, limit)
    _print_groups("near images", found.near, limit)
    if found.broken:
        rows = [[name, reason] for name, reason in list(found.broken.items())[: limit or 0]]
        print_table(["broken image", "reason"], [*rows, *_say_more(len(found.broken), limit, 2)])
    pairs = [
        ("dataset", f"{found.facts.name}: {found.facts.title}"),
        *([("folder", found.root)] if found.root else []),
        ("images", f"{len(found.records):,}"),
        ("patients", "nobody knows them" if found.patients is None else f"{found.patients:,}"),
        *([("studies", f"{found.studies:,}")] if found.studies is not None else []),
        *([("site", next(iter(found.sites)))] if len(found.sites) == 1 else []),
        ("split", found.sides.source),
        *_describe_pixels(found),
        ("equal images", _describe_groups(found.equal)),
        ("near images", _describe_groups(found.near)),
        ("broken images", f"{len(found.broken):,}"),
        *((f"official {count.what}", f"{count.official:,}, here {count.found:,}") for count in found.counts),
        *([("lineage", found.facts.lineage)] if found.facts.lineage else []),
        ("licence", found.facts.licence or "-"),
        ("citation", found.facts.citation or "-"),
        *(("note", note) for note in found.notes),
        *(("problem", problem) for problem in found.problems),
        ("problems", str(len(found.problems))),
    ]
    print_pairs(pairs)


def _describe_pixels(found: "Check") -> list[tuple[str, str]]:
    """Sizes, depths, colours, formats."""
    pairs = []
    if found.sizes:
        by_area = sorted(found.sizes, key=lambda size: (size.width * size.height, size.width))
        named = {"smallest": by_area[0], "most frequent": found.sizes[0], "largest": by_area[-1]}
        told = [f"{what} {size.width} x {size.height} ({size.images:,})" for what, size in named.items()]
        only = f"all {by_area[0].width} x {by_area[0].height}"
        pairs.append(("sizes", only if len(by_area) == 1 else f"{len(by_area):,} different: {', '.join(told)}"))
    for depth in found.depths:
        greatest = "" if depth.greatest is None else f", the greatest value is {depth.greatest}"
        kind = " of DICOM" if depth.dicom else ""
        pairs.append(("depth", f"{depth.bits} bits{kind}: {depth.images:,} images{greatest}"))
    pairs.append(("in colour", f"{found.colour:,}"))
    if any(depth.dicom for depth in found.depths):
        pairs.append(("MONOCHROME1", f"{found.monochrome1:,} (white is 0; they are turned)"))
    if found.formats:
        pairs.append(("formats", ", ".join(f"{suffix} {count:,}" for suffix, count in found.formats.items())))
    return pairs


def _print_groups(title: str, groups: "list[Group]", limit: int) -> None:
    """The leaks first."""
    from genmed.cli.output import print_table

    if not groups:
        return
    first = sorted(groups, key=lambda group: not group.across_sides)[:limit]
    rows = [
        [
            _show_names(group.images),
            "-" if group.across_patients is None else "several" if group.across_patients else "one",
            " ".join(group.sides),
            "contradict" if group.labels_differ else "agree",
        ]
        for group in first
    ]
    print_table([title, "patients", "sides", "labels"], [*rows, *_say_more(len(groups), limit, 4)])


def _describe_groups(groups: "list[Group]") -> str:
    if not groups:
        return "none"
    counted = {
        "within one patient": sum(group.across_patients is False for group in groups),
        "across patients": sum(group.across_patients is True for group in groups),
        "across sides": sum(group.across_sides for group in groups),
        "with other labels": sum(group.labels_differ for group in groups),
    }
    told = ", ".join(f"{count:,} {what}" for what, count in counted.items() if count)
    many = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    return f"{many}, {sum(len(group.images) for group in groups):,} images{': ' if told else ''}{told}"


def _print_cache(state: "CacheState") -> None:
    from datetime import datetime

    from genmed.cli.output import print_table, show_truth
    from genmed.cli.results import print_pairs
    from genmed.workflows.inspection.image_cache import show_size

    rows = [
        [
            stored.folder.name,
            show_size(stored.size),
            f"{datetime.fromtimestamp(stored.used).astimezone():%Y-%m-%d %H:%M}",
            show_truth(used),
        ]
        for stored, used in state.entries
    ]
    if rows:
        print_table(["entry", "size", "last used", "in use"], rows, numbers=["size"])
    print_pairs(
        [
            ("folder", str(state.folder)),
            ("entries", str(len(rows))),
            ("total", show_size(state.size)),
            ("limit", "none" if state.limit is None else show_size(state.limit)),
            *(("removed", f"{stored.folder.name}, {show_size(stored.size)}") for stored in state.removed),
        ]
    )


def _show_share(count: "LabelCount") -> str:
    """`12/90`: so many have it, of those that are labelled."""
    return f"{count.positives:,}/{count.positives + count.negatives:,}"


def _show_names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return " ".join(names[:4]) + more


def _say_more(count: int, limit: int, columns: int) -> list[list[str]]:
    return [[f"and {count - limit} more", *[""] * (columns - 1)]] if count > limit else []
