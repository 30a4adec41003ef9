"""From a Hugging Face ``config.json`` to a ModelSpec.

Most architectures are a decoder whose fields have a handful of names; ``TRAITS`` says what a family does where its config
keeps silent (biases, norms, tied embeddings), and ``layouts`` holds a short function for each family with a mechanism of
its own. A family that is in neither still loads when its fields are standard, with a warning that says what was assumed.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infersim.errors import InferSimError, SpecError, UnknownNameError
from infersim.specs import layouts, library, towers
from infersim.specs.fields import ConfigReader
from infersim.specs.layouts import Layout
from infersim.specs.model import EmbeddingTable, ModelSpec
from infersim.specs.quantity import Source
from infersim.specs.quantization import checkpoint_precision
from infersim.specs.traits import CLASS_DEFAULTS, TRAITS, Traits, family

MAX_CONFIG_BYTES = 20_000_000
"""A config larger than this is refused before it is read."""

LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length", "max_seq_len")


def load_model(name: str | Path) -> ModelSpec:
    """The model called ``name``: a bundled spec (which wins over a folder of that name), a folder with a ``config.json``, a
    ``.json`` or ``.yaml`` file, or an id in the local Hugging Face cache; an id that is nowhere is downloaded where
    ``huggingface_hub`` is installed and online.

    Raises SpecError (with file and field) for a config that cannot be used, UnknownNameError with the nearest names.

    >>> load_model("meta-llama/Llama-3.1-8B").num_layers
    32
    """
    text = str(name)
    if not text.strip():
        raise UnknownNameError(f"a name of a model is needed, got {text!r}", field="model")
    if text.endswith((".yaml", ".yml")) or not (text.startswith((".", "/", "~")) or text.endswith(".json")):
        try:
            return library.load_bundled_model(text)
        except UnknownNameError as error:
            unknown = error
    else:
        unknown = UnknownNameError(f"no file or folder {text!r}", field="model")
    path = Path(text).expanduser()
    if path.is_dir():
        return _from_file(path / "config.json")
    if path.suffix == ".json":
        return _from_file(path)
    cached = cached_config(text) or _download(text)
    if cached is None:
        raise unknown
    return _from_file(cached, name=text)


def _from_file(path: Path, name: str | None = None) -> ModelSpec:
    if not path.is_file():
        raise SpecError("no such file", file=path)
    sidecar = path.with_name("hf_quant_config.json")
    stats = tuple(
        (stat.st_mtime_ns, stat.st_size) for file in (path, sidecar) if file.is_file() and (stat := file.stat())
    )
    return _parse(path, stats, name)


@functools.lru_cache(maxsize=64)
def _parse(path: Path, versions: tuple[tuple[int, int], ...], name: str | None) -> ModelSpec:
    """Read and build, once per version of a file."""
    config = read_json(path)
    sidecar = path.with_name("hf_quant_config.json")
    quantised = read_json(sidecar) if sidecar.is_file() else None
    own = config.get("_name_or_path")
    label = name or (
        own if isinstance(own, str) and "/" in own and not own.startswith(("/", ".")) else path.resolve().parent.name
    )
    return from_config(config, name=label, file=path, quantization=quantised)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; SpecError where it is too large, cut off, or something else."""
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise SpecError(f"{size:,} bytes is too large for a config (at most {MAX_CONFIG_BYTES:,})", file=path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError("not a text file (JSON in UTF-8 expected)", file=path) from error
    except json.JSONDecodeError as error:
        raise SpecError(
            f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})", file=path
        ) from error
    except (RecursionError, ValueError) as error:
        raise SpecError("not valid JSON: nested too deeply or a number too long", file=path) from error
    if not isinstance(data, dict):
        raise SpecError(f"should be an object of fields, found {type(data).__name__}", file=path)
    return data


def cached_config(name: str) -> Path | None:
    """The config of a Hugging Face id in the local cache, the newest snapshot, or None."""
    home = os.environ.get("HF_HUB_CACHE") or os.path.join(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub")  # noqa: PTH118
    folder = Path(home).expanduser() / ("models--" + name.replace("/", "--")) / "snapshots"
    found = (
        sorted(folder.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
        if "/" in name or folder.is_dir()
        else []
    )
    return found[-1] if found else None


def _download(name: str) -> Path | None:
    """Fetch a config from the hub where the library for it is installed and the network allows it."""
    if (
        name.count("/") != 1
        or name.startswith((".", "/", "~"))
        or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    ):
        return None
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None
    if not _reachable(os.environ.get("HF_ENDPOINT") or "https://huggingface.co"):
        return None
    try:
        return Path(hf_hub_download(name, "config.json"))
    except Exception:
        return None


def _reachable(endpoint: str) -> bool:
    """Whether a server answers at all: the hub's own client tries for half a minute before it gives up."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    if getproxies():
        return True
    try:
        address = urlsplit(endpoint)
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=3):
            return True
    except (OSError, ValueError):
        return False


def from_config(
    config: dict[str, Any], *, name: str, file: str | Path | None = None, quantization: dict[str, Any] | None = None
) -> ModelSpec:
    """A ModelSpec from the fields of a config; ``quantization`` is a separate quantisation file where there is one.

    >>> tiny = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    ...         "num_hidden_layers": 2, "vocab_size": 100}
    >>> from_config(tiny, name="tiny").total_parameters
    95040
    """
    try:
        return _build(config, name, file, quantization)
    except ValidationError as error:
        raise SpecError(library.explain(error, ModelSpec), file=file) from error
    except InferSimError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SpecError(f"cannot be read as a model's config: {error}", file=file) from error


def _build(
    config: dict[str, Any], name: str, file: str | Path | None, quantization: dict[str, Any] | None
) -> ModelSpec:
    """Read the parts and put them together."""
    outer = ConfigReader(config, file)
    inner = next(
        (found for key in ("text_config", "llm_config", "language_config") if (found := outer.nested(key))), None
    )
    reader = inner or outer
    kind = family(reader, outer)
    if outer.has("patch_size") and not outer.has("vocab_size") and towers.is_tower(outer):
        return _vision_encoder(outer, name)
    traits = TRAITS.get(kind)
    if kind in CLASS_DEFAULTS:
        reader.config = CLASS_DEFAULTS[kind] | {key: value for key, value in reader.config.items() if value is not None}
    if traits is None:
        traits = _assume_generic(reader, outer, kind)
    layout = layouts.BY_FAMILY.get(kind, layouts.decoder)(reader, traits)
    data = _assemble(reader, outer, traits, layout, name)
    data["precision"] = checkpoint_precision(outer, quantization).model_dump()
    data["towers"] = {label: tower for label, tower in (data["towers"] | towers.read(outer)).items() if tower}
    data["warnings"] = tuple(reader.warnings)
    data["sources"] = (Source(of=("architecture",), ref=f"config.json of {name}"),)
    return library.validate(ModelSpec, data, file=file)


def _vision_encoder(reader: ConfigReader, name: str) -> ModelSpec:
    """A vision tower alone. It has no vocabulary: one row stands for the class embedding, where it has one."""
    tower = towers.vision_tower(reader, reader)
    data = tower.model_dump(exclude={"kind", "other_parameters", "tokens_per_item", "patches_per_item"})
    data |= {
        "name": name, "task": "encode", "vocab_size": 1, "lm_head": False, "final_norm": False,
        "other_parameters": tower.other_parameters - tower.hidden_size, "precision": checkpoint_precision(reader).model_dump(),
        "warnings": tuple(reader.warnings), "sources": (Source(of=("architecture",), ref=f"config.json of {name}"),),
    }  # fmt: skip
    return library.validate(ModelSpec, data, file=reader.file)


PLAIN_ACTIVATIONS = ("relu", "relu2", "gelu", "gelu_new", "gelu_fast", "quick_gelu")
"""Activations that blocks without a gate use; gated ones have silu or a named variant of gelu."""


def _assume_generic(reader: ConfigReader, outer: ConfigReader, kind: str) -> Traits:
    """Traits of an unknown architecture, read as a standard decoder with a warning; refused where its fields say otherwise."""
    architecture = (outer.listed("architectures") or [kind or "without a name"])[0]
    if "MaskedLM" in str(architecture) or "bert" in kind.lower() or reader.has("type_vocab_size"):
        raise SpecError(f"architecture {architecture!r} is an encoder that is not modelled", file=reader.file)
    strange = [key for key in reader if any(part in key for part in layouts.UNKNOWN_MECHANISMS) and reader.config[key]]
    if strange:
        raise SpecError(
            f"architecture {architecture!r} has fields of a mechanism that is not modelled: {', '.join(sorted(strange)[:4])}",
            file=reader.file,
        )
    activation = reader.text("hidden_act", "hidden_activation", "activation_function")
    gated = activation not in PLAIN_ACTIVATIONS
    block = "gated MLP" if gated else f"plain MLP, as activation {activation!r} is used in"
    reader.warnings.append(
        f"architecture {architecture!r} is not known: read from its fields as a standard decoder "
        f"({block}, RMS norms before each block, no biases unless stated)"
    )
    return Traits(gated=gated)


def _assemble(reader: ConfigReader, outer: ConfigReader, traits: Traits, layout: Layout, name: str) -> dict[str, Any]:
    """The fields of a ModelSpec, as plain values."""
    hidden = layouts.hidden_size(reader)
    vocabulary = reader.size("vocab_size", "padded_vocab_size")
    architectures = outer.listed("architectures") or []
    architecture = architectures[0] if architectures and isinstance(architectures[0], str) else ""
    task = _task(architecture, traits)
    tied = reader.flag("tie_word_embeddings", default=outer.flag("tie_word_embeddings", default=traits.tied))
    tables = dict(layout.tables)
    if traits.positions is not None:
        length = reader.size("max_position_embeddings", "n_positions", default=1024)
        tables["positions"] = EmbeddingTable(rows=length + traits.positions, width=hidden)
    if traits.token_types and reader.size("type_vocab_size", default=2, least=0):
        tables["token_types"] = EmbeddingTable(rows=reader.size("type_vocab_size", default=2), width=hidden)
    head, other = _head(task, traits, hidden, reader)
    if "MaskedLM" in architecture:
        other = hidden * hidden + vocabulary + (3 * hidden if traits.norm == "layer" else hidden)
    if traits.relative_buckets:
        other += traits.relative_buckets * layouts.num_heads(reader)
    width = reader.maybe("word_embed_proj_dim", "embedding_size")
    if width is not None and width != hidden:
        other += 2 * hidden * width
    return {
        "name": name,
        "architecture": architecture,
        "task": task,
        "hidden_size": hidden,
        "vocab_size": vocabulary,
        "max_position_embeddings": reader.maybe(*LENGTH_FIELDS),
        "embedding_width": width if width != hidden else None,
        "embedding_tables": {label: table.model_dump() for label, table in tables.items()},
        "embedding_norm": traits.embedding_norm,
        "tie_word_embeddings": tied and task == "generate",
        "lm_head": head,
        "lm_head_bias": head and reader.flag("lm_head_bias", default=traits.lm_head_bias),
        "final_norm": traits.final_norm and reader.flag("final_layernorm", default=True),
        "norm": traits.norm,
        "norms_per_layer": traits.norms if layout.norms is None else layout.norms,
        "parallel_blocks": traits.parallel,
        "residual_streams": layout.residual_streams,
        "layer_parameters": layout.layer_parameters,
        "other_parameters": other + layout.other_parameters,
        "mixers": {label: mixer.model_dump() for label, mixer in layout.mixers.items()},
        "feed_forwards": {label: block.model_dump() for label, block in layout.feed_forwards.items()},
        "layers": [layer.model_dump() for layer in layout.layers()],
        "towers": {label: tower.model_dump() for label, tower in layout.towers.items()},
    }  # fmt: skip


def _task(architecture: str, traits: Traits) -> str:
    if "SequenceClassification" in architecture:
        return "rerank"
    if traits.encoder:
        return "embed"
    return "generate"


def _head(task: str, traits: Traits, hidden: int, reader: ConfigReader) -> tuple[bool, int]:
    """(has an LM head, other weights): poolers and classifiers of encoders."""
    if task == "generate":
        return True, 0
    if task == "rerank":
        labels = reader.raw("id2label")[1]
        count = (
            len(labels) if isinstance(labels, dict) and labels else reader.size("num_labels", "_num_labels", default=1)
        )
        return False, hidden * hidden + hidden + count * (hidden + 1)
    return False, (hidden * hidden + hidden) if traits.pooler else 0
