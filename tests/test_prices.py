"""Prices: every shipped one has an origin and is plausible beside the others; the user's come first; live ones are read."""

from __future__ import annotations

import csv
import datetime
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersim.errors import SpecError, UnknownNameError
from infersim.planning.live_prices import collect, fetch_live_prices, match
from infersim.planning.prices import KINDS, choose_price, price_per_device, price_rows, prices_of, spread_of
from infersim.specs import library
from infersim.specs.hardware import Price, current
from infersim.specs.library import add_price_file, load_accelerator, load_system, names
from infersim.specs.price_tables import PriceRow, read_price_table, write_price_table

SHIPPED = price_rows()
FACTOR = 2.5
"""A price further than this from the median of its kind and hardware says in its note why."""
CATALOGUES = Path(__file__).parent / "data" / "gpuhunt"


@pytest.fixture(autouse=True)
def _no_files_left() -> Iterator[None]:
    yield
    library._price_files.clear()
    library.clear_cache()


def of_kind(hardware: str, kind: str) -> list[PriceRow]:
    return [row for row in SHIPPED if (row.hardware, row.kind) == (hardware, kind)]


def test_shipped_tables_name_hardware_as_it_is_called_here() -> None:
    known = {*names("accelerators"), *names("systems")}
    rows = [row for path in library.spec_folders("prices")[-1].glob("*.csv") for row in read_price_table(path)]
    assert {row.hardware for row in rows} <= known
    assert len(rows) == len(SHIPPED) >= 190


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: f"{row.hardware}-{row.kind}-{row.provider}-{row.region}")
def test_shipped_price_has_an_origin_and_is_plausible(row: PriceRow) -> None:
    assert row.provider.strip()
    assert row.source.strip()
    assert row.date is None or "2018" < row.date <= "2026-11-24"
    others = [other.amount for other in of_kind(row.hardware, row.kind)]
    assert row.note or 1 / FACTOR <= row.amount / statistics.median(others) <= FACTOR
    if row.kind == "purchase":
        assert 300 < row.amount < 5e6
    else:
        assert 0.05 < row.amount < 20


def test_prices_are_listed_once() -> None:
    keys = [
        (row.hardware, row.kind, row.provider, row.region, row.instance, row.devices, row.amount) for row in SHIPPED
    ]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("kind", ["reserved_1y", "reserved_3y", "spot"])
def test_a_commitment_or_an_interruption_is_never_dearer_at_the_same_provider(kind: str) -> None:
    seen = 0
    for row in SHIPPED:
        same = [other.amount for other in of_kind(row.hardware, "on_demand") if other.provider == row.provider]
        if row.kind == kind and same:
            seen += 1
            assert row.amount <= max(same)
    assert seen >= {"reserved_1y": 16, "reserved_3y": 5, "spot": 28}[kind]


def test_enough_is_covered() -> None:
    """On demand for the usual ones, each other kind for a fair part of them, whole nodes and a rack to buy."""
    for name in ("A100-40GB-SXM", "A100-80GB-SXM", "H100-SXM", "H200-SXM", "B200-SXM", "B300-SXM", "GB200", "L4", "L40S", "T4",
                 "MI300X", "MI325X", "MI355X", "RTX-4090", "RTX-5090", "TPU-v5p", "TPU-v6e", "Inferentia2"):  # fmt: skip
        assert load_accelerator(name).price_per_hour is not None
    covered = {kind: {row.hardware for row in SHIPPED if row.kind == kind} for kind in KINDS}
    assert len(covered["spot"]) >= 18
    assert covered["reserved_1y"] >= {
        "A100-40GB-SXM",
        "A100-80GB-SXM",
        "H100-SXM",
        "H200-SXM",
        "B200-SXM",
        "L4",
        "L40S",
        "T4",
    }
    assert covered["reserved_3y"] >= {"A100-40GB-SXM", "A100-80GB-SXM", "H100-SXM", "MI355X"}
    assert covered["purchase"] >= {"HGX-H100", "HGX-H200", "HGX-B200", "HGX-A100-40GB", "GB200-NVL72"}


def test_what_one_goes_by() -> None:
    """Offers before estimates, the last year before older ones and those without a date, rent cheapest, purchase the middle."""
    h100 = load_accelerator("H100-SXM")
    chosen = choose_price(h100)
    assert chosen == h100.price_per_hour
    assert (chosen.provider, chosen.per_hour, chosen.date) == ("Hyperstack", 3.20, "2026-08-26")
    cheapest = min(prices_of(h100, "on_demand"), key=lambda price: price.amount)
    assert cheapest.date is None
    assert choose_price(h100, "on_demand", provider="aws", region="US").per_hour == 55.04 / 8
    assert choose_price("HGX-H200", "purchase").amount == 370_000
    assert choose_price("HGX-H100", "purchase").amount == 317_000, "a quotation before an estimate"
    assert spread_of("HGX-H200", "purchase").to_dict() == {
        "hardware": "HGX-H200", "kind": "purchase", "low_usd": 320_000, "median_usd": 370_000, "high_usd": 420_000, "prices": 3,
        "providers": 3, "oldest": "2026-09", "newest": "2026-09",
    }  # fmt: skip


def price(kind: str = "spot", amount: float = 1.0, date: str | None = None, status: str = "stated") -> Price:
    where = {"purchase": f"{amount} USD"} if kind == "purchase" else {"per_hour": f"{amount} USD/h"}
    fields: dict[str, Any] = {
        "kind": kind,
        "provider": "A",
        "source": "a list",
        "date": date,
        "status": status,
        **where,
    }
    return Price.model_validate(fields)


dates = st.one_of(
    st.none(), st.dates(datetime.date(2019, 1, 1), datetime.date(2026, 11, 24)).map(datetime.date.isoformat),
    st.sampled_from(["2021", "2025-06", "2026-03"]),
)  # fmt: skip


@given(
    st.lists(
        st.builds(price, amount=st.floats(0.1, 50), date=dates, status=st.sampled_from(["stated", "estimate"])),
        min_size=1,
    )
)
def test_some_price_always_stands_and_the_newest_offer_is_among_them(every: list[Price]) -> None:
    found = current(every)
    assert found
    assert [one.amount for one in found] == sorted(one.amount for one in found)
    offers = [one for one in every if one.status == "stated"] or every
    dated = [one.date for one in offers if one.date]
    assert all(one in offers for one in found)
    if dated:
        assert max(dated) in {one.date for one in found}
        assert all(one.date is not None and int(one.date[:4]) >= int(max(dated)[:4]) - 1 for one in found)
    else:
        assert len(found) == len(offers)


def test_age_is_shown_and_unknown_age_is_old() -> None:
    today = datetime.date(2026, 11, 24)
    assert not price(date="2025-11-25").is_old(today)
    assert price(date="2025-11-23").is_old(today)
    assert not price(date="2025-12").is_old(today)
    assert price(date="2024").is_old(today)
    assert price(date=None).is_old(today)


def test_a_share_of_a_node_includes_its_host() -> None:
    h200, node = load_accelerator("H200-SXM"), load_system("HGX-H200")
    share, alone = price_per_device(h200, node), price_per_device(h200)
    assert share.purchase == 370_000 / 8
    assert "1/8 of HGX-H200" in share.note
    assert alone.purchase == 32_000
    assert "without a host" in alone.note
    assert price_per_device(load_accelerator("L40S"), load_system("PCIe-8x-L40S")).purchase == 8_500


@pytest.mark.parametrize(("arguments", "words"), [
    (("H100-SXM", "spott"), ("spott", "did you mean 'spot'")),
    (("GH200-96GB", "spot"), ("no spot price of GH200-96GB", "on file are on_demand", "H100-SXM")),
    (("Rubin-SXM", "on_demand"), ("no on_demand price of Rubin-SXM", "nor any other price")),
    (("H10", "spot"), ("H10", "did you mean")),
])  # fmt: skip
def test_what_is_not_on_file_is_said_kindly(arguments: tuple[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        choose_price(*arguments)
    for word in words:
        assert word in str(caught.value)


def test_what_no_provider_or_region_has_is_said_kindly() -> None:
    with pytest.raises(SpecError, match=r"by 'Lamda' is on file; did you mean 'Lambda'"):
        choose_price("H100-SXM", provider="Lamda")
    with pytest.raises(SpecError, match=r"in 'asia' is on file; regions on file: .*us-east-1"):
        spread_of("H100-SXM", region="asia")
    with pytest.raises(SpecError, match="those on file name no region"):
        choose_price("H100-SXM", provider="Lambda", region="us")


def test_your_own_prices_stand_in_for_those_of_their_kind(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(
        "hardware,kind,usd_per_hour,usd,provider\nh100,on_demand,1.75,,Our cloud\nNVL72,purchase,,2800000,Quote\n"
    )
    before = load_accelerator("H100-SXM")
    assert [row.hardware for row in add_price_file(table)] == ["H100-SXM", "GB200-NVL72"]
    h100 = load_accelerator("H100-SXM")
    assert [(p.provider, p.per_hour) for p in prices_of(h100, "on_demand")] == [("Our cloud", 1.75)]
    assert prices_of(h100, "spot") == prices_of(before, "spot"), "other kinds stay"
    assert choose_price("GB200-NVL72", "purchase").amount == 2_800_000
    assert choose_price("GB200-NVL72", "purchase").source == "mine.csv"
    second = tmp_path / "newer.yaml"
    second.write_text("prices:\n  - {hardware: H100-SXM, kind: on_demand, per_hour: 1.50 USD/h, date: '2026-11'}\n")
    add_price_file(second)
    assert choose_price("H100-SXM").per_hour == 1.50, "the file given last comes first"
    assert choose_price("H100-SXM").provider == "your own"


def test_prices_in_a_folder_of_specs_and_in_a_spec_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = library.find("accelerators", "L4").read_text(encoding="utf-8")
    (tmp_path / "accelerators").mkdir()
    own = "prices:\n  - {kind: on_demand, per_hour: 0.3 USD/h, provider: us, source: contract}\n"
    (tmp_path / "accelerators" / "L4.yaml").write_text(text + own, encoding="utf-8")
    monkeypatch.setenv("INFERSIM_SPECS", str(tmp_path))
    library.clear_cache()
    assert choose_price("L4").per_hour == 0.3
    assert choose_price("L4", "purchase").amount == 2_500, "of other kinds the shipped ones"
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "ours.csv").write_text("hardware,kind,usd_per_hour\nL4,on_demand,0.25\n")
    library.clear_cache()
    assert choose_price("L4").per_hour == 0.25, "a table comes before the spec"


@pytest.mark.parametrize(("text", "words"), [
    ("hardware,kind,usd_per_hour\nH1000,spot,2\n", ("H1000", "did you mean")),
    ("hardware,kind,usd_per_hour\nH100,spott,2\n", ("line 2", "kind")),
    ("hardware,kind,usd_per_hour\nH100,spot,two\n", ("line 2", "two USD/h", "2.50 USD/h")),
    ("hardware,kind,usd_per_hour\nH100,spot,-2\n", ("line 2", "zero or more")),
    ("hardware,kind,usd_per_hour\nH100,purchase,2\n", ("line 2", "needs purchase")),
    ("hardware,kind,usd_per_hour\nH100,spot\n", ("line 2", "cells")),
    ("hardware,kind,usd_per_hour,dat\nH100,spot,2,2026\n", ("dat", "did you mean 'date'")),
    ("hardware,kind,usd_per_hour,date\nH100,spot,2,yesterday\n", ("line 2", "date", "yesterday")),
    ("hardware,kind,usd_per_hour,date\nH100,spot,2,2026-02-30\n", ("line 2", "date", "day")),
    ("kind,usd_per_hour\nspot,2\n", ("lacks the column hardware",)),
    ("", ("lacks the column hardware",)),
])  # fmt: skip
def test_a_wrong_table_names_file_and_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    table = tmp_path / "wrong.csv"
    table.write_text(text)
    with pytest.raises(SpecError) as caught:
        add_price_file(table)
    for word in ("wrong.csv", *words):
        assert word in str(caught.value)
    assert choose_price("H100-SXM").provider == "Hyperstack", "nothing of it is taken"


def test_a_wrong_yaml_table_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "wrong.yaml"
    for text, word in (
        ("price: 3\n", "one list, `prices`"),
        ("prices: [3]\n", "prices.0"),
        ("prices: [{kind: spot}]\n", "hardware"),
    ):
        table.write_text(text)
        with pytest.raises(SpecError, match=word):
            read_price_table(table)
    with pytest.raises(SpecError, match="no such file"):
        read_price_table(tmp_path / "none.csv")


def test_a_table_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    write_price_table(path, SHIPPED)
    assert read_price_table(path) == SHIPPED
    assert [file.name for file in tmp_path.iterdir()] == ["all.csv"]
    with pytest.raises(SpecError, match="no such folder"):
        write_price_table(tmp_path / "none" / "all.csv", SHIPPED)


def offers() -> list[Any]:
    """The catalogues of the tests as gpuhunt hands them out."""
    return [
        SimpleNamespace(
            provider=path.stem, instance_name=row["instance_name"], location=row["location"], price=float(row["price"]),
            gpu_count=int(row["gpu_count"]), gpu_name=row["gpu_name"] or None,
            gpu_memory=float(row["gpu_memory"]) if row["gpu_memory"] else None, spot=row["spot"] == "True",
        )
        for path in sorted(CATALOGUES.glob("*.csv"))
        for row in csv.DictReader(path.read_text().splitlines())
    ]  # fmt: skip


def check_live(live: Any) -> None:
    by = {(row.hardware, row.provider, row.region, row.kind): row for row in live.rows}
    assert by["H100-SXM", "AWS", "us-east-1", "on_demand"].per_hour == pytest.approx(55.04 / 8)
    assert by["H100-SXM", "AWS", "us-east-1", "on_demand"].devices == 8
    assert by["H200-SXM", "AWS", "us-east-1", "spot"].per_hour == pytest.approx(27.1988 / 8, rel=1e-5)
    assert by["A100-80GB-PCIe", "Azure", "eastus", "spot"].per_hour == 0.67877
    assert by["H100-NVL", "Azure", "eastus", "on_demand"].instance == "Standard_NC40ads_H100_v5"
    assert by["L4", "AWS", "us-east-1", "on_demand"].per_hour == 0.8048, "the cheapest machine per device"
    assert live.left_out == {"A10G 24 GB": 1, "H100 80 GB": 1}
    assert (live.offers, len(live.rows)) == (13, 10)


def test_live_offers_become_rows_and_a_snapshot_stands_in(tmp_path: Path) -> None:
    live = collect(offers(), source="gpuhunt 0.1.34", date="2026-11-24")
    check_live(live)
    snapshot = tmp_path / "live.csv"
    write_price_table(snapshot, live.rows)
    add_price_file(snapshot)
    assert choose_price("H100-SXM").per_hour == pytest.approx(6.88)
    assert choose_price("H100-SXM").date == "2026-11-24"
    assert choose_price("B200-SXM").provider == "Hyperstack", "what the snapshot does not hold stays"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gpuhunt leaves its files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_live_prices_through_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gpuhunt")
    monkeypatch.setenv("GPUHUNT_CATALOG_DIR", str(CATALOGUES))
    live = fetch_live_prices(["AWS", "azure"])
    assert {row.provider for row in live.rows} == {"AWS", "Azure"}
    assert live.offers == 12
    assert all(row.source.startswith("gpuhunt 0.") for row in live.rows)


def test_without_package_or_network_it_is_said_kindly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpuhunt", None)
    with pytest.raises(SpecError, match=r"pip install 'infersim\[prices\]'"):
        fetch_live_prices()

    class OfflineError(Exception):
        pass

    def query(**_: Any) -> list[Any]:
        raise OfflineError("Failed to load catalogs of all providers")

    monkeypatch.setitem(sys.modules, "gpuhunt", SimpleNamespace(query=query, GPUHuntError=OfflineError))
    monkeypatch.delenv("GPUHUNT_CATALOG_DIR", raising=False)
    with pytest.raises(SpecError, match=r"cannot be had now \(Failed to load"):
        fetch_live_prices()
    with pytest.raises(SpecError, match="no provider of live prices is called 'amazn'"):
        fetch_live_prices(["amazn"])


@pytest.mark.parametrize(("offer", "accelerator"), [
    (("A100", 80, "p4de.24xlarge"), "A100-80GB-SXM"), (("A100", 40, "a2-highgpu-1g"), "A100-40GB-SXM"),
    (("A100", 40, "gpu_1x_a100"), "A100-40GB-PCIe"), (("A100", 80, "NVIDIA A100-SXM4-80GB"), "A100-80GB-SXM"),
    (("H100", 80, "NVIDIA H100 PCIe"), "H100-PCIe"), (("H100", 80, "gpu-h100-sxm 1gpu-16vcpu-200gb"), "H100-SXM"),
    (("V100", 16, "p3.2xlarge"), "V100-16GB-SXM2"), (("GH200", 96, "gpu_1x_gh200"), "GH200-96GB"),
    (("RTXPRO6000", 96, "1RTXPRO6000.30V"), "RTX-PRO-6000-Blackwell"), (("v5litepod", 0, "v5litepod-8"), "TPU-v5e"),
    (("MI300X", 192, "any"), "MI300X"), (("A10G", 24, "g5.xlarge"), None), (("H100", 80, "8123"), None),
])  # fmt: skip
def test_names_of_offers(offer: tuple[str, float, str], accelerator: str | None) -> None:
    assert match(*offer) == accelerator
    assert accelerator is None or accelerator in names("accelerators")


def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infersim", *before, "prices", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_shows_writes_and_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "h200.csv"
    shown = run("h200", "--kind", "spot", "--json", "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    listed = json.loads(shown.stdout)["prices"]
    assert {row["hardware"] for row in listed} == {"H200-SXM"}
    assert all(row["usd_per_hour"] > 0 and "provider" in row and "source" in row for row in listed)
    assert len(read_price_table(out)) == len(listed)
    out.write_text("hardware,kind,usd_per_hour,date\nH200,spot,0.99,2020-05\n")
    again = run("H200", "--kind", "spot", before=("--prices", str(out)))
    assert again.returncode == 0
    assert "0.99/h" in again.stdout
    assert "2020-05 old" in again.stdout


@pytest.mark.parametrize(("arguments", "word"), [
    (["H100x"], "did you mean"), (["GH200-96GB", "--kind", "spot"], "no spot price of GH200-96GB"),
    (["H100", "--kind", "spott"], "did you mean 'spot'"), (["--provider", "nobody"], "no price is on file for --provider nobody"),
    (["--live", "--provider", "amazn"], "known: AWS"),
    (["--live", "--kind", "spott"], "did you mean 'spot'"),
])  # fmt: skip
def test_command_refuses_kindly(arguments: list[str], word: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_power_and_carbon() -> None:
    """DGX data sheets: 10.2 kW less eight of 700 W; NVIDIA's footprint of HGX H100: 1,312 kg for eight."""
    h100, node = load_accelerator("H100-SXM"), load_system("HGX-H100")
    assert node.max_power == 10_200
    assert node.power_beside(h100.tdp or 0.0) == 10_200 - 8 * 700
    assert load_system("HGX-B200").power_beside(1000.0) == 6_300
    assert load_system("PCIe-8x-L40S").power_beside(350.0) is None
    assert h100.embodied_carbon == pytest.approx(1312 / 8)
    assert (h100.idle_power or 0) < (h100.tdp or 0) / 5
    with pytest.raises(UnknownNameError):
        price_rows(["nothing"])


def test_your_table_holds_for_any_command(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("hardware,kind,usd_per_hour\nH100,on_demand,1.11\n")
    command = [
        sys.executable,
        "-m",
        "infersim",
        "--prices",
        str(table),
        "estimate",
        "Llama-3.1-8B",
        "--gpu",
        "H100",
        "--json",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["price_per_gpu_hour_usd"] == 1.11
    command[4] = str(tmp_path / "none.csv")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "none.csv: no such file" in refused.stderr) == (2, True)


@pytest.mark.parametrize("name", [name for name in names("systems") if load_system(name).max_power])
def test_a_system_draws_more_than_its_accelerators(name: str) -> None:
    system = load_system(name)
    tdp = load_accelerator(system.accelerator).tdp
    assert tdp is not None
    beside = system.power_beside(tdp)
    assert beside is not None
    assert 0.05 < beside / (system.max_power or 0.0) < 0.6
