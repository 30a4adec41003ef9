"""A scenario to start from, with a word on every section."""

STARTER = """\
# yaml-language-server: $schema=scenario.schema.json
# (infersim schema -o scenario.schema.json writes that file: editors then complete and check what you type)
#
#   infersim run FILE              answers it
#   infersim run FILE -o results/  keeps the answers; infersim report results/ makes a page of them
#   infersim diff FILE other.yaml  tells why two scenarios differ
infersim: 1
name: chat
description: A chat assistant of 70B on four H100s; what would two H200s change?

# What runs, and on what: names (infersim models, infersim hardware), files, or written out here.
model: meta-llama/Llama-3.1-70B-Instruct
hardware: H100-SXM

# How it is placed: parallelism, formats, the engine and its settings by vLLM's names.
deployment:
  tensor_parallel: 4
  precision: fp8
  # engine: vllm            # sglang, trtllm, tgi
  # max_num_seqs: 256
  # replicas: 2

# What is sent. Lengths in tokens, plain or as distributions; users in a closed loop, or arrivals.
workload:
  input_tokens: {lognormal: {mean: 1200, p99: 6000}}
  output_tokens: {lognormal: {mean: 300, cv: 1}}
  arrivals: {poisson: 3 /s}
  num_requests: 1000
  # concurrency: 32         # in place of arrivals: users who wait for their answers, in closed form
  # prefix: {shared_tokens: 600, hit_rate: 0.8}
  # trace: requests.csv     # in place of all of them

# What must be kept. Percentiles and arrivals make it a simulation, means and users a closed form.
target: {ttft_p95: 800 ms, tpot_p95: 60 ms}

# Prices. With terms, devices or api the question is what the load costs.
cost:
  gpu_hour: 2.50 USD
  # terms: buy              # on_demand, reserved_1y, reserved_3y, spot

seed: 0

# Other cases: what each changes, by path.
what_if:
  - {name: two H200, hardware: H200-SXM, deployment.tensor_parallel: 2}
  - {name: more memory bandwidth, hardware.memory.bandwidth: 4.8 TB/s}
  - name: load
    grid:
      workload.arrivals.poisson: [2 /s, 5 /s]

# What is expected; infersim run ends with 1 where it is not met, which makes this a check for CI.
expect:
  target_met: true
  ttft_p95_s: "< 800 ms"
  case:
    two H200: {output_tokens_per_s_per_gpu: "> 200"}
"""
