"""The hooks of Lightning that nobody overrides are not called."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

# Lightning calls these for every training batch, of each callback and of the task
OF_BATCHES = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def skip_unused_hooks(trainer: Trainer, task: LightningModule) -> None:
    """Keep Lightning from calling the hooks of training batches that a callback or the task inherits, which do nothing.

    Lightning calls each of them for every callback and batch, which costs a small model a part of its step. It skips a
    hook that is not callable, so an unused one becomes None.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        drop_unused(callback, Callback)
    drop_unused(task, LightningModule)


def drop_unused(owner: Any, base: type) -> None:
    """Set the hooks to None that an object has from a base class, unchanged."""
    for name in OF_BATCHES:
        if getattr(type(owner), name) is getattr(base, name) and name not in vars(owner):
            setattr(owner, name, None)
