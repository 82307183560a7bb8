"""Files of data that are huge, hostile, or no files: limits hold before reading, and one line says what is wrong."""

import gzip
import io
import lzma
import os
import pickle
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from tests.data_helpers import assert_fails, png, write
from zoo.config import files
from zoo.config.files import MB
from zoo.data import corpora, fetch, integrity, readers, sources

BOMB = gzip.compress(bytes(MB), 9) * 1500  # 1.5 MB that unpack to 1,500


def test_a_file_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_file(path, 5) == b"12345"
    assert_fails(lambda: files.read_file(path, 4), str(path), "more than")
    with path.open("wb") as file:
        file.truncate(10**12)  # of which nothing is on the disk
    assert_fails(lambda: files.read_file(path, 10**9), "has 1,000,000.0 MB, more than the 1,000.0 MB")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert_fails(lambda path=path: files.read_file(path, 100), str(path), "is not a regular file")
        assert_fails(lambda path=path: corpora.read_text(path), str(path), "is not a regular file")


def test_packed_files_are_unpacked_up_to_a_limit():
    """Whatever their headers say of their size."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(3000))
    for unpack, content in (
        (integrity.gunzip, gzip.compress(bytes(3000))),
        (integrity.unxz, lzma.compress(bytes(3000))),
        (lambda content, most: integrity.unzip(content, {"b": "a"}, most)["b"], zipped.getvalue()),
    ):
        assert unpack(content, 3000) == bytes(3000)
        with pytest.raises(ValueError, match=r"unpacks to more than 0\.0 MB"):
            unpack(content, 2999)
    for cut in (integrity.gunzip, integrity.unxz):
        with pytest.raises(integrity.UNREADABLE):
            cut((gzip.compress if cut is integrity.gunzip else lzma.compress)(os.urandom(999))[:-20], 999)


def test_a_bomb_costs_no_memory(tiny):
    root, content = tiny
    write(content | {readers.FILES["train_images"]: BOMB}, root / "tiny")
    tracemalloc.start()
    try:
        assert_fails(lambda: sources.load("tiny", root), "train-images-idx3-ubyte.gz", "unpacks to more than 47.0 MB")
        assert tracemalloc.get_traced_memory()[1] < 200 * MB
    finally:
        tracemalloc.stop()


def test_a_sheet_of_too_many_pixels(tmp_path):
    import numpy as np

    folder = tmp_path / "cifar10_small"
    write({"train.png": png(np.zeros((5000, 5000), np.uint8)), "test.png": b""}, folder)
    assert_fails(lambda: sources.read("cifar10_small", folder), "train.png", "it has 5000×5000 pixels")
    (folder / "train.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )  # Pillow would run Ghostscript
    assert_fails(lambda: sources.read("cifar10_small", folder), "train.png is truncated or altered")


# --- archives -------------------------------------------------------------------------------------------------------


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files; a member with text is a link to it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                tar.addfile(member)
            else:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


class RunsCode:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["code", "link", "missing"])
def test_a_cifar_archive_brings_arrays_alone(tmp_path, monkeypatch, kind):
    """Even one with the digest that is asked for."""
    from torchvision import datasets

    files = [file for file, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)]
    evil: bytes | str = pickle.dumps({"data": RunsCode(tmp_path / "ran")}) if kind == "code" else "/etc/hostname"
    members = [] if kind == "missing" else [(f"{datasets.CIFAR10.base_folder}/{file}", evil) for file in files]
    content = archive(*members)
    write({datasets.CIFAR10.filename: content}, tmp_path / "cifar10")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", integrity.digest(content, "md5"))
    word = {"code": "posix.mkdir, which no array needs", "link": "no regular file", "missing": "not found"}[kind]
    assert_fails(lambda: sources.load("cifar10", tmp_path), word)
    assert not (tmp_path / "ran").exists()


def test_a_cifar_archive_that_changes_after_it_was_hashed(tmp_path, monkeypatch):
    """What is unpacked is what was hashed, and not what has taken its place."""
    from torchvision import datasets

    base = datasets.CIFAR10.base_folder
    content = archive((f"{base}/data_batch_1", pickle.dumps({"data": RunsCode(tmp_path / "ran")})))
    path = tmp_path / "cifar10" / datasets.CIFAR10.filename
    write({path.name: content}, path.parent)
    real = readers.digest

    def digest_and_change(content: bytes, kind: str) -> str:
        path.write_bytes(b"other")
        return real(content, kind)

    monkeypatch.setattr(readers, "digest", digest_and_change)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", integrity.digest(content, "md5"))
    assert_fails(lambda: sources.load("cifar10", tmp_path), "posix.mkdir, which no array needs")


def test_a_package_brings_regular_files_into_its_folder_alone(tmp_path, monkeypatch):
    members = [
        ("package/data/a.json", b"1"), ("package/../../b", b"2"), ("/c", b"3"), ("package/..", b"4"),
        ("package/d", "/etc/hostname"), ("package/e/../../f", b"5"),
    ]  # fmt: skip
    content = archive(*members)
    monkeypatch.setattr(subprocess, "run", lambda _, cwd, **__: (cwd / "a.tgz").write_bytes(content))
    fetch.npm("some", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.tgz"]


def test_a_package_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda _, cwd, **__: (cwd / "a.tgz").write_bytes(BOMB))
    monkeypatch.setattr(fetch, "PACKAGE_BYTES", 10 * MB)
    with pytest.raises(fetch.Unavailable, match=r"unpacks to more than 20\.0 MB"):
        fetch.npm("some", tmp_path)
    monkeypatch.setattr(fetch, "PACKAGE_BYTES", 6000)
    monkeypatch.setattr(subprocess, "run", lambda _, cwd, **__: None)
    (tmp_path / "a.tgz").write_bytes(archive(("package/big", bytes(7000))))
    with pytest.raises(fetch.Unavailable, match="package/big in it has more than"):
        fetch.npm("some", tmp_path)


def test_embedded_texts_are_held_against_their_digests(tmp_path, monkeypatch):
    for part in ("train", "val", "test"):
        write({f"{part}.txt.xz": lzma.compress(b"To be.\n")}, tmp_path / "shakespeare")
    monkeypatch.setattr(corpora, "EMBEDDED", tmp_path)
    assert_fails(lambda: corpora.load("shakespeare"), "train.txt.xz is truncated or altered (its sha256", "install")
