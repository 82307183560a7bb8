"""Recordings of speech and their transcripts, as data for a run."""

import copy
import wave
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.arguments import NonNegative, Positive, Seed
from zoo.data.base import MemoryData
from zoo.data.loader import Loader
from zoo.data.recordings import LengthLoader, Recordings, joined
from zoo.data.spectrum import SENTENCES, LogMel, SpeechAugment
from zoo.data.speech_files import Spoken
from zoo.data.speech_sources import load_speech, speech_source
from zoo.data.transcripts import Transcripts, Units, plain
from zoo.errors import ZooError

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class SpeechData(MemoryData):
    """The recordings of a speech set; a batch consists of spectrograms, their numbers of frames, tokens, and their
    numbers.

    Args:
        name: one of ``zoo.data.speech_sources.SPEECH``.
        num_classes: the number of different tokens and the blank, which determines the size of a model; it is checked.
        rate: the sample rate in Hz; recordings of the set that have another one are resampled.
        in_features: the number of mel bands.
        normalise, dynamic: see ``zoo.data.spectrum.LogMel``.
        units: whether tokens are letters or words.
        val_size: how much of the training part is held out for validation: speakers or recordings, as ``val_by`` says;
            0 trains on all.
        val_by: "speaker" holds out all recordings of some speakers, which measures how well new speakers are
            understood; "recording" holds out some recordings.
        held_out: a speaker whose recordings are the test part, instead of the official one; the others' are for
            training. Null keeps the official split.
        batch_size, eval_batch_size: recordings per batch in training and evaluation.
        augment: changes of training recordings; None means none.
        seed: seed for the order of the training recordings.
        split_seed: seed that selects what is held out for validation.
        root: the folder of the data; None means $ZOO_DATA, the clone's ``data/`` or the user's cache.

    Raises:
        ZooError: an argument is out of its range, or the set cannot be fetched.
    """

    def __init__(
        self,
        name: str,
        num_classes: Positive,
        rate: Positive = 16_000,
        in_features: Positive = 64,
        normalise: Literal["band", "whole"] = "band",
        units: Units = "letter",
        val_size: NonNegative = 0,
        val_by: Literal["speaker", "recording"] = "speaker",
        held_out: str | None = None,
        batch_size: Positive = 8,
        eval_batch_size: Positive = 32,
        augment: SpeechAugment | None = None,
        seed: Seed = 0,
        split_seed: Seed = 0,
        root: str | None = None,
        dynamic: NonNegative | None = None,
    ):
        super().__init__()
        if val_by not in ("speaker", "recording"):
            raise ZooError(f"data.val_by={val_by} is not valid: speaker, recording")
        self.name: str = name  # type: ignore[assignment]  Lightning's own is str | None
        self.num_classes, self.rate, self.in_features = num_classes, rate, in_features
        self.normalise: Literal["band", "whole"] = normalise
        self.units: Units = units
        self.val_size, self.val_by, self.held_out = val_size, val_by, held_out
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.augment, self.seed, self.split_seed = augment, seed, split_seed
        self.root, self.dynamic = root, dynamic
        self.preprocess: LogMel
        self.splits: dict[str, Recordings] = {}

    # --- reading ------------------------------------------------------------------------------------------------------

    def parts(self, stage: str | None = None) -> dict[str, Spoken]:
        """The parts "train" and "test" as they are read; for a test, of a set not yet fetched, maybe "test" only."""
        if speech_source(self.name).rate != self.rate:
            raise ZooError(f"data.rate={self.rate} is not valid: {self.name} has {speech_source(self.name).rate} Hz")
        parts = ("test",) if stage == "test" and self.held_out is None else ("train", "test")
        return load_speech(self.name, Path(self.root).expanduser() if self.root else None, parts)

    def setup(self, stage: str | None = None) -> None:
        """Read the recordings and split them; raises a ``ZooError`` if they do not suit the arguments."""
        if self.splits:
            return
        parts = self.parts(stage)
        parts.setdefault("train", parts["test"].only([]))
        if self.held_out is not None:
            parts = without_speaker(parts, self.held_out)
        train = parts["train"]
        transcripts = Transcripts.fit(self.units, train.texts or parts["test"].texts)
        if len(transcripts) != self.num_classes:
            raise ZooError(
                f"data.num_classes={self.num_classes} is not valid: the transcripts have {len(transcripts) - 1} "
                f"different {self.units}s, and the blank"
            )
        kept, val = self.divided(train) if train.texts else ([], [])
        train, parts = train.only(kept), {"val": train.only(val), **parts}
        self.preprocess = LogMel(
            self.rate,
            self.in_features,
            self.normalise,
            self.units,
            transcripts.vocabulary,
            train.texts[:SENTENCES],
            self.dynamic,
        )
        for part, own in {**parts, "train": train}.items():
            self.splits[part] = joined(own.samples, own.lengths, [transcripts.encode(text) for text in own.texts])

    def divided(self, train: Spoken) -> tuple[list[int], list[int]]:
        """The numbers of the recordings for training and for validation."""
        groups = train.speakers if self.val_by == "speaker" else [str(i) for i in range(len(train.texts))]
        names = sorted(set(groups))
        if not 0 <= self.val_size < len(names):
            raise ZooError(
                f"data.val_size={self.val_size} is not valid: give 0 to {len(names) - 1} {self.val_by}s of {self.name}"
            )
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        held = {names[i] for i in order[: int(self.val_size)]}
        kept = [i for i, group in enumerate(groups) if group not in held]
        return kept, [i for i, group in enumerate(groups) if group in held]

    # --- batches ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Loader:
        """Batches of similar lengths in a new order every epoch; a resumed run continues where it stopped."""
        self.check_batch_size(self.batch_size)
        return self.training(LengthLoader(self.splits["train"], self.batch_size, True, self.seed, *self.processes()))

    def smallest_batch(self, world_size: int) -> int:
        """The number of recordings per process in a full training batch; see ``MemoryData``."""
        return min(self.batch_size, len(self.splits["train"])) // world_size

    def val_dataloader(self) -> Loader | list[Loader]:
        """The validation recordings; an empty list if there are none."""
        return self.evaluation("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> Loader:
        """The test recordings."""
        return self.evaluation("test")

    def evaluation(self, part: str) -> Loader:
        rank, world_size = self.processes()
        return LengthLoader(self.splits[part], self.eval_batch_size, rank=rank, world_size=world_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move samples and tokens; the lengths stay on the host, where the loss and the masks need them."""
        samples, lengths, targets, wanted = batch
        return samples.to(device, non_blocking=True), lengths, targets.to(device, non_blocking=True), wanted

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Samples int16 (B, S), (B,), tokens (B, L), (B,) to spectrograms (B, T, M), augmented in training only."""
        samples, lengths, targets, wanted = batch
        augment = self.augment if self.trainer and self.trainer.training else None
        if augment:
            samples = augment.noisy(samples, lengths)
        x, frames = self.preprocess.features(samples, lengths, augment.draw_speed() if augment else 1.0)
        if augment and self.trainer and self.trainer.current_epoch >= augment.start:
            x = augment.mask(x, frames)
        return x, frames, targets, wanted

    def sample(self, n: int, part: str = "train") -> tuple[Tensor, Tensor]:
        """The first n recordings of a part as padded spectrograms (n, T, M), and their tokens (n, L)."""
        index = torch.arange(min(n, len(self.splits[part])))
        samples, lengths, targets, _ = self.splits[part].batch(index)
        return self.preprocess(samples, lengths), targets

    # --- what a run reports about its data ----------------------------------------------------------------------------

    def first(self, n: int) -> tuple["SpeechData", int]:
        """A copy of the data with only the first n recordings of every part, and the number of its test recordings."""
        few = copy.copy(self)
        few.splits = {
            part: own.rows(torch.arange(min(n, len(own)))) for part, own in self.splits.items()
        }  # fmt: skip
        return few, len(few.splits["test"])

    def summary(self) -> str:
        """One line with the sizes of the parts."""
        sizes = [
            f"{len(own):,} {word} ({own.lengths.sum().item() / self.rate / 60:.1f} min)"
            for word, own in (("training", self.splits["train"]), ("validation", self.splits["val"]))
        ]
        test = self.splits["test"]
        minutes = test.lengths.sum().item() / self.rate / 60
        return f"{self.name}: {', '.join(sizes)}, {len(test):,} test recordings ({minutes:.1f} min)"

    def save_example(self, folder: Path) -> Path:
        """Write the first test recording to a file, as an input for ``zoo transcribe``; return its path."""
        path = folder / "example.wav"
        samples, *_ = self.splits["test"].batch(torch.zeros(1, dtype=torch.int64))
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(samples[0].numpy().astype("<i2").tobytes())
        return path

    def card(self) -> dict[str, Any]:
        """The card's entry about a model's inputs and outputs: the spectrogram, the tokens and the training texts."""
        return {"preprocess": self.preprocess.config()}


def without_speaker(parts: dict[str, Spoken], speaker: str) -> dict[str, Spoken]:
    """All recordings of a speaker as the test part, and those of all others as the training part."""
    both = [parts["train"], parts["test"]]
    whole = Spoken(
        torch.cat([own.samples for own in both]),
        torch.cat([own.lengths for own in both]),
        [plain(text) for own in both for text in own.texts],
        [name for own in both for name in own.speakers],
    )
    if speaker not in whole.speakers:
        names = sorted(set(whole.speakers))
        shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        raise ZooError(f"data.held_out={speaker} is no speaker of this set; valid: {shown}")
    test = [i for i, name in enumerate(whole.speakers) if name == speaker]
    train = [i for i, name in enumerate(whole.speakers) if name != speaker]
    return {"train": whole.only(train), "test": whole.only(test)}
