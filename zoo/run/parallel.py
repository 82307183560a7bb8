"""Training in several processes: the weights that ``trainer=fsdp`` shares out, and what each process has of its own."""

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

    Lightning leaves it to the module which of its parts are shared out; here that is done for any task's ``model``.
    Checkpoints are single files of whole tensors, as those of every other run.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def connect(self, model: LightningModule) -> None:
        check_shareable(model)
        # Lightning asks for this hook, and calls it in every process before the optimizer is made; a method of the
        # tasks' own would be there for other strategies too, for which averaged weights warn of it
        model.configure_model = partial(share_out, model)
        super().connect(model)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Weights and optimizer from a checkpoint of any strategy.

        Lightning's own takes the numbers of the optimizer's parameters as their order in the model, which with several
        groups of parameters they are not.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        content, task = read_checkpoint(Path(checkpoint_path)), self.lightning_module
        assert task is not None
        load_whole(task, content.pop("state_dict"))
        names = {p: name for name, p in task.named_parameters()}
        for optimizer, saved in zip(self.optimizers, content["optimizer_states"], strict=False):  # none to evaluate
            groups = zip(saved["param_groups"], optimizer.param_groups, strict=True)
            groups = [{**group, "params": [names[p] for p in own["params"]]} for group, own in groups]
            numbers = [number for group in saved["param_groups"] for number in group["params"]]
            by_number = dict(zip(numbers, (name for group in groups for name in group["params"]), strict=True))
            state = {by_number[number]: value for number, value in saved["state"].items()}
            whole = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(task, optimizer, whole, options=StateDictOptions(full_state_dict=True))
        return content


def check_shareable(task: Any) -> None:
    """Raise a ``ZooError`` where a run needs whole weights, which no process has."""
    whole = [f"task.{name}" for name in ("l1", "l2", "max_norm") if getattr(task, name)]
    if any(isinstance(callback, WeightAveraging) for callback in task.trainer.callbacks):  # type: ignore[attr-defined]
        whole.append("callbacks=ema")
    if isinstance(task.make_optimizer, partial) and task.make_optimizer.func is torch.optim.LBFGS:
        whole.append("optimizer=lbfgs")
    if whole:
        raise ZooError(f"trainer=fsdp leaves no process whole weights, as {' and '.join(whole)} need; trainer=ddp does")


def share_out(task: Any) -> None:
    """Leave each process its share of every weight of ``task.model``; the rest is gathered while it is needed.

    Each of ``blocks(model)`` is gathered for its own forward and backward pass, what is outside of them for all of it.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    model: Any = task.model
    if isinstance(model, FSDPModule):  # tested after training
        return
    mesh = init_device_mesh(task.trainer.strategy.root_device.type, (task.trainer.world_size,))
    model.to(memory_format=torch.contiguous_format)  # channels_last cannot be cut into shares
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in task.calls:
        if name != "forward":
            register_fsdp_forward_method(model, name)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a model that are called one after the other: its children, and those of containers."""
    for child in model.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            yield from blocks(child)
        elif next(child.parameters(), None) is not None:
            yield child


def load_whole(task: LightningModule, state: Mapping[str, Tensor]) -> None:
    """``task.load_state_dict`` of whole tensors, of which under ``trainer=fsdp`` each process keeps its share."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import FSDPModule

    if isinstance(task.model, FSDPModule):
        set_model_state_dict(task, dict(state), options=StateDictOptions(full_state_dict=True))
    else:
        task.load_state_dict(state)


# --- what each process has of its own ---------------------------------------------------------------------------------


def check_calls(trainer: Trainer, task: Any) -> None:
    """Raise a ``ZooError`` where weights are to be shared out and a task calls parts of its model."""
    if isinstance(trainer.strategy, FullyShard) and not task.calls_forward:
        raise ZooError(
            f"trainer=fsdp is for models that are called whole, and {type(task).__name__} calls parts: use ddp"
        )


def check_batch_norm(trainer: Trainer, sync: bool, model: nn.Module, data: Any) -> None:
    """Raise a ``ZooError`` where batch-norm statistics cannot be those of the global batch, or are of a single number,
    which torch refuses in the middle of a run.
    """
    world_size = trainer.world_size
    if sync and world_size > 1:
        if trainer.strategy.root_device.type != "cuda":
            raise ZooError("trainer.sync_batchnorm=true: torch has it for GPUs alone; leave it at false")
        if isinstance(trainer.strategy, FullyShard):
            raise ZooError("trainer.sync_batchnorm=true: Lightning has it for trainer=ddp, not for fsdp")
        return
    if has_single(data, world_size) and not takes_one(model, data.sample(1)[0]):
        each = f" for each of the {world_size} processes" if world_size > 1 else ""
        raise ZooError(
            f"a training batch would have one example{each}, of which this model's batch normalisation learns nothing: "
            f"have more examples, and set data.batch_size (and data.unlabelled) to {2 * world_size} or more"
        )


def has_single(data: Any, world_size: int) -> bool:
    """Whether a process gets a batch of one example in training, as far as the data know."""
    return isinstance(data, MemoryData) and data.smallest_batch(world_size) == 1


def takes_one(model: nn.Module, x: Any) -> bool:
    """Whether a model in training takes a batch of one example: batch norm has to have several numbers a channel.

    Where it has those of several pixels, it does.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng():
            copy.deepcopy(model).train()(x)  # what is frozen stays so
    except ValueError as error:
        return ONE_NUMBER not in str(error)
    return True


def own_states(task: Any, trainer: Trainer) -> list[dict[str, Any]]:
    """The random number generators, metrics and ``task.carried`` of every process, by rank; all must call it."""
    cuda = []
    if torch.cuda.is_available():
        several = trainer.world_size > 1  # then a process has one device
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
    """The inverse of ``own_states``; of another number of processes each draws anew."""
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
