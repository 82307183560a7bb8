"""What the zoo reads of Lightning's loop that has no public name; each private name stands here and nowhere else."""

from lightning import Trainer


def logs_now(trainer: Trainer) -> bool:
    """Whether the curves get a point at this training batch."""
    return trainer._logger_connector.should_update_logs


def batch_step(trainer: Trainer) -> int:
    """The step at which Lightning logs what is measured within a training batch: the batches before it, of all epochs.

    A batch whose player or players took several updates counts as one.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_batch_step(trainer: Trainer, step: int) -> None:
    """Let the training batch that begins be logged at a step."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def logged_step(trainer: Trainer) -> int:
    """The step at which Lightning logs what is measured now: of training and validation the last update's, from 0; of
    the test the number of updates.
    """
    counted_later = trainer.validating or trainer.testing  # a validation comes before its batch is counted
    return batch_step(trainer) if counted_later else max(0, batch_step(trainer) - 1)
