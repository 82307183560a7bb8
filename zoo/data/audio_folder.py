"""Recordings of your own: a folder of sound files and a file that says what is said in each."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from zoo.arguments import NonNegative, Positive, Seed
from zoo.data.audio import SUFFIXES, read_audio
from zoo.data.corpora import read_text
from zoo.data.spectrum import SpeechAugment
from zoo.data.speech import SpeechData
from zoo.data.speech_files import Spoken, spoken
from zoo.data.transcripts import Transcripts, Units, plain
from zoo.errors import ZooError

LAYOUT = "a line for each recording: its file, a tab, what is said in it, and if known a tab and the speaker"


class Line(NamedTuple):
    """A line of the transcript file: the recording's path below the folder, the text, and the speaker or ""."""

    file: str
    text: str
    speaker: str


class AudioFolder(SpeechData):
    """The recordings of a folder, with their transcripts in a text file.

    Each line of the file has the path of a recording below the folder, a tab, and what is said; a third column may name
    the speaker. A share of the recordings, or of the speakers if ``val_by`` is "speaker", is the test part.

    Args:
        transcripts: the name of the file below ``root``.
        test_size: the share of the recordings or the speakers that are the test part, above 0 and below 1.
        root: the folder.
        name, num_classes, rate, in_features, normalise, units, val_size, val_by, held_out: as in ``SpeechData``.
        batch_size, eval_batch_size, augment, seed, split_seed, dynamic: as in ``SpeechData``.

    Raises:
        ZooError: the folder, the file or a recording is missing or cannot be read, or a line has another form.
    """

    def __init__(
        self,
        root: str | None,
        num_classes: Positive,
        name: str = "audio_folder",
        transcripts: str = "transcripts.tsv",
        test_size: float = 0.1,
        rate: Positive = 16_000,
        in_features: Positive = 64,
        normalise: Literal["band", "whole"] = "band",
        units: Units = "letter",
        val_size: NonNegative = 0,
        val_by: Literal["speaker", "recording"] = "recording",
        held_out: str | None = None,
        batch_size: Positive = 8,
        eval_batch_size: Positive = 32,
        augment: SpeechAugment | None = None,
        seed: Seed = 0,
        split_seed: Seed = 0,
        dynamic: NonNegative | None = None,
    ):
        super().__init__(
            name, num_classes, rate, in_features, normalise, units, val_size, val_by, held_out, batch_size,
            eval_batch_size, augment, seed, split_seed, root, dynamic,
        )  # fmt: skip
        self.transcripts, self.test_size = transcripts, test_size
        self.digests: dict[str, str] = {}

    def parts(self, stage: str | None = None) -> dict[str, Spoken]:
        """The parts "train" and "test", decoded from the files."""
        folder, parts = divided_lines(self.root, self.transcripts, self.test_size, self.split_seed, self.val_by)
        found: dict[str, Spoken] = {}
        for part, lines in parts.items():
            sounds = [read_audio(folder / line.file, self.rate) for line in lines]
            found[part] = spoken(sounds, [line.text for line in lines], [line.speaker for line in lines])
        self.digests = {"data.root": "".join(own.digest() for own in found.values())}
        return found

    def contents(self) -> dict[str, str]:
        """The digest of the recordings, by which a resumed run recognises them."""
        return self.digests


def divided_lines(
    root: str | None, transcripts: str, test_size: float, split_seed: int, by: str
) -> tuple[Path, dict[str, list[Line]]]:
    """The folder, and the lines of the transcript file by part."""
    if root is None:
        raise ZooError(f"data=audio_folder needs data.root=FOLDER, with recordings and {transcripts} ({LAYOUT})")
    if not 0 < test_size < 1:
        raise ZooError(f"data.test_size={test_size} is not valid: give a share above 0 and below 1")
    folder = Path(root).expanduser()
    lines = read_lines(folder, transcripts)
    groups = [line.speaker for line in lines] if by == "speaker" else [line.file for line in lines]
    if by == "speaker" and not all(groups):
        raise ZooError(f"{folder / transcripts} names no speaker for some lines; set data.val_by=recording")
    names = sorted(set(groups))
    if len(names) < 2:
        raise ZooError(f"{folder / transcripts} has one {by}; two or more are needed for a training and a test part")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(split_seed + 1)).tolist()
    held = {names[i] for i in order[: min(len(names) - 1, max(1, round(test_size * len(names))))]}
    parts: dict[str, list[Line]] = {"train": [], "test": []}
    for line, group in zip(lines, groups, strict=True):
        parts["test" if group in held else "train"].append(line)
    return folder, parts


def read_lines(folder: Path, transcripts: str) -> list[Line]:
    """The lines of a transcript file, in the order of the recordings' names."""
    path = folder / transcripts
    if not folder.is_dir():
        raise ZooError(f"{folder} is no folder; give data.root=FOLDER with recordings and {transcripts}")
    if not path.is_file():
        raise ZooError(f"{path} is missing; write into it {LAYOUT}")
    lines: dict[str, Line] = {}
    for number, row in enumerate(read_text(path).splitlines(), 1):
        if not row.strip():
            continue
        file, *rest = row.split("\t")
        if not 1 <= len(rest) <= 2 or not plain(rest[0]):
            raise ZooError(f"{path}, line {number}: {LAYOUT}")
        inside = Path(file.strip())
        if inside.is_absolute() or ".." in inside.parts or inside.suffix.lower() not in SUFFIXES:
            raise ZooError(f"{path}, line {number}: {file} is not the path of a sound file below the folder")
        if not (folder / inside).is_file():
            raise ZooError(f"{path}, line {number}: {folder / inside} is missing; bring it, or take the line out")
        if str(inside) in lines:
            raise ZooError(f"{path}, line {number}: {file} stands in it twice; take one of the lines out")
        lines[str(inside)] = Line(str(inside), plain(rest[0]), plain(rest[1]) if rest[1:] else "")
    return [lines[file] for file in sorted(lines)]


def count_tokens(*, _parent_: Any) -> int:
    """A resolver for configs: the number of tokens and the blank, from the settings in the same node of the config."""
    keys = ("root", "transcripts", "test_size", "split_seed", "val_by")
    _, parts = divided_lines(*(_parent_.get(key) for key in keys))
    lines, held_out = parts["train"], _parent_.get("held_out")
    if held_out is not None:
        lines = [line for own in parts.values() for line in own if line.speaker != held_out]
    return len(Transcripts.fit(_parent_.get("units"), [line.text for line in lines]))
