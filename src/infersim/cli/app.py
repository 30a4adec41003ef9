"""The command line put together: arguments in, one screen, one JSON object or one table out. No arithmetic.

A new command is a file of this folder with a function of its name, and that name in ``COMMANDS``; ``options.py`` and ``output.py``
hold what it shares.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from infersim._version import __version__
from infersim.cli import command, options
from infersim.cli.exits import ExitCode, epilog
from infersim.cli.output import Manner, manner, utf8_where_piped
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError

COMMANDS = {
    "Predict": ("estimate", "simulate"),
    "Decide": ("plan", "compare", "cost", "size", "decide"),
    "Work from a file": ("init", "run", "sweep", "diff", "schema"),
    "Hand over": ("launch", "report"),
    "On file": ("models", "hardware", "prices", "calibrations"),
    "Measure": ("bench", "calibrate", "validate"),
    "This installation": ("doctor",),
}
"""Every command under its heading in ``infersim --help``: a file of this folder with a function of the same name."""

PANELS = {name: panel for panel, names in COMMANDS.items() for name in names}


class Commands(TyperGroup):
    """Commands that are imported and built when they are asked for: one is started as fast with twenty beside it as alone."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every name, in the order of ``COMMANDS``."""
        return list(PANELS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; where there is none, all are built, so that the error can offer the nearest."""
        for name in (cmd_name,) if cmd_name in PANELS else PANELS:
            if name not in self.commands:
                self.commands[name] = command.build(name, PANELS[name])
        return self.commands.get(cmd_name)


app = typer.Typer(
    name="infersim",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict LLM inference before you rent or buy a GPU: latency, memory, throughput and cost, with what bounds each.",
    epilog=epilog(),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infersim {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    specs: options.SpecFolder = None,
    price_files: options.PriceFiles = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    command.apply(specs, price_files, quiet, verbose, color)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and exit with its code; every error is one sentence on standard error."""
    given = sys.argv[1:] if arguments is None else arguments
    vars(manner).update(
        vars(Manner(color=False if "--no-color" in given else None))
    )  # usage errors are printed before it is read
    utf8_where_piped()
    code: Any
    try:
        code = app(given, standalone_mode=False, prog_name="infersim")
        sys.stdout.flush()
        if code == ExitCode.INTERRUPTED and not manner.running:  # while arguments were read
            raise KeyboardInterrupt
    except (DoesNotFitError, NoPlanError) as error:
        code = _complain(str(error), ExitCode.MISSED)
    except InferSimError as error:
        code = _complain(str(error), ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        command.silence()
        code = ExitCode.ANSWERED
    except SystemExit as stopped:  # completion, and rich and typer on a closed pipe
        closed = isinstance(stopped.__context__, BrokenPipeError)
        code = ExitCode.ANSWERED if closed else stopped.code
        if closed:
            command.silence()
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error, of whichever click typer brings
            error.message = _with_given(error, given)  # type: ignore[attr-defined]
            error.show()
            code = error.exit_code
        elif type(error).__name__ == "Abort":
            typer.echo("interrupted", err=True)
            code = ExitCode.INTERRUPTED
        elif isinstance(error, OSError):
            code = _complain(str(error), ExitCode.BAD_INPUT)
        else:
            raise
    sys.exit(int(code) if isinstance(code, int) else ExitCode.ANSWERED.value)


def _with_given(error: Any, arguments: list[str]) -> str:
    """A usage error's message with the value that was given, which typer leaves out."""
    message = str(getattr(error, "message", ""))
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in arguments[:-1]:
            given = arguments[arguments.index(option) + 1]
            return message if repr(given) in message else f"{message}, got {given!r}"
    return message


def _complain(message: str, code: ExitCode) -> ExitCode:
    with contextlib.suppress(OSError):  # nobody there to tell
        typer.echo(f"error: {message}", err=True)
    return code
