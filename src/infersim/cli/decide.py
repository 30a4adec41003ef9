"""``infersim decide``: which way of doing it is the cheaper one, where that changes, and what would flip it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.compare import COUNTS, KNOBS, WORDS, read_option
from infersim.cli.output import emit, note_sources, sources_text, tell
from infersim.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from infersim.decide.answer import DecisionAnswer

QUESTIONS = ("rag-vs-long-context", "cached-prompt", "finetune", "self-host-vs-api", "cascade")
CHOICE = "Choice"


def decide(
    question: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(QUESTIONS)}; or a YAML file with a section `decide`.",
            autocompletion=complete.one_of(*QUESTIONS),
        ),
    ],
    model: Annotated[
        str | None, typer.Argument(help="Model on own devices, with --gpu.", autocompletion=complete.names_of("models"))
    ] = None,
    gpu: Annotated[
        str | None, o.option("Accelerator it runs on.", None, "--gpu", "-g", values=complete.names_of("accelerators"))
    ] = None,
    api: Annotated[
        str | None, o.option("A model behind an API: USD per million input,cached input,output tokens.", None, "--api")
    ] = None,
    cache: Annotated[
        str | None,
        o.option(
            "How the API bills cached prefixes: anthropic-5m ...",
            None,
            "--cache",
            values=complete.names_of("api_caching"),
        ),
    ] = None,
    small: Annotated[
        str | None,
        o.option('The small model of a cascade: prices, or "L4 model=meta-llama/Llama-3.2-1B".', CHOICE, "--small"),
    ] = None,
    tuned: Annotated[
        str | None, o.option("The model that is fine-tuned, where it is another one; as --small.", CHOICE, "--tuned")
    ] = None,
    assume: Annotated[
        list[str] | None,
        o.option("An assumption: corpus_tokens=2e5, or its 90% range 1e5..4e5. Repeat.", CHOICE, "--assume"),
    ] = None,
    success: Annotated[
        list[str] | None,
        o.option("Chance that an answer is right, of every way: rag=0.85. Repeat.", CHOICE, "--success"),
    ] = None,
    over: Annotated[str | None, o.option("Assumption that the curves are drawn over.", CHOICE, "--over")] = None,
    span: Annotated[str | None, o.option("Ends of the curves: 1e3..1e7.", CHOICE, "--span")] = None,
    tp: o.Tp = 1,
    precision: o.Precision = None,
    engine: o.Engine = "vllm",
    input_tokens: o.InputTokens = 1024,
    output_tokens: o.OutputTokens = 256,
    prefix_hit: o.PrefixHit = 0.0,
    concurrency: Annotated[
        float, o.option("Users in a closed loop that own devices serve meanwhile.", o.LOAD, "--concurrency", "-c")
    ] = 8,
    target: o.Target = None,
    price: o.Price = None,
    plot: Annotated[
        Path | None, o.option("Picture of the curves: .png, .svg, .pdf.", o.OUTPUT, "--plot", shown="FILE")
    ] = None,
    sources: o.Sources = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Weigh ways of doing the same: what each costs over what decides, the break-even points, and what would flip the choice.

    Every assumption has a base value and a range; --sources lists them. --csv has the curves, a line per way and point.

    Examples:

        infersim decide rag-vs-long-context --api 3,0.3,15 --cache anthropic-5m --assume corpus_tokens=2e5 --plot choice.svg

        infersim decide self-host-vs-api meta-llama/Llama-3.1-8B --gpu L40S --precision fp8 --api 0.2,0.2,0.2 --target tpot=40ms

        infersim decide cascade --api 3,0.3,15 --small 0.15,0.075,0.6 --success "large model=0.92" --success "small first=0.9"
    """
    from infersim.decide.answer import answer
    from infersim.decide.spec import Decision
    from infersim.predict.deploy import deploy
    from infersim.serving.target import read_limits
    from infersim.specs.library import validate
    from infersim.specs.workload import Workload

    limits = read_limits(target) if target else ()
    if question not in QUESTIONS and not question.endswith((".yaml", ".yml")):
        raise SpecError(f"no question is called {question!r}; {did_you_mean(question, QUESTIONS)}", field="QUESTION")
    if question.endswith((".yaml", ".yml")):
        asked = _from_file(Path(question), model or gpu or api)
        deployment = None
    else:
        own = _own(
            model, gpu, {"tp": str(tp), "engine": engine} | ({"precision": precision} if precision else {}), price
        )
        if api is not None and api.count(",") not in (1, 2):
            raise SpecError(f"write USD per million input,cached input,output as 3,0.3,15, got {api!r}", field="--api")
        prices = {"prices": api, "cache": cache} if api else None
        if cache and not api:
            raise SpecError("is a way an API bills; give its prices by --api", field="--cache")
        against = question == "self-host-vs-api"
        if own is None and (prices is None or against):
            raise SpecError(
                "needs MODEL with --gpu" + ("" if against else ", or --api with an API's prices"), field=question
            )
        if own is not None and prices is not None and not against:
            raise SpecError("give MODEL with --gpu, or --api, not both: the question is of one model", field="--api")
        told: dict[str, Any] = {
            "question": question, "model": None if own is not None else prices, "api": prices if against else None, "over": over,
            "small": _another(small), "tuned": _another(tuned), "assume": _given(assume), "success": _given(success),
            "span": _span(span), "ttft": None if against else _ttft(limits),
        }  # fmt: skip
        asked = validate(Decision, {name: value for name, value in told.items() if value is not None})
        load = Workload(
            input_tokens=input_tokens, output_tokens=output_tokens, concurrency=concurrency, prefix_hit=prefix_hit
        )
        deployment = deploy(own, load) if own is not None else None
    found = answer(asked, deployment, limits=limits)
    emit(
        found.to_dict(),
        lambda: _text(found, sources),
        as_json=as_json,
        as_csv=as_csv,
        rows=found.rows() if as_csv else None,
    )
    note_sources(found.sources)
    if plot is not None:
        from infersim.report.figures.decision import decision_curve
        from infersim.report.serving import _save

        _save(decision_curve(found).figure, plot)
        tell(f"wrote {plot}")


def _text(found: DecisionAnswer, sources: bool) -> str:
    more = (
        [str(found.choice.assumptions), "", sources_text(found.sources)]
        if sources
        else ["assumptions and sources: --sources; all figures: --json"]
    )
    return "\n".join([str(found), "", *more])


def _from_file(path: Path, more: str | None) -> Any:
    """The decision that a file asks for, its section `decide` or the whole of it."""
    from infersim.decide.spec import Decision
    from infersim.specs.library import read_yaml, validate

    if more:
        raise SpecError("a file names its models itself", field=str(more), file=path)
    data = read_yaml(path)
    return validate(Decision, data.get("decide", data), file=path)


def _own(model: str | None, gpu: str | None, words: dict[str, str], price: float | None) -> Any:
    """The model on own devices, where one is given."""
    if (model is None) != (gpu is None):
        raise SpecError("MODEL and --gpu go together", field="--gpu" if gpu is None else "MODEL")
    if model is None:
        return None
    told = {"model": model, "gpu": str(gpu), **words} | ({"price": str(price)} if price is not None else {})
    return _served(told)


def _another(text: str | None) -> Any:
    """Another model: prices of an API, or words as an option of ``infersim compare`` has them, model= among them."""
    if text is None or text[:1].isdigit() or text.startswith("."):
        return text
    told = read_option(text)
    if "model" not in told:
        raise SpecError('write prices as 0.15,0.075,0.6, or a model as "L4 model=meta-llama/Llama-3.2-1B"', field=text)
    return _served(told)


def _served(told: dict[str, str]) -> Any:
    from infersim.specs.library import validate
    from infersim.specs.served import ServedModel

    place: dict[str, Any] = {COUNTS[name]: told[name] for name in COUNTS if name in told}
    place |= {WORDS[name]: told[name] for name in WORDS if name in told}
    place |= {name: told[name] for name in (*KNOBS, "gpu_memory_utilization") if name in told}
    price = {"gpu_hour": f"{told['price']} USD"} if "price" in told else {}
    return validate(ServedModel, {"model": told["model"], "hardware": told["gpu"], "deployment": place, **price})


def _given(texts: list[str] | None) -> dict[str, Any]:
    """``name=low..base..high`` by name."""
    from infersim.planning.assumptions import read_assumption

    return dict(map(read_assumption, texts or ()))


def _span(text: str | None) -> Any:
    if text is None:
        return None
    _, found = _given_one(text)
    if not isinstance(found, tuple) or len(found) != 2:
        raise SpecError(f"write the ends of a curve as 1e3..1e7, got {text!r}", field="--span")
    return found


def _given_one(text: str) -> tuple[str, Any]:
    from infersim.planning.assumptions import read_assumption

    try:
        return read_assumption(f"span={text}")
    except SpecError:
        raise SpecError(f"write the ends of a curve as 1e3..1e7, got {text!r}", field="--span") from None


def _ttft(limits: Any) -> str | None:
    """The limit on the mean time to first token, the only one that these questions know."""
    for limit in limits:
        if limit.metric != "ttft" or limit.percentile is not None:
            raise SpecError(
                f"this question knows a limit on the mean ttft alone, such as ttft=1s, got {limit.name}",
                field="--target",
            )
    return f"{min(limit.seconds for limit in limits)!r} s" if limits else None
