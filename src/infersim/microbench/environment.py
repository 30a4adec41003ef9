"""What a measurement was taken on: all that is needed to take it again, as far as the machine tells."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infersim._version import __version__

CPU = Path("/sys/devices/system/cpu")
UNKNOWN_CACHE = 32 * 2**20
"""Last-level cache assumed where the system does not tell [B]."""


def environment(device: str, threads: int | None = None) -> dict[str, Any]:
    """Device, driver, libraries, threads and date; a key is left out where the machine does not tell."""
    found: dict[str, Any] = {
        "infersim": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": threads or cores(),
        "memory_bytes": memory_bytes(),
        "cache_bytes": cpu_caches(),
        "clock_hz": cpu_clock(),
        "device_name": cpu_name(),
    }
    found |= _libraries()
    if device in ("cuda", "mps", "xpu"):
        found |= _gpu(device)
    return {name: value for name, value in found.items() if value not in (None, {}, "")}


def conditions(device: str) -> dict[str, float]:
    """Clocks, temperature and power right now, where the driver tells."""
    if device == "cuda":
        wanted = {"clocks.sm": ("clock_hz", 1e6), "clocks.mem": ("memory_clock_hz", 1e6), "temperature.gpu": ("temperature_c", 1.0),
                  "power.draw": ("power_w", 1.0)}  # fmt: skip
        told = _nvidia_smi(",".join(wanted))
        return {
            name: float(text) * factor
            for (name, factor), text in zip(wanted.values(), told, strict=False)
            if text.replace(".", "", 1).isdigit()
        }
    found: dict[str, float] = {}
    clock = cpu_clock()
    if clock:
        found["clock_hz"] = clock
    heat = [
        int(text) / 1000
        for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")
        if (text := _text(path)).isdigit()
    ]
    if heat:
        found["temperature_c"] = max(heat)
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_info(field: str) -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == field:
            return value.strip()
    return ""


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    if sys.platform == "darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return _cpu_info("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction sets, where the system lists them."""
    return frozenset((_cpu_info("flags") or _cpu_info("features")).split())


def cpu_clock() -> float | None:
    """Clock of the first core now [Hz]."""
    told = _text(CPU / "cpu0/cpufreq/scaling_cur_freq")
    if told.isdigit():
        return float(told) * 1e3
    shown = _cpu_info("cpu mhz")
    return float(shown) * 1e6 if shown else None


def cpu_caches() -> dict[str, int]:
    """Bytes of each level as the first core sees it: L1, L2, L3."""
    found = {}
    for index in sorted((CPU / "cpu0/cache").glob("index*")):
        size, level = _text(index / "size"), _text(index / "level")
        if _text(index / "type") != "Instruction" and size[:-1].isdigit():
            found[f"L{level}"] = int(size[:-1]) * {"K": 2**10, "M": 2**20}.get(size[-1], 1)
    return found


def memory_bytes() -> int | None:
    """Memory of the host."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def last_level_cache(device: str) -> float:
    """Bytes of the cache that stands before the device's memory; ``UNKNOWN_CACHE`` where nobody tells."""
    if device == "cuda":
        import torch

        return float(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 * 2**20)
    caches = cpu_caches()
    return float(max(caches.values())) if caches else UNKNOWN_CACHE


def _libraries() -> dict[str, Any]:
    import numpy as np

    found: dict[str, Any] = {"numpy": np.__version__}
    configured = np.show_config(mode="dicts") or {}
    blas = configured.get("Build Dependencies", {}).get("blas", {}) if isinstance(configured, dict) else {}
    found["numpy_blas"] = " ".join(str(blas.get(name, "")) for name in ("name", "version")).strip()
    if "torch" in sys.modules:
        import torch

        found["torch"] = str(torch.__version__)
        found["torch_threads"] = torch.get_num_threads()
        found["torch_blas"] = next(
            (line.strip(" -") for line in torch.__config__.show().splitlines() if "Math Kernel" in line), ""
        )
    return found


def _gpu(device: str) -> dict[str, Any]:
    import torch

    if device == "mps":
        return {"device_name": cpu_name()}
    if device == "xpu":
        return {"device_name": torch.xpu.get_device_name(0)}
    properties = torch.cuda.get_device_properties(0)
    return {
        "device_name": properties.name,
        "device_memory_bytes": properties.total_memory,
        "compute_units": properties.multi_processor_count,
        "devices": torch.cuda.device_count(),
        "cuda": torch.version.cuda or torch.version.hip,
        "driver": next(iter(_nvidia_smi("driver_version")), ""),
    }


def accelerators_seen() -> list[dict[str, Any]]:
    """The accelerators of this machine, a record for each kind: ``name``, ``count``, ``memory_bytes``, ``driver``, ``told_by``.

    PyTorch tells where it is installed and works, else nvidia-smi where it is on the path; none is an empty list.
    """
    found: dict[tuple[str, int | None], dict[str, Any]] = {}

    def keep(name: str, memory: int | None, driver: str | None, told_by: str) -> None:
        record = {"name": name, "count": 0, "memory_bytes": memory, "driver": driver, "told_by": told_by}
        found.setdefault((name, memory), record)["count"] += 1

    for name, memory in _torch_devices():
        keep(name, memory, next(iter(_nvidia_smi("driver_version")), None), "torch")
    if not found:
        told = _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
        for line in told.splitlines():
            name, memory_mib, driver = (part.strip() for part in (*line.split(","), "", "")[:3])
            keep(name, int(memory_mib) * 2**20 if memory_mib.isdigit() else None, driver or None, "nvidia-smi")
    return list(found.values())


def _torch_devices() -> list[tuple[str, int | None]]:
    """Name and memory of each device that PyTorch finds; nothing where it is not installed or does not start."""
    if importlib.util.find_spec("torch") is None:
        return []
    try:
        import torch

        if torch.cuda.is_available():
            each = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
            return [(properties.name, int(properties.total_memory)) for properties in each]
        if hasattr(torch, "xpu") and torch.xpu.is_available():
            return [(torch.xpu.get_device_name(index), None) for index in range(torch.xpu.device_count())]
        if torch.backends.mps.is_available():
            return [(cpu_name(), memory_bytes())]
    except (ImportError, OSError, RuntimeError):
        return []
    return []


def _nvidia_smi(query: str) -> list[str]:
    shown = _run("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", "-i", "0")
    return [part.strip() for part in shown.split(",")] if shown else []


def _run(*command: str) -> str:
    """Output of a command; nothing where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError):
        return ""
