"""Read ``"3.35 TB/s"`` into SI and show SI to a person. Nothing else in infersim knows a prefix.

Inside the house every number is plain SI: seconds, bytes, FLOP, watts, hertz, joules. GB is 1e9 and GiB is 2**30;
a multiply-add is two FLOP; TOPS and TFLOPS are read as FLOP/s. Money is USD, and a rate of money stays per hour
(``USD/h``), as every price list has it.
"""

from __future__ import annotations

import math
import re

from infersim.errors import UnitError

DECIMAL = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3,
           "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}  # fmt: skip
BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}

_BIG = {prefix: DECIMAL[prefix] for prefix in ("", "k", "K", "M", "G", "T", "P", "E")}
_SMALL = {prefix: DECIMAL[prefix] for prefix in ("", "n", "u", "µ", "m")}


def _spell(names: tuple[str, ...], prefixes: dict[str, float], scale: float = 1.0) -> dict[str, float]:
    return {prefix + name: factor * scale for name in names for prefix, factor in prefixes.items()}


UNITS: dict[str, dict[str, float]] = {
    "B": _spell(("B",), _BIG | BINARY),
    "B/s": _spell(("B/s", "Bps"), _BIG | BINARY),
    "FLOP": _spell(("FLOP", "OP"), _BIG),
    "FLOP/s": _spell(("FLOP/s", "FLOPS", "FLOPs", "OP/s", "OPS"), _BIG),
    "s": _spell(("s",), _SMALL) | {"min": 60.0, "h": 3600.0, "d": 86400.0},
    "W": _spell(("W",), DECIMAL),
    "Hz": _spell(("Hz",), _BIG),
    "J": _spell(("J",), DECIMAL) | {"Wh": 3600.0, "kWh": 3.6e6, "MWh": 3.6e9},
    "kg": {"kg": 1.0, "g": 1e-3, "t": 1e3},
    "/s": {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600, "req/s": 1.0, "Hz": 1.0},
    "USD": _spell(("USD",), {"": 1.0, "k": 1e3, "M": 1e6}) | {"$": 1.0},
    "USD/h": {"USD/h": 1.0, "$/h": 1.0, "USD/GPU/h": 1.0},
}
"""Accepted spellings by SI unit: spelling -> factor to SI."""

EXAMPLES = {"B": "80 GB", "B/s": "450 GB/s", "FLOP": "2 TFLOP", "FLOP/s": "989 TFLOP/s", "s": "40 ms", "W": "700 W",
            "Hz": "1.83 GHz", "J": "0.5 J", "kg": "150 kg", "/s": "6 /s", "USD": "30 kUSD", "USD/h": "2.50 USD/h"}  # fmt: skip

_QUANTITY = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*")


def parse(text: str, unit: str) -> float:
    """The value of ``text`` in SI ``unit``; both a number and its unit must be written.

    Raises UnitError that says what was given and shows a right example.

    >>> parse("3.35 TB/s", "B/s")
    3350000000000.0
    >>> parse("80 GiB", "B") == 80 * 2**30
    True
    >>> parse("40ms", "s")
    0.04
    >>> parse("3350", "B/s")
    Traceback (most recent call last):
    infersim.errors.UnitError: '3350' is not a quantity in B/s; write for example '450 GB/s'
    """
    spellings = UNITS[unit]
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in spellings:
        raise UnitError(f"{text!r} is not a quantity in {unit}; write for example {EXAMPLES[unit]!r}")
    value = float(match[1].replace("_", "")) * spellings[match[2]]
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is too large to be a quantity in {unit}")
    return value


_LADDERS = {
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")],
    "B binary": [(2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")],
}


def show(value: float, unit: str, *, digits: int = 3, binary: bool = False) -> str:
    """``value`` in SI as a person writes it, with ``digits`` significant digits; ``parse`` reads it back.

    >>> show(3.35e12, "B/s"), show(0.00456, "s"), show(80 * 2**30, "B", binary=True), show(0, "B")
    ('3.35 TB/s', '4.56 ms', '80 GiB', '0 B')
    >>> show(2**30, "B", binary=True)
    '1 GiB'
    """
    value = float(value)
    if not math.isfinite(value):
        raise UnitError(f"{value} cannot be shown as a quantity in {unit}")
    if unit in ("USD", "USD/h", "/s", "kg"):
        return f"{_rounded(value, digits)} {unit}"
    if unit == "s":
        ladder = _LADDERS["s"]
    elif unit == "B" and binary:
        ladder = _LADDERS["B binary"]
    else:
        prefixes = ["E", "P", "T", "G", "M", "k", ""] + (["m", "u", "n"] if unit in ("W", "J") else [])
        ladder = [(DECIMAL[prefix], prefix + unit) for prefix in prefixes]
    base = next((step for step in ladder if step[1] == unit), ladder[-1])
    factor, name = (
        base
        if value == 0
        else next((step for step in ladder if float(f"{abs(value) / step[0]:.{digits}g}") >= 1), ladder[-1])
    )
    return f"{_rounded(value / factor, digits)} {name}"


def _rounded(value: float, digits: int) -> str:
    """``value`` to significant digits without exponent or trailing zeros.

    >>> _rounded(1234.5, 3), _rounded(0.00012345, 3), _rounded(2.50, 3)
    ('1234', '0.000123', '2.5')
    """
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
