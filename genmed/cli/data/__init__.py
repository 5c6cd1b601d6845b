"""genmed data: list, check, show, cache"""

import typer

from genmed.cli.data import cache, check, listing, show

app = typer.Typer(
    help="Name the datasets, check one, look at its images, mind the image cache.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(listing.command)
app.command("check")(check.command)
app.command("show")(show.command)
app.command("cache")(cache.command)
