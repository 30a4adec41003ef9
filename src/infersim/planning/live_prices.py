"""Live prices from the ``gpuhunt`` package (``pip install 'infersim[prices]'``): cloud offers as rows of a price table.

gpuhunt names a GPU by model and memory and leaves the form (SXM or PCIe) to the name of the machine. An offer that names no
accelerator here, or not clearly one, is counted under its own name and left out. Written to a file, the rows are a
snapshot with a date that ``library.add_price_file`` reads back.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from infersim.errors import SpecError, did_you_mean
from infersim.specs.price_tables import PriceRow

SXM = re.compile(
    r"sxm|hgx|hbm3|nvlink|^p[45]|^a[23]-|^(standard_)?nd\d|^bm\.gpu|^\d+a100\.(22|44|88|176)v|^\d+[ah]100\.\d+s",
    re.IGNORECASE,
)
PCIE = re.compile(r"pcie|^(standard_)?nc\d|^a100(-[48]0gb)?\.\d|^gpu_\d+x_a100$", re.IGNORECASE)
"""Names of machines that tell which form of A100 or H100 is inside."""

FORMS = {
    ("A100", 40): ("A100-40GB-SXM", "A100-40GB-PCIe"),
    ("A100", 80): ("A100-80GB-SXM", "A100-80GB-PCIe"),
    ("H100", 80): ("H100-SXM", "H100-PCIe"),
}
"""gpuhunt's model and memory [GB] of GPUs that come in two forms: SXM first, then PCIe."""
BY_MEMORY = {
    ("V100", 16): "V100-16GB-SXM2", ("V100", 32): "V100-32GB-SXM2", ("H100", 94): "H100-NVL",
    ("GH200", 96): "GH200-96GB", ("GH200", 144): "GH200-144GB",
}  # fmt: skip
BY_NAME = {
    "H100NVL": "H100-NVL", "H200": "H200-SXM", "H200NVL": "H200-NVL", "B200": "B200-SXM", "B300": "B300-SXM",
    "A6000": "RTX-A6000", "RTX3090": "RTX-3090", "RTX4090": "RTX-4090", "RTX5090": "RTX-5090", "RTX6000ADA": "RTX-6000-Ada",
    "RTXPRO6000": "RTX-PRO-6000-Blackwell", "V5LITEPOD": "TPU-v5e", "V4": "TPU-v4", "V5P": "TPU-v5p", "V6E": "TPU-v6e",
} | {name: name for name in ("T4", "A10", "A30", "A40", "L4", "L40", "L40S", "GB200", "GB300", "MI210", "MI250X", "MI300X",
                            "MI325X", "MI350X", "MI355X")} | {"GAUDI2": "Gaudi2", "GAUDI3": "Gaudi3"}  # fmt: skip
PROVIDERS = {
    "aws": "AWS", "azure": "Azure", "gcp": "GCP", "oci": "OCI", "lambdalabs": "Lambda", "runpod": "RunPod", "vastai": "Vast.ai",
    "verda": "Verda", "nebius": "Nebius", "crusoe": "Crusoe", "vultr": "Vultr", "digitalocean": "DigitalOcean",
    "jarvislabs": "JarvisLabs", "hotaisle": "Hot Aisle", "cloudrift": "CloudRift", "seeweb": "Seeweb", "lium": "Lium",
}  # fmt: skip
"""gpuhunt's names of providers as they write themselves."""


class Offer(Protocol):
    """What is read of one of gpuhunt's ``CatalogItem``; ``price`` is USD per hour of the whole machine, ``gpu_memory`` GB."""

    provider: str
    instance_name: str
    location: str
    price: float
    gpu_count: int
    gpu_name: str | None
    gpu_memory: float | None
    spot: bool


@dataclass(frozen=True)
class LivePrices:
    """Rows of a price table, how many offers were read for them, and the GPUs of offers that were left out."""

    rows: tuple[PriceRow, ...]
    offers: int
    left_out: Mapping[str, int]
    date: str


def fetch_live_prices(
    providers: Iterable[str] | None = None, *, query: Callable[..., Iterable[Offer]] | None = None
) -> LivePrices:
    """The cheapest offer per accelerator, provider, region and kind as gpuhunt knows them now.

    ``providers`` in gpuhunt's or the usual spelling; all where none is given. ``query`` stands in for gpuhunt's own. Where
    the environment names a folder of catalogues (``GPUHUNT_CATALOG_DIR``, gpuhunt's own variable) those are read and
    nothing is fetched. Raises SpecError where the package is missing or the catalogue cannot be had.
    """
    wanted = None if providers is None else [_provider(name) for name in providers]
    offers = list((query or _gpuhunt)(wanted))
    return collect(offers, source=_version(), date=datetime.datetime.now(datetime.UTC).date().isoformat())


def collect(offers: Iterable[Offer], *, source: str, date: str) -> LivePrices:
    """Offers as rows, the cheapest per accelerator, provider, region and kind."""
    cheapest: dict[tuple[str, str, str, str], PriceRow] = {}
    left_out: Counter[str] = Counter()
    count = 0
    for offer in offers:
        if not offer.gpu_count or not offer.gpu_name or offer.price <= 0:
            continue
        count += 1
        accelerator = match(offer.gpu_name, offer.gpu_memory, offer.instance_name)
        if accelerator is None:
            left_out[_label(offer)] += 1
            continue
        row = PriceRow.model_construct(
            hardware=accelerator, kind="spot" if offer.spot else "on_demand", per_hour=offer.price / offer.gpu_count,
            provider=PROVIDERS.get(offer.provider, offer.provider), region=offer.location or None, date=date,
            instance=offer.instance_name, devices=offer.gpu_count, source=source,
        )  # fmt: skip
        key = (accelerator, row.provider, row.region or "", row.kind)
        if key not in cheapest or row.amount < cheapest[key].amount:
            cheapest[key] = row
    rows = sorted(
        cheapest.values(), key=lambda row: (row.hardware.lower(), row.kind, row.amount, row.provider, row.region or "")
    )
    return LivePrices(tuple(rows), count, dict(left_out.most_common()), date)


def match(name: str, memory: float | None, instance: str) -> str | None:
    """The accelerator that gpuhunt's model name, memory [GB] and name of the machine mean; None where that is not clear.

    >>> match("H100", 80, "p5.48xlarge"), match("H100", 80, "gpu_1x_h100_pcie"), match("H100", 80, "12345")
    ('H100-SXM', 'H100-PCIe', None)
    """
    key, size = name.upper().replace(" ", "").replace("-", ""), round(memory or 0)
    if (key, size) in FORMS:
        forms = FORMS[key, size]
        if PCIE.search(instance):
            return forms[1]
        return forms[0] if SXM.search(instance) else None
    return BY_MEMORY.get((key, size)) or BY_NAME.get(key)


def _label(offer: Offer) -> str:
    size = f" {offer.gpu_memory:g} GB" if offer.gpu_memory else ""
    return f"{offer.gpu_name}{size}"


def _provider(name: str) -> str:
    known = {label.lower(): key for key, label in PROVIDERS.items()} | {key: key for key in PROVIDERS}
    if name.lower() not in known:
        raise SpecError(
            f"no provider of live prices is called {name!r}; {did_you_mean(name, PROVIDERS.values())}", field="provider"
        )
    return known[name.lower()]


def _gpuhunt(providers: list[str] | None) -> Iterable[Offer]:
    try:
        import gpuhunt
    except ImportError as error:
        raise SpecError("live prices need the package gpuhunt: pip install 'infersim[prices]'") from error
    folder = os.environ.get("GPUHUNT_CATALOG_DIR")
    with _quiet("gpuhunt"):
        try:
            if folder:
                held = sorted(path.stem for path in Path(folder).glob("*.csv"))
                asked = [name for name in providers or held if name in held]
                catalog = gpuhunt.Catalog(auto_reload=False)
                return list(catalog.query(provider=asked, min_gpu_count=1)) if asked else []
            return list(gpuhunt.query(provider=providers, min_gpu_count=1))
        except (gpuhunt.GPUHuntError, OSError, ValueError) as error:
            raise SpecError(
                f"live prices cannot be had now ({error}); the prices on file are there without --live, and a snapshot "
                "written with --out on a machine that is online can be read by `infersim --prices FILE`"
            ) from error


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"gpuhunt {version('gpuhunt')}"
    except PackageNotFoundError:
        return "gpuhunt"


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A library's log messages held back: what is wrong is said once, by the error."""
    logger: Any = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
