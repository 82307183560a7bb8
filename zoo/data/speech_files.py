"""The files of the speech sets: in a folder or an archive, read and put together as recordings with their words."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.config.files import MB, read_file
from zoo.data.audio import AUDIO_BYTES, decode
from zoo.data.integrity import UNREADABLE, gunzip, regular_members, unxz
from zoo.errors import ZooError

ARCHIVE_BYTES = 1000 * MB  # the largest archive, packed or not; AN4's has 53 MB, its recordings 100 MB
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OFFICIAL = 5  # recordings 0 to 4 of each speaker and digit are the official test split of the spoken digits
Files = Mapping[str, Callable[[], bytes]]  # the content of each file, by its path in a folder or an archive


@dataclass
class Spoken:
    """The recordings of a part of a set, in the order of their names.

    Attributes:
        samples: int16 (S,), one recording after the other.
        lengths: int64 (N,), their numbers of samples.
        texts, speakers: what is said in each, and by whom.
    """

    samples: Tensor
    lengths: Tensor
    texts: list[str]
    speakers: list[str]

    def digest(self) -> str:
        """The sha256 of everything in it."""
        words = json.dumps([self.texts, self.speakers], ensure_ascii=False).encode()
        return hashlib.sha256(self.samples.numpy().tobytes() + self.lengths.numpy().tobytes() + words).hexdigest()

    def only(self, chosen: list[int]) -> "Spoken":
        """The recordings of these numbers, in this order."""
        pieces = self.samples.split(self.lengths.tolist())
        return Spoken(
            torch.cat([pieces[i] for i in chosen]) if chosen else self.samples[:0],
            self.lengths[chosen],
            [self.texts[i] for i in chosen],
            [self.speakers[i] for i in chosen],
        )


def read_an4(files: Files) -> dict[str, Spoken]:
    """AN4, whose official split has other speakers in the test; ``etc/`` names the files and what is said in them."""
    return {part: read_an4_part(files, part) for part in ("train", "test")}


def read_an4_part(files: Files, part: str) -> Spoken:
    said: dict[str, str] = {}
    for line in files[f"etc/an4_{part}.transcription"]().decode().splitlines():
        text, _, name = line.rpartition("(")  # as in "<s> YES </s> (an251-fash-b)"; the test lines have no <s>
        said[name.rstrip(") ")] = " ".join(w for w in text.split() if w not in ("<s>", "</s>"))
    names = files[f"etc/an4_{part}.fileids"]().decode().split()
    path = {name: next(p for s in ("wav", "flac") if (p := f"wav/{name}.{s}") in files) for name in names}
    sounds = [samples_of(files[path[name]](), path[name], 16_000) for name in names]
    return spoken(sounds, [said[Path(name).name] for name in names], [name.split("/")[1] for name in names])


def read_digits(files: Files) -> dict[str, Spoken]:
    """The free spoken digits, whose files are called DIGIT_SPEAKER_NUMBER.wav."""
    names = sorted(name for name in files if name.startswith("recordings/") and name.endswith(".wav"))
    if not names:
        raise KeyError("recordings/")
    found: dict[str, list[tuple[Tensor, str, str]]] = {"train": [], "test": []}
    for name in names:
        digit, speaker, number = Path(name).stem.split("_")
        part = "test" if int(number) < OFFICIAL else "train"
        found[part].append((samples_of(files[name](), name, 8_000), DIGITS[int(digit)], speaker))
    return {part: spoken(*map(list, zip(*rows, strict=True))) for part, rows in found.items()}


def samples_of(content: bytes, name: str, rate: int) -> Tensor:
    """The samples of a recording with one channel and 16 bits, int16 (N,), exactly as they are in the file."""
    samples, given = decode(content, name)
    if given != rate or samples.shape[1] != 1:
        raise ValueError(f"{name} has {samples.shape[1]} channels of {given} Hz")
    return torch.from_numpy((samples[:, 0] * 32768).astype(np.int16))


def spoken(sounds: list[Tensor], texts: list[str], speakers: list[str]) -> Spoken:
    return Spoken(torch.cat(sounds), torch.tensor([len(sound) for sound in sounds]), texts, speakers)


# --- folders and archives --------------------------------------------------------------------------------------------


def found_in(folder: Path) -> Iterator[Files]:
    """The files in a folder, and those of each archive in it, by their paths below the folder that has them all."""
    if not folder.is_dir():
        return
    for inside in (folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())):
        paths = [path for path in inside.rglob("*") if path.is_file()]
        yield {path.relative_to(inside).as_posix(): lambda path=path: read_file(path, AUDIO_BYTES) for path in paths}
    for archive in sorted(folder.glob("*.tar*")):
        content = read_file(archive, ARCHIVE_BYTES)
        try:
            if archive.suffix in (".gz", ".xz"):
                content = (gunzip if archive.suffix == ".gz" else unxz)(content, ARCHIVE_BYTES)
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                members = dict(regular_members(tar, AUDIO_BYTES))
        except UNREADABLE as error:
            raise ZooError(f"{archive} is truncated or altered ({error}); replace it and run again") from None
        yield {known(name): lambda content=content: content for name, content in members.items()}


def known(name: str) -> str:
    """A path in an archive from its folder etc, wav or recordings on."""
    parts = Path(name).parts
    start = next((i for i, part in enumerate(parts) if part in ("etc", "wav", "recordings")), 0)
    return "/".join(parts[start:])
