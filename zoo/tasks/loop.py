"""Access to the state of Lightning's training loop that has no public API. Private names of the loop are used only
here, in ``zoo.run.epoch`` and in ``zoo.run.resume``.
"""

from lightning import Trainer


def logs_now(trainer: Trainer) -> bool:
    """Whether values of the current training batch are logged (``trainer.log_every_n_steps``)."""
    return trainer._logger_connector.should_update_logs


def batch_step(trainer: Trainer) -> int:
    """The step under which Lightning logs values of the current training batch: the number of batches before it in
    all epochs. A batch counts once, even if several optimizers took a step in it.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_batch_step(trainer: Trainer, step: int) -> None:
    """Set the step under which Lightning logs values of the training batch that begins."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def logged_step(trainer: Trainer) -> int:
    """The step under which Lightning logs a value now: in training and its validation the last update's, counted from
    0; in a test the number of updates.
    """
    # training counts a batch only after the validation that follows it
    counted_later = trainer.validating or trainer.testing
    return batch_step(trainer) if counted_later else max(0, batch_step(trainer) - 1)
