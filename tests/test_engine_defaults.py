"""Defaults of the engines' knobs by device, as their sources state them."""

from __future__ import annotations

import pytest

from infersim import estimate
from infersim.specs.library import load_accelerator, load_engine


@pytest.mark.parametrize(
    ("engine", "device", "sequences", "tokens"),
    [
        ("vllm", "H100-SXM", 1024, 8192), ("vllm", "MI300X", 1024, 8192), ("vllm", "A100-80GB-SXM", 256, 2048),
        ("vllm", "A100-40GB-SXM", 256, 2048), ("vllm", "L40S", 256, 2048), ("vllm", "RTX-4090", 256, 2048),
        ("sglang", "T4", 1024, 2048), ("sglang", "L40S", 1024, 4096), ("sglang", "A100-40GB-SXM", 1024, 4096),
        ("sglang", "A100-80GB-SXM", 1024, 8192), ("sglang", "H200-SXM", 1024, 8192), ("sglang", "B200-SXM", 1024, 16384),
        ("trtllm", "L40S", 2048, 8192), ("trtllm", "H100-SXM", 2048, 8192), ("tgi", "L4", 128, 4096), ("tgi", "H100-SXM", 128, 4096),
    ],
)  # fmt: skip
def test_defaults_by_device(engine: str, device: str, sequences: int, tokens: int) -> None:
    spec, accelerator = load_engine(engine), load_accelerator(device)
    found = [spec.default(knob, accelerator.name, accelerator.memory.capacity)
             for knob in ("max_num_seqs", "max_num_batched_tokens")]  # fmt: skip
    assert found == [sequences, tokens]


def test_a_deployment_takes_them() -> None:
    small, large = (estimate("meta-llama/Llama-3.1-8B", gpu) for gpu in ("A100-80GB-SXM", "H100-SXM"))
    assert (small.machine.max_num_seqs, small.machine.max_num_batched_tokens) == (256, 2048)
    assert (large.machine.max_num_seqs, large.machine.max_num_batched_tokens) == (1024, 8192)
    assert small.memory.activations < large.memory.activations / 2
