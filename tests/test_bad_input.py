"""Bad input gets one kind sentence on standard error and exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from infersim.cli.app import main

MODEL, GPU = "meta-llama/Llama-3.1-8B", "H100-SXM"

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 4, "vocab_size": 1000,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
}  # fmt: skip

ACCELERATOR = """\
name: Mine
vendor: me
architecture: Hopper
peak_flops: {bf16: 100 TFLOP/s}
memory: {capacity: 80 GB, bandwidth: 2 TB/s}
sources: [{of: [peak_flops, memory], ref: my bench}]
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def assert_kind(capsys: pytest.CaptureFixture[str], arguments: list[str], *said: str, code: int = 2) -> None:
    found, out, err = run(capsys, *arguments)
    text = " ".join(err.replace("│", " ").split())
    assert found == code, (found, out, err)
    assert "Traceback" not in err
    for part in said:
        assert part in text, (part, text)


ARGUMENTS = [
    ([MODEL, "--gpu", "H100-SXN"], ("H100-SXN", "did you mean 'H100-SXM'")),
    ([MODEL, "--gpu", "zzzzz"], ("no accelerator is called 'zzzzz'", "infersim hardware")),
    ([MODEL, "--gpu", ","], ("--gpu", "at least one accelerator")),
    ([MODEL, "--gpu", ""], ("--gpu",)),
    (["meta-llama/Lama-3.1-8B", "--gpu", GPU], ("Lama-3.1-8B", "meta-llama/Llama-3.1-8B")),
    (["", "--gpu", GPU], ("model",)),
    (["no/such/folder/config.json", "--gpu", GPU], ("no/such/folder/config.json",)),
    ([MODEL], ("--gpu",)),
    ([MODEL, "--gpu", GPU, "--tp", "3"], ("tensor_parallel", "32 heads", "3")),
    ([MODEL, "--gpu", GPU, "--tp", "0"], ("tensor", "greater than or equal to 1", "0")),
    ([MODEL, "--gpu", GPU, "--tp", "-4"], ("tensor", "-4")),
    ([MODEL, "--gpu", GPU, "--tp", "two"], ("--tp", "two")),
    ([MODEL, "--gpu", GPU, "--tp", "2.5"], ("--tp", "2.5")),
    ([MODEL, "--gpu", GPU, "--pp", "64"], ("pipeline_parallel", "32 layers", "64")),
    ([MODEL, "--gpu", GPU, "--ep", "2"], ("expert", "does not divide")),
    ([MODEL, "--gpu", GPU, "--tp", "2", "--ep", "2"], ("expert_parallel", "no experts")),
    ([MODEL, "--gpu", GPU, "--precision", "fp9"], ("fp9", "did you mean")),
    ([MODEL, "--gpu", GPU, "--precision", "nvfp4"], ("H100-SXM has no fp4 unit", "fp8", "w4a16")),
    ([MODEL, "--gpu", "A100-80GB-SXM", "--precision", "fp8"], ("no fp8 unit", "int8")),
    ([MODEL, "--gpu", GPU, "--kv-cache", "fp12"], ("fp12", "did you mean")),
    ([MODEL, "--gpu", GPU, "--engine", "vlm"], ("vlm", "did you mean 'vllm'")),
    ([MODEL, "--gpu", GPU, "--system", "HGX-A100"], ("HGX-A100", "not of H100-SXM")),
    ([MODEL, "--gpu", GPU, "--system", "HGX-H1000"], ("HGX-H1000", "did you mean 'HGX-H100'")),
    ([MODEL, "--gpu", GPU, "--mode", "guess"], ("--mode", "guess")),
    ([MODEL, "--gpu", GPU, "--sampler", "greed"], ("sampler", "greed")),
    ([MODEL, "--gpu", GPU, "--input", "0"], ("input_tokens", "greater than or equal to 1")),
    ([MODEL, "--gpu", GPU, "--input", "-5"], ("input_tokens", "-5")),
    ([MODEL, "--gpu", GPU, "--input", "nan"], ("input_tokens", "nan")),
    ([MODEL, "--gpu", GPU, "--input", "inf"], ("input_tokens", "inf")),
    ([MODEL, "--gpu", GPU, "--input", "1e9"], ("input_tokens",)),
    ([MODEL, "--gpu", GPU, "--input", "200000"], ("131,072", "Llama-3.1-8B")),
    ([MODEL, "--gpu", GPU, "--output", "many"], ("--output", "many")),
    ([MODEL, "--gpu", GPU, "--concurrency", "0"], ("concurrency",)),
    ([MODEL, "--gpu", GPU, "--prefix-hit", "1.5"], ("prefix_hit", "less than 1")),
    ([MODEL, "--gpu", GPU, "--price", "-1"], ("price_per_hour", "-1")),
    ([MODEL, "--gpu", GPU, "--price", "nan"], ("price_per_hour", "nan")),
    ([MODEL, "--gpu", GPU, "--target", "ttft"], ("ttft=800ms",)),
    ([MODEL, "--gpu", GPU, "--target", "ttft=800"], ("'800' is not a quantity in s", "40 ms")),
    ([MODEL, "--gpu", GPU, "--target", "tfft=800ms"], ("tfft", "did you mean 'ttft'")),
    ([MODEL, "--gpu", GPU, "--max-num-seqs", "0"], ("max_num_seqs",)),
    ([MODEL, "--gpu", GPU, "--gpu-memory-utilization", "1.2"], ("gpu_memory_utilization", "less than or equal to 1")),
    ([MODEL, "--gpu", GPU, "--max-model-len", "100", "--input", "200"], ("100",)),
    ([MODEL, "--gpu", "RTX-4090", "--tp", "64"], ("RTX", "64")),
    ([MODEL, "--gpu", GPU, "--unknown-option"], ("--unknown-option",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"), ARGUMENTS, ids=[" ".join(a[:1] + a[3:]) or "empty" for a, _ in ARGUMENTS]
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], said: tuple[str, ...]) -> None:
    assert_kind(capsys, ["estimate", *arguments], *said)


CONFIGS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("truncated", '{"hidden_size": 4096, "num_hid', ("config.json", "JSON")),
    ("empty", "", ("config.json", "JSON")),
    ("a list", "[1, 2]", ("config.json",)),
    ("a number", "7", ("config.json",)),
    ("binary", b"\x80\x81\xff\x00", ("config.json",)),
    ("no fields", {}, ("config.json",)),
    ("no layers", {k: v for k, v in CONFIG.items() if k != "num_hidden_layers"}, ("config.json", "num_hidden_layers")),
    ("no width", {k: v for k, v in CONFIG.items() if k != "hidden_size"}, ("config.json", "hidden_size")),
    ("negative width", CONFIG | {"hidden_size": -512}, ("config.json", "hidden_size", "-512")),
    ("zero heads", CONFIG | {"num_attention_heads": 0}, ("config.json", "num_attention_heads")),
    ("text for a number", CONFIG | {"vocab_size": "many"}, ("config.json", "vocab_size", "many")),
    ("half a layer", CONFIG | {"num_hidden_layers": 4.5}, ("config.json", "num_hidden_layers", "4.5")),
    ("true for a number", CONFIG | {"num_hidden_layers": True}, ("config.json", "num_hidden_layers")),
    ("nan", json.dumps(CONFIG).replace("1024", "NaN"), ("config.json", "intermediate_size")),
    ("astronomic", CONFIG | {"vocab_size": 10**30}, ("config.json", "vocab_size")),
    ("indivisible width", CONFIG | {"hidden_size": 515}, ("config.json", "515", "8")),
    ("indivisible KV heads", CONFIG | {"num_key_value_heads": 3}, ("config.json", "3")),
    ("unknown quantisation", CONFIG | {"quantization_config": {"quant_method": "magic"}}, ("magic",)),
    ("quantisation is a word", CONFIG | {"quantization_config": "fp8"}, ("config.json", "quantization_config")),
]


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in CONFIGS], ids=[case[0] for case in CONFIGS])
def test_wrong_configs(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: Any, said: tuple[str, ...]) -> None:
    path = tmp_path / "config.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert_kind(capsys, ["estimate", str(path), "--gpu", GPU], *said)


def test_a_hundred_megabytes_of_junk_are_refused_unread(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 100_000_000)
    assert_kind(capsys, ["estimate", str(path), "--gpu", GPU], "config.json", "too large")


def test_a_folder_without_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert_kind(capsys, ["estimate", str(tmp_path), "--gpu", GPU], "config.json")


SPECS = [
    ("malformed", ACCELERATOR + "  - ]", ("mine.yaml", "not valid YAML", "line")),
    ("a list", "- 1\n- 2\n", ("mine.yaml", "mapping")),
    ("empty", "", ("mine.yaml", "mapping")),
    ("no unit", ACCELERATOR.replace("80 GB", "80"), ("mine.yaml", "memory.capacity", "'80' is not a quantity in B", "'80 GB'")),
    ("wrong unit", ACCELERATOR.replace("2 TB/s", "2 TB"), ("mine.yaml", "memory.bandwidth", "450 GB/s")),
    ("bits for bytes", ACCELERATOR.replace("2 TB/s", "2 Tbit/s"), ("mine.yaml", "memory.bandwidth", "B/s")),
    ("negative", ACCELERATOR.replace("80 GB", "-80 GB"), ("mine.yaml", "memory.capacity", "positive")),
    ("nan", ACCELERATOR.replace("80 GB", ".nan"), ("mine.yaml", "memory.capacity")),
    ("too large", ACCELERATOR.replace("80 GB", "1e400 GB"), ("mine.yaml", "memory.capacity", "too large")),
    ("misspelt field", ACCELERATOR.replace("bandwidth", "bandwith"), ("mine.yaml", "bandwith", "did you mean 'bandwidth'")),
    ("misspelt top field", ACCELERATOR.replace("vendor", "vender"), ("mine.yaml", "vender", "did you mean 'vendor'")),
    ("unknown unit of arithmetic", ACCELERATOR.replace("bf16", "bf17"), ("mine.yaml", "bf17")),
    ("no 16-bit rate", ACCELERATOR.replace("bf16", "int8"), ("mine.yaml", "bf16, fp16, fp32")),
    ("no memory", ACCELERATOR.replace("memory: {", "memori: {"), ("mine.yaml", "memory", "missing")),
    ("no sources", "\n".join(ACCELERATOR.splitlines()[:-1]), ("mine.yaml", "sources", "missing")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in SPECS], ids=[case[0] for case in SPECS])
def test_wrong_hardware_specs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: tuple[str, ...]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert_kind(capsys, ["estimate", MODEL, "--gpu", str(path)], *said)


def test_specs_folder_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert_kind(capsys, ["--specs", str(tmp_path / "nowhere"), "hardware"], "no such folder", "nowhere")


def test_unknown_vendor(capsys: pytest.CaptureFixture[str]) -> None:
    assert_kind(capsys, ["hardware", "--vendor", "Voodoo"], "Voodoo")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert_kind(capsys, ["estimat"], "estimat")


def test_own_spec_works(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ACCELERATOR)
    code, out, err = run(capsys, "estimate", MODEL, "--gpu", str(path), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["accelerator"] == "Mine"


def test_too_small_is_one_not_two(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "estimate", "meta-llama/Llama-3.1-70B", "--gpu", GPU)
    assert code == 1
    assert "does not fit" in out
    assert "short by" in out
    assert "TP 2 or fp8" in out
