"""Training in several processes: sharding the weights for ``trainer=fsdp``, and the state of the single processes."""

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed, nn
from torchmetrics import Metric

from zoo.data.base import MemoryData
from zoo.errors import ZooError
from zoo.pretrained.reading import read_checkpoint
from zoo.run.explain import ONE_NUMBER


class FullyShard(ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2, ``torch.distributed.fsdp.fully_shard``), on GPUs or with gloo on CPUs.

    Lightning expects each LightningModule to shard its own parts; this strategy shards the ``model`` of any task.
    Checkpoints are single files of whole tensors, as with every other strategy.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def connect(self, model: LightningModule) -> None:
        check_shareable(model)
        # Lightning requires this hook and calls it in every process before it creates the optimizer; as a method of the
        # tasks it would exist for other strategies too, where averaging the weights would warn about it
        model.configure_model = partial(share_out, model)
        super().connect(model)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load weights and optimizer states from a checkpoint that any strategy has written.

        Lightning's own method assumes that the optimizer numbers parameters in the model's order, which is wrong with
        several parameter groups.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        content, task = read_checkpoint(Path(checkpoint_path)), self.lightning_module
        assert task is not None
        load_whole(task, content.pop("state_dict"))
        names = {p: name for name, p in task.named_parameters()}
        for optimizer, saved in zip(self.optimizers, content["optimizer_states"], strict=False):  # none in a test
            groups = zip(saved["param_groups"], optimizer.param_groups, strict=True)
            groups = [{**group, "params": [names[p] for p in own["params"]]} for group, own in groups]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            by_number = dict(zip(numbers, (name for group in groups for name in group["params"]), strict=True))
            state = {by_number[number]: value for number, value in saved["state"].items()}
            whole = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(task, optimizer, whole, options=StateDictOptions(full_state_dict=True))
        return content


def check_shareable(task: Any) -> None:
    """Raise a ``ZooError`` if a setting needs whole weights, which no process has under ``trainer=fsdp``."""
    whole = [f"task.{name}" for name in ("l1", "l2", "max_norm") if getattr(task, name)]
    if any(isinstance(callback, WeightAveraging) for callback in task.trainer.callbacks):  # type: ignore[attr-defined]
        whole.append("callbacks=ema")
    if isinstance(task.make_optimizer, partial) and task.make_optimizer.func is torch.optim.LBFGS:
        whole.append("optimizer=lbfgs")
    if whole:
        raise ZooError(f"trainer=fsdp shards the weights, but {' and '.join(whole)} need them whole; use trainer=ddp")


def share_out(task: Any) -> None:
    """Shard every weight of ``task.model`` over the processes; whole weights are gathered only while they are needed.

    Each of ``blocks(model)`` is gathered for its own part of the forward and backward pass, weights outside of the
    blocks for the whole passes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    model: Any = task.model
    if isinstance(model, FSDPModule):  # sharded before: this is the test after training
        return
    mesh = init_device_mesh(task.trainer.strategy.root_device.type, (task.trainer.world_size,))
    model.to(memory_format=torch.contiguous_format)  # channels_last cannot be sharded
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in task.calls:
        if name != "forward":
            register_fsdp_forward_method(model, name)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a model that are called one after the other: its children, with containers replaced by theirs."""
    for child in model.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            yield from blocks(child)
        elif next(child.parameters(), None) is not None:
            yield child


def load_whole(task: LightningModule, state: Mapping[str, Tensor]) -> None:
    """``task.load_state_dict`` from whole tensors; under ``trainer=fsdp`` each process keeps only its shard."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import FSDPModule

    if isinstance(task.model, FSDPModule):
        set_model_state_dict(task, dict(state), options=StateDictOptions(full_state_dict=True))
    else:
        task.load_state_dict(state)


# --- several processes, and their states ------------------------------------------------------------------------------


def check_calls(trainer: Trainer, task: Any) -> None:
    """Raise a ``ZooError`` if the weights are to be sharded and the task calls parts of its model directly."""
    if isinstance(trainer.strategy, FullyShard) and not task.calls_forward:
        raise ZooError(
            f"trainer=fsdp is for models that are called as a whole, and {type(task).__name__} calls parts of "
            "its model: use ddp"
        )


def check_batch_norm(trainer: Trainer, sync: bool, model: nn.Module, data: Any) -> None:
    """Raise a ``ZooError`` if batch norm cannot use the statistics of the global batch although it should, or if it
    would get a single number per channel, for which torch raises an error in the middle of a run.
    """
    world_size = trainer.world_size
    if sync and world_size > 1:
        if trainer.strategy.root_device.type != "cuda":
            raise ZooError("trainer.sync_batchnorm=true: torch supports it on GPUs only; leave it at false")
        if isinstance(trainer.strategy, FullyShard):
            raise ZooError("trainer.sync_batchnorm=true: Lightning supports it with trainer=ddp only")
        return
    if has_single(data, world_size) and not takes_one(model, data.sample(1)[0]):
        each = f" for each of the {world_size} processes" if world_size > 1 else ""
        raise ZooError(
            f"a training batch would have one example{each}, too few for this model's batch normalisation: "
            f"use more examples, and set data.batch_size (and data.unlabelled) to {2 * world_size} or more"
        )


def has_single(data: Any, world_size: int) -> bool:
    """Whether a process gets a training batch of one example; False if the data do not say."""
    return isinstance(data, MemoryData) and data.smallest_batch(world_size) == 1


def takes_one(model: nn.Module, x: Any) -> bool:
    """Whether a model in training mode accepts a batch of one example.

    Batch norm needs several values per channel, which may come from several pixels of one example.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng():
            copy.deepcopy(model).train()(x)  # frozen layers stay in evaluation mode
    except ValueError as error:
        return ONE_NUMBER not in str(error)
    return True


def own_states(task: Any, trainer: Trainer) -> list[dict[str, Any]]:
    """The states of random number generators and metrics, and ``task.carried``, of every process, by rank.

    All processes must call it.
    """
    cuda = []
    if torch.cuda.is_available():
        several = trainer.world_size > 1  # then each process uses one device
        cuda = [torch.cuda.get_rng_state(task.device)] if several else torch.cuda.get_rng_state_all()
    metrics = {
        name: on(torch.device("cpu"), m.state_dict()) for name, m in task.named_modules() if isinstance(m, Metric)
    }
    own = {"cpu": torch.get_rng_state(), "cuda": cuda, "metrics": {name: m for name, m in metrics.items() if m}}
    own["carried"] = move_data_to_device(task.carried, torch.device("cpu"))
    states: list[Any] = [own] * trainer.world_size
    if trainer.world_size > 1:
        distributed.all_gather_object(states, own)
    return states


def set_own_state(task: Any, trainer: Trainer, states: list[dict[str, Any]]) -> None:
    """Restore what ``own_states`` returned; if the number of processes has changed, each keeps its new random state."""
    if len(states) != trainer.world_size:
        return
    own = states[trainer.global_rank]
    task.carried = move_data_to_device(own.get("carried"), task.device)
    torch.set_rng_state(own["cpu"])
    if own["cuda"] and trainer.world_size > 1:
        torch.cuda.set_rng_state(own["cuda"][0], task.device)
    elif own["cuda"]:
        torch.cuda.set_rng_state_all(own["cuda"])
    for name, state in own.get("metrics", {}).items():
        task.get_submodule(name).load_state_dict(on(task.device, state))


def on(device: torch.device, state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.to(device) if torch.is_tensor(value) else value for key, value in state.items()}
