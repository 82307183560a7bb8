"""Weights on demand, from a server that cuts off, alters, delays or lacks them; and what a release consists of."""

import hashlib
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import REPO
from tests.data_helpers import assert_fails
from tests.test_fetch import nobody
from tests.test_pretrained import ship
from tests.web import serving
from zoo.data import sources
from zoo.paths import EMBEDDED, cache_root
from zoo.pretrained import card as cards
from zoo.pretrained import on_demand
from zoo.pretrained.card import Card
from zoo.remote import address, download

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def web(monkeypatch):
    """A server; no test waits between two tries."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    with serving() as server:
        server.files["/a.bin"] = CONTENT
        yield server


@pytest.fixture
def wheel(tmp_path, monkeypatch, web):
    """An installed core wheel: the card of "small" is there, its weights are on the server alone."""
    path = ship(tmp_path / "weights", monkeypatch)
    weights = path.with_suffix(".safetensors")
    web.files["/small.safetensors"] = weights.read_bytes()
    card = Card.read(path)
    card.size = weights.stat().st_size
    card.save(path)
    weights.unlink()
    monkeypatch.setenv("ZOO_WEIGHTS", f"{web.url}/")
    return path


def kept() -> list[str]:
    """The files of weights in the cache, without the locks."""
    return [path.name for path in cache_root().glob("weights/*/*") if not path.name.endswith(".lock")]


# --- the download -----------------------------------------------------------------------------------------------------


def test_a_cut_off_transfer_is_resumed(web, tmp_path, capfd):
    """Again and again, and each time from where it broke off."""
    web.cuts = [300_000, 1, 0, 200_000]
    download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [asked for _, asked in web.asked] == [
        None, "bytes=300000-", "bytes=300001-", "bytes=300001-", "bytes=500001-",
    ]  # fmt: skip
    assert os.listdir(tmp_path) == ["a.bin"]
    assert "broke off after 0.3 of 1.0 MB; trying again" in capfd.readouterr().err


def test_a_stopped_download_is_resumed_by_the_next_command(web, tmp_path):
    """What arrived stays; a file of another release, or other bytes, are noticed, and it is fetched from the start."""
    web.cuts = [300_000, 0, 0, 0]
    with pytest.raises(download.Unavailable, match=r"a\.bin: the transfer broke off after 0\.3 of 1\.0 MB"):
        download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
    part = tmp_path / ".a.bin.part"
    assert part.read_bytes() == CONTENT[:300_000]
    web.asked.clear()
    download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
    assert web.asked == [("/a.bin", "bytes=300000-")]
    for wrong in (b"x" * 300_000, b"x" * len(CONTENT), CONTENT + b"x"):
        (tmp_path / "a.bin").unlink()
        part.write_bytes(wrong)
        download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
        assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert not part.exists()


def test_a_server_without_ranges_sends_all_again(web, tmp_path):
    web.ranges, web.cuts = False, [300_000]
    download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert len(web.asked) == 2


def test_altered_and_too_large_files_are_refused(web, tmp_path):
    """At once, and nothing is left of them."""
    web.files |= {"/a.bin": CONTENT[:-1] + b"x", "/big.bin": CONTENT}
    for file, most, message in (
        ("a.bin", len(CONTENT), "not this file (its sha256 differs), and was removed"),
        ("big.bin", 1000, "it has 1,024,000 bytes, and at most 1,000 are allowed"),
    ):
        web.asked.clear()
        with pytest.raises(download.Unavailable, match=re.escape(message)):
            download.download_file(f"{web.url}/{file}", tmp_path / file, DIGEST, most)
        assert len(web.asked) == 1
        assert os.listdir(tmp_path) == []


def test_errors_of_a_server(web, tmp_path):
    """One that is overloaded is asked again, one that has not the file is not."""
    web.statuses = [503, 429]
    download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, len(CONTENT))
    assert len(web.asked) == 3
    web.asked.clear()
    with pytest.raises(download.Unavailable, match=r"b\.bin: 404 Not Found"):
        download.download_file(f"{web.url}/b.bin", tmp_path / "b.bin", DIGEST, len(CONTENT))
    assert len(web.asked) == 1
    web.statuses = [503] * 9
    with pytest.raises(download.Unavailable, match=r"b\.bin: the server answers 503"):
        download.download_file(f"{web.url}/b.bin", tmp_path / "b.bin", DIGEST, len(CONTENT))


def test_a_slow_server(web, tmp_path, monkeypatch):
    """Silent for too long, or dripping: both end, and what arrived is kept."""
    monkeypatch.undo()
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    monkeypatch.setattr(download, "TRIES", 2)
    web.files["/a.bin"] = b"x" * 1000
    for delay, message in ((0.5, r"a\.bin: no data for 0\.2 s"), (0.05, r"a\.bin: only \d bytes in 0 s")):
        web.delay, began = delay, time.monotonic()
        with pytest.raises(download.Unavailable, match=message):
            download.download_file(f"{web.url}/a.bin", tmp_path / "a.bin", DIGEST, 1000)
        assert time.monotonic() - began < 5
        assert (tmp_path / ".a.bin.part").exists()


def test_where_a_redirection_may_lead(web, tmp_path):
    """To the web, and to nothing else; nor are other addresses opened."""
    web.redirects = {"/old.bin": f"{web.url}/a.bin", "/evil.bin": "file:///etc/passwd", "/ftp.bin": "ftp://h/a.bin"}
    download.download_file(f"{web.url}/old.bin", tmp_path / "old.bin", DIGEST, len(CONTENT))
    for file in ("evil.bin", "ftp.bin"):
        with pytest.raises(download.Unavailable, match="302"):
            download.download_file(f"{web.url}/{file}", tmp_path / file, None, 10_000)
    (tmp_path / "secret").write_text("x")
    with pytest.raises(download.Unavailable, match="does not begin with https"):
        download.download_file((tmp_path / "secret").as_uri(), tmp_path / "x", None, 100)
    assert sorted(os.listdir(tmp_path)) == ["old.bin", "secret"]


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_fetched_once_and_kept(web, wheel, monkeypatch):
    web.cuts = [1000]
    model, again = zoo.load("small"), zoo.create("lenet5", weights="small")
    assert [asked for _, asked in web.asked] == [None, "bytes=1000-"]
    assert torch.equal(model.state_dict()["head.weight"], again.state_dict()["head.weight"])
    assert kept() == ["small.safetensors"]
    monkeypatch.setenv("ZOO_WEIGHTS", nobody())  # then no server is needed
    zoo.load("small")


def test_a_damaged_file_in_the_cache_is_replaced(web, wheel, capfd):
    path = on_demand.weights_file("small")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    zoo.load("small")
    assert len(web.asked) == 2
    assert "was damaged and is removed; fetching it again" in capfd.readouterr().err


def test_weights_that_cannot_be_fetched(web, wheel, monkeypatch, tmp_path):
    """One line: which weights, what happened, and how to provide the file; nothing unverified is kept."""
    good = web.files.pop("/small.safetensors")
    told = (
        f"small: its weights ({len(good) / 1e6:.1f} MB) could not be fetched",
        "Set ZOO_WEIGHTS to a folder or an address that has small.safetensors",
    )
    assert_fails(lambda: zoo.load("small"), *told, web.url, "small.safetensors: 404 Not Found")
    web.files["/small.safetensors"] = good[:-1] + b"x"
    assert_fails(lambda: zoo.load("small"), *told, "its sha256 differs), and was removed")
    web.files["/small.safetensors"] = good + b"x"
    assert_fails(lambda: zoo.load("small"), *told, f"it has {len(good) + 1:,} bytes, and at most {len(good):,}")
    assert kept() == []
    monkeypatch.setenv("ZOO_WEIGHTS", nobody())
    assert_fails(lambda: zoo.load("small"), *told, "refused")
    monkeypatch.delenv("ZOO_WEIGHTS")
    monkeypatch.setattr(address, "ADDRESS", tmp_path / "address.txt")
    assert_fails(lambda: zoo.load("small"), *told, "which names no address to fetch it from")
    address.ADDRESS.write_text(f"{web.url}\n")  # as the release is built
    web.files["/small.safetensors"] = good
    zoo.load("small")


def test_a_folder_of_weights(web, wheel, monkeypatch, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("ZOO_WEIGHTS", str(folder))
    assert_fails(lambda: zoo.load("small"), f"{folder} (ZOO_WEIGHTS) has no small.safetensors")
    (folder / "small.safetensors").write_bytes(web.files["/small.safetensors"])
    zoo.load("small")
    assert on_demand.weights_file("small") == folder / "small.safetensors"
    (folder / "small.safetensors").write_bytes(b"other")
    assert_fails(lambda: zoo.load("small"), str(folder), "is not the file its card describes (sha256 differs): replace")
    assert web.asked == []
    for value, message in (("nowhere", "no such folder"), ("ftp://h/x", "begins with https:// or http://")):
        monkeypatch.setenv("ZOO_WEIGHTS", value)
        assert_fails(lambda: zoo.load("small"), f"ZOO_WEIGHTS={value}: ", message)


def test_in_a_clone_its_own_files_serve(web, wheel, monkeypatch):
    wheel.with_suffix(".safetensors").write_bytes(web.files["/small.safetensors"])
    zoo.load("small")
    assert web.asked == []


def fetch_in_a_process(cache: str, url: str, folder: str, barrier) -> None:
    os.environ.update(XDG_CACHE_HOME=cache, ZOO_WEIGHTS=url)
    cards.WEIGHTS = Path(folder)
    barrier.wait(30)
    on_demand.weights_file("small")


def test_two_processes_at_once(web, wheel, monkeypatch):
    """The file is fetched once."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    arguments = (os.environ["XDG_CACHE_HOME"], web.url, str(wheel.parent), barrier)
    both = [context.Process(target=fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(web.asked) == 1
    assert kept() == ["small.safetensors"]


def test_a_cache_that_cannot_be_written(wheel, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_fails(lambda: zoo.load("small"), "small: its weights cannot be stored in", "name another cache folder")


def test_cifar10_small_is_fetched_too(web, monkeypatch, tmp_path):
    """A core wheel does not have it; the files of a clone are those that a release has."""
    for part in ("train", "test"):
        web.files[f"/cifar10_small.{part}.png"] = (EMBEDDED / "cifar10_small" / f"{part}.png").read_bytes()
    monkeypatch.setattr(sources, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setenv("ZOO_WEIGHTS", web.url)
    web.cuts = [1_000_000]
    assert len(sources.load("cifar10_small", tmp_path / "data")["train_images"]) == 5000
    assert [path for path, _ in web.asked] == ["/cifar10_small.train.png"] * 2 + ["/cifar10_small.test.png"]
    web.files.pop("/cifar10_small.test.png")
    assert_fails(lambda: sources.load("cifar10_small", tmp_path / "other"), web.url, "test.png: 404 Not Found")


# --- a release --------------------------------------------------------------------------------------------------------


def installed(tmp_path: Path, **variables: str) -> tuple[Path, Path]:
    """Build a wheel of this clone and install it into a folder; returns both."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZOO_")} | variables
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "wheels", REPO], check=True, env=environment)
    (wheel,) = (tmp_path / "wheels").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    return wheel, tmp_path / "site"


@pytest.mark.slow
def test_a_release(tmp_path):
    """The core wheel is small; what it lacks comes from the folder of the release, served by any web server."""
    from zoo.pretrained.on_demand import lay_out

    files = lay_out(tmp_path / "release")
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], check=True, cwd=tmp_path / "release")
    assert len(files) == 2 * len(zoo.list_weights()) + 3
    with serving() as web:
        web.files = {f"/v1/{path.name}": path.read_bytes() for path in files}
        wheel, site = installed(tmp_path, ZOO_WHEEL="core", ZOO_RELEASE_URL=f"{web.url}/v1")
        assert wheel.stat().st_size < 20e6
        kept = {name for name in zoo.list_weights() if (site / f"zoo/weights/{name}.safetensors").exists()}
        assert {name for name in zoo.list_weights() if Card.read(cards.shipped()[name]).size < 400_000} == kept
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ZOO_")}
        environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(site)}

        def call(*arguments: str) -> str:
            result = subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
            return result.stdout

        listed = call("-m", "zoo", "list")
        assert all(name in listed for name in zoo.list_weights())
        call("-c", "import zoo; zoo.load('lenet5_mnist'); zoo.load('dcgan_mnist')")
        assert [path for path, _ in web.asked] == ["/v1/dcgan_mnist.safetensors"]
        call("-m", "zoo", "download", "--all")
        assert len(web.asked) == len(zoo.list_weights()) - len(kept)
        assert "cifar10_small.safetensors" in call("-m", "zoo", "download", "cifar10_small")


@pytest.mark.slow
def test_settings_of_a_build_that_make_no_sense(tmp_path):
    for variables, message in (
        ({"ZOO_WHEEL": "small"}, "ZOO_WHEEL=small is unknown; valid: core, complete"),
        ({"ZOO_WHEEL": "core"}, "ZOO_WHEEL=core needs ZOO_RELEASE_URL"),
        ({"ZOO_RELEASE_URL": "example.org"}, "an address begins with https:// or http://"),
    ):
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, REPO]
        result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
        assert result.returncode != 0
        assert message in result.stdout + result.stderr


def test_the_version_is_one():
    for file, pattern in (
        ("pyproject.toml", r'^version = "(.+)"'),
        ("CITATION.cff", r"^version: (.+)"),
        ("CHANGELOG.md", r"^## \[(.+?)\]"),
    ):
        found = re.search(pattern, (REPO / file).read_text(), re.MULTILINE)
        assert (file, found and found[1]) == (file, zoo.__version__)
