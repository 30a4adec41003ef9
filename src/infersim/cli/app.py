"""The command line: arguments in, one screen or one JSON object out. No arithmetic.

Exit codes: 0 answered, 1 does not fit or misses its target, 2 bad input.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from infersim._version import __version__
from infersim.cli import bench
from infersim.cli.compare import compare
from infersim.cli.cost import cost
from infersim.cli.launch import launch
from infersim.cli.plan import plan
from infersim.cli.prices import prices
from infersim.cli.report import report
from infersim.cli.simulate import simulate
from infersim.cli.size import size
from infersim.cli.validate import validate
from infersim.errors import DoesNotFitError, InferSimError, NoPlanError, SpecError

app = typer.Typer(
    name="infersim",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict LLM inference before you rent or buy a GPU: latency, memory, throughput and cost, with what bounds each.",
)


class Mode(StrEnum):
    """How times are predicted."""

    calibrated = "calibrated"
    bound = "bound"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infersim {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    specs: Annotated[
        Path | None, typer.Option(help="Folder with your own specs (accelerators/, models/ ...), looked through first.")
    ] = None,
    price_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--prices", help="Table of your own prices (CSV, YAML) in place of those on file; for any command."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if specs is not None:
        from infersim.specs.library import add_spec_folder

        add_spec_folder(specs)
    for path in price_file or ():
        from infersim.specs.library import add_price_file

        add_price_file(path)


DEPLOYMENT, WORKLOAD, OUTPUT = "Deployment", "Workload", "Output"


@app.command()
def estimate(
    model: Annotated[
        str, typer.Argument(help="Bundled name, Hugging Face id in the local cache, folder, or config.json.")
    ],
    gpu: Annotated[
        list[str], typer.Option("--gpu", "-g", help="Accelerator; repeat or separate by commas to compare.")
    ],
    tp: Annotated[int, typer.Option("--tp", help="Tensor parallel degree.", rich_help_panel=DEPLOYMENT)] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Pipeline stages.", rich_help_panel=DEPLOYMENT)] = 1,
    adp: Annotated[
        int, typer.Option("--attention-dp", help="Attention data parallel degree.", rich_help_panel=DEPLOYMENT)
    ] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Expert parallel degree.", rich_help_panel=DEPLOYMENT)] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Context parallel degree.", rich_help_panel=DEPLOYMENT)] = 1,
    replicas: Annotated[
        int, typer.Option("--replicas", "--dp", help="Independent copies.", rich_help_panel=DEPLOYMENT)
    ] = 1,
    precision: Annotated[
        str | None,
        typer.Option(
            help="bf16, fp8, fp8_block, int8, w4a16, nvfp4 ... Default: the checkpoint's.", rich_help_panel=DEPLOYMENT
        ),
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(help="Format of the KV cache: bf16, fp8, int8 ...", rich_help_panel=DEPLOYMENT)
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm, sglang, trtllm.", rich_help_panel=DEPLOYMENT)] = "vllm",
    system: Annotated[
        str | None,
        typer.Option(help="Node or rack the GPUs sit in. Default: the usual one.", rich_help_panel=DEPLOYMENT),
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option(help="Sequences per replica at most.", rich_help_panel=DEPLOYMENT)
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="Tokens per step at most.", rich_help_panel=DEPLOYMENT)
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Share of memory the engine may take.", rich_help_panel=DEPLOYMENT)
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="Longest sequence served.", rich_help_panel=DEPLOYMENT)
    ] = None,
    enforce_eager: Annotated[
        bool, typer.Option("--enforce-eager", help="No CUDA graphs.", rich_help_panel=DEPLOYMENT)
    ] = False,
    speculative_config: Annotated[
        str | None,
        typer.Option(
            help="Drafts, as vLLM's JSON or method=eagle3,num_speculative_tokens=3,acceptance=0.7.",
            rich_help_panel=DEPLOYMENT,
        ),
    ] = None,
    input_tokens: Annotated[
        float, typer.Option("--input", "-i", help="Mean prompt length.", rich_help_panel=WORKLOAD)
    ] = 1024,
    output_tokens: Annotated[
        float, typer.Option("--output", "-o", help="Mean output length.", rich_help_panel=WORKLOAD)
    ] = 256,
    concurrency: Annotated[
        float, typer.Option("--concurrency", "-c", help="Users in a closed loop.", rich_help_panel=WORKLOAD)
    ] = 1,
    prefix_hit: Annotated[
        float, typer.Option(help="Share of the prompt found in the prefix cache.", rich_help_panel=WORKLOAD)
    ] = 0.0,
    num_requests: Annotated[
        float | None,
        typer.Option(
            help="Requests of a benchmark run that starts with all users at once. Default: steady load.",
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    fixed_lengths: Annotated[
        bool, typer.Option("--fixed-lengths", help="All requests are alike.", rich_help_panel=WORKLOAD)
    ] = False,
    sampler: Annotated[
        str, typer.Option(help="greedy, temperature, top_k_top_p ...", rich_help_panel=WORKLOAD)
    ] = "greedy",
    target: Annotated[
        str | None, typer.Option(help="ttft=800ms,tpot=40ms: exit 1 where missed.", rich_help_panel=WORKLOAD)
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(help="USD per GPU and hour. Default: cheapest on demand on file.", rich_help_panel=WORKLOAD),
    ] = None,
    mode: Annotated[Mode, typer.Option(help="calibrated: kernel models; bound: the physical limit.")] = Mode.calibrated,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object (a list for several GPUs).", rich_help_panel=OUTPUT)
    ] = False,
    ops: Annotated[int, typer.Option(min=1, help="Ops shown per step.", rich_help_panel=OUTPUT)] = 5,
    sources: Annotated[
        bool, typer.Option("--sources", help="List what the figures rest on.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Predict one deployment: does it fit, TTFT, TPOT, throughput, cost, and what bounds each part.

    Examples:

        infersim estimate meta-llama/Llama-3.1-70B --gpu H100-SXM --tp 4 --precision fp8 -i 2048 -o 256 -c 32

        infersim estimate ./my-model/config.json --gpu H100-SXM,H200-SXM,B200-SXM --json
    """
    from infersim.predict.estimate import estimate as predict
    from infersim.specs.deployment import EngineKnobs
    from infersim.specs.library import validate

    knobs = validate(EngineKnobs, {
        "max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens, "max_model_len": max_model_len,
        "gpu_memory_utilization": gpu_memory_utilization, "enforce_eager": enforce_eager,
    })  # fmt: skip
    gpus = [name.strip() for part in gpu for name in part.split(",") if name.strip()]
    if not gpus:
        raise SpecError("name at least one accelerator, for example --gpu H100-SXM", field="--gpu")
    answers = [
        predict(
            model, name, tensor_parallel=tp, pipeline_parallel=pp, attention_data_parallel=adp, expert_parallel=ep,
            context_parallel=cp, replicas=replicas, precision=precision, kv_cache=kv_cache, engine=engine, system=system,
            mode=mode.value, input_tokens=input_tokens, output_tokens=output_tokens, concurrency=concurrency,
            prefix_hit=prefix_hit, num_requests=num_requests, fixed_lengths=fixed_lengths,
            price_per_hour=price, target=target, sampler=sampler, knobs=knobs,
            speculation=speculative_config,
        )
        for name in gpus
    ]  # fmt: skip
    if as_json:
        found: Any = [answer.to_dict() for answer in answers]
        _print_json(found[0] if len(found) == 1 else found)
    else:
        from infersim.cli import render

        screen = render.console()
        if len(answers) == 1:
            screen.print(render.estimate_screen(answers[0], rows=ops, sources=sources))
        else:
            screen.print(answers[0].model.name, style="bold")
            screen.print(render.comparison_table(answers))
    if any(not answer.fits or answer.missed_targets for answer in answers):
        raise typer.Exit(1)


@app.command()
def models(
    name: Annotated[
        str | None, typer.Argument(help="Show this model in full; a part of a name filters the list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the bundled models, or show one (bundled, or any config.json) in full."""
    from infersim.cli import render
    from infersim.specs.huggingface import load_model
    from infersim.specs.library import load_bundled_model, names

    known = names("models")
    if name is not None:
        matching = [known_name for known_name in known if name.lower() in known_name.lower()]
        exact = [
            known_name
            for known_name in matching
            if name.lower() in (known_name.lower(), known_name.lower().rsplit("/", 1)[-1])
        ]
        if exact or not matching:
            spec = load_model(exact[0] if exact else name)
            if as_json:
                derived = {"total_parameters": spec.total_parameters, "active_parameters": spec.active_parameters}
                _print_json(json.loads(spec.model_dump_json(exclude_defaults=True)) | derived)
            else:
                render.console().print(render.model_screen(spec))
            return
        known = matching
    specs = [load_bundled_model(known_name) for known_name in known]
    if as_json:
        _print_json([{"name": s.name, "total_parameters": s.total_parameters, "active_parameters": s.active_parameters,
                      "task": s.task, "architecture": s.architecture} for s in specs])  # fmt: skip
    else:
        render.console().print(render.models_table(specs))


@app.command()
def hardware(
    name: Annotated[
        str | None, typer.Argument(help="Show this accelerator in full; a part of a name filters the list.")
    ] = None,
    vendor: Annotated[str | None, typer.Option(help="Only this vendor.")] = None,
    systems: Annotated[bool, typer.Option("--systems", help="List nodes and racks instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the bundled accelerators (or systems), or show one with the source of every figure."""
    from infersim.cli import render
    from infersim.errors import UnknownNameError
    from infersim.specs.library import load_accelerator, load_system, names
    from infersim.units import show

    if systems:
        found = [load_system(known) for known in names("systems") if name is None or name.lower() in known.lower()]
        if as_json:
            _print_json([json.loads(spec.model_dump_json(exclude_none=True)) for spec in found])
        else:
            table = render.plain_table("system", "accelerator", "per node", "scale-up", "scale-out", right=(2,))
            for spec in found:
                links = [
                    f"{link.name} {show(link.bandwidth, 'B/s')}" if link else "-"
                    for link in (spec.scale_up, spec.scale_out)
                ]
                table.add_row(spec.name, spec.accelerator, str(spec.devices_per_node), *links)
            render.console().print(table)
        return
    if name is not None:
        try:
            spec_found = load_accelerator(name)
        except UnknownNameError:
            if not any(name.lower() in known.lower() for known in names("accelerators")):
                raise
        else:
            if as_json:
                _print_json(json.loads(spec_found.model_dump_json(exclude_none=True)))
            else:
                render.console().print(render.accelerator_screen(spec_found))
            return
    specs = [
        load_accelerator(known) for known in names("accelerators") if name is None or name.lower() in known.lower()
    ]
    if vendor is not None:
        specs = [spec for spec in specs if spec.vendor.lower() == vendor.lower()]
        if not specs:
            raise SpecError(f"no accelerator of vendor {vendor!r}", field="--vendor")
    if as_json:
        _print_json([json.loads(spec.model_dump_json(exclude_none=True)) for spec in specs])
    else:
        render.console().print(render.accelerators_table(specs))


@app.command()
def calibrations(
    device: Annotated[str | None, typer.Argument(help="Only this accelerator.")] = None,
    kind: Annotated[str | None, typer.Option(help="gemm, attention, mla, moe, scan, collective.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the kernel calibrations and how far each is off on measured rows its fit did not see, worst first."""
    from infersim.cli import render
    from infersim.machine.calibration import PARAMETERS, every_section
    from infersim.specs.library import load_accelerator

    if kind is not None and kind not in PARAMETERS:
        raise SpecError(f"no kind of kernel is called {kind!r}; known: {', '.join(sorted(PARAMETERS))}", field="--kind")
    name = load_accelerator(device).name if device is not None else None
    rows = [row for row in every_section() if name in (None, row["accelerator"]) and kind in (None, row["kind"])]
    if as_json:
        _print_json(rows)
    else:
        render.console().print(render.calibrations_table(rows))


@app.command()
def calibrate(
    source: Annotated[
        Path | None, typer.Option("--from", help="Result file of `infersim bench`: calibrate this machine from it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder written to. Default: calibrations, or own_specs with --from.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only these accelerators; repeat for several.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Only these engines; repeat for several.")] = None,
) -> None:
    """Fit the kernel models to measurements and write calibration files.

    With --from: to the result file of `infersim bench`, into a folder that --specs takes as it is. Without: to the measurements
    of the aiconfigurator-core package (extra ``infersim[silicon]``); put that folder as ``calibrations/`` into one given by --specs.
    """
    if source is not None:
        from infersim.cli.bench import calibrate_from

        calibrate_from(source, out or Path("own_specs"), device or [], engine or [])
        return
    from datetime import UTC, datetime

    from infersim.calibrate.silicon_more import FOLDERS
    from infersim.calibrate.write import calibrate as fit
    from infersim.errors import did_you_mean
    from infersim.machine.calibration import ENGINES
    from infersim.specs.library import load_accelerator

    devices = [load_accelerator(name).name for name in device or FOLDERS]
    for found in devices:
        if found not in FOLDERS:
            raise SpecError(f"{found} has not been measured; {did_you_mean(found, FOLDERS)}", field="--device")
    for found in engine or ():
        if found not in ENGINES:
            raise SpecError(f"no measurements under {found!r}; {did_you_mean(found, ENGINES)}", field="--engine")
    today = datetime.now(UTC).date().isoformat()
    out = out or Path("calibrations")
    chosen = devices if device else None  # all of them: then also what stands in for the devices that were not measured
    sections = fit(out, chosen, engine or ENGINES, date=today, progress=lambda line: typer.echo(line, err=True))
    typer.echo(f"{len(sections)} sections written to {out}")


app.command(name="compare")(compare)
app.command(name="simulate")(simulate)
app.command(name="plan")(plan)
app.command(name="cost")(cost)
app.command(name="launch")(launch)
app.command(name="size")(size)
app.command(name="prices")(prices)
app.command(name="report")(report)
app.command(name="validate")(validate)
app.registered_commands += bench.app.registered_commands


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and exit with its code; every error is one sentence on standard error."""
    try:
        code = app(arguments, standalone_mode=False)
    except (DoesNotFitError, NoPlanError) as error:
        code = _complain(str(error), 1)
    except InferSimError as error:
        code = _complain(str(error), 2)
    except KeyboardInterrupt:
        code = _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error, of whichever click typer brings
            error.message = _with_given(error, arguments if arguments is not None else sys.argv[1:])  # type: ignore[attr-defined]
            error.show()
            code = error.exit_code
        elif type(error).__name__ == "Abort":
            code = _complain("interrupted", 130)
        elif isinstance(error, OSError):
            code = _complain(str(error), 2)
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _with_given(error: Any, arguments: list[str]) -> str:
    """A usage error's message with the value that was given, which typer leaves out."""
    message = str(getattr(error, "message", ""))
    for option in getattr(getattr(error, "param", None), "opts", ()):
        if option in arguments[:-1]:
            given = arguments[arguments.index(option) + 1]
            return message if repr(given) in message else f"{message}, got {given!r}"
    return message


def _complain(message: str, code: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return code
