"""The training program: `python -m runs.training WORKDIR`, or `--wait` for a worker's warm process.

With --wait it imports what training needs, then reads one line from standard input: the work folder.
End of file there, at any time, means that the worker has died; the process group then ends itself.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

DONE, FAILED, STOPPED = 0, 1, 3
# Before anything imports the libraries that read these.
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_DISABLED": "true",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for devices must not fix which ones this process sees
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS adds up in the same order each time
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runs.training", description=__doc__)
    parser.add_argument("workdir", nargs="?", type=Path, help="the folder with spec.json")
    parser.add_argument("--wait", action="store_true", help="read the folder from standard input")
    parser.add_argument("--watched", action="store_true", help="the folder's worker holds standard input")
    options = parser.parse_args()
    if options.wait == (options.workdir is not None):
        parser.error("give a work folder, or --wait")
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    from runs.training.devices import keep_freed_memory

    keep_freed_memory()
    if options.watched:
        return train_for_worker(options.workdir.resolve(), stop, afresh=True)
    if not options.wait:
        return train(options.workdir.resolve(), stop)
    # Whoever starts this with --wait started a session for it; if not, take a group of our own, so
    # that ending the group ends nobody else.
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    warm_up()
    line = sys.stdin.readline()
    if not line.strip():
        return DONE  # the worker ended before it had a run
    return train_for_worker(Path(line.strip()), stop)


def train_for_worker(workdir: Path, stop: threading.Event, *, afresh: bool = False) -> int:
    """As `train`, on the GPUs that the spec names, watching standard input for the worker's end.

    `afresh`: this process has just been started for it, and has imported nothing before.
    """
    from runs.training.devices import use_only
    from runs.training.spec import RunSpec, SpecError

    with contextlib.suppress(SpecError):  # `train` reports it
        if not use_only(RunSpec.read(workdir).devices) and not afresh:
            # A library has looked for GPUs while it was imported: begin anew, as the environment now says.
            again = [sys.executable, "-m", "runs.training", "--watched", str(workdir)]
            os.execv(sys.executable, again)  # noqa: S606
    threading.Thread(target=_die_with_worker, daemon=True).start()
    return train(workdir, stop, log=workdir / "log.txt")


def warm_up() -> None:
    """Import what nearly every run needs; the first touch of a model class costs seconds."""
    import scipy.io  # noqa: F401 – by datasets, when it reads its first file
    import sklearn.metrics  # noqa: F401 – by the first score; most of a second
    import torch
    from transformers import (  # noqa: F401
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        BertForSequenceClassification,
        Trainer,
    )

    import runs.training.classification
    import runs.training.fitting
    import runs.training.head
    import runs.training.language  # noqa: F401

    torch.get_num_threads()
    # What was imported stays for good: looking through all of it, as each collection does, takes most of a second.
    gc.collect()
    gc.freeze()


def train(workdir: Path, stop: threading.Event, log: Path | None = None) -> int:
    """Do the run in this folder; returns the exit status, after the last event is on disk."""
    if log is not None:
        _turn_output_to(log)
    logger = begin_logging(logging.INFO)

    from runs.training.context import Context, Stopped
    from runs.training.events import EventWriter
    from runs.training.failures import explain
    from runs.training.spec import RunSpec

    settings: dict[str, Any] = {}
    try:
        spec = RunSpec.read(workdir)
        settings = spec.settings
        if spec.processes * spec.nodes > 1:
            from runs.training.launcher import launch

            return launch(workdir, spec, stop)
        run(Context(workdir, spec, stop))
        return DONE
    except Stopped as stopped:
        logger.info("Stopped at step %d, as asked; it can go on from there.", stopped.step)
        EventWriter(workdir / "events.jsonl").write("stopped", step=stopped.step)
        return STOPPED
    except Exception as error:
        failure = explain(error, settings, workdir)
        if failure is error:
            logger.error("%s %s", failure.message, failure.hint)
        else:
            logger.exception("%s", failure.message)
        with contextlib.suppress(OSError):  # a full disk cannot take the event; the exit status says enough
            EventWriter(workdir / "events.jsonl").write(
                "failed",
                code=failure.code,
                message=failure.message,
                hint=failure.hint,
                details=failure.details,
            )
        return FAILED


def begin_logging(level: int) -> logging.Logger:
    """Log to standard output: everybody's warnings, and our own lines from this level on."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stdout,
        force=True,
    )
    logger = logging.getLogger("runs.training")
    logger.setLevel(level)
    return logger


def run(context: Any) -> None:
    """Check the spec against the task's declaration, then let the task train."""
    from runs.training.devices import describe
    from runs.training.events import TrainingFailure
    from runs.training.settings import SettingsError, check_settings
    from runs.training.tasks import get_task

    spec = context.spec
    try:
        task = get_task(spec.task)
        method = task.method(spec.method)
        context.settings = check_settings(task, spec.method, spec.settings)
    except KeyError as error:
        raise TrainingFailure("bad_settings", f"This worker cannot do that: {error}.") from error
    except SettingsError as error:
        raise TrainingFailure("bad_settings", f"Settings that cannot be used: {error}") from error
    context.phase("preparing", f"{task.title}, {method.title}, on {describe()}")
    task.train(context)


def _turn_output_to(path: Path) -> None:
    """Everything said from here on, by C libraries too, goes to the run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _die_with_worker() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
