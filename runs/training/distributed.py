"""A run on several processes: what they have to agree on, and how their weights come together.

Every process (rank) of a run executes the same program on its share of each batch. Rank 0 alone writes
events, checkpoints and the finished model; when the weights are final the others leave (`PartDone`).
With one process every function here is a plain no-op, so tasks need not know which it is.

DDP keeps a whole copy of model and optimiser a process and adds up gradients. FSDP2 (`fully_shard`)
keeps a share of them a process and gathers a layer's weights while it is computed. Both come from
accelerate by way of transformers' Trainer; what that lacks for an exact resume stands in `AcrossRanks`:
sharded weights and optimiser states are brought together in rank 0, which alone writes checkpoints, because
other hosts' disks are not stored.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from runs.training.spec import RunSpec

STRATEGIES = ("ddp", "fsdp2")
# Rank 0 may score and save for long while the others wait at the next step. Who watches that nobody has
# died is the worker (processes) and the lease (hosts), so this is only a last resort.
PATIENCE = timedelta(hours=6)
T = TypeVar("T")


class PartDone(Exception):
    """This process has done its part: rank 0 has the weights and does the rest alone."""


# -- who is who ------------------------------------------------------------------------------------
def world() -> int:
    """How many processes train together now; 1 before they have met, and once they have parted."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes what people see."""
    return rank() == 0


def is_first_here() -> bool:
    """Whether it is the first process of its host."""
    return not dist.is_initialized() or int(os.environ["LOCAL_RANK"]) == 0


def meet(spec: RunSpec) -> None:
    """Join the other processes of the run. Expects torchrun's environment variables."""
    if spec.nodes > 1:
        _put_the_leader_first(spec)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // spec.processes))
    # Flags and numbers on the CPU go by gloo even on GPUs: agreeing then waits for no kernel.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)


def part() -> None:
    """Leave the others: from here on this process is by itself."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _put_the_leader_first(spec: RunSpec) -> None:
    """Number the processes so that rank 0 is on the host whose worker holds the attempt.

    torchrun's c10d rendezvous numbers hosts by their names. The leader says in the store that they share
    which number it got, and everybody moves it to the front.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=PATIENCE)
    key, mine = f"tuneboard/{spec.run_id}-{spec.attempt}/leader", int(os.environ["GROUP_RANK"])
    if spec.node_rank == 0:
        store.set(key, str(mine))
    leader = int(store.get(key))
    place = 0 if mine == leader else mine + 1 if mine < leader else mine
    os.environ["GROUP_RANK"] = str(place)
    os.environ["RANK"] = str(place * spec.processes + int(os.environ["LOCAL_RANK"]))


# -- agreeing --------------------------------------------------------------------------------------
def agree(*wishes: bool) -> list[bool]:
    """For each wish whether any process has it: the same answer everywhere."""
    if world() == 1:
        return list(wishes)
    flags = torch.tensor([int(wish) for wish in wishes], dtype=torch.int32)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def of_each(value: float) -> list[float]:
    """This number of every process, in the order of their ranks."""
    if world() == 1:
        return [value]
    mine = torch.zeros(world(), dtype=torch.float64)
    mine[rank()] = value
    dist.all_reduce(mine)
    return [float(item) for item in mine.tolist()]


def gathered_by_first(value: T) -> list[T] | None:
    """What each process has, in the order of their ranks, in the first one; None in the others."""
    if world() == 1:
        return [value]
    gathered: list[Any] | None = [None] * world() if is_first() else None
    dist.gather_object(value, gathered, dst=0)
    return gathered


def first_here_first(action: Callable[[], T]) -> T:
    """Every process does it, but of each host the first one before the others: what it makes is there then."""
    if is_first_here():
        done = action()
        wait_for_all()
        return done
    wait_for_all()
    return action()


def summed(*values: float) -> list[float]:
    """Each value added up over the processes, in float64."""
    if world() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(value) for value in total.tolist()]


def wait_for_all() -> None:
    """Returns once every process has come here."""
    agree(False)


def my_share(items: list[Any]) -> list[tuple[Any, bool]]:
    """This process's items of a list that all have, with whether they count.

    All get equally many, because a sharded model computes only where every process does: the last item
    may come twice, and then does not count.
    """
    total = world()
    each = -(-len(items) // total)
    places = [place * total + rank() for place in range(each)]
    return [(items[min(place, len(items) - 1)], place < len(items)) for place in places]


# -- what the Trainer is told -----------------------------------------------------------------------
def arguments(spec: RunSpec, model: Any = None) -> dict[str, Any]:
    """TrainingArguments for so many processes; nothing for one."""
    if world() == 1:
        return {}
    on_gpu = torch.cuda.is_available()
    found: dict[str, Any] = {
        "ddp_backend": None if on_gpu else "gloo",
        "ddp_timeout": int(PATIENCE.total_seconds()),
    }
    if spec.strategy == "fsdp2":
        by_layer = bool(getattr(_innermost(model), "_no_split_modules", None))
        found["fsdp"] = True
        found["fsdp_config"] = {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP" if by_layer else "NO_WRAP",
            "reshard_after_forward": True,
            "state_dict_type": "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": False,
        }
    return found


def _innermost(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


# -- weights that are spread over the processes ------------------------------------------------------
def is_sharded(model: Any) -> bool:
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def whole_weights(model: Any) -> dict[str, Any]:
    """The state dict of a sharded model, on the CPU of rank 0; empty elsewhere. All have to call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    found: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return found if is_first() else {}


def whole_state(model: Any, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights, optimiser's state) of a sharded training, as `whole_weights` does it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer.optimizer, options=options)
    return whole_weights(model), state


def load_whole_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """The reverse: rank 0 brings them, every process takes its share."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, dict(weights) if is_first() else {}, options=options)


def without_weights(model: Any) -> Any:
    """A copy whose parameters have shapes only: what a whole model is made of again when it is sharded."""
    memo: dict[int, Any] = {
        id(item): torch.nn.Parameter(torch.empty_like(item, device="meta"), requires_grad=item.requires_grad)
        for item in model.parameters()
    }
    return copy.deepcopy(model, memo)


def with_weights(skeleton: Any, weights: Mapping[str, Any]) -> Any:
    """A plain model out of `without_weights` and `whole_weights`."""
    skeleton.load_state_dict(weights, strict=False, assign=True)
    if hasattr(skeleton, "tie_weights"):
        skeleton.tie_weights()
    left = [name for name, item in skeleton.named_parameters() if item.device.type == "meta"]
    if left:
        raise RuntimeError(f"these weights did not come together from all processes: {', '.join(left[:5])}")
    return skeleton


def brought_together(model: Any, skeleton: Any) -> Any:
    """The trained model, whole, in the first process, which is by itself from then on.

    `skeleton` is `without_weights` of a model that is sharded, or None. Raises PartDone in the others.
    """
    weights = whole_weights(model) if is_sharded(model) else None
    if not is_first():
        raise PartDone
    part()
    return model if weights is None else with_weights(skeleton, weights)


class AcrossRanks:
    """A mixin before transformers' Trainer: loads a checkpoint into a model that is sharded."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        trainer: Any = self
        if checkpoint is None or not is_sharded(trainer.model):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        folder = Path(checkpoint)
        state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
        set_optimizer_state_dict(
            trainer.model,
            trainer.optimizer.optimizer,
            state if is_first() else {},
            options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
        )
        trainer.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        trainer: Any = self
        chosen = model if model is not None else trainer.model
        if is_sharded(chosen):
            folder = Path(resume_from_checkpoint)
            load_whole_weights(chosen, _weights_in(folder, chosen) if is_first() else {})
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _load_best_model(self) -> None:
        trainer: Any = self
        if is_sharded(trainer.model):
            folder = Path(trainer.state.best_model_checkpoint or "")
            load_whole_weights(trainer.model, _weights_in(folder, trainer.model) if is_first() else {})
        elif trainer.is_fsdp_enabled:  # its training was complete before, so it was never sharded
            folder = Path(trainer.state.best_model_checkpoint or "")
            trainer.model.load_state_dict(_weights_in(folder, trainer.model), strict=False)
        else:
            super()._load_best_model()  # type: ignore[misc]


def _weights_in(folder: Path, model: Any) -> dict[str, Any]:
    """Of a checkpoint, by the names that they have in the model: an adapter's file has shorter ones."""
    from safetensors.torch import load_file

    adapter = folder / "adapter_model.safetensors"
    if adapter.is_file():
        inside = {_in_file(name): name for name in model.state_dict()}
        return {inside[name]: item for name, item in load_file(adapter).items()}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return {name: item for shard in shards for name, item in load_file(folder / shard).items()}
    return dict(load_file(folder / "model.safetensors"))


def _in_file(name: str) -> str:
    """PEFT leaves its own layers out of the names: `lora_A.default.weight` is `lora_A.weight` in a file."""
    return name.replace(".modules_to_save.default", "").replace(".default", "")
