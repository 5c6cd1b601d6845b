"""genmed data: list, check, show, cache"""

import typer

from genmed.cli.data import cache, check, listing, show

MORE = {"allow_extra_args": True}
"""What stands beside the one folder is refused with a hint of our own."""
app = typer.Typer(
    help="Name the datasets, check one, look at its images, mind the image cache.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list")(listing.command)
app.command("check", context_settings=MORE)(check.command)
app.command("show", context_settings=MORE)(show.command)
app.command("cache")(cache.command)
