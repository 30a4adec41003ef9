"""``infersim models``: the models on file."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this model in full; a part of a name filters the list.",
            autocompletion=complete.names_of("models"),
        ),
    ] = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """List the bundled models, or show one (bundled, or any config.json) in full.

    Examples:

        infersim models qwen3

        infersim models meta-llama/Llama-3.1-8B

        infersim models ./my-model --json
    """
    from infersim.specs.huggingface import load_model
    from infersim.specs.library import load_bundled_model, names

    def render() -> Any:
        from infersim.cli import render

        return render

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
            derived = {"total_parameters": spec.total_parameters, "active_parameters": spec.active_parameters}
            whole = json.loads(spec.model_dump_json(exclude_defaults=True)) | derived
            emit(whole, lambda: render().model_screen(spec), as_json=as_json, as_csv=as_csv)
            return
        known = matching
    specs = [load_bundled_model(known_name) for known_name in known]
    listed = [
        {
            "name": s.name, "total_parameters": s.total_parameters, "active_parameters": s.active_parameters, "task": s.task,
            "architecture": s.architecture, "layers": s.num_layers, "hidden_size": s.hidden_size,
            "precision": s.precision.name or s.precision.weights,
        }
        for s in specs
    ]  # fmt: skip
    emit(listed, lambda: render().models_table(specs), as_json=as_json, as_csv=as_csv)
