"""A sweep's folder: a manifest and one Parquet file per chunk, each written whole or not at all, so that a run can be taken up again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infersim.errors import SpecError
from infersim.files import replace_file

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest.json"
SAME = ("scenario", "sweep", "points", "infersim", "specs")
"""What must be equal for two runs to be of one sweep."""


@dataclass(frozen=True)
class Store:
    """The folder of one sweep."""

    folder: Path
    points: int
    chunk_points: int

    @property
    def chunks(self) -> int:
        return -(-self.points // self.chunk_points)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """First point of a chunk, and the point behind its last one."""
        start = chunk * self.chunk_points
        return start, min(start + self.chunk_points, self.points)

    def part(self, chunk: int) -> Path:
        return self.folder / f"part-{chunk:08d}.parquet"

    def done(self) -> set[int]:
        """Chunks whose parts are whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = set()
        for path in self.folder.glob("part-*.parquet"):
            number = path.stem.removeprefix("part-")
            if number.isdigit() and int(number) < self.chunks:
                with contextlib.suppress(pa.ArrowException, OSError):
                    start, stop = self.bounds(int(number))
                    if pq.read_metadata(path).num_rows == stop - start:
                        found.add(int(number))
        return found

    def write(self, chunk: int, rows: pa.Table) -> None:
        """Store a chunk's rows under its number."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        words = [field.name for field in rows.schema if pa.types.is_dictionary(field.type)]
        replace_file(
            self.part(chunk), lambda file: pq.write_table(rows, file, use_dictionary=words, store_schema=False)
        )


def open_store(folder: Path, manifest: Mapping[str, Any], *, resume: bool) -> Store:
    """The folder made ready. With ``resume`` a run of the same sweep goes on; SpecError where the folder holds another one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"cannot be made: {error.strerror or error}", file=folder) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SpecError("cannot be written to; name another folder", file=folder)
    file = folder / MANIFEST
    parts = list(folder.glob("part-*.parquet"))
    if resume and file.is_file():
        held = read_manifest(file)
        other = [name for name in SAME if held.get(name) != manifest[name]]
        if other:
            raise SpecError(_another(other, held, manifest), file=folder)
        manifest = {**manifest, "chunk_points": held["chunk_points"]}
    elif resume and parts:
        raise SpecError(f"holds part-*.parquet without a {MANIFEST}: name another folder", file=folder)
    else:
        for part in parts:
            part.unlink()
    for left in folder.glob(".part-*.partial"):
        left.unlink(missing_ok=True)
    text = json.dumps(manifest, indent=1) + "\n"
    replace_file(file, lambda path: path.write_text(text, encoding="utf-8"))
    return Store(folder, manifest["points"], manifest["chunk_points"])


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest of a sweep. SpecError where it is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot be read: {error}", file=file) from error
    whole = isinstance(found, dict) and all(isinstance(found.get(name), int) for name in ("points", "chunk_points"))
    if not whole or found["points"] < 1 or found["chunk_points"] < 1:
        raise SpecError("is not the manifest of a sweep", file=file)
    return found


def _another(other: list[str], held: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    told = {
        "scenario": "of another scenario", "sweep": "over other fields or values", "specs": "with other folders of specs or prices",
        "points": f"of {held['points']:,} points and not {manifest['points']:,}",
        "infersim": f"by infersim {held.get('infersim')} and not {manifest['infersim']}",
    }  # fmt: skip
    what = " and ".join(told[name] for name in other if name != "points" or other == ["points"])
    return f"holds a sweep {what}: name another folder, or start afresh in this one"
