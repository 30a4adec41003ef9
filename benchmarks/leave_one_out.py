"""How well matrix products and attention of a GPU are predicted from its data sheet and other GPUs' parameters.

Run with ``python benchmarks/leave_one_out.py``; it needs ``pip install 'infersim[silicon]'``. Each GPU in turn counts as never
measured: its parameters come from another device of its family, where one was measured, else from a fit to the other GPUs with
the same class of memory together. Mean absolute error over the rows no fit may see; the spreads of borrowed parameters in
``machine/calibration.py`` rest on the root mean square of the logarithm beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from infersim.calibrate.fit import Spread, spread
from infersim.calibrate.measurements import KernelTable, fit_rows
from infersim.calibrate.pooled import fit_pooled
from infersim.calibrate.sections import problem, section_key
from infersim.calibrate.silicon_dense import dense_tables
from infersim.calibrate.silicon_more import FOLDERS
from infersim.machine.calibration import ENGINES, Fitted, calibration_file, load_calibration, pooled_name
from infersim.specs.library import load_accelerator

LEFT_OUT = ("H200-SXM", "B200-SXM", "L40S", "A100-80GB-SXM")
BAR = 0.20


def sound(table: KernelTable) -> bool:
    """Whether the calibration of the table's device holds it: others show the host, not the device."""
    file = calibration_file(table.device, table.engine)
    return file is not None and section_key(table) in file.sections.get(table.kind, {})


def error(table: KernelTable, fitted: Fitted, *, surface: bool) -> Spread:
    """Errors of parameters, with or without their residual surface, on the rows that no fit may see."""
    test = table.take(~fit_rows(table))
    model = problem(table, load_accelerator(table.device))
    seconds = model.time(test.shape, fitted.parameters)
    return spread(seconds * fitted.correction(*model.place(test.shape)) if surface else seconds, test.seconds)


def main() -> None:
    """Print the errors of every left-out table, and their means by kind and origin."""
    tables = [
        table
        for engine in ENGINES for device in FOLDERS for table in dense_tables(device, engine, None, Counter())
        if load_accelerator(device).vendor == "NVIDIA" and sound(table)
    ]  # fmt: skip
    family = {device: load_accelerator(device).architecture for device in FOLDERS}
    pooled = {device: pooled_name(load_accelerator(device).memory.kind or "") for device in FOLDERS}
    found: dict[tuple[str, ...], list[Spread]] = defaultdict(list)
    for device in LEFT_OUT:
        for table in (table for table in tables if table.device == device):
            alike = [other for other in tables if other.device != device and other.engine == table.engine
                     and (other.kind, section_key(other)) == (table.kind, section_key(table))]  # fmt: skip
            if not alike:
                print(f"{device:<14} {table.engine:<7} {table.kind:<9} {section_key(table):<13} measured nowhere else")
                continue
            classed = [other for other in alike if pooled[other.device] == pooled[device]] or alike
            relatives = [other.device for other in alike if family[other.device] == family[device]]
            tried = {"pooled": error(table, Fitted(fit_pooled(classed).parameters, "", 0.0, ""), surface=False)}
            if relatives:
                lent = load_calibration(relatives[0], "", table.engine).lookup(table.kind, section_key(table))
                tried = {"family": error(table, lent, surface=False),
                         "family, surface": error(table, lent, surface=True)} | tried  # fmt: skip
            for origin, one in tried.items():
                found[table.kind, device, origin].append(one)
            shown = "   ".join(f"{origin} {one.mean:6.1%} (bias {one.bias:+6.1%})" for origin, one in tried.items())
            print(f"{device:<14} {table.engine:<7} {table.kind:<9} {section_key(table):<13} {shown}", flush=True)
    print(f"\nmean over tables; bar {BAR:.0%}")
    for (kind, device, origin), errors in sorted(found.items()):
        mean, rms = np.mean([one.mean for one in errors]), np.sqrt(np.mean([one.log_sd**2 for one in errors]))
        print(
            f"{kind:<10} {device:<14} {origin:<16} {len(errors):>3} tables   mean error {mean:6.1%}   log spread {rms:.2f}"
        )


if __name__ == "__main__":
    main()
