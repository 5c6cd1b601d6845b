"""genmed study: begin one, resume, show, list"""

import typer

from genmed.cli.study import listing, resume, show, start

app = typer.Typer(
    help=start.HELP, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
app.callback()(start.command)
app.command("resume")(resume.command)
app.command("show")(show.command)
app.command("list")(listing.command)
