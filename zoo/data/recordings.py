"""Many recordings of different lengths as whole tensors, and batches of them that are padded to a common length."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.arguments import Seed
from zoo.data.loader import Loader, batches_by_length

POOL = 16  # batches whose recordings are sorted by length together


class Recordings(NamedTuple):
    """Recordings one after the other, and the number tokens of what is said in them.

    Attributes:
        samples: int16 (S,), all recordings.
        starts, lengths: int64 (N,), where each begins and how many samples it has.
        targets: int64 (N, L), token numbers, padded with 0, the blank of CTC.
        target_lengths: int64 (N,).
    """

    samples: Tensor
    starts: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor

    def __len__(self) -> int:  # of recordings, not of fields
        return self.starts.shape[0]

    def rows(self, index: Tensor) -> "Recordings":
        """The recordings of these numbers, in this order; the samples are shared."""
        return Recordings(self.samples, *(field[index] for field in self[1:]))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Padded samples int16 (B, S), their lengths (B,), targets (B, L) and their lengths (B,).

        The lengths stay where they are, in the host's memory; so no batch has to wait for the device.
        """
        starts, lengths, wanted = self.starts[index], self.lengths[index], self.target_lengths[index]
        steps = torch.arange(int(lengths.max()))
        inside = steps < lengths[:, None]  # (B, S)
        samples = self.samples[torch.where(inside, starts[:, None] + steps, 0)] * inside
        return samples, lengths, self.targets[index, : max(1, int(wanted.max()))], wanted


def packed(sounds: Sequence[Tensor], tokens: Sequence[Tensor]) -> Recordings:
    """Recordings int16 (S_i,) and their tokens int64 (L_i,) as whole tensors."""
    lengths = torch.tensor([len(sound) for sound in sounds])
    return joined(torch.cat([*sounds]), lengths, tokens)


def joined(samples: Tensor, lengths: Tensor, tokens: Sequence[Tensor]) -> Recordings:
    """Recordings that lie one after the other in ``samples``, with their lengths (N,) and their tokens."""
    rows = [*tokens, torch.zeros(1, dtype=torch.int64)]  # one more, as there may be no recordings
    targets = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)[:-1]
    return Recordings(
        samples,
        lengths.cumsum(0) - lengths,
        lengths,
        targets,
        torch.tensor([len(t) for t in tokens], dtype=torch.int64),
    )


class LengthLoader(Loader):
    """Batches of recordings of similar lengths.

    Each epoch has a new order. Within each group of ``POOL`` batches the recordings are sorted by length, and the
    batches of the epoch are then shuffled; the first epoch goes from short to long instead, as short recordings are
    easier to align (Amodei et al. 2016, section 3.3). Without ``shuffle`` all are sorted by length.

    Args:
        recordings: the recordings.
        batch_size: recordings per (global) batch; the last batch may be smaller.
        shuffle: whether the batches are for training.
        seed, rank, world_size: see ``Loader``.
    """

    def __init__(
        self,
        recordings: Recordings,
        batch_size: int,
        shuffle: bool = False,
        seed: Seed = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(seed, rank, world_size)
        self.recordings, self.batch_size, self.shuffle = recordings, batch_size, shuffle
        self.keeps_place = shuffle
        n = len(recordings)
        self.total = n - (n % batch_size) % world_size if shuffle else n

    def __len__(self) -> int:
        return -(-self.total // self.batch_size)

    def plan(self) -> list[Tensor]:
        """The numbers of the recordings of each batch."""
        lengths = self.recordings.lengths
        in_order = not self.shuffle or (self.epoch == 0 and not self.repeat)
        return batches_by_length(lengths, self.batch_size, POOL, None if in_order else self.generator(), self.total)

    def take(self, plan: list[Tensor], i: int) -> tuple[Tensor, ...]:
        index = plan[i]
        if self.world_size > 1 and len(index) >= self.world_size:
            index = index[self.rank :: self.world_size]
        return self.recordings.batch(index)
