"""A TensorBoard callback for speech: what goes in, how probable each token is at each step, and the alignment."""

from typing import Any

from lightning import Trainer
from matplotlib.figure import Figure

from zoo.callbacks.picture import OnValidation
from zoo.contracts import Aligned, OfSpeech
from zoo.tasks.loop import logged_step
from zoo.use.beam import align
from zoo.use.greedy import best_path, greedy

MOST = 40  # tokens with a row of their own


class Hearing(OnValidation):
    """The spectrogram of a recording, the probabilities of the tokens over time (the posteriors), and the best
    alignment of what is said; the titles have what is said and what the model writes.

    Args:
        recording: the number of the recording in the validation part, or in the training part without one.
    """

    every_epoch = True

    def __init__(self, recording: int = 0):
        self.recording = recording

    def fits(self, task: Any, data: Any) -> bool:
        return isinstance(task.model, Aligned) and isinstance(data, OfSpeech)

    def show(self, writer: Any, trainer: Trainer, task: Any, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        part = "val" if len(data.splits["val"]) else "train"
        index = min(self.recording, len(data.splits[part]) - 1)
        samples, lengths, targets, _ = data.splits[part].batch(data.splits[part].lengths.new_tensor([index]))
        x, frames = data.preprocess.features(samples, lengths)
        log_probs = model(x.to(task.device), frames).float().log_softmax(2).detach().cpu()
        transcripts = data.preprocess.transcripts
        said, steps = transcripts.decode(targets[0].tolist()), model.steps(frames)
        figure = Figure(figsize=(10, 8), dpi=90, layout="tight")
        above, middle, below = figure.subplots(3, 1)
        seconds = float(lengths[0]) / data.preprocess.rate
        above.imshow(
            x[0].T.cpu().numpy(), origin="lower", aspect="auto", extent=(0, seconds, 0, x.shape[2]), cmap="magma"
        )
        above.set(ylabel="mel band", title=said)
        chances = log_probs[0].exp().T[:MOST].numpy()
        middle.imshow(chances, aspect="auto", extent=(0, seconds, len(chances) - 0.5, -0.5), vmin=0, vmax=1)
        names = ["blank", *("space" if token == " " else token for token in transcripts.vocabulary)][: len(chances)]
        middle.set_yticks(range(len(names)), names, fontsize=6)
        middle.set(title=transcripts.decode(greedy(log_probs, steps)[0]) or "(nothing)")
        places = align(log_probs[0], targets[0]).tolist()
        said_at = [((i + 0.5) * seconds / len(places), place) for i, place in enumerate(places) if place >= 0]
        below.plot(*zip(*said_at, strict=True), ".")
        below.set_yticks(range(len(targets[0])), [names[t] if t < len(names) else "" for t in targets[0]], fontsize=6)
        best, new = best_path(log_probs, steps)
        for i in new[0].nonzero()[:, 0].tolist():
            below.axvline((i + 0.5) * seconds / best.shape[1], color="0.85", zorder=0)
        below.set(xlabel="seconds", xlim=(0, seconds), title="alignment; lines: the model's own tokens", ylabel="token")
        below.invert_yaxis()
        writer.add_figure("hearing/recording", figure, logged_step(trainer), close=False)
