"""Reading recordings: WAV without a further package, FLAC and others with ``soundfile``, brought to one sample rate."""

import io
import wave
from functools import lru_cache
from math import gcd, pi
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.config.files import MB, read_file
from zoo.errors import ZooError

AUDIO_BYTES = 500 * MB  # the largest file that is read
LONGEST = 3600.0  # seconds of the longest recording that is read
SHORTEST = 0.05  # seconds; a shorter recording has no word in it
RATES = (1000, 768_000)  # the lowest and the highest sample rate that is read, in Hz
SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3")
INSTALL = "pip install 'reference-zoo[audio]'"
ZEROS = 8  # zero crossings of the resampling filter on each side
ROLLOFF = 0.95  # the filter's cut-off, as a part of the lower Nyquist frequency


def read_audio(path: str | Path, rate: int) -> Tensor:
    """A recording as one channel of a given sample rate, int16 (N,).

    Channels are averaged. Samples of 8, 24 and 32 bits, and floating-point ones in [-1, 1], become 16 bits; louder
    ones are cut off.

    Raises:
        ZooError: the file is missing, damaged, in an unknown format, without sound, or shorter than 0.05 seconds.
    """
    try:
        content = read_file(Path(path).expanduser(), AUDIO_BYTES, "allowed for a recording")
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    samples, given = decode(content, str(path))
    if not len(samples):
        raise ZooError(f"{path} is a recording of no samples; give one with sound in it")
    if len(samples) < SHORTEST * given:
        raise ZooError(
            f"{path} lasts {len(samples) / given:.3f} seconds, too short for a word; give {SHORTEST} seconds or more"
        )
    if not np.isfinite(samples).all():
        raise ZooError(f"{path} has samples that are no numbers (NaN or infinite); record or convert it again")
    return as_int16(resample(torch.from_numpy(samples.mean(1)), given, rate))


def as_int16(samples: Tensor) -> Tensor:
    """Samples in [-1, 1] as int16; others are cut off."""
    return (samples * 32768).round().clamp(-32768, 32767).to(torch.int16)


def decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """The samples of a file's content, float32 (N, channels) in [-1, 1], and their rate in Hz."""
    if not content:
        raise ZooError(f"{name} is empty; give a recording in WAV or FLAC")
    found = decode_wav(content) or decode_other(content, name)
    samples, rate = found
    if not RATES[0] <= rate <= RATES[1]:
        raise ZooError(f"{name} has a sample rate of {rate} Hz; valid: {RATES[0]:,} to {RATES[1]:,}")
    if len(samples) > LONGEST * rate:
        raise ZooError(f"{name} lasts {len(samples) / rate:,.0f} seconds, more than {LONGEST:,.0f}; cut it into parts")
    return samples, rate


def decode_wav(content: bytes) -> tuple[np.ndarray, int] | None:
    """The samples of a WAV file with whole numbers of 8 to 32 bits; None if it is no such file."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError, OSError, ValueError, ZeroDivisionError):
        return None
    raw = raw[: len(raw) // (width * channels) * width * channels]
    if width == 1:  # 8 bits are unsigned
        values = (raw.astype(np.float32) - 128) / 128
    else:  # the most significant bytes of an int32
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = raw.reshape(-1, width)
        values = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return values.reshape(-1, channels), rate


def decode_other(content: bytes, name: str) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its library libsndfile is missing
        raise ZooError(
            f"{name} is no WAV file with whole numbers, and other formats need soundfile: {INSTALL}"
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > LONGEST * file.samplerate:
                return np.zeros((file.frames, 1), np.float32)[:0], file.samplerate
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ZooError(f"{name} is no recording that can be read ({reason}); give WAV or FLAC") from None


def resample(x: Tensor, old: int, new: int) -> Tensor:
    """Change the sample rate by band-limited interpolation: a windowed sinc for each phase, as one convolution.

    Smith and Gossett 1984, "A flexible sampling-rate conversion method".

    Args:
        x: samples, float32 (..., N).
        old, new: the sample rates, of which only the ratio counts.

    Returns:
        float32 (..., ceil(N * new / old)).
    """
    common = gcd(old, new)
    old, new = old // common, new // common
    if old == new:
        return x
    kernel, width = filters(old, new)
    n = x.shape[-1]
    rows = F.pad(x.reshape(-1, 1, n), (width, width + old))
    y = F.conv1d(rows, kernel.to(x.device), stride=old)  # (rows, new, steps): one row of results for each phase
    y = y.transpose(1, 2).reshape(len(rows), -1)[:, : -(-n * new // old)]
    return y.reshape(*x.shape[:-1], -1)


@lru_cache(maxsize=16)
def filters(old: int, new: int) -> tuple[Tensor, int]:
    """The filter of each phase, float32 (new, 1, 2 * width + old), and its width to either side."""
    cut = ROLLOFF * min(old, new)
    width = -(-ZEROS * old // min(old, new)) + 1
    time = (torch.arange(-width, width + old, dtype=torch.float64) / old)[None]
    phase = torch.arange(new, dtype=torch.float64)[:, None] / new
    t = ((time - phase) * cut).clamp(-ZEROS, ZEROS)
    window = torch.cos(t * pi / ZEROS / 2).square()
    kernel = torch.sinc(t) * window * cut / old
    return kernel.float()[:, None], width
