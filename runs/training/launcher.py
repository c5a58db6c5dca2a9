"""The warm trainer as the agent of a run on several processes: it starts them, and explains their end.

torchrun's own agent (`elastic_launch`) does the starting and, over several hosts, the meeting (c10d
rendezvous). The processes are forks of this one, which has imported torch already; where CUDA has been
touched here, which no fork survives, they are started afresh. All of them stay in this process's group,
so killing the group kills all, and each is killed by the system when this process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runs.training.devices import cuda_is_touched
from runs.training.events import EventWriter
from runs.training.spec import RunSpec

log = logging.getLogger("runs.training")
DONE, FAILED, STOPPED, LOST = 0, 1, 3, 4  # exit statuses (docs/architecture.md)
STOP_SIGNAL = signal.SIGUSR1  # from agent to rank; SIGTERM ends a rank at once, when another has failed
MEETING_SECONDS = 600
LAST_LINES = 200  # of another rank's log, in the main one
# How long a rank that has only lost its connection waits, so that who died first is found first.
SECONDARY_SECONDS = 3.0


def launch(workdir: Path, spec: RunSpec, stop: threading.Event, start_method: str | None = None) -> int:
    """Train with `spec.processes` processes here and as many on each other host; the exit status."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing"):  # `_explain` says what counts
        logging.getLogger(name).setLevel(logging.CRITICAL)
    world, first = spec.processes * spec.nodes, spec.node_rank == 0
    where = f" on {spec.nodes} hosts" if spec.nodes > 1 else ""
    log.info("Starting %d processes%s (%s).", world, where, spec.strategy.upper())
    config = LaunchConfig(
        min_nodes=spec.nodes,
        max_nodes=spec.nodes,
        nproc_per_node=spec.processes,
        run_id=f"{spec.run_id}-{spec.attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint=spec.rendezvous or "127.0.0.1:0",
        rdzv_configs={
            "is_host": first,
            "timeout": MEETING_SECONDS,
            "join_timeout": MEETING_SECONDS,
            "read_timeout": MEETING_SECONDS,
        },
        max_restarts=0,
        monitor_interval=0.1,
        local_addr=spec.address or "127.0.0.1",
        logs_specs=DefaultLogsSpecs(log_dir=str(workdir / "torchrun")),
        signals_to_handle="SIGHUP",  # SIGTERM is ours
        shutdown_timeout=5,
    )
    config.start_method = start_method or ("spawn" if cuda_is_touched() else "fork")
    signal.signal(STOP_SIGNAL, signal.SIG_IGN)  # inherited: one that comes early ends no rank
    over = threading.Event()
    threading.Thread(target=_pass_on, args=(stop, over), daemon=True).start()
    try:
        ended = elastic_launch(config, rank_main)(str(workdir))
    except ChildFailedError as error:
        return _explain(workdir, spec, error, stop)
    except Exception as error:  # torch has a class for each way in which hosts may fail to meet
        if spec.nodes == 1:
            raise
        log.exception("The hosts did not meet.")
        return _lost(workdir, f"The hosts of the run did not find each other: {error}.")
    finally:
        over.set()
        _merge_logs(workdir)
    return STOPPED if STOPPED in ended.values() else DONE


def rank_main(workdir: str) -> int:
    """One process of the run, from its start to its end; returns DONE or STOPPED, or exits with FAILED."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop = threading.Event()
    signal.signal(STOP_SIGNAL, lambda number, frame: stop.set())
    folder = Path(workdir)
    spec = RunSpec.read(folder)
    here = int(os.environ["LOCAL_RANK"])
    if here > 0:
        _turn_output_to(folder / f"log-rank{here}.txt")

    from runs.training import distributed
    from runs.training.__main__ import run
    from runs.training.context import Context, Stopped

    _begin_logging(logging.WARNING)
    context: Context | None = None
    try:
        distributed.meet(spec)
        if distributed.is_first():
            logging.getLogger("runs.training").setLevel(logging.INFO)
        context = Context(folder, spec, stop, silent=not distributed.is_first())
        run(context)
    except distributed.PartDone:
        pass
    except Stopped as stopped:
        assert context is not None
        context.events.write("stopped", step=stopped.step)
        log.info("Stopped at step %d, as asked; it can go on from there.", stopped.step)
        distributed.part()
        return STOPPED
    except Exception as error:
        _report(folder, error, spec.settings)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)  # the others may hang in what they wait for together: no clean-up joins them
    distributed.part()
    return DONE


# -- in a rank -----------------------------------------------------------------------------------------
def _report(folder: Path, error: Exception, settings: dict[str, Any]) -> None:
    """Leave for the agent why this rank failed; it tells the worker of the first that did."""
    from runs.training.failures import explain

    failure = explain(error, settings)
    secondary = _is_lost_connection(error)
    if failure is error:
        log.error("%s %s", failure.message, failure.hint)
    else:
        log.exception("%s", failure.message)
    told = {
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "secondary": secondary,
        "at": time.monotonic(),  # the same for all processes of a host, and nobody sets it
    }
    with contextlib.suppress(OSError):
        (folder / f"failure-{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(told))
    if secondary:
        time.sleep(SECONDARY_SECONDS)


def _is_lost_connection(error: BaseException) -> bool:
    """Whether it only says that another process of the run is gone."""
    from torch.distributed import DistError

    text = str(error).lower()
    signs = ("connection closed by peer", "connection reset by peer", "broken pipe", "nccl", "gloo")
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    )


def _die_with_parent() -> None:
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of Linux
    with contextlib.suppress(AttributeError, OSError):  # another system
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _turn_output_to(path: Path) -> None:
    from runs.training.__main__ import _turn_output_to as turn

    turn(path)


def _begin_logging(level: int) -> None:
    from runs.training.__main__ import begin_logging

    begin_logging(level)


# -- in the agent -----------------------------------------------------------------------------------
def _pass_on(stop: threading.Event, over: threading.Event) -> None:
    """Once asked to stop, tell the ranks, again and again: one that has just begun may not hear it yet."""
    stop.wait()
    while not over.is_set():
        for process in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, STOP_SIGNAL)  # type: ignore[arg-type]
        over.wait(0.5)


def _explain(workdir: Path, spec: RunSpec, error: Any, stop: threading.Event) -> int:
    """Say why the run ended, from what the ranks left and how they exited."""
    failures = [json.loads(path.read_text()) for path in workdir.glob("failure-*.json")]
    known = sorted((item for item in failures if not item["secondary"]), key=lambda item: item["at"])
    if known:
        told = {name: known[0][name] for name in ("code", "message", "hint")}
        with contextlib.suppress(OSError):  # a full disk
            EventWriter(workdir / "events.jsonl").write("failed", **told)
        return FAILED
    died = error.get_first_failure()[1]
    where = " on its host" if spec.nodes > 1 else ""
    which = f"Process {died.local_rank + 1} of {spec.processes}{where}"
    if died.exitcode < 0:
        try:
            name = signal.Signals(-died.exitcode).name
        except ValueError:
            name = f"signal {-died.exitcode}"
        return _lost(workdir, f"{which} was ended by {name}.", signal=-died.exitcode)
    if failures:
        return _lost(workdir, "The connection to the other processes of the run was lost.")
    if stop.is_set():
        return STOPPED
    message = f"{which} ended with status {died.exitcode} and without a reason."
    EventWriter(workdir / "events.jsonl").write(
        "failed", code="crashed", message=message, hint="The last lines of the log show where it was."
    )
    return FAILED


def _lost(workdir: Path, message: str, **values: Any) -> int:
    log.error("%s", message)
    with contextlib.suppress(OSError):
        EventWriter(workdir / "events.jsonl").write("lost", message=message, **values)
    return LOST


def _merge_logs(workdir: Path) -> None:
    """What other ranks said (warnings and errors) goes to the end of the log, each line with its rank."""
    for path in sorted(workdir.glob("log-rank*.txt")):
        lines = path.read_text(errors="replace").splitlines()[-LAST_LINES:]
        number = path.stem.removeprefix("log-rank")
        for line in lines:
            sys.stdout.write(f"[process {int(number) + 1}] {line}\n")
    sys.stdout.flush()
