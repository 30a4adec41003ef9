"""``infersim hardware``: the accelerators and systems on file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infersim.cli import complete
from infersim.cli import options as o
from infersim.cli.output import emit
from infersim.errors import SpecError

if TYPE_CHECKING:
    from infersim.specs.hardware import Accelerator


def hardware(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this accelerator in full; a part of a name filters the list.",
            autocompletion=complete.names_of("accelerators"),
        ),
    ] = None,
    vendor: Annotated[str | None, o.option("Only this vendor.", None)] = None,
    systems: Annotated[bool, o.option("List nodes and racks instead.", None, "--systems")] = False,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """List the bundled accelerators (or systems), or show one with the source of every figure.

    Quantities in --json and --csv are SI: bytes, bytes a second, FLOP a second, watts.

    Examples:

        infersim hardware H100-SXM

        infersim hardware --vendor AMD --csv

        infersim hardware --systems
    """
    from infersim.errors import UnknownNameError
    from infersim.specs.library import load_accelerator, load_system, names

    def render() -> Any:
        from infersim.cli import render

        return render

    def plain(spec: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(spec.model_dump_json(exclude_none=True))
        return found

    if systems:
        nodes = [load_system(known) for known in names("systems") if name is None or name.lower() in known.lower()]
        emit([plain(spec) for spec in nodes], lambda: render().systems_table(nodes), as_json=as_json, as_csv=as_csv)
        return
    if name is not None:
        try:
            one = load_accelerator(name)
        except UnknownNameError:
            if not any(name.lower() in known.lower() for known in names("accelerators")):
                raise
        else:
            emit(plain(one), lambda: render().accelerator_screen(one), as_json=as_json, as_csv=as_csv)
            return
    specs: list[Accelerator] = [
        load_accelerator(known) for known in names("accelerators") if name is None or name.lower() in known.lower()
    ]
    if vendor is not None:
        specs = [spec for spec in specs if spec.vendor.lower() == vendor.lower()]
        if not specs:
            raise SpecError(f"no accelerator of vendor {vendor!r}", field="--vendor")
    emit([plain(spec) for spec in specs], lambda: render().accelerators_table(specs), as_json=as_json, as_csv=as_csv)
