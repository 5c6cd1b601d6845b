"""genmed report"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genmed.cli.options import DataRoot, Debug, Json, Root, complete_run, root_folder
from genmed.ground.errors import RequestError

if TYPE_CHECKING:
    from genmed.records.run_folder import RunFolder


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Name, id, any unique prefix of either, latest, or latest~1; several are compared.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of several runs: where to write; report.html here unless given. Never overwrites.",
            show_default=False,
        ),
    ] = None,
    plots: Annotated[
        bool,
        typer.Option("--plots", help="Of several runs: also PNG and SVG for a paper, into FILE-plots beside the page."),
    ] = False,
    data_root: DataRoot = None,
    root: Root = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a finished run's page, report.html, and its plots for a paper; or a page that compares several."""
    from genmed.workflows.overview import find_run

    folders = [find_run(run, root_folder(root)) for run in runs]
    if len(folders) == 1:
        if out is not None:
            raise RequestError("--out is for several runs; one run's report lies in its folder", "leave it out")
        written = _report_run(folders[0], data_root)
    else:
        from genmed.workflows.report.comparison import write_comparison

        if data_root is not None:
            raise RequestError("--data-root is for one run; a comparison reads no data", "leave it out")
        written = write_comparison(folders, out or Path("report.html"), plots=plots)
    _tell([folder.name for folder in folders], written, json)


def _report_run(folder: "RunFolder", data_root: Path | None) -> list[Path]:
    from genmed.cli.screen import open_screen
    from genmed.ground.interpreter import restart
    from genmed.workflows.configure import interpreter_variables
    from genmed.workflows.finished import check_complete
    from genmed.workflows.identity import read_config

    document = folder.read()
    check_complete(document)
    restart(interpreter_variables(read_config(folder, document)))

    from genmed.workflows.report.pictures import LoadedPictures
    from genmed.workflows.report.run import write_plots, write_report

    with open_screen() as screen:
        page = write_report(folder, LoadedPictures(folder, screen, data_root))
    return [page, *write_plots(folder)]


def _tell(names: list[str], written: list[Path], as_json: bool) -> None:
    from genmed.cli.output import print_json
    from genmed.cli.results import print_pairs

    page, plots = written[0], written[1:]
    if as_json:
        print_json({"schema": 1, "runs": names, "report": str(page), "plots": [str(path) for path in plots]})
        return
    folder = [("plots", f"{plots[0].parent}: {', '.join(sorted({path.stem for path in plots}))}")] if plots else []
    print_pairs([("report", str(page)), *folder])
