"""Mutated files of every format that the zoo reads: ``python -m tests.fuzz N FORMAT …``; exit code 1 where one is not
either read or refused in one line, hangs, or takes memory.

Seeds are fixed: case i of a format is always the same file. What a case is can be seen with ``mutated(FORMAT, i)``.
"""

import gzip
import io
import json
import lzma
import os
import pickle
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

import zoo
from tests.conftest import toy
from tests.data_helpers import idx, png
from tests.test_pretrained import make_card, make_model
from zoo.cli.base import card_table
from zoo.config.registry import model_config
from zoo.data import corpora, integrity, readers
from zoo.data.tokens import BPE
from zoo.errors import ZooError
from zoo.paths import CONFIGS
from zoo.pretrained.card import Card

MEMORY = 700 * 10**6  # bytes of RAM that reading a small file may take, at most
PATIENCE = 60  # seconds for one file, on a busy machine


class Hang(BaseException):
    """A file took too long."""


# --- good files -------------------------------------------------------------------------------------------------------


def checkpoint(zipped: bool) -> bytes:
    state = {f"model.{key}": value for key, value in make_model().state_dict().items()}
    content, file = {"state_dict": state, "card": asdict(make_card()), "config": {"seed": 0}}, io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def corpus(names: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names.values():
            archive.writestr(name, "to be or not to be\n" * 50)
    return file.getvalue()


WIKI = {"train": "wikitext-2/wiki.train.tokens", "test": "wikitext-2/wiki.test.tokens"}
KOREAN = "나랏〮말〯ᄊᆞ미〮 中듀ᇰ國귁〮에〮달아〮, 漢字와로 서르\n" * 20


def good(kind: str) -> bytes:
    """A file of a format as the zoo or its publishers write it."""
    images = toy(20)[0].numpy()
    return {
        "card": lambda: json.dumps(asdict(make_card(runs=[{"seed": 0, "accuracy": 0.5}]))).encode(),
        "checkpoint": lambda: checkpoint(zipped=True),
        "legacy checkpoint": lambda: checkpoint(zipped=False),
        "safetensors": lambda: save(dict(make_model().state_dict())),
        "tokenizer": lambda: BPE.fit("the cat sat on the mat\n" * 30, 300).content.encode(),
        "idx": lambda: idx(images.squeeze()),
        "sheet": lambda: png(np.tile(images[:10].reshape(-1, 28, 1), (1, 12, 3)).astype(np.uint8)),
        "gz": lambda: gzip.compress(idx(images.squeeze())),
        "xz": lambda: lzma.compress(KOREAN.encode()),
        "zip": lambda: corpus(WIKI),
        "text": lambda: KOREAN.encode(),
        "config": lambda: (CONFIGS / "model" / "lenet5.yaml").read_bytes(),
        "pickled array": lambda: pickle.dumps({"data": images[:2].reshape(2, -1), "labels": [1, 2]}, protocol=2),
    }[kind]()


# --- mutations --------------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**64,
    10**30,
    1e308,
    float("nan"),
    "",
    "x",
    "${a}",
    "\ud800",
    [],
    {},
]
ODD += [[[]], {"_target_": "os.system"}, {"_partial_": True}, "\x1b]0;", "a" * 5000, [0] * 1000, -(2**31), "zoo.models"]


def bytes_mutated(content: bytes, random: Random) -> bytes:
    """Some bytes changed, taken out, doubled, or swapped; or the end cut off."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at, length = random.randrange(len(data) + 1), random.choice((1, 1, 2, 4, 8, 64))
        kind = random.randrange(7)
        if kind == 0:
            data[at : at + length] = random.randbytes(length)
        elif kind == 1:
            data[at : at + length] = bytes([random.choice((0, 0x7F, 0x80, 0xFF))]) * length
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * random.choice((1, 2, 50))
        elif kind == 4 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 5:
            del data[random.randrange(len(data) + 1) :]
        else:
            other = random.randrange(len(data) + 1)
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def value_mutated(node: Any, random: Random) -> Any:
    """Plain values with one of them, at any depth, replaced, taken out, or wrapped."""
    if isinstance(node, (dict, list)) and node and random.random() < 0.8:
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        changed: Any = dict(node) if isinstance(node, dict) else list(node)
        if random.random() < 0.15:
            del changed[key]
        else:
            changed[key] = value_mutated(node[key], random)
        return changed
    kind = random.randrange(6)
    if kind == 0:
        return [node] * random.choice((1, 3, 300))
    if kind == 1:
        return {"_target_": node}
    if kind == 2:
        for _ in range(random.choice((5, 60, 150))):
            node = [node]
        return node
    return random.choice(ODD)


def json_mutated(content: bytes, random: Random) -> bytes:
    value = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 3))):
        value = value_mutated(value, random)
    return json.dumps(value).encode()


def zip_mutated(content: bytes, random: Random) -> bytes:
    """One record changed, and all checksums right."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(file, "w", old.infolist()[0].compress_type) as new,
    ):
        chosen = random.choice(old.namelist()[:3])
        for record in old.infolist():
            data = old.read(record)
            new.writestr(record.filename, bytes_mutated(data, random) if record.filename == chosen else data)
    return file.getvalue()


def png_mutated(content: bytes, random: Random) -> bytes:
    """One chunk changed, and its checksum right; pixels are packed anew."""
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = random.randrange(len(chunks))
    kind, data = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.7:
        data = zlib.compress(bytes_mutated(zlib.decompress(data), random) * random.choice((1, 1, 20)))
    else:
        data = bytes_mutated(data, random)
    chunks[chosen] = (random.choice((kind, kind, kind, b"iCCP", b"zTXt", b"tRNS", b"PLTE", b"eXIf")), data)
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:8] + b"".join(packed)


def values_in_a_checkpoint_mutated(content: bytes, random: Random) -> bytes:
    read = torch.load(io.BytesIO(content), weights_only=True)
    key = random.choice(("card", "card", "config", "state_dict"))
    if key == "state_dict":
        name = random.choice(list(read[key]))
        tensor = read[key][name]
        read[key][name] = random.choice(
            (tensor.double(), tensor.to(torch.complex64), tensor.long(), tensor * torch.nan, tensor[:1], tensor.bool(),
             tensor.expand(10**6, *tensor.shape), tensor.to("meta"), tensor.to_sparse(), tensor.half(), [tensor], name)
        )  # fmt: skip
    else:
        read[key] = value_mutated(read[key], random)
    file = io.BytesIO()
    torch.save(read, file, _use_new_zipfile_serialization=content[:2] == b"PK")
    return file.getvalue()


STRUCTURED: dict[str, list[Callable[[bytes, Random], bytes]]] = {
    "card": [json_mutated, json_mutated],
    "tokenizer": [json_mutated, json_mutated],
    "checkpoint": [zip_mutated, zip_mutated, values_in_a_checkpoint_mutated, values_in_a_checkpoint_mutated],
    "legacy checkpoint": [values_in_a_checkpoint_mutated],
    "zip": [zip_mutated],
    "sheet": [png_mutated, png_mutated, png_mutated],
}


def mutated(kind: str, i: int, content: bytes | None = None) -> bytes:
    """Case i of a format."""
    random = Random(f"{kind} {i}")
    mutate = random.choice([bytes_mutated, *STRUCTURED.get(kind, [])])
    return mutate(good(kind) if content is None else content, random)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_card(path: Path) -> None:
    card = Card.read(path)
    card_table(card)
    card.headline()


def read_idx(path: Path) -> None:
    """As it is, and packed; the other three files are good."""
    content = path.read_bytes()
    name = readers.FILES["train_images"]
    for file, data in ((name, gzip.compress(content, 1)), (name.removesuffix(".gz"), content)):
        folder = path.parent / "idx"
        for other in readers.FILES.values():
            (folder / other).write_bytes(gzip.compress(idx(np.zeros(20, np.uint8)), 1))
        (folder / name).unlink()
        (folder / file).write_bytes(data)
        readers.read_idx(folder)
        (folder / file).unlink()


def refused(read: Callable[[bytes], Any]) -> Callable[[Path], None]:
    """A reader of bytes whose errors its caller turns into a line: those of ``UNREADABLE`` and no others."""

    def call(path: Path) -> None:
        try:
            read(path.read_bytes())
        except integrity.UNREADABLE as error:
            raise ZooError(" ".join(str(error).split())) from None

    return call


def read_config(path: Path) -> None:
    """Not what it asks for is made: it is the user's own, who is trusted."""
    Path("configs/model/mine.yaml").write_bytes(path.read_bytes())
    model_config("mine")


READ: dict[str, Callable[[Path], Any]] = {
    "card": read_card,
    "checkpoint": zoo.load,
    "legacy checkpoint": zoo.load,
    "safetensors": lambda path: zoo.create("lenet5", hidden=[16], weights=path),
    "tokenizer": lambda path: BPE(path.read_bytes().decode(errors="replace")).encode("the cat\n"),
    "idx": read_idx,
    "sheet": readers.pixels,
    "gz": refused(lambda content: integrity.gunzip(content, 10**6)),
    "xz": refused(lambda content: integrity.unxz(content, 10**6).decode()),
    "zip": refused(lambda content: integrity.unzip(content, WIKI, 10**6)),
    "text": corpora.read_text,
    "config": read_config,
    "pickled array": refused(readers.arrays_of),
}
SUFFIXES = {"card": ".json", "safetensors": ".safetensors"}


def hang(number: int, frame: Any) -> None:
    raise Hang


def try_case(kind: str, i: int, path: Path, content: bytes) -> str:
    """What became of a case: "read", "refused", or what is wrong."""
    path.write_bytes(mutated(kind, i, content))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        READ[kind](path)
    except ZooError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 5000 else f"not one short line: {error!s:.300}"
    except BaseException as error:  # a panic of Rust's is no Exception
        return f"{type(error).__name__}: {error!s:.300}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def main(n: int, kinds: list[str]) -> int:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, hang)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for inside in ("configs/model", "idx"):
            (root / inside).mkdir(parents=True)
        os.chdir(root)  # for ./configs
        for kind in kinds:
            content, path, counts = good(kind), root / f"file{SUFFIXES.get(kind, '.ckpt')}", Counter[str]()
            path.write_bytes(content)
            if kind != "card":
                path.with_suffix(".json").unlink(missing_ok=True)  # else the last damaged card would be this file's
            READ[kind](path)  # the good one is read
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            for i in range(n):
                outcome = try_case(kind, i, path, content)
                counts[outcome if outcome in ("read", "refused") else "bad"] += 1
                if outcome not in ("read", "refused"):
                    print(f"{kind} {i}: {outcome}", file=sys.stderr)
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            bad += counts["bad"] + (taken > MEMORY)
            print(
                f"{kind}: {n} files, {counts['read']} read, {counts['refused']} refused, {counts['bad']} bad, "
                f"{taken / 10**6:.0f} MB",
                flush=True,
            )
        os.chdir("/")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:] or list(READ)))
