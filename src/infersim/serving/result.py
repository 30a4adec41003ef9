"""What a simulation says: per-request records, percentiles, goodput, bottlenecks, warnings, exports."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim import units
from infersim.errors import SpecError
from infersim.predict.estimate import Estimate
from infersim.serving.arrivals import Burst, ClosedLoop
from infersim.serving.columns import COLUMNS, Columns
from infersim.serving.export import SERIES, benchmark_dict, record_pieces, series_pieces, write_json, write_table
from infersim.serving.policy import Policy
from infersim.serving.pools import PrefillPool
from infersim.serving.records import Records, Series, Totals
from infersim.serving.steady import backlog_growth, is_unstable, warm_up
from infersim.serving.target import Limit
from infersim.serving.traces import Trace
from infersim.serving.traffic import Traffic

Array = npt.NDArray[np.float64]
WIDTH = 80
"""Columns of a terminal that printed results keep to."""
STANDARD = (50.0, 90.0, 95.0, 99.0)
"""Percentiles that are worked out together."""


@dataclass(frozen=True)
class ServingResult:
    """One simulated run. Times in seconds from its start, rates per second.

    Latencies are of completed requests; ``requests`` marks which count: by default all of them, ``settled()`` gives the same
    result without warm-up and drain. TTFT is client-side: queueing and the host's work on a request included. TPOT of a request
    is (end-to-end - TTFT) / (output tokens - 1), ITL every gap between two tokens of a request, pooled; the tokens that a step
    with drafts yields arrive together and count as one, as load generators that time the chunks of a stream see them.
    """

    deployment: Estimate
    traffic: Traffic | Trace
    policy: Policy
    seed: int
    records: Records = field(repr=False)
    totals: Sequence[Totals] = field(repr=False)
    """One per replica."""
    series: Sequence[Series] = field(repr=False)
    limits: tuple[Limit, ...] = ()
    interrupted: bool = False
    """The run was stopped before its end: figures are of what was simulated until then."""
    window: tuple[float, float] | None = None
    """Only requests that arrive in this time count, and rates are those of what ends in it; None for the whole run."""
    prefill: PrefillPool | None = field(default=None, repr=False)
    """The pool that prompts ran in, where they had one of their own; ``deployment`` and ``totals`` then are of the decode pool."""
    _known: dict[tuple[str, float], float] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Percentiles worked out so far."""

    # -- per request ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def columns(self) -> Columns:
        """One array per field of all requests, completed or not; NaN where a time never came."""
        return Columns(self.records)

    @functools.cached_property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Completed requests that the statistics count."""
        done: npt.NDArray[np.bool_] = ~np.isnan(self.columns["finish_s"])
        if self.window is None:
            return done
        arrival = self.columns["arrival_s"]
        return np.asarray(done & (arrival >= self.window[0]) & (arrival <= self.window[1]))

    @functools.cached_property
    def ended(self) -> npt.NDArray[np.bool_]:
        """Requests whose end counts for the rates."""
        if self.window is None:
            return self.counted
        finish = self.columns["finish_s"]
        return np.asarray((finish > self.window[0]) & (finish <= self.window[1]))

    def values(self, metric: str) -> Array:
        """``ttft``, ``tpot`` or ``e2e`` of every counted request [s]; requests of one token have no TPOT."""
        if metric not in ("ttft", "tpot", "e2e"):
            raise SpecError(f"per request there are ttft, tpot and e2e, not {metric!r}")
        found = self.columns[f"{metric}_s"]
        return np.asarray(found[self.counted & ~np.isnan(found)])

    # -- figures -------------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> int:
        return int(np.count_nonzero(self.counted))

    @property
    def failed(self) -> int:
        """Requests turned away: longer than the model takes or the pool can hold."""
        return self.records.rejected

    @property
    def longest(self) -> int:
        """Tokens that a request may have, prompt and output together, under the model, ``max_model_len`` and the KV pool."""
        policy, model, knobs = self.policy, self.deployment.model, self.deployment.knobs
        pool = (policy.num_blocks - policy.fixed_blocks(2**60)) * policy.block_size + 1
        return max(0, int(min(pool, model.max_position_embeddings or pool, knobs.max_model_len or pool)))

    @functools.cached_property
    def duration(self) -> float:
        """From the first arrival to the last end, or the length of the window [s]."""
        if self.window is not None:
            return self.window[1] - self.window[0]
        if not self.completed:
            return 0.0
        kept = self.counted
        return float(self.columns["finish_s"][kept].max() - self.columns["arrival_s"][kept].min())

    def mean(self, metric: str) -> float:
        """Mean of a latency [s]; NaN where no request has it."""
        if metric == "itl":
            return self.records.gaps.total / self.records.gaps.count if self.records.gaps.count else math.nan
        values = self.values(metric)
        return float(values.mean()) if len(values) else math.nan

    def percentile(self, metric: str, percent: float) -> float:
        """A percentile of a latency [s]; ITL within 1%, the rest exact."""
        if metric == "itl":
            return self.records.gaps.percentile(percent) if self.records.gaps.count else math.nan
        if (metric, percent) not in self._known:
            values, wanted = self.values(metric), sorted({*STANDARD, percent})
            found = np.percentile(values, wanted, overwrite_input=True).tolist() if len(values) else [math.nan] * 5
            self._known.update({(metric, each): value for each, value in zip(wanted, found, strict=False)})
        return self._known[metric, percent]

    def deviation(self, metric: str) -> float:
        """Standard deviation of a latency [s]; NaN where no request has it."""
        if metric == "itl":
            return math.sqrt(self.records.gaps.variance()) if self.records.gaps.count else math.nan
        values = self.values(metric)
        return float(values.std()) if len(values) else math.nan

    @property
    def requests_per_second(self) -> float:
        return int(np.count_nonzero(self.ended)) / self.duration if self.duration else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        return self.tokens("output_tokens", self.ended) / self.duration if self.duration else 0.0

    @property
    def total_tokens_per_second(self) -> float:
        """Prompt (cached ones too) and output tokens per second."""
        prompts = self.tokens("prompt_tokens", self.ended) / self.duration if self.duration else 0.0
        return self.output_tokens_per_second + prompts

    def tokens(self, column: str, which: npt.NDArray[np.bool_] | None = None) -> int:
        """Sum of a column of token counts over the counted requests, or over others."""
        return int(self.columns[column][self.counted if which is None else which].sum(dtype=np.int64))

    @property
    def preemptions(self) -> int:
        return sum(totals.preemptions for totals in self.totals)

    @property
    def prefix_hit_rate(self) -> float:
        """Share of the counted prompts' tokens that the prefix cache held at their first admission."""
        prompts = self.tokens("prompt_tokens")
        return self.tokens("cached_tokens") / prompts if prompts else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Tokens of a sequence that come together, averaged over the decode steps of the whole run: above one with drafts."""
        gaps = self.records.gaps.count
        return sum(totals.decode_tokens for totals in self.totals) / gaps if gaps else math.nan

    @property
    def mean_running(self) -> float:
        """Decoding sequences at once, averaged over the whole run, all replicas together."""
        span = float(np.nanmax(self.columns["finish_s"], initial=0.0))
        return sum(totals.decode_area for totals in self.totals) / span if span else 0.0

    @property
    def goodput(self) -> float | None:
        """Requests per second that meet every limit on their own TTFT, TPOT and E2E; None where no limit is set.

        A limit on a percentile is one on each request here; limits on ITL, which no request has one of, are left out.
        """
        wanted = [limit for limit in self.limits if limit.metric != "itl"]
        if not wanted or not self.duration:
            return None
        good = self.ended.copy()
        for limit in wanted:
            values = self.columns[f"{limit.metric}_s"]
            good &= np.isnan(values) | (values <= limit.seconds)
        return int(np.count_nonzero(good)) / self.duration

    def statistic(self, limit: Limit) -> float:
        """What a limit is about [s]."""
        return self.mean(limit.metric) if limit.percentile is None else self.percentile(limit.metric, limit.percentile)

    @property
    def missed_targets(self) -> list[str]:
        """Names of the limits that are missed; an unstable system or one that completes nothing misses all."""
        if self.unstable or not self.completed:
            return [limit.name for limit in self.limits]
        return [limit.name for limit in self.limits if self.statistic(limit) > limit.seconds]

    # -- is it to be believed ------------------------------------------------------------------------------------------

    @functools.cached_property
    def unstable(self) -> bool:
        """Arrivals outran the deployment: latencies grow for as long as the run lasts and say nothing."""
        if self.interrupted or isinstance(self.traffic.arrivals, ClosedLoop | Burst):
            return False
        columns, done = self.columns, ~np.isnan(self.columns["ttft_s"])
        order = np.argsort(columns["arrival_s"][done], kind="stable")
        arrival, finish, waited = (columns[name][done][order] for name in ("arrival_s", "finish_s", "ttft_s"))
        return is_unstable(arrival, finish, waited)

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before he uses a figure."""
        found = []
        if self.interrupted:
            found.append(
                f"interrupted: {self.completed:,} of {self.traffic.num_requests:,} requests were simulated to their end"
            )
        if isinstance(self.traffic, Trace):
            found += [f"left out of the trace: {count:,} {why}" for why, count in self.traffic.left_out.items()]
        if self.failed:
            found.append(f"{self.failed:,} requests were turned away: longer than the {self.longest:,} tokens that fit")
        if not self.completed:
            found.append("no request was completed: there is no latency to give")
        if self.unstable:
            columns = self.columns
            order = np.argsort(columns["arrival_s"], kind="stable")
            finish = np.where(np.isnan(columns["finish_s"]), np.inf, columns["finish_s"])
            growth, _ = backlog_growth(columns["arrival_s"][order], finish[order])
            found.append(
                f"unstable: requests arrive faster than they are served, the queue grows by {growth:.3g} a second; "
                "latencies depend on the length of the run alone"
            )
        if self.preemptions > 0.1 * max(self.completed, 1):
            found.append(f"{self.preemptions:,} preemptions: the KV pool is too small for so many sequences at once")
        return found

    def settled(self) -> ServingResult:
        """The same run without warm-up and drain: from the MSER cut on the end-to-end latency in order of arrival, after a
        closed loop's first round at the earliest, until the last request was sent. Pooled ITL stays that of the whole run."""
        columns = self.columns
        done = np.flatnonzero(~np.isnan(columns["e2e_s"]))
        order = done[np.argsort(columns["arrival_s"][done], kind="stable")]
        if isinstance(self.traffic.arrivals, ClosedLoop) and len(order) >= 4 * self.traffic.arrivals.concurrency:
            order = order[self.traffic.arrivals.concurrency :]
        if len(order) < 2:
            return self
        arrival = columns["arrival_s"][order]
        start = float(arrival[warm_up(columns["e2e_s"][order])])
        return replace(self, window=(start, float(arrival[-1]))) if arrival[-1] > start else self

    @property
    def bottlenecks(self) -> list[str]:
        """What the replicas' time went into, and what waiting requests waited for, longest first."""
        busy = sum(totals.busy for totals in self.totals)
        span = float(np.nanmax(self.columns["finish_s"], initial=0.0)) * len(self.totals)
        if not busy or not span:
            return []
        prefill = sum(totals.prefill_time for totals in self.totals) / busy
        peak = max(totals.peak_blocks for totals in self.totals) / self.policy.num_blocks
        found = [f"engine busy {busy / span:.0%} of the time, {prefill:.0%} of it in steps that carry prompts"]
        words = {"slots": "a slot (max_num_seqs)", "blocks": "KV blocks", "tokens": "tokens of the step's budget "
                 "(max_num_batched_tokens)", "turn": "its batch or turn"}  # fmt: skip
        waits = {reason: sum(totals.blocked[reason] for totals in self.totals) / busy for reason in words}
        for reason, share in sorted(waits.items(), key=lambda item: -item[1]):
            if share >= 0.01:
                found.append(f"{share:.0%} of busy time somebody waited for {words[reason]}")
        swapped = sum(totals.swap_time for totals in self.totals) / busy
        if swapped >= 0.01:
            found.append(f"{swapped:.0%} of busy time went into copies of preempted caches to and from the host")
        if self.prefill is not None:
            pool = self.prefill
            working = sum(totals.busy for totals in pool.totals) / (span / len(self.totals) * len(pool.totals))
            found.append(f"prefill pool busy {working:.0%} of the time")
            if pool.transfers:
                mean, tail = units.show(pool.mean_transfer, "s"), units.show(pool.times.percentile(99), "s")
                links = pool.sending / (span / len(self.totals) * len(pool.totals))
                found.append(f"caches arrive {mean} after their prompt, p99 {tail}; links busy {links:.0%} of the time")
            stalled = pool.stalled / (span / len(self.totals) * len(pool.totals))
            if stalled >= 0.01:
                found.append(
                    f"prefill pool stood still {stalled:.0%} of the time until caches were sent: the links are too slow"
                )
        found.append(f"KV pool {min(peak, 1.0):.0%} full at its peak, {self.preemptions:,} preemptions")
        return found

    @property
    def devices(self) -> int:
        """GPUs of the deployment, those of a prefill pool included."""
        return self.deployment.devices + (self.prefill.deployment.devices if self.prefill is not None else 0)

    def _prefill_dict(self) -> dict[str, Any] | None:
        """What a pool of its own for prompts did."""
        if self.prefill is None:
            return None
        pool = self.prefill
        return {"deployment": pool.deployment.describe(), "busy_s": sum(totals.busy for totals in pool.totals),
                "prefill_tokens": sum(totals.prefill_tokens for totals in pool.totals), "transfers": pool.transfers,
                "mean_transfer_s": pool.mean_transfer if pool.transfers else None,
                "p99_transfer_s": pool.times.percentile(99) if pool.transfers else None, "transferred_bytes": pool.bytes,
                "links_busy_s": pool.sending, "stalled_s": pool.stalled}  # fmt: skip

    # -- out -----------------------------------------------------------------------------------------------------------

    def benchmark_dict(self, *, date: str | None = None, detailed: bool = False) -> dict[str, Any]:
        """The summary, and with ``detailed`` lists over requests, under the field names of ``vllm bench serve``."""
        return benchmark_dict(self, date=date, detailed=detailed)

    def to_dict(self) -> dict[str, Any]:
        """The summary with SI units in the keys, what it rests on, and the warnings."""
        result: dict[str, Any] = {
            "deployment": self.deployment.describe(), "prefill_pool": self._prefill_dict(),
            "seed": self.seed, "traffic": self.traffic.describe(),
            "completed": self.completed, "failed": self.failed, "interrupted": self.interrupted,
            "unstable": None if self.interrupted else self.unstable,
            "duration_s": self.duration, "requests_per_s": self.requests_per_second,
            "output_tokens_per_s": self.output_tokens_per_second, "total_tokens_per_s": self.total_tokens_per_second,
            "output_tokens_per_s_per_gpu": self.output_tokens_per_second / self.devices,
            "mean_running_sequences": self.mean_running, "preemptions": self.preemptions,
            "prefix_hit_rate": self.prefix_hit_rate, "goodput_requests_per_s": self.goodput,
            "missed_targets": self.missed_targets,
        }  # fmt: skip
        if self.deployment.drafter is not None:
            result["speculation"] = self.deployment.drafter.speculation.model_dump(exclude_none=True)
            result["tokens_per_step"] = self.tokens_per_step if math.isfinite(self.tokens_per_step) else None
        for metric in ("ttft", "tpot", "itl", "e2e"):
            values = {"mean": self.mean(metric)} | {f"p{p}": self.percentile(metric, p) for p in (50, 90, 95, 99)}
            for figure, value in values.items():
                result[f"{metric}_{figure}_s"] = None if self.unstable or not math.isfinite(value) else value
        return result | {"bottlenecks": self.bottlenecks, "warnings": self.warnings, "sources": self.deployment.sources}

    def write_csv(self, path: str | Path) -> None:
        """Per-request records as CSV; units are in the column names. Empty where a time never came."""
        write_table(path, "csv", COLUMNS, record_pieces(self.columns))

    def write_parquet(self, path: str | Path) -> None:
        """Per-request records as Parquet, whose metadata say where the run was interrupted; needs ``infersim[data]``."""
        write_table(path, "parquet", COLUMNS, record_pieces(self.columns), self._note)

    def write_series(self, path: str | Path) -> None:
        """Sequences, waiting requests and KV blocks over time, by replica, as Parquet where the name ends so, else as CSV."""
        parquet = Path(path).suffix.lower() == ".parquet"
        write_table(path, "parquet" if parquet else "csv", SERIES, series_pieces(self), self._note)

    @property
    def _note(self) -> dict[str, str]:
        return {"interrupted": str(self.interrupted).lower()}

    def write_benchmark(self, path: str | Path, *, date: str | None = None, detailed: bool = False) -> None:
        """``benchmark_dict`` as JSON."""
        write_json(path, self.benchmark_dict(date=date, detailed=detailed))

    def __str__(self) -> str:
        lines = [self.deployment.describe()]
        if self.prefill is not None:
            lines = [f"prefill: {self.prefill.deployment.describe()}", f"decode:  {lines[0]}"]
        if self.unstable:
            lines.append(f"{self.requests_per_second:,.2f} requests/s served; no latency is given:")
        else:
            for metric, name in (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2e", "E2E")):
                figures = [self.mean(metric), *(self.percentile(metric, percent) for percent in (50, 95, 99))]
                if all(math.isfinite(value) for value in figures):
                    shown = [units.show(value, "s") for value in figures]
                    lines.append(
                        f"{name:<5} mean {shown[0]:>9}   p50 {shown[1]:>9}   p95 {shown[2]:>9}   p99 {shown[3]:>9}"
                    )
            lines.append(
                f"{self.requests_per_second:,.2f} requests/s   {self.output_tokens_per_second:,.0f} output tokens/s"
            )
        if self.deployment.drafter is not None and math.isfinite(self.tokens_per_step):
            lines.append(f"drafts: {self.tokens_per_step:.2f} tokens a step")
        wrapped = (textwrap.fill(warning, WIDTH, subsequent_indent="  ") for warning in self.warnings)
        return "\n".join([*lines, *wrapped])
