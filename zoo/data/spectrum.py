"""Log-mel spectrograms of batches of recordings, computed on the device, and their augmentation."""

from collections.abc import Sequence
from functools import lru_cache
from math import log
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo.arguments import NonNegative
from zoo.data.audio import RATES, read_audio, resample
from zoo.data.transcripts import Transcripts, Units
from zoo.errors import ZooError

WINDOW, HOP = 0.025, 0.010  # seconds
FLOOR = 1e-6  # power that is added before the logarithm, so that digital silence is not minus infinity
MELS = (8, 256)  # the smallest and the largest number of mel bands
SENTENCES = 20_000  # most sentences that a card keeps for the n-grams of the beam search


class LogMel:
    """A speech model's ``preprocess``: recordings to log-mel spectrograms, and token numbers to text.

    Args:
        rate: the sample rate in Hz, to which files are resampled.
        mels: the number of mel bands, 8 to 256.
        normalise: "band" gives each band of each recording mean 0 and variance 1, which also removes the microphone's
            frequency response; "whole" does so with all bands together, which suits recordings of a single word.
        units: whether tokens are letters or words.
        vocabulary: the tokens from number 1 on.
        sentences: the training transcripts, from which the beam search makes its n-grams.
        dynamic: what is more than this many decibels below the loudest band and frame of a recording is raised to that
            level, so that it does not matter how quiet a recording's silence is; None changes nothing.
    """

    def __init__(
        self,
        rate: int,
        mels: int,
        normalise: Literal["band", "whole"],
        units: Units,
        vocabulary: Sequence[str],
        sentences: Sequence[str] = (),
        dynamic: float | None = None,
    ):
        if not RATES[0] <= rate <= RATES[1] or not MELS[0] <= mels <= MELS[1]:
            raise ZooError(
                f"rate={rate}, mels={mels} are not valid: {RATES[0]:,} to {RATES[1]:,} Hz, {MELS[0]} to {MELS[1]} bands"
            )
        if normalise not in ("band", "whole"):
            raise ZooError(f"normalise={normalise} is not valid: band, whole")
        if len(sentences) > SENTENCES or not all(isinstance(s, str) for s in sentences):
            raise ZooError(f"sentences are not valid: at most {SENTENCES:,} texts")
        self.rate, self.mels, self.normalise = rate, mels, normalise
        self.transcripts = Transcripts(units, vocabulary)
        self.sentences = list(sentences)
        if dynamic is not None and not 10 <= dynamic <= 200:
            raise ZooError(f"dynamic={dynamic} is not valid: 10 to 200 decibels, or null")
        self.dynamic = dynamic

    def __call__(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Recordings, int16 (B, S) or one of them (S,), to spectrograms, float32 (B, T, mels) or (T, mels)."""
        if samples.ndim == 1:
            return self(samples[None])[0]
        return self.features(samples, torch.full((len(samples),), samples.shape[1]) if lengths is None else lengths)[0]

    def features(self, samples: Tensor, lengths: Tensor, speed: float = 1.0) -> tuple[Tensor, Tensor]:
        """The spectrograms of a padded batch.

        Args:
            samples: int16 or float32 of that range, (B, S), zero after the end of each recording.
            lengths: int64 (B,), on the host.
            speed: the recordings are played this many times faster, which raises their pitch too (Ko et al. 2015).

        Returns:
            float32 (B, T, mels), zero after the end of each, and the numbers of frames (B,), on the host.
        """
        x = samples.float() / 32768
        if speed != 1:
            x = resample(x, round(100 * speed), 100)
            lengths = -(-lengths * 100 // round(100 * speed))
        window, hop, size = self.sizes()
        power = torch.stft(
            x, size, hop, window, hann(window, x.device), pad_mode="constant", return_complex=True
        ).abs().square()  # (B, size / 2 + 1, T)  # fmt: skip
        found = (mel_filters(self.mels, size, self.rate, x.device) @ power + FLOOR).log().transpose(1, 2)
        if self.dynamic is not None:
            loudest = found.amax((1, 2), keepdim=True)
            found = torch.maximum(found, loudest - self.dynamic * log(10) / 10)
        frames = lengths // hop + 1
        inside = (torch.arange(found.shape[1])[None] < frames[:, None])[..., None].to(x.device)  # (B, T, 1)
        return normalised(found, inside, self.normalise == "band"), frames

    def sizes(self) -> tuple[int, int, int]:
        """The samples of a window, of a step, and of a Fourier transform; the last is at least twice the first."""
        window = round(WINDOW * self.rate)
        return window, round(HOP * self.rate), 1 << (2 * window - 1).bit_length()

    def read(self, path: str | Path) -> Tensor:
        """A recording of any sample rate and number of channels, int16 (S,); see ``zoo.data.audio.read_audio``."""
        return read_audio(path, self.rate)

    def random_input(self, n: int) -> Tensor:
        """A random batch of spectrograms to try a model with, (n, 64, mels); equal n give equal batches."""
        return torch.randn(n, 64, self.mels, generator=torch.Generator().manual_seed(n))

    def config(self) -> dict[str, Any]:
        """Plain values for a card, from which ``zoo.config.build.build`` makes it again."""
        return {
            "_target_": "zoo.data.spectrum.LogMel", "rate": self.rate, "mels": self.mels, "normalise": self.normalise,
            "units": self.transcripts.units, "vocabulary": self.transcripts.vocabulary, "sentences": self.sentences,
            "dynamic": self.dynamic,
        }  # fmt: skip


def normalised(x: Tensor, inside: Tensor, by_band: bool) -> Tensor:
    """Spectrograms (B, T, M) with mean 0 and variance 1 over the frames ``inside``, (B, T, 1), and zero outside."""
    over = (1,) if by_band else (1, 2)
    n = inside.sum(1, keepdim=True) * (1 if by_band else x.shape[2])  # (B, 1, 1)
    mean = (x * inside).sum(over, keepdim=True) / n
    centred = (x - mean) * inside
    return centred / (centred.square().sum(over, keepdim=True) / n + 1e-5).sqrt()


@lru_cache(maxsize=8)
def hann(n: int, device: torch.device) -> Tensor:
    return torch.hann_window(n, device=device)


@lru_cache(maxsize=8)
def mel_filters(mels: int, size: int, rate: int, device: torch.device) -> Tensor:
    """Triangular filters whose centres have equal distances in mel, 2595 log10(1 + f / 700), (mels, size / 2 + 1)."""
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, mels + 2, dtype=torch.float64) * top / 2595) - 1)  # Hz
    f = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    low, centre, high = (edges[i : i + mels, None] for i in range(3))
    return torch.minimum((f - low) / (centre - low), (high - f) / (high - centre)).clamp(min=0).float().to(device)


class SpeechAugment:
    """Changes to training recordings, whole batches at a time.

    Args:
        speed: factors of the speed, of which each batch draws one (Ko et al. 2015); [1.0] changes nothing.
        band_masks, band_width: the number of masks over mel bands and the most bands of one (Park et al. 2019).
        time_masks, time_share: the number of masks over time and the longest share of a recording of one.
        noise: the lowest and the highest signal-to-noise ratio in decibels of white noise that is added; each
            recording draws its own. None adds none.
        start: the epoch, from 0, from which the spectrograms are masked. While a model gives nothing but blanks, masks
            keep it there; set it to when the loss has begun to fall.

    Raises:
        ZooError: an argument is out of its range.
    """

    def __init__(
        self,
        speed: Sequence[float] = (1.0,),
        band_masks: NonNegative = 0,
        band_width: NonNegative = 8,
        time_masks: NonNegative = 0,
        time_share: NonNegative = 0.05,
        start: NonNegative = 0,
        noise: Sequence[float] | None = None,
    ):
        if not speed or not all(0.5 <= s <= 2 for s in speed):
            raise ZooError(f"data.augment.speed={list(speed)} is not valid: one or more factors from 0.5 to 2")
        if not time_share < 1:
            raise ZooError(f"data.augment.time_share={time_share} is not valid: give a share below 1")
        self.speed = list(speed)
        self.band_masks, self.band_width = int(band_masks), band_width
        self.time_masks, self.time_share = int(time_masks), time_share
        if noise is not None and (len(noise) != 2 or noise[0] > noise[1]):
            raise ZooError(f"data.augment.noise={list(noise)} is not valid: the lowest and the highest ratio, or null")
        self.start = start
        self.noise = None if noise is None else tuple(noise)

    def draw_speed(self) -> float:
        """The factor of a batch; the random number is the host's, so that nothing waits for the device."""
        return self.speed[int(torch.randint(len(self.speed), ()))] if len(self.speed) > 1 else self.speed[0]

    def noisy(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Samples (B, S), zero after the end of each recording, with noise in them, float32."""
        if self.noise is None:
            return samples
        low, high = self.noise
        x = samples.float()
        power = x.square().sum(1, keepdim=True) / lengths[:, None].to(x.device)  # (B, 1)
        decibels = low + (high - low) * torch.rand(len(x), 1, device=x.device)
        inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None].to(x.device)
        return x + torch.randn_like(x) * inside * (power * 10 ** (-decibels / 10)).sqrt()

    def mask(self, x: Tensor, frames: Tensor) -> Tensor:
        """Set random bands and times of spectrograms (B, T, M) to 0, their mean; ``frames`` (B,) are their lengths."""
        b, t, m = x.shape
        if self.band_masks:
            x = x * outside(b, self.band_masks, self.band_width, torch.full((b, 1), m), m, x.device)[:, None]
        if self.time_masks:
            most = frames[:, None] * self.time_share
            x = x * outside(b, self.time_masks, most, frames[:, None], t, x.device)[..., None]
        return x


def outside(b: int, masks: int, most: Any, of: Tensor, n: int, device: torch.device) -> Tensor:
    """For each row, whether the places 0 … n − 1 are outside of all its masks, bool (b, n).

    Args:
        most: the largest width, a number or (b, 1).
        of: the places among which masks lie, (b, 1).
    """
    width = torch.rand(b, masks) * most
    start = torch.rand(b, masks) * (of - width).clamp(min=0)
    place = torch.arange(n)
    hit = (place >= start[..., None]) & (place < (start + width)[..., None])  # (b, masks, n)
    return ~hit.any(1).to(device)
