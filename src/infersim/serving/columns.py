"""Per-request records as columns: views of what was written down, and what follows from it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from infersim.serving.records import Records

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "cached_tokens", "first_token_s", "finish_s", "ttft_s", "tpot_s",
           "e2e_s", "preemptions", "replica")  # fmt: skip
PIECE = 1 << 16


class Columns(Mapping[str, npt.NDArray[Any]]):
    """One array per name in COLUMNS of all requests, completed or not; NaN where a time never came.

    Latencies are worked out when asked for and not kept, so that ten million requests cost no more than their records.
    """

    def __init__(self, records: Records, start: int = 0, stop: int | None = None) -> None:
        stores: dict[str, array[Any]] = {
            "arrival_s": records.arrival, "prompt_tokens": records.prompt, "output_tokens": records.output,
            "cached_tokens": records.cached, "first_token_s": records.first_token, "finish_s": records.finish,
            "preemptions": records.preemptions, "replica": records.replica,
        }  # fmt: skip
        # a run that was interrupted as requests were written down leaves some columns longer than others
        known = min(len(store) for store in stores.values())
        part = slice(start, known if stop is None else min(stop, known))
        self._stored: dict[str, npt.NDArray[Any]] = {name: np.asarray(store)[part] for name, store in stores.items()}
        for name in ("first_token_s", "finish_s"):
            times = self._stored[name]
            self._stored[name] = np.where(times > 0, times, np.nan)
        for column in self._stored.values():
            column.flags.writeable = False
        self.rows = len(self._stored["arrival_s"])
        self._records = records

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        stored = self._stored
        if name in stored:
            return stored[name]
        if name == "tpot_s":
            output = stored["output_tokens"]
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(output > 1, (stored["finish_s"] - stored["first_token_s"]) / (output - 1), np.nan)
        end = {"ttft_s": "first_token_s", "e2e_s": "finish_s"}[name]
        return np.asarray(stored[end] - stored["arrival_s"])

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)

    def pieces(self) -> Iterator[Columns]:
        """All rows, PIECE of them at a time."""
        for start in range(0, self.rows, PIECE):
            yield Columns(self._records, start, start + PIECE)
