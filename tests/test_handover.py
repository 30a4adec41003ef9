"""Hand-over: flags that the engines have, commands that read back, manifests that hold the right devices, figures to check against."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infersim import EngineKnobs, estimate, plan
from infersim.cli.app import main
from infersim.errors import InferSimError, NoPlanError, SpecError, UnsupportedError
from infersim.planning.handover.at_rate import at_rate
from infersim.planning.handover.flags import FlagTable, load_flags, rendered
from infersim.planning.handover.handover import hand_over
from infersim.planning.handover.launch import launch_command
from infersim.planning.handover.manifests import deployment_manifest, inference_service, resource_name
from infersim.planning.handover.verify import FLAGS, bench_command, check_result, expected_figures
from infersim.planning.options import Option
from infersim.predict.estimate import Estimate
from infersim.serving.target import read_limits
from infersim.specs.library import validate

LLAMA, LARGE, EXPERTS = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-30B-A3B"
ENGINES = ("vllm", "sglang", "trtllm")


@functools.lru_cache
def large(engine: str = "vllm", **knobs: int) -> Estimate:
    return estimate(LARGE, "H100-SXM", tensor_parallel=4, precision="fp8", engine=engine, input_tokens=1000, output_tokens=300,
                    concurrency=32, knobs=EngineKnobs(**knobs))  # fmt: skip


@functools.lru_cache
def pools() -> Option:
    return plan(LARGE, "H100-SXM", request_rate=20, input_tokens=1000, output_tokens=300, target="ttft_p95=800ms,tpot_p95=40ms",
                pools="disaggregated", verify=1).best  # fmt: skip


def flags_in(words: tuple[str, ...]) -> set[str]:
    return {word for word in words if word.startswith("--")}


# -- commands -------------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_flag_is_in_the_table_and_commands_read_back(data: st.DataObject) -> None:
    engine = data.draw(st.sampled_from(ENGINES))
    model = data.draw(st.sampled_from([LLAMA, EXPERTS]))
    tensor, adp = data.draw(st.sampled_from([(1, 1), (2, 1), (4, 1), (1, 4), (2, 2)]))
    moe = model == EXPERTS
    knobs = EngineKnobs(
        max_num_seqs=data.draw(st.sampled_from([None, 64])), max_num_batched_tokens=data.draw(st.sampled_from([None, 4096])),
        gpu_memory_utilization=data.draw(st.sampled_from([None, 0.85])), max_model_len=data.draw(st.sampled_from([None, 8192])),
        enable_prefix_caching=data.draw(st.sampled_from([None, False, True])), enforce_eager=data.draw(st.booleans()),
        enable_chunked_prefill=data.draw(st.sampled_from([None, True])), block_size=data.draw(st.sampled_from([None, 32])),
    )  # fmt: skip
    try:
        one = estimate(
            model, "H100-SXM", tensor_parallel=tensor, attention_data_parallel=adp if moe else 1,
            expert_parallel=tensor * adp if moe and data.draw(st.booleans()) else 1, engine=engine, knobs=knobs,
            precision=data.draw(st.sampled_from([None, "fp8", "fp8_block", "w4a16"])), kv_cache=data.draw(st.sampled_from([None, "fp8"])),
        )  # fmt: skip
    except InferSimError:
        return
    launch = launch_command(one)
    table = load_flags(engine)
    assert flags_in(launch.argv) <= table.words()
    assert tuple(shlex.split(launch.shell.replace("\\\n", " "))) == launch.argv
    assert launch.devices == one.parallelism.devices_per_replica
    for name, value in knobs.model_dump(exclude_defaults=True).items():
        said = " ".join(launch.argv) + "".join(launch.files.values()) + " ".join(launch.notes)
        if isinstance(value, int) and not isinstance(value, bool):
            assert str(value) in said, name


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_commands(engine: str) -> None:
    """Llama-3.1-70B in fp8 on four H100, 256 sequences and 4,096 tokens a step."""
    words = " ".join(launch_command(large(engine, max_num_seqs=256, max_num_batched_tokens=4096)).argv)
    assert (
        words
        == {
            "vllm": f"vllm serve {LARGE} --tensor-parallel-size 4 --quantization fp8 --max-num-seqs 256 --max-num-batched-tokens 4096",
            "sglang": f"python -m sglang.launch_server --model-path {LARGE} --tensor-parallel-size 4 --quantization fp8 "
            "--max-running-requests 256 --chunked-prefill-size 4096",
            "trtllm": f"trtllm-serve serve {LARGE} --tp_size 4 --max_batch_size 256 --max_num_tokens 4096",
        }[engine]
    )


def test_attention_data_parallelism_is_said_in_each_engines_way() -> None:
    def words(engine: str) -> str:
        one = estimate(
            "deepseek-ai/DeepSeek-V3",
            "H200-SXM",
            tensor_parallel=2,
            attention_data_parallel=4,
            expert_parallel=8,
            engine=engine,
        )
        launch = launch_command(one)
        return " ".join(launch.argv) + " " + "".join(launch.files.values())

    assert "--tensor-parallel-size 2 --data-parallel-size 4 --enable-expert-parallel" in words("vllm")
    assert "--tensor-parallel-size 8 --data-parallel-size 4 --enable-dp-attention --expert-parallel-size 8" in words(
        "sglang"
    )
    trtllm = words("trtllm")
    assert "--tp_size 8 --ep_size 8" in trtllm
    assert "enable_attention_dp: true" in trtllm


def test_a_format_without_a_flag_asks_for_a_checkpoint() -> None:
    one = estimate(LARGE, "H100-SXM", tensor_parallel=2, precision="w4a16")
    launch = launch_command(one)
    assert "--quantization" not in launch.argv
    assert any("load a checkpoint" in note and "w4a16" in note for note in launch.notes)


def test_drafts_are_handed_over() -> None:
    drafts = "method=ngram,num_speculative_tokens=3,acceptance=0.7"
    one = estimate(LLAMA, "H100-SXM", speculation=drafts)
    argv = launch_command(one).argv
    assert json.loads(argv[argv.index("--speculative-config") + 1]) == {"method": "ngram", "num_speculative_tokens": 3}
    assert (
        "--speculative-algorithm"
        in launch_command(estimate(LLAMA, "H100-SXM", speculation=drafts, engine="sglang")).argv
    )


def test_replicas_over_nodes_say_so() -> None:
    one = estimate(LARGE, "H100-SXM", tensor_parallel=8, pipeline_parallel=2)
    launch = launch_command(one)
    assert launch.nodes == 2
    assert launch.argv[launch.argv.index("--nnodes") : launch.argv.index("--nnodes") + 2] == ("--nnodes", "2")
    with pytest.raises(UnsupportedError, match="spans 2 nodes"):
        deployment_manifest(one, 1)
    service = yaml.safe_load(inference_service(one, 1))
    assert service["spec"]["worker"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert service["spec"]["parallelism"]["pipeline"] == 2


# -- tables -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_every_table_has_a_version_and_sources(engine: str) -> None:
    table = load_flags(engine)
    assert table.version
    assert {"flags", "image"} <= {field for source in table.sources for field in source.of}
    assert len(table.flags) > 10


def test_tables_refuse_what_they_do_not_know() -> None:
    with pytest.raises(SpecError, match=r"takes no 'max_num_sequences'; did you mean 'max_num_seqs'"):
        rendered(load_flags("vllm"), {"max_num_sequences": 3})
    raw = load_flags("vllm").model_dump()
    with pytest.raises(SpecError, match="flags"):
        validate(FlagTable, raw | {"flags": {"tensor_parallel": {"flag": "tensor-parallel"}}})
    with pytest.raises(SpecError, match="state one"):
        validate(FlagTable, raw | {"flags": {"x": {"flag": "--x", "key": "x"}}})


# -- manifests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_deployment_has_the_devices_and_replicas(engine: str) -> None:
    documents = {d["kind"]: d for d in yaml.safe_load_all(deployment_manifest(large(engine), 3))}
    spec = documents["Deployment"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 3
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4"} == container["resources"]["requests"]
    assert (
        spec["selector"]["matchLabels"]
        == spec["template"]["metadata"]["labels"]
        == documents["Service"]["spec"]["selector"]
    )
    assert container["ports"][0]["containerPort"] == load_flags(engine).port
    assert 10 * container["startupProbe"]["failureThreshold"] >= 120
    assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in spec["template"]["spec"]["volumes"]}


def test_two_pools_become_one_inference_service() -> None:
    option = pools()
    given_over = hand_over(option)
    service = yaml.safe_load(given_over.files["kserve.yaml"])
    assert service["spec"]["replicas"] == option.replicas
    assert service["spec"]["prefill"]["replicas"] == option.prefill_replicas
    kinds = [
        d["metadata"]["name"]
        for d in yaml.safe_load_all(given_over.files["deployment.yaml"])
        if d["kind"] == "Deployment"
    ]
    assert len(set(kinds)) == 2
    assert all("kv_both" in command for command in given_over.commands.values())


def test_a_vendor_without_a_plugin_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no Kubernetes resource is known for devices of Apple"):
        resource_name("Apple")


# -- the load test ----------------------------------------------------------------------------------------------------------------


def test_bench_asks_for_the_workload() -> None:
    one = estimate(LLAMA, "H100-SXM", input_tokens=1000, output_tokens=200, prefix_hit=0.4, concurrency=16)
    words = bench_command(one, limits=read_limits("ttft_p95=800ms,tpot_p95=40ms"))
    assert flags_in(words) <= set(FLAGS)

    def value(flag: str) -> str:
        return words[words.index(flag) + 1]

    assert (value("--random-input-len"), value("--random-prefix-len"), value("--random-output-len")) == (
        "600",
        "400",
        "200",
    )
    assert value("--max-concurrency") == "16"
    assert words[words.index("--goodput") + 1 : words.index("--goodput") + 3] == ("ttft:800", "tpot:40")
    rate = bench_command(pools())
    assert rate[rate.index("--request-rate") + 1] == "20"


def test_expected_figures_are_the_predictions() -> None:
    one = large()
    figures = {figure.key: figure for figure in expected_figures(one)}
    interval = one.interval("tpot", 90)
    assert interval is not None
    assert figures["mean_tpot_ms"].value == pytest.approx(one.tpot * 1e3)
    assert (figures["mean_tpot_ms"].low, figures["mean_tpot_ms"].high) == pytest.approx(
        (interval.low * 1e3, interval.high * 1e3)
    )
    option = pools()
    simulated = {figure.key: figure.value for figure in expected_figures(option)}
    assert option.verified is not None
    assert simulated["p95_ttft_ms"] == pytest.approx(option.verified.settled().percentile("ttft", 95) * 1e3)


def test_a_result_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = large()
    expected = expected_figures(one)
    good = {figure.key: figure.value for figure in expected}
    file = tmp_path / "result.json"
    file.write_text(json.dumps(good | {"duration": 12.0}))
    assert all(verdict.inside in (True, None) for verdict in check_result(file, expected))
    file.write_text(json.dumps(good | {"mean_tpot_ms": 10 * good["mean_tpot_ms"]}))
    assert [v.expected.key for v in check_result(file, expected) if v.inside is False] == ["mean_tpot_ms"]
    arguments = ("launch", LARGE, "--gpu", "H100-SXM", "--tp", "4", "--precision", "fp8", "-i", "1000", "-o", "300", "-c", "32", "--check",
                 str(file))  # fmt: skip
    code, out, _ = run(capsys, *arguments)
    assert code == 1
    assert "OUTSIDE" in out


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mean_ttft_ms": true}', '{"other": 1}'])
def test_what_is_no_result_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"result\.json: "):
        check_result(file, expected_figures(large()))


# -- together ---------------------------------------------------------------------------------------------------------------------


def test_files_are_written_whole(tmp_path: Path) -> None:
    given_over = hand_over(large(), replicas=2)
    written = given_over.write(tmp_path / "deep" / "folder")
    assert {path.name for path in written} == set(given_over.files)
    assert all(path.read_text() == given_over.files[path.name] for path in written)
    assert not [path for path in (tmp_path / "deep" / "folder").iterdir() if path.name.startswith(".")]
    assert max(len(line) for line in str(given_over).splitlines()) <= 90
    json.dumps(given_over.to_dict())


def test_at_rate_refuses_what_is_not_served() -> None:
    assert at_rate(large(), 2.0).request_rate == 2.0
    with pytest.raises(NoPlanError, match="serves at most"):
        at_rate(large(), 1e4)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_command_writes_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "launch",
        LLAMA,
        "--gpu",
        "H100-SXM,L40S",
        "--plan",
        "-r",
        "10",
        "--target",
        "ttft_p95=1s",
        "--out",
        str(tmp_path),
    )
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    for words in ("vllm serve", "vllm bench serve", "expected", "mean_ttft_ms", "written to"):
        assert words in out
    assert (tmp_path / "launch.sh").stat().st_mode & 0o100
    assert run(capsys, "launch", LLAMA, "--gpu", "H100-SXM", "--plan")[0] == 2
    assert run(capsys, "launch", LLAMA, "--gpu", "H100-SXM", "--engine", "tgi")[0] == 2
    _, out, _ = run(capsys, "launch", LLAMA, "--gpu", "H100-SXM", "-r", "3", "--json")
    assert "--request-rate" in json.loads(out)["bench"]
