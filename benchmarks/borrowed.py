"""How wrong a kernel's time is when its parameters come from elsewhere: another engine, a lending device, the defaults.

Run with ``python benchmarks/borrowed.py``; it needs ``pip install 'infersim[silicon]'``. Root mean square of the log error of
each measured table, without surfaces, over the tables a calibration holds. The spreads in ``machine/calibration.py`` rest on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from infersim.calibrate.sections import problem, section_key
from infersim.calibrate.silicon_dense import dense_tables
from infersim.calibrate.silicon_more import FOLDERS, more_tables
from infersim.errors import UnsupportedError
from infersim.machine.calibration import ENGINES, PARAMETERS, Calibration, calibration_file, lenders, load_calibration
from infersim.machine.kernels.collective import family_default
from infersim.specs.library import load_accelerator

ROWS = 2000


def main() -> None:
    """Print one line per kind of kernel and origin of its parameters."""
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for device in FOLDERS:
        accelerator = load_accelerator(device)
        link = accelerator.scale_up or accelerator.host_link
        for engine in ENGINES:
            own = calibration_file(device, engine)
            for table in (*dense_tables(device, engine, None, Counter()), *more_tables(device, engine)[0]):
                key = section_key(table)
                if own is None or key not in own.sections.get(table.kind, {}):
                    continue
                try:
                    model = problem(table, accelerator)
                except UnsupportedError:  # the device lacks the format's matrix unit, so there is no section either
                    continue
                rows = np.arange(len(table)) % max(1, len(table) // ROWS) == 0
                shape, seconds = table.take(rows).shape, table.take(rows).seconds
                origins = [("other engine", device, other) for other in ENGINES if other != engine]
                here = Calibration(device, accelerator.architecture, engine, link)
                others = [(lender, level) for lender, level in lenders(here, table.kind) if lender != device]
                origins += [(level, lender, engine) for lender, level in others[:1]]
                default = family_default(link) if table.kind == "collective" else PARAMETERS[table.kind]()
                tried = [("default", default)]
                for origin, lender, lending in origins:
                    file = calibration_file(lender, lending)
                    if file and key in file.sections.get(table.kind, {}):
                        lent = load_calibration(lender, "", lending).lookup(table.kind, key)
                        tried.append((origin, lent.parameters))
                for origin, parameters in tried:
                    log_error = np.log(seconds / model.time(shape, parameters))
                    errors[table.kind, origin].append(float(np.sqrt(np.mean(log_error**2))))
    for (kind, origin), found in sorted(errors.items()):
        middle, high = np.quantile(found, (0.5, 0.8))
        print(f"{kind:<10} {origin:<13} {len(found):>4} tables   median {middle:.2f}   80th percentile {high:.2f}")


if __name__ == "__main__":
    main()
