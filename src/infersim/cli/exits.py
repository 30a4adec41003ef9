"""How commands end: the exit codes, in one place."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script learns from a command's end."""

    ANSWERED = 0
    MISSED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130


MEANING = {
    ExitCode.ANSWERED: "answered",
    ExitCode.MISSED: "answered: it does not fit, or misses its target or an expectation; doctor: something is broken",
    ExitCode.BAD_INPUT: "bad input",
    ExitCode.INTERRUPTED: "interrupted",
}


def epilog() -> str:
    """The codes as ``infersim --help`` ends with them."""
    return "Exit codes: " + "; ".join(f"{code:d} {said}" for code, said in MEANING.items()) + "."
