"""The Typer application, and the one place where errors become a line and an exit code."""

import io
import os
import signal
import sys
import traceback
from functools import cache
from types import FrameType
from typing import Any

import typer

from genmed.cli import (
    card,
    compare,
    data,
    env,
    evaluate,
    export,
    marks,
    predict,
    registry,
    remove,
    report,
    resume,
    runs,
    show,
    study,
    train,
    verify,
)
from genmed.cli.completion import words_whole
from genmed.cli.output import knows_all_letters, print_json, print_line
from genmed.ground.errors import GenmedError, Interrupted
from genmed.ground.team import TeamError, TookPart, speaks

app = typer.Typer(
    name="genmed",
    help="Reproducible training for medical imaging: train, resume and verify a classifier to the bit.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.command)
app.command("resume")(resume.command)
app.command("verify")(verify.command)
app.command("compare")(compare.command)
app.command("evaluate")(evaluate.command)
app.command("report")(report.command)
app.command("card")(card.command)
app.command("predict")(predict.command)
app.command("export")(export.command)
app.command("list")(runs.command)
app.command("tag")(marks.tag)
app.command("note")(marks.note)
app.command("rm")(remove.command)
app.command("show")(show.command)
app.command("env")(env.command)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(registry.app, name="registry")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from genmed import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command of this process's arguments and ends it with the documented exit code."""
    # While nothing is under way; a training hears them itself. Behind `&` in a script a process begins deaf to SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)
    sys.exit(run(sys.argv[1:] or ["--help"]))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@cache
def build() -> Any:
    """All commands with their options; it takes 15 ms."""
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; all messages are printed."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    if not knows_all_letters(sys.stdout) and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of a run or a class ends no command
    try:
        with words_whole():
            code = build().main(arguments, prog_name="genmed", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # how Typer hands on a KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except TookPart as done:
        return done.exit_code
    except GenmedError as error:
        if debug:
            traceback.print_exc()
        if not speaks() and isinstance(error, (TeamError, Interrupted)):  # of which another process tells
            return error.exit_code
        return _report(error.kind, error.message, error.hint, error.exit_code, as_json)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f"see `{context.command_path if context else 'genmed'} --help`"
        return _report("UsageError", error.format_message(), hint, 2, as_json)
    except (typer.Abort, KeyboardInterrupt):
        return _report("Interrupted", "before anything was begun", "", 130, as_json)
    except (BrokenPipeError, SystemExit):  # the reader of our output went away, as `head` does; Typer exits then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # no mistake of the user's but a fault, so where it happened is shown
        traceback.print_exc()
        return _report(type(error).__name__, f"{type(error).__name__}: {error}", "unforeseen", 1, as_json)


def _report(kind: str, message: str, hint: str, code: int, as_json: bool) -> int:
    line = " ".join(message.split())
    if not speaks():
        print_line(f"error in rank {os.environ['RANK']}: {line}" + (f" ({hint})" if hint else ""))
    elif as_json:
        print_json({"schema": 1, "error": {"kind": kind, "message": line, "hint": hint}})
    else:
        print_line(f"{'interrupted' if code == 130 else 'error'}: {line}" + (f" ({hint})" if hint else ""))
    return code
