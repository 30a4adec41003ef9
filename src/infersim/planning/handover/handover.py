"""Everything that goes to whoever runs a chosen deployment: commands, configuration, manifests, and the test that checks it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infersim.errors import SpecError, UnsupportedError
from infersim.files import replace_file
from infersim.planning.handover.launch import Launch, launch_command
from infersim.planning.handover.manifests import deployment_manifest, inference_service
from infersim.planning.handover.verify import RESULT, Expected, bench_command, bench_shell, expected_figures
from infersim.planning.options import Option
from infersim.predict.estimate import Estimate
from infersim.serving.target import Limit


@dataclass(frozen=True)
class HandOver:
    """Commands by pool, files by name, and what the load test should show.

    >>> from infersim import estimate
    >>> given = hand_over(estimate("meta-llama/Llama-3.1-8B", "L40S", concurrency=8), replicas=2)
    >>> sorted(given.files)
    ['bench.sh', 'deployment.yaml', 'expected.json', 'kserve.yaml', 'launch.sh']
    """

    title: str
    launches: dict[str, Launch]
    replicas: dict[str, int]
    bench: tuple[str, ...]
    expected: tuple[Expected, ...]
    files: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    """Files that could not be made, and why."""

    @property
    def commands(self) -> dict[str, str]:
        """The command of one replica, by pool."""
        return {name: launch.shell for name, launch in self.launches.items()}

    @property
    def notes(self) -> list[str]:
        """What a person must see to."""
        return [f"{name}: {note}" for name, launch in self.launches.items() for note in launch.notes]

    def write(self, folder: str | Path) -> list[Path]:
        """Write the files; each appears whole or not at all. SpecError where the folder cannot be made."""
        target = Path(folder).expanduser()
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"cannot be made: {error}", file=target) from error
        written = []
        for name, text in self.files.items():

            def write(part: Path, name: str = name, text: str = text) -> None:
                part.write_text(text, encoding="utf-8", newline="")
                part.chmod(0o755 if name.endswith(".sh") else 0o644)

            replace_file(target / name, write)
            written.append(target / name)
        return written

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "deployment": self.title, "replicas": self.replicas,
            "commands": {name: list(launch.argv) for name, launch in self.launches.items()}, "notes": self.notes,
            "bench": list(self.bench), "expected": [figure.to_dict() for figure in self.expected], "files": self.files,
            "left_out": self.left_out,
        }  # fmt: skip

    def __str__(self) -> str:
        lines = textwrap.wrap(self.title, 80)
        for name, command in self.commands.items():
            lines += ["", f"{name}, {self.replicas[name]} of:", *(f"  {line}" for line in command.splitlines())]
        lines += ["", "to check it:", *(f"  {line}" for line in bench_shell(self.bench).splitlines()), "", "expected:"]
        lines += [f"  {figure}" for figure in self.expected]
        for note in self.notes + [f"{name} left out: {why}" for name, why in self.left_out.items()]:
            lines += textwrap.wrap(f"- {note}", 80, subsequent_indent="  ")
        return "\n".join(lines)


def hand_over(
    what: Estimate | Option,
    *,
    replicas: int | None = None,
    request_rate: float | None = None,
    limits: tuple[Limit, ...] = (),
) -> HandOver:
    """The hand-over of a plan's option, or of a deployment with so many ``replicas``.

    The load test runs at ``request_rate`` (an option's own, else the deployment's concurrency in a closed loop). What an engine or a
    vendor cannot be given is left out and named. UnsupportedError for an engine without launch commands.
    """
    if isinstance(what, Option):
        one, front = what.deployment, what.prefill
        counts = {"decode": what.replicas, "prefill": what.prefill_replicas} if front else {"server": what.replicas}
        limits = limits or what.limits
        title = what.describe()
    else:
        one, front = what, None
        counts = {"server": replicas or what.parallelism.replicas}
        title = what.describe()
    if any(count < 1 for count in counts.values()):
        raise SpecError(f"at least one replica is needed, got {counts}", field="replicas")
    launches = {"decode": launch_command(one, role="decode"), "prefill": launch_command(front, role="prefill")} if front else {
        "server": launch_command(one)
    }  # fmt: skip
    bench, expected = bench_command(what, request_rate, limits), tuple(expected_figures(what))
    files = {name: text for launch in launches.values() for name, text in launch.files.items()}
    files["launch.sh"] = _script(
        {f"{name}: {counts[name]} of these": launch.shell for name, launch in launches.items()}
    )
    files["bench.sh"] = _script({"load test; compare its result with expected.json": bench_shell(bench)})
    files["expected.json"] = json.dumps({"deployment": title, "result_file": RESULT,
                                         "expected": [figure.to_dict() for figure in expected]}, indent=2) + "\n"  # fmt: skip
    left_out: dict[str, str] = {}
    try:
        files["deployment.yaml"] = (
            "---\n".join(deployment_manifest(pool, counts[role], role=role) for role, pool in (("prefill", front), ("decode", one)))  # type: ignore[arg-type]
            if front else deployment_manifest(one, counts["server"])
        )  # fmt: skip
    except UnsupportedError as error:
        left_out["deployment.yaml"] = str(error)
    try:
        files["kserve.yaml"] = inference_service(
            one, next(iter(counts.values())), prefill=front, prefill_replicas=counts.get("prefill", 0)
        )
    except UnsupportedError as error:
        left_out["kserve.yaml"] = str(error)
    return HandOver(title, launches, counts, bench, expected, files, left_out)


def _script(commands: dict[str, str]) -> str:
    """A shell script of commands, each with what it is."""
    parts = [f"# {title}\n{command}\n" for title, command in commands.items()]
    return "\n".join(["#!/usr/bin/env bash", "set -euo pipefail", "", *parts])
