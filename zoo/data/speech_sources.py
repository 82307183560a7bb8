"""The speech sets by name: where their recordings come from, what is said in them, and who says it.

Whatever form the files of a set have, it is converted to ``prepared/NAME.safetensors`` under the data root, so that it
is decoded once. The digests below are those of the samples, the lengths, the words and the speakers of each part; so
the same recordings may come as WAV or as FLAC, in a folder or in an archive.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
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
from zoo.paths import EMBEDDED, data_root
from zoo.terminal import say

ARCHIVE_BYTES = 1000 * MB  # the largest archive, packed or not; AN4's has 53 MB, its recordings 100 MB
AGAIN = "delete it, and the next run makes it again"
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


@dataclass(frozen=True)
class SpeechSource:
    """A set of recordings.

    Attributes:
        rate: the sample rate in Hz.
        read: function from the files of a folder or an archive to the parts; it raises KeyError if files are missing.
        place: the address of an archive; empty for a set that comes with the zoo.
        by_hand: what a user can put into the set's folder instead.
        sha256: the digest of each part.
        licence: the licence of the recordings, and whom to credit.
    """

    rate: int
    read: Callable[[Files], dict[str, Spoken]]
    place: str
    by_hand: str
    sha256: dict[str, str]
    licence: str


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


SPEECH: dict[str, SpeechSource] = {
    "an4": SpeechSource(
        16_000,
        read_an4,
        "https://github.com/cmusphinx/an4/archive/b567d132f43304e70a2b2eca6077f22255311812.tar.gz",
        "the folders etc and wav of AN4 (WAV or FLAC), or an archive of them (.tar, .tar.gz, .tar.xz),",
        {
            "train": "baef779ebe6d93ff3ec67e024eacf5d2a8f34ea9e79c9fc6258dd78db2b59bfe",
            "test": "e57f45653a9c3f6ab2450ee1c3d86e81823a92d1e3b77a0bf026eec908ff97ed",
        },
        "CMU's BSD-like licence: free for any purpose; copyright 1991-2005 Carnegie Mellon University",
    ),
    "spoken_digits": SpeechSource(
        8_000,
        read_digits,
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
        "the folder recordings of the free spoken digit dataset, or an archive of it (.tar, .tar.gz, .tar.xz),",
        {
            "train": "83404ee1328bfb7c1e4d718bd9e209e4424b21bd2d0e52ab7a0c6e018b431a49",
            "test": "88a3897c70a1cb792abb22cd1767f29121602c5c7b41768006a2ecdbff675691",
        },
        "CC BY-SA 4.0, Zohar Jackson and the speakers of the Free Spoken Digit Dataset",
    ),
    "spoken_digits_small": SpeechSource(
        8_000,
        read_digits,
        "",
        "",
        {
            "train": "889a1ce3d3d2e611814f22622d5c6533ab5b6ac4b99e7481804eb314e063c3f0",
            "test": "88a3897c70a1cb792abb22cd1767f29121602c5c7b41768006a2ecdbff675691",
        },
        "CC BY-SA 4.0, Zohar Jackson and the speakers of the Free Spoken Digit Dataset",
    ),
}


def speech_source(name: str) -> SpeechSource:
    """The speech set of that name; raises a ``ZooError`` that lists all names if there is none."""
    if name not in SPEECH:
        raise ZooError(f"data.name={name} is unknown; valid: {', '.join(SPEECH)}, or data=audio_folder")
    return SPEECH[name]


def load_speech(name: str, root: Path | None = None, parts: tuple[str, ...] = ("train", "test")) -> dict[str, Spoken]:
    """The parts of a speech set, which is fetched and prepared on first use.

    The test part of the spoken digits comes with the zoo, so shipped weights are measured without the whole set.

    Raises:
        ZooError: the name is unknown, a file was altered or truncated, or the set cannot be fetched.
    """
    wanted = speech_source(name)
    if not wanted.place:
        return verified(name, embedded(name), f"{EMBEDDED / name}", "install the zoo again")
    path = (root or data_root()) / "prepared" / f"{name}.safetensors"
    if not os.path.exists(path):
        if parts == ("test",) and name == "spoken_digits":
            return {"test": load_speech("spoken_digits_small")["test"]}
        return prepare(name, path)
    return verified(name, unpacked(path), str(path), AGAIN)


def verified(name: str, parts: dict[str, Spoken], where: str, advice: str) -> dict[str, Spoken]:
    for part, known in SPEECH[name].sha256.items():
        if part not in parts or parts[part].digest() != known:
            raise ZooError(f"{where}: its {part} part is not {name}'s (its sha256 differs); {advice}")
    return parts


# --- the prepared form ----------------------------------------------------------------------------------------------


def prepare(name: str, path: Path) -> dict[str, Spoken]:
    """Obtain a set's files, decode and verify them, and write the prepared file by renaming a complete one."""
    parts = obtain(name, path.parent.parent / name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as temporary:
            new = Path(temporary) / path.name
            new.write_bytes(packed_bytes(parts))
            os.replace(new, path)
    except OSError as error:
        raise ZooError(
            f"{name} could not be prepared in {path.parent}: {error}; give a folder that can be written to, as "
            f"data.root= or ZOO_DATA"
        ) from None
    return parts


def packed_bytes(parts: Mapping[str, Spoken]) -> bytes:
    """Parts as the content of a safetensors file, whose metadata have the texts and the speakers."""
    from safetensors.torch import save

    tensors = {f"{part}_{key}": getattr(own, key) for part, own in parts.items() for key in ("samples", "lengths")}
    words = {part: json.dumps([own.texts, own.speakers], ensure_ascii=False) for part, own in parts.items()}
    return save(tensors, words)


def unpacked(path: Path) -> dict[str, Spoken]:
    """The parts in a safetensors file; raises a ``ZooError`` if it is damaged."""
    try:
        return from_bytes(read_file(path, ARCHIVE_BYTES))
    except UNREADABLE as error:
        raise ZooError(f"{path} is truncated or altered ({error}); {AGAIN}") from None


def from_bytes(content: bytes) -> dict[str, Spoken]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    noted = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    parts: dict[str, Spoken] = {}
    for part in ("train", "test"):
        texts, speakers = json.loads(noted[part])
        samples, lengths = tensors[f"{part}_samples"], tensors[f"{part}_lengths"]
        found = (samples.dtype, samples.ndim, lengths.dtype, lengths.ndim, int(lengths.sum()))
        if found != (torch.int16, 1, torch.int64, 1, len(samples)) or bool((lengths < 1).any()):
            raise ValueError(f"its {part} part has another form")
        if not len(texts) == len(speakers) == len(lengths) or not all(isinstance(w, str) for w in (*texts, *speakers)):
            raise ValueError(f"its {part} part has more or fewer texts than recordings")
        parts[part] = Spoken(samples, lengths, texts, speakers)
    return parts


def embedded(name: str) -> dict[str, Spoken]:
    """The parts of a set that comes with the zoo: differences of samples, all low bytes before all high ones, by xz."""
    path = EMBEDDED / name / "recordings.xz"
    try:
        parts = from_bytes(unxz(read_file(path, 10 * MB), 50 * MB))
    except UNREADABLE as error:
        raise ZooError(f"{path} is missing or altered ({error}); install the zoo again") from None
    for own in parts.values():
        own.samples = from_differences(own.samples)
    return parts


def as_differences(samples: Tensor) -> Tensor:
    """Samples int16 (S,) as differences modulo 2^16, all low bytes before all high bytes, which xz packs best."""
    steps = np.diff(samples.numpy(), prepend=np.int16(0))
    return torch.from_numpy(np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 2).T).reshape(-1).view(np.int16))


def from_differences(packed: Tensor) -> Tensor:
    """The samples that ``as_differences`` packed."""
    planes = packed.numpy().view(np.uint8).reshape(2, -1)
    steps = np.ascontiguousarray(planes.T).reshape(-1).view(np.int16)
    return torch.from_numpy(np.cumsum(steps, dtype=np.int16))


# --- files: a folder, an archive, or the address ----------------------------------------------------------------------


def obtain(name: str, own: Path) -> dict[str, Spoken]:
    """The verified parts of a set, from the user's files, or else downloaded."""
    from zoo.remote.download import Unavailable, download_file, unreachable

    wanted = SPEECH[name]
    for files in found_in(own):
        if (parts := parts_of(name, files, own)) is not None:
            return parts
    say(f"{name} is not on this machine yet: fetching it")
    archive = own / f"{name}.tar.gz"
    try:
        if reason := unreachable(wanted.place):
            raise Unavailable(reason)
        own.mkdir(parents=True, exist_ok=True)
        download_file(wanted.place, archive, None, ARCHIVE_BYTES)
        for files in found_in(own):
            if (parts := parts_of(name, files, own)) is not None:
                return parts
        raise Unavailable("it has other files than expected")
    except (Unavailable, OSError) as error:
        raise ZooError(
            f"{name} could not be fetched ({error}). Put {wanted.by_hand} from {wanted.place} into {own} and run again"
        ) from None


def parts_of(name: str, files: Files, where: Path) -> dict[str, Spoken] | None:
    """The verified parts in some files; None if the files are not those of the set."""
    try:
        parts = SPEECH[name].read(files)
    except (KeyError, StopIteration):
        return None
    except ZooError:
        raise
    except UNREADABLE as error:
        raise ZooError(f"{where} has files that are missing or altered ({error}); replace them and run again") from None
    return verified(name, parts, str(where), "replace it and run again")


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
