"""What can go wrong, said in a kind sentence.

::

    InferSimError                 catch this one to catch them all
    |-- UnitError                 "3350" where "3.35 TB/s" was meant
    |-- SpecError                 a file or a field is wrong: names file, field, what was given, what would be right
    |   `-- UnknownNameError      a name no spec has: offers the nearest ones
    |-- UnsupportedError          well formed, but this model, format or GPU cannot do it: names what can
    |-- DoesNotFitError           the deployment needs more memory than the devices have: says how much and what would fit
    `-- NoPlanError               no deployment does what is asked: says the nearest change with which one would
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class InferSimError(Exception):
    """Base of every error infersim raises on purpose; the message is meant for the user.

    >>> issubclass(SpecError, InferSimError) and issubclass(DoesNotFitError, InferSimError)
    True
    """


class UnitError(InferSimError, ValueError):
    """A quantity without a unit, with the wrong unit, or not finite."""


class SpecError(InferSimError, ValueError):
    """A spec that cannot be used. ``file`` and ``field`` say where, when they are known.

    >>> str(SpecError("must be positive, got -1", field="num_hidden_layers", file="config.json"))
    'config.json: num_hidden_layers: must be positive, got -1'
    """

    def __init__(self, message: str, *, field: str | None = None, file: str | Path | None = None) -> None:
        self.message, self.field, self.file = message, field, file
        super().__init__(": ".join(str(part) for part in (file, field, message) if part))


class UnknownNameError(SpecError):
    """A name that no spec has; the message offers the nearest ones."""


class UnsupportedError(InferSimError):
    """A well-formed question that this model, number format or device cannot answer."""


class DoesNotFitError(InferSimError):
    """More memory is needed than there is. ``shortfall`` is in bytes per device.

    >>> DoesNotFitError("short by 2 GiB", shortfall=2**31).shortfall
    2147483648
    """

    def __init__(self, message: str, *, shortfall: float) -> None:
        self.shortfall = shortfall
        super().__init__(message)


class NoPlanError(InferSimError):
    """No deployment does what is asked: says the nearest change with which one would."""


def nearest(given: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """The known names closest to ``given``, ignoring case, best first.

    >>> nearest("h100-sxn", ["H100-SXM", "H200-SXM", "MI300X"])
    ['H100-SXM', 'H200-SXM']
    >>> nearest("llama-3.1-8b", ["meta-llama/Llama-3.1-8B", "gpt2"])
    ['meta-llama/Llama-3.1-8B']
    """
    import difflib

    by_key: dict[str, str] = {}
    for name in known:
        by_key.setdefault(name.lower(), name)
        by_key.setdefault(name.lower().rsplit("/", 1)[-1], name)
    keys = difflib.get_close_matches(given.lower(), by_key, n=count + 2, cutoff=0.6)
    keys += [key for key in by_key if given and given.lower() in key and key not in keys]
    return list(dict.fromkeys(by_key[key] for key in keys))[:count]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence that ends an error: the nearest names, or all of them where there are few.

    >>> did_you_mean("fp9", ["fp8", "bf16"])
    "did you mean 'fp8'?"
    >>> did_you_mean("zzz", ["fp8", "bf16"])
    'known: bf16, fp8'
    """
    known = list(known)
    close = nearest(given, known)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "known: " + ", ".join(sorted(known)[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
