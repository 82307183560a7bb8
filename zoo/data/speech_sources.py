"""The speech sets by name: where their recordings come from, what is said in them, and who says it.

Whatever form the files of a set have, it is converted to ``prepared/NAME.safetensors`` under the data root, so that it
is decoded once. The digests below are those of the samples, the lengths, the words and the speakers of each part; so
the same recordings may come as WAV or as FLAC, in a folder or in an archive.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.config.files import MB, read_file
from zoo.data.integrity import UNREADABLE, unxz
from zoo.data.speech_files import ARCHIVE_BYTES, Files, Spoken, found_in, read_an4, read_digits
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, data_root
from zoo.terminal import say

AGAIN = "delete it, and the next run makes it again"


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
    path = path_of(name, root)
    if not os.path.exists(path):
        if parts == ("test",) and name == "spoken_digits":
            return {"test": load_speech("spoken_digits_small")["test"]}
        return prepare(name, path)
    return verified(name, unpacked(path), str(path), AGAIN)


def path_of(name: str, root: Path | None = None) -> Path:
    """The file from which a set is read."""
    if not speech_source(name).place:
        return EMBEDDED / name / "recordings.xz"
    return (root or data_root()) / "prepared" / f"{name}.safetensors"


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
    path = path_of(name)
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


# --- the user's files, or the address ----------------------------------------------------------------------


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
