"""Everything an attempt needs on this host's disk before it trains, and the spec that names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from runs.execution import cached, checkpoints
from runs.models import Attempt, Checkpoint, Run
from runs.training.events import TrainingFailure
from runs.training.spec import DatasetRef, ModelRef, RunSpec
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion


@dataclass
class Needs:
    """What the database says of an attempt: `fetch` then needs no database, and may take its time."""

    run: Run
    attempt: Attempt
    model: BaseModel
    version: DatasetVersion
    checkpoints: list[Checkpoint]  # newest first
    versions: dict[str, str]
    model_files: dict[str, str] = field(default_factory=dict)  # of one in storage: {name: SHA-256}, if known


@dataclass
class Inputs:
    """What was fetched, and what is to be told of it."""

    spec: RunSpec
    resumed_from: int | None = None
    damaged: dict[int, str] = field(default_factory=dict)  # step: what was wrong


def needs_of(attempt: Attempt, versions: dict[str, str]) -> Needs:
    """Read what the attempt needs; raises TrainingFailure if that is no longer there."""
    run: Run = Run.objects.select_related("base_model", "dataset_version").get(pk=attempt.run_id)
    if run.dataset_version is None:
        raise TrainingFailure(
            "bad_data",
            f"The dataset “{run.dataset_name}” was deleted before the run had started.",
            "Upload it again and launch a new run.",
        )
    return Needs(
        run,
        attempt,
        run.base_model,
        run.dataset_version,
        list(run.checkpoints.order_by("-step")),
        versions,
        cached.digests_of(run.base_model),
    )


def fetch(needs: Needs, workdir: Path) -> Inputs:
    """Bring everything to this host and say in a spec where it lies."""
    run, version, base = needs.run, needs.version, needs.model
    leases = cached.leases_of(workdir)
    model = ModelRef(
        name=base.name,
        kind=base.kind,
        source=base.source,
        reference=cached.model_folder(base, needs.model_files, leases),
        revision=base.revision,
        weights_format=base.weights_format,
        weights_path=base.weights_path,
        architecture=base.architecture,
        licence=base.licence,
    )
    dataset = DatasetRef(
        name=run.dataset_name,
        folder=str(cached.dataset_folder(version, leases)),
        content_hash=version.content_hash,
        splits=version.splits,
    )
    resume, damaged = _newest_whole(needs.checkpoints, workdir)
    best = next((item for item in needs.checkpoints if item.is_best and item.step not in damaged), None)
    best_folder = resume[1] if best is not None and resume and resume[0] == best.step else None
    if best is not None and resume and best_folder is None:
        best_folder = _checkpoint_folder(workdir, best.step)
        try:
            checkpoints.fetch(best.storage_prefix, best_folder)
        except checkpoints.DamagedCheckpoint as error:
            damaged[best.step], best_folder = str(error), None
    spec = RunSpec(
        run_id=str(run.pk),
        attempt=needs.attempt.number,
        task=run.task,
        method=run.method,
        columns=run.columns,
        model=model,
        dataset=dataset,
        settings=run.settings,
        cache_dir=str(settings.CACHE_DIR),
        resume_from=str(resume[1]) if resume else None,
        best_checkpoint=str(best_folder) if best_folder else None,
        versions=needs.versions,
        processes=run.processes,
        nodes=run.nodes,
        strategy=run.strategy or "ddp",
    )
    return Inputs(spec, resume[0] if resume else None, damaged)


def _checkpoint_folder(workdir: Path, step: int) -> Path:
    return workdir / "checkpoints" / f"checkpoint-{step}"


def _newest_whole(stored: list[Checkpoint], workdir: Path) -> tuple[tuple[int, Path] | None, dict[int, str]]:
    """The newest checkpoint that is what its manifest says, fetched, and those that were not."""
    damaged: dict[int, str] = {}
    for checkpoint in stored:
        folder = _checkpoint_folder(workdir, checkpoint.step)
        try:
            checkpoints.fetch(checkpoint.storage_prefix, folder)
        except checkpoints.DamagedCheckpoint as error:
            damaged[checkpoint.step] = str(error)
        else:
            return (checkpoint.step, folder), damaged
    return None, damaged
