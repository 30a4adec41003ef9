"""The command line put together: arguments in, one screen, one JSON object or one table out. No arithmetic.

A new command is a function in a file of this folder and a line in ``COMMANDS``; ``options.py`` and ``output.py`` hold what it shares.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from infersim._version import __version__
from infersim.cli import command, options
from infersim.cli.bench import bench
from infersim.cli.calibrate import calibrate
from infersim.cli.calibrations import calibrations
from infersim.cli.compare import compare
from infersim.cli.cost import cost
from infersim.cli.diff import diff
from infersim.cli.estimate import estimate
from infersim.cli.exits import ExitCode, epilog
from infersim.cli.hardware import hardware
from infersim.cli.init import init
from infersim.cli.launch import launch
from infersim.cli.models import models
from infersim.cli.output import Manner, manner, utf8_where_piped
from infersim.cli.plan import plan
from infersim.cli.prices import prices
from infersim.cli.report import report
from infersim.cli.run import run
from infersim.cli.schema import schema
from infersim.cli.simulate import simulate
from infersim.cli.size import size
from infersim.cli.sweep import sweep
from infersim.cli.validate import validate
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError

COMMANDS = {
    "Predict": (estimate, simulate),
    "Decide": (plan, compare, cost, size),
    "Work from a file": (init, run, sweep, diff, schema),
    "Hand over": (launch, report),
    "On file": (models, hardware, prices, calibrations),
    "Measure": (bench, calibrate, validate),
}
"""Every command, under the heading of ``infersim --help`` that lists it."""

app = typer.Typer(
    name="infersim",
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


for _panel, _functions in COMMANDS.items():
    for _function in _functions:
        command.add(app, _function, panel=_panel)


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
    except (DoesNotFitError, NoPlanError) as error:
        code = _complain(str(error), ExitCode.MISSED)
    except InferSimError as error:
        code = _complain(str(error), ExitCode.BAD_INPUT)
    except KeyboardInterrupt as stopped:
        code = _complain("; ".join(["interrupted", *getattr(stopped, "__notes__", ())]), ExitCode.INTERRUPTED)
    except BrokenPipeError:
        command.silence()
        code = ExitCode.ANSWERED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error, of whichever click typer brings
            error.message = _with_given(error, given)  # type: ignore[attr-defined]
            error.show()
            code = error.exit_code
        elif type(error).__name__ == "Abort":
            code = _complain("interrupted", ExitCode.INTERRUPTED)
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
    typer.echo(f"error: {message}", err=True)
    return code
