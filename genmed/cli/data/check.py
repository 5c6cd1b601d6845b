"""genmed data check"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.data.options import DataPath, Dataset, OnBadImage, Settings
from genmed.cli.options import Debug, Json
from genmed.ground.wording import say_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genmed.workflows.inspection.groups import Group
    from genmed.workflows.inspection.report import Check


def command(
    context: typer.Context,
    path: DataPath = None,
    dataset: Dataset = None,
    on_bad_image: OnBadImage = None,
    settings: Settings = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="So many groups of equal images, and broken ones, are named.")
    ] = 10,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE.csv",
            help="Write all broken images and all groups of equal and near ones there; none is overwritten.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read every image of a dataset and say what is in it: exit code 1 where a training should not begin."""
    from genmed.cli.output import print_json
    from genmed.cli.screen import open_screen
    from genmed.workflows.inspection.choosing import choose_data, own_words
    from genmed.workflows.places import check_place

    if csv:
        check_place(csv, "--csv", ".csv")

    config = choose_data(
        path, {"data.dataset": dataset, "data.on_bad_image": on_bad_image}, settings or (), context.args
    )
    with own_words(), open_screen() as screen:
        from genmed.workflows.inspection.check import check_data

        found = check_data(config, screen)
        if csv:
            from genmed.workflows.inspection.findings import write_findings

            write_findings(found, csv)
    print_json(found.to_json()) if json else _print_check(found, limit, csv)
    raise typer.Exit(found.exit_code)


def _print_check(found: "Check", limit: int, csv: Path | None) -> None:
    """What it is, then the tables, then what to think of it."""
    from genmed.cli.results import print_pairs

    print_pairs(_describe_dataset(found))
    _print_sides_and_classes(found)
    _print_groups("equal images", found.equal, limit)
    _print_groups("near images", found.near, limit)
    _print_broken(found.broken, limit)
    print_pairs(
        [
            ("equal images", _describe_groups(found.equal)),
            ("near images", _describe_groups(found.near)),
            ("broken images", f"{len(found.broken):,}"),
            *([("all of them", str(csv))] if csv else []),
            *(("note", note) for note in found.notes),
            *(("problem", problem) for problem in found.problems),
            ("problems", str(len(found.problems))),
        ]
    )


def _describe_dataset(found: "Check") -> list[tuple[str, str]]:
    facts = found.facts
    known = {"lineage": facts.lineage, "licence": facts.licence, "citation": facts.citation}
    return [
        ("dataset", f"{facts.name}: {facts.title}"),
        *([("folder", found.root)] if found.root else []),
        ("task", found.records.task),
        ("images", f"{len(found.records):,}"),
        ("patients", "nobody knows them" if found.patients is None else f"{found.patients:,}"),
        *([("studies", f"{found.studies:,}")] if found.studies is not None else []),
        *([("site", next(iter(found.sites)))] if len(found.sites) == 1 else []),
        *((f"official {count.what}", f"{count.official:,}, here {count.found:,}") for count in found.counts),
        ("split", found.sides.source),
        *_describe_pixels(found),
        *((what, told) for what, told in known.items() if told),
    ]


def _print_sides_and_classes(found: "Check") -> None:
    from genmed.cli.output import print_table
    from genmed.parts.data.records import SPLITS

    sides = [(side, *found.describe_side(side)) for side in SPLITS]
    rows = [[side, f"{images:,}", "-" if patients is None else f"{patients:,}"] for side, images, patients in sides]
    print_table(["side", "images", "patients"], rows, numbers=["images", "patients"])
    rows = [
        [
            entry.name,
            "-" if entry.total.prevalence is None else f"{100 * entry.total.prevalence:.1f}%",
            f"{entry.total.positives:,}/{entry.total.positives + entry.total.negatives:,}",
            f"{entry.total.unknown:,}",
            *(f"{entry.by_side[side].positives:,}" for side in SPLITS),
        ]
        for entry in found.classes
    ]
    columns = ["prevalence", "positive/known", "unknown", *SPLITS]
    print_table(["class", *columns], rows, numbers=columns)
    if len(found.sites) > 1:
        print_table(["site", "images"], [[name, f"{count:,}"] for name, count in found.sites.items()], ["images"])


def _print_broken(broken: "Mapping[str, str]", limit: int) -> None:
    from genmed.cli.output import print_table

    if broken:
        rows = [[name, _without_name(reason, name)] for name, reason in list(broken.items())[:limit]]
        print_table(["broken image", "reason"], [*rows, *_say_more(len(broken), limit, 2)])


def _without_name(reason: str, name: str) -> str:
    """`is empty (0 bytes)` of `/data/a.png is empty (0 bytes)`: the name stands beside it."""
    before, there, after = reason.partition(f"{name} ")
    return after if there and before.startswith("/") else reason


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
        pairs.append(("depth", f"{depth.bits} bits{kind}: {say_count(depth.images, 'image')}{greatest}"))
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
    images = sum(len(group.images) for group in groups)
    return f"{say_count(len(groups), 'group')}, {images:,} images{': ' if told else ''}{told}"


def _show_names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _say_more(count: int, limit: int, columns: int) -> list[list[str]]:
    return [[f"and {count - limit} more", *[""] * (columns - 1)]] if count > limit else []
