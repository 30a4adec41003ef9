"""Options that commands share, declared once: same meaning, same name, help, panel and default.

A command takes what it needs as annotations, with the default beside it::

    def estimate(model: Model, gpu: Gpu, tp: Tp = 1, input_tokens: InputTokens = 1024, as_json: AsJson = False) -> None:

``option(help, panel, *names)`` declares what only one command has. -q, -v, --color, --specs and --prices come to every command
by itself (``infersim.cli.command``), before and after its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from infersim.cli import complete
from infersim.errors import SpecError

DEPLOYMENT, ENGINE, LOAD, SEARCH, MONEY, OUTPUT = "Deployment", "Engine", "Load", "Search", "Money", "Output"
SCHEDULER, DOUBT, FLEET, SITE = "Scheduler", "Doubt", "Fleet", "Site"
GENERAL = "Any command"
"""Panels of help texts."""


def option(
    help: str,  # noqa: A002 - typer's own word
    panel: str | None,
    *names: str,
    values: Callable[..., list[str]] | None = None,
    minimum: float | None = None,
    shown: str | None = None,
) -> Any:
    """A typer option of a panel; without names it takes those of its parameter.

    ``values`` completes what is typed; ``shown`` stands in help where the type says too little.
    """
    return typer.Option(*names, help=help, rich_help_panel=panel, autocompletion=values, min=minimum, metavar=shown)


class Mode(StrEnum):
    """How times are predicted."""

    calibrated = "calibrated"
    bound = "bound"


# What runs on what
Model = Annotated[
    str,
    typer.Argument(
        help="Bundled name, Hugging Face id in the local cache, folder, or config.json.",
        autocompletion=complete.names_of("models"),
    ),
]
_accelerators = complete.names_of("accelerators")
Gpu = Annotated[str, option("Accelerator, or a YAML file of one.", None, "--gpu", "-g", values=_accelerators)]
GpuOrChoice = Annotated[
    str, option("Accelerator; several by commas where --plan chooses.", None, "--gpu", "-g", values=_accelerators)
]
_SEVERAL = "Accelerators; repeat or separate by commas for several."
Gpus = Annotated[list[str], option(_SEVERAL, None, "--gpu", "-g", values=_accelerators)]
MaybeGpus = Annotated[list[str] | None, option(_SEVERAL, None, "--gpu", "-g", values=_accelerators)]
Tp = Annotated[int, option("Tensor parallel degree.", DEPLOYMENT, "--tp")]
Pp = Annotated[int, option("Pipeline stages.", DEPLOYMENT, "--pp")]
AttentionDp = Annotated[int, option("Attention data parallel degree.", DEPLOYMENT, "--attention-dp")]
Ep = Annotated[int, option("Expert parallel degree.", DEPLOYMENT, "--ep")]
Cp = Annotated[int, option("Context parallel degree.", DEPLOYMENT, "--cp")]
Replicas = Annotated[int, option("Copies behind a router.", DEPLOYMENT, "--replicas", "--dp")]
Precision = Annotated[
    str | None,
    option("bf16, fp8, fp8_block, int8, w4a16, nvfp4 ... Default: the checkpoint's.", DEPLOYMENT, "--precision",
           values=complete.precisions),
]  # fmt: skip
KvCache = Annotated[
    str | None,
    option("Format of the KV cache: bf16, fp8, int8 ...", DEPLOYMENT, "--kv-cache", values=complete.cache_formats),
]
Engine = Annotated[
    str, option("vllm, sglang, trtllm or tgi.", DEPLOYMENT, "--engine", values=complete.names_of("engines"))
]
System = Annotated[
    str | None,
    option(
        "Node or rack the GPUs sit in. Default: the usual one.",
        DEPLOYMENT,
        "--system",
        values=complete.names_of("systems"),
    ),
]
SpeculativeConfig = Annotated[
    str | None,
    option(
        "Drafts: vLLM's JSON, or its fields: 'method=eagle3, num_speculative_tokens=3, acceptance=0.7'.",
        DEPLOYMENT,
        "--speculative-config",
    ),
]
PredictionMode = Annotated[Mode, option("calibrated: kernel models; bound: the physical limit.", DEPLOYMENT, "--mode")]

# Settings of the engine, by vLLM's names
MaxNumSeqs = Annotated[int | None, option("Sequences per replica at most.", ENGINE, "--max-num-seqs")]
MaxNumBatchedTokens = Annotated[int | None, option("Tokens per step at most.", ENGINE, "--max-num-batched-tokens")]
GpuMemoryUtilization = Annotated[
    float | None, option("Share of memory the engine may take.", ENGINE, "--gpu-memory-utilization")
]
MaxModelLen = Annotated[int | None, option("Longest sequence served.", ENGINE, "--max-model-len")]
EnforceEager = Annotated[bool, option("No CUDA graphs.", ENGINE, "--enforce-eager")]

# What arrives, and what is asked of it
InputTokens = Annotated[float, option("Mean prompt length.", LOAD, "--input", "-i")]
OutputTokens = Annotated[float, option("Mean output length.", LOAD, "--output", "-o")]
InputLengths = Annotated[
    str,
    option("Prompt length: 1024, uniform:819-1024, lognormal:mean=1000,p99=6000 (or cv=1).", LOAD, "--input", "-i"),
]
OutputLengths = Annotated[str, option("Output length, in the same words.", LOAD, "--output", "-o")]
PrefixHit = Annotated[float, option("Share of the prompt found in the prefix cache.", LOAD, "--prefix-hit")]
RequestRate = Annotated[float, option("Requests per second on average.", LOAD, "--request-rate", "-r")]
Target = Annotated[str | None, option("ttft_p95=800ms,tpot_p95=40ms; means without a percentile.", LOAD, "--target")]
Growth = Annotated[float, option("Percent that the load grows a month, compounded.", LOAD, "--growth")]
Seed = Annotated[int, option("Of what is drawn: same seed, same result.", LOAD, "--seed")]

# Money
Price = Annotated[float | None, option("USD per GPU and hour. Default: the cheapest on file.", MONEY, "--price")]
Rent = Annotated[
    str | None,
    option(
        "on_demand (the default), reserved_1y, reserved_3y or spot.",
        MONEY,
        "--rent",
        values=complete.one_of("on_demand", "reserved_1y", "reserved_3y", "spot"),
    ),
]
Provider = Annotated[str | None, option("Only this provider, from the beginning of its name on.", MONEY, "--provider")]
Region = Annotated[str | None, option("Only regions that begin so: us, eu-north.", MONEY, "--region")]
Buy = Annotated[bool, option("Own the GPUs.", MONEY, "--buy")]
SiteName = Annotated[
    str,
    option("Where owned GPUs stand: us, germany, france, ireland, finland, sweden, or a YAML file.", SITE, "--site",
           values=complete.names_of("sites")),
]  # fmt: skip

# What is printed
Sources = Annotated[bool, option("List what the figures rest on.", OUTPUT, "--sources")]
AsJson = Annotated[bool, option("Everything as JSON.", OUTPUT, "--json")]
AsCsv = Annotated[bool, option("CSV, a line each for what --json lists.", OUTPUT, "--csv")]

# Any command
SpecFolder = Annotated[
    list[Path] | None,
    option(
        "Folder with your own specs (accelerators/, models/ ...), looked through first.",
        GENERAL,
        "--specs",
        shown="FOLDER",
    ),
]
PriceFiles = Annotated[
    list[Path] | None,
    option("Table of your own prices (CSV, YAML) in place of those on file.", GENERAL, "--prices", shown="FILE"),
]
Quiet = Annotated[bool, option("Only errors, and what --json or --csv print.", GENERAL, "--quiet", "-q")]
Verbose = Annotated[
    bool, option("On standard error: files read, sources, fallbacks, timings.", GENERAL, "--verbose", "-v")
]
Color = Annotated[
    bool | None,
    option("Default: where a person watches and NO_COLOR is not set.", GENERAL, "--color/--no-color"),
]


def by_commas(given: Iterable[str] | None, field: str = "--gpu", noun: str = "accelerator") -> list[str]:
    """Options repeated or separated by commas as one list; SpecError where nothing is left.

    >>> by_commas(["H100-SXM, L40S", "B200-SXM"])
    ['H100-SXM', 'L40S', 'B200-SXM']
    """
    found = [name.strip() for part in given or () for name in part.split(",") if name.strip()]
    if not found:
        raise SpecError(
            f"name at least one {noun}{', for example --gpu H100-SXM' if noun == 'accelerator' else ''}", field=field
        )
    return found
