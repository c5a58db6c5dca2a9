"""What a run is asked to do: plain dataclasses, checked, JSON both ways.

The worker writes `spec.json` into a work folder; `python -m runs.training WORKDIR` reads it. Nothing
else passes between them but the event file (runs/training/events.py) and signals.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

FORMAT = 1
T = TypeVar("T")


class SpecError(ValueError):
    """The spec asks for something that cannot be; the message says what to change."""


@dataclass(frozen=True)
class ModelRef:
    """Where the base model's weights are; `runs.training.base_models` turns it into a local folder."""

    name: str
    kind: str  # webapp.catalog.models.BaseModel.Kind
    source: str  # starter | hub | folder | run
    reference: str  # package, Hub id, or absolute folder
    revision: str = ""
    weights_format: str = "transformers"
    weights_path: str = ""
    architecture: str = ""
    licence: str = ""


@dataclass(frozen=True)
class DatasetRef:
    """A dataset version on this host's disk: `<folder>/<split>-*.parquet`."""

    name: str
    folder: str
    content_hash: str
    splits: dict[str, int]  # rows a split


@dataclass(frozen=True)
class RunSpec:
    """One attempt of one run."""

    run_id: str
    attempt: int
    task: str
    method: str
    columns: dict[str, str]  # role -> column
    model: ModelRef
    dataset: DatasetRef
    settings: dict[str, Any]
    cache_dir: str  # converted base models and the like, shared by the runs of a host
    resume_from: str | None = None  # a checkpoint folder; `best_checkpoint` may lie beside it
    best_checkpoint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    devices: list[int] | None = None  # GPUs of this host, as nvidia-smi counts; None: all that there are
    # How many train together, and how (runs/training/distributed.py).
    processes: int = 1  # on each host: one a GPU
    nodes: int = 1  # hosts
    node_rank: int = 0  # of this host; the run's rank 0 is on host 0
    strategy: str = "ddp"  # ddp | fsdp2
    rendezvous: str = ""  # host:port where the hosts meet, on host 0; empty: this host alone
    address: str = ""  # by which the other hosts reach this one
    format: int = FORMAT

    def write(self, workdir: Path) -> None:
        """Write `spec.json` whole or not at all."""
        partial = workdir / "spec.json.partial"
        partial.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        partial.rename(workdir / "spec.json")

    @classmethod
    def read(cls, workdir: Path) -> RunSpec:
        """Read and check `spec.json`; raises SpecError."""
        try:
            raw = json.loads((workdir / "spec.json").read_text())
        except (OSError, ValueError) as error:
            raise SpecError(f"{workdir}/spec.json cannot be read: {error}") from error
        return cls.from_dict(raw)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RunSpec:
        """Build from parsed JSON; a missing, unknown or mistyped field raises SpecError naming it."""
        if raw.get("format") != FORMAT:
            raise SpecError(f"This trainer reads spec format {FORMAT}, not {raw.get('format')!r}.")
        model = _build(ModelRef, raw.get("model"), "model")
        dataset = _build(DatasetRef, raw.get("dataset"), "dataset")
        return _build(cls, {**raw, "model": model, "dataset": dataset}, "spec")


def _build(kind: type[T], raw: Any, where: str) -> T:
    if not isinstance(raw, dict):
        raise SpecError(f"{where} must be an object.")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(raw.keys() - fields.keys()):
        raise SpecError(f"{where} has unknown fields: {', '.join(unknown)}.")
    required = {
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - raw.keys()):
        raise SpecError(f"{where} lacks: {', '.join(missing)}.")
    simple: dict[str, Any] = {"str": str, "int": int, "str | None": (str, type(None))}
    for name, value in raw.items():
        expected = simple.get(str(fields[name].type))
        if expected is None and str(fields[name].type).startswith("dict"):
            expected = dict
        if expected is not None and not isinstance(value, expected):
            raise SpecError(f"{where}.{name} is {value!r}, which is not of type {fields[name].type}.")
    return kind(**raw)
