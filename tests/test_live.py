"""Small transformers that really run, against what infersim says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infersim.errors import SpecError
from infersim.ops.attention import Attention
from infersim.ops.matmul import Gemm
from infersim.ops.memory import Elementwise
from infersim.ops.transformer import prefill, step_ops
from infersim.specs.deployment import Parallelism
from infersim.specs.huggingface import load_model
from infersim.specs.precision import precision
from infersim.validate.decoder import SHAPES, Decoder, DecoderShape, write_config
from infersim.validate.live import STEPS, run_live

SMALL = (
    DecoderShape("llama", "llama", 64, 160, 4, 2, 16, 256),
    DecoderShape("gpt2", "gpt2", 64, 256, 4, 4, 16, 256),
)


def test_enough_steps_are_compared() -> None:
    assert len(SHAPES) * len(STEPS) >= 24
    assert {phase for phase, _, _ in STEPS} == {"prefill", "decode"}


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)
def test_a_token_at_a_time_gives_what_the_prompt_gives(shape: DecoderShape) -> None:
    """The cache is a real one: prefill of all tokens and prefill of some with decode of the rest agree."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    with torch.inference_mode():
        decoder = Decoder(shape, 2, 2, 16, dtype=torch.float64, device="cpu")
        for layer in decoder.layers:
            for weight, _ in layer.values():
                weight.mul_(20)
        tokens = torch.randint(shape.vocabulary, (2, 9))
        whole = decoder.step(tokens, 0)
        for at in range(4, 9):
            stepped = decoder.step(tokens[:, :4], 0) if at == 4 else decoder.step(tokens[:, at - 1 : at], at - 1)
        stepped = decoder.step(tokens[:, 8:9], 8)
        assert (whole == stepped).all()


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: shape.name)
def test_the_spec_describes_the_decoder(tmp_path: Path, shape: DecoderShape) -> None:
    """The reader's parameters are those of the tensors, and the step's products are the products that run."""
    torch = pytest.importorskip("torch")
    spec = load_model(write_config(tmp_path, shape, 3, 32))
    decoder = Decoder(shape, 3, 1, 32, dtype=torch.float32, device="cpu")
    tensors = [t for layer in decoder.layers for pair in layer.values() for t in pair] + [decoder.table, *decoder.final]
    tensors += [decoder.head] if shape.family == "llama" else [decoder.positions]  # GPT-2 ties its head
    assert spec.total_parameters == sum(tensor.numel() for tensor in tensors if tensor is not None)
    ops = step_ops(spec, Parallelism(), precision("fp32"), prefill(8.0))
    products = {(op.n, op.k) for op in ops if isinstance(op, Gemm)}
    ran = {tuple(layer[name][0].shape) for layer in decoder.layers for name in ("qkv", "o", "up", "down")}
    assert products == ran | {tuple(decoder.head.shape)}
    family = "rms" if shape.family == "llama" else "layer"
    assert {op.variant for op in ops if isinstance(op, Elementwise) and op.name == "norm"} == {family}
    assert {op.cache_bytes for op in ops if isinstance(op, Attention)} == {4.0}


def test_a_live_validation_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = tmp_path / "bench.jsonl"
    report = run_live(
        device="cpu", which="tiny", results=file, specs=tmp_path / "own", shapes=SMALL,
        steps=(("prefill", 1, 16), ("decode", 2, 20)), rounds=1,
    )  # fmt: skip
    assert len(report.rows) == 4
    assert all(row.measured > 0 and row.predicted > 0 for row in report.rows)
    assert all(sum(s for _, s in row.parts) == pytest.approx(row.predicted) for row in report.rows)
    shown = report.to_dict()
    assert shown["errors"]["rows"] == 4
    assert {"measured_s", "predicted_s", "error"} <= set(shown["rows"][0])
    assert str(report).count("\n") >= 8
    assert file.is_file()
    assert list((tmp_path / "own" / "calibrations").glob("*.torch.yaml"))


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(SpecError, match="at least one"):
        run_live(shapes=())
