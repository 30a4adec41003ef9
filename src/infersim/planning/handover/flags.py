"""Which flag, switch or configuration key of an engine carries a setting, by version and with its source."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infersim.errors import SpecError, did_you_mean
from infersim.specs.library import find, read_yaml, validate
from infersim.specs.quantity import Source, Spec

FlagName = Annotated[str, Field(pattern=r"^--[a-z][a-z0-9_-]*$")]


class Way(Spec):
    """One way to state a setting: a ``flag`` with its value, a switch for true (``enable``) or false (``disable``), or a ``key`` of the
    engine's configuration file, dotted where it is nested."""

    flag: FlagName | None = None
    enable: FlagName | None = None
    disable: FlagName | None = None
    key: Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)*$")] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Way:
        if sum(bool(part) for part in (self.flag, self.enable or self.disable, self.key)) != 1:
            raise ValueError("a setting is carried by a flag, by switches, or by a key: state one")
        return self


class FlagTable(Spec):
    """An engine's command line as of a version."""

    engine: Literal["vllm", "sglang", "trtllm"]
    version: str
    command: tuple[str, ...]
    model_flag: FlagName | None = None
    """None: the model is the first word after the command."""
    host_flag: FlagName | None = None
    port_flag: FlagName | None = None
    config_flag: FlagName | None = None
    image: str
    port: int
    health: str
    flags: dict[str, Way]
    sources: tuple[Source, ...]

    def way(self, setting: str) -> Way:
        """How a setting is stated; SpecError where the engine has no way."""
        found = self.flags.get(setting)
        if found is None:
            raise SpecError(
                f"{self.engine} {self.version} takes no {setting!r}; {did_you_mean(setting, self.flags)}", field=setting
            )
        return found

    def words(self) -> set[str]:
        """Every flag and switch in the table."""
        own = {self.model_flag, self.host_flag, self.port_flag, self.config_flag}
        stated = {word for way in self.flags.values() for word in (way.flag, way.enable, way.disable)}
        return {word for word in own | stated if word is not None}


@functools.lru_cache(maxsize=8)
def load_flags(engine: str) -> FlagTable:
    """The table of an engine.

    >>> load_flags("vllm").way("tensor_parallel").flag
    '--tensor-parallel-size'
    """
    path = find("launch", engine)
    return validate(FlagTable, read_yaml(path), file=path)


def rendered(table: FlagTable, settings: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """(words of the command line, nested values of the configuration file) for settings in order; None leaves one out.

    >>> rendered(load_flags("sglang"), {"ranks": 4, "enable_prefix_caching": False, "mixed_batches": None})
    (['--tensor-parallel-size', '4', '--disable-radix-cache'], {})
    >>> rendered(load_flags("trtllm"), {"enable_prefix_caching": True})
    ([], {'kv_cache_config': {'enable_block_reuse': True}})
    """
    words: list[str] = []
    config: dict[str, Any] = {}
    for setting, value in settings.items():
        if value is None:
            continue
        way = table.way(setting)
        if way.flag is not None:
            words += [way.flag, f"{value:g}" if isinstance(value, float) else str(value)]
        elif way.key is not None:
            *above, last = way.key.split(".")
            holder = config
            for name in above:
                holder = holder.setdefault(name, {})
            holder[last] = value
        else:
            switch = way.enable if value else way.disable
            words += [switch] if switch else []
    return words, config
