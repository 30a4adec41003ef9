"""Predict a model that is not bundled, from the fields of its Hugging Face config.json."""

import json
import tempfile
from pathlib import Path

import infersim

config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "config.json").write_text(json.dumps(config))
    model = infersim.load_model(folder)

answer = infersim.estimate(
    model, "L4", precision="fp8", input_tokens=1000, output_tokens=200, concurrency=4, mode="bound"
)
print(f"{model.total_parameters:,} parameters, fits: {answer.fits}")
print(f"KV cache holds {answer.memory.kv_tokens:,.0f} tokens")
for part in answer.decode_step.parts()[:3]:
    print(f"{part.name:<12} {part.seconds * 1e6:6.0f} us  {part.bound}-bound")
