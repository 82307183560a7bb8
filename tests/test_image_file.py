"""Image files of strangers: which are read and which refused, in how much memory, and pixels of other than 8 bits."""

import io
import os
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from zoo.data import eight_bits, image_file
from zoo.data.preprocess import Preprocess
from zoo.use.predict import read_files

from .data_helpers import assert_fails

GREY = Preprocess(8, [0.5], [0.5])
COLOUR = Preprocess(8, [0.5] * 3, [0.5] * 3)
CUT = Preprocess(8, [0.5] * 3, [0.5] * 3, resize=10)
RAMP = np.arange(64).reshape(8, 8)  # 0 … 63, and scaled to the largest number of a format
EXPECTED = RAMP * 255 // 63


def encoded(picture: Image.Image, form: str = "png", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png_header(width: int, height: int, colour: int = 0, pixels: bytes = b"") -> bytes:
    """A PNG that says it has this size, whatever its pixels are."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels, 9)),
    )
    packed = [
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (*chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(array: np.ndarray, bits: int, kind: int = 1, packed: bytes | None = None, tags: tuple = ()) -> bytes:
    """An uncompressed TIFF of one channel, little-endian; kind 1 is without a sign, 2 with one, 3 floating-point."""
    content = packed if packed is not None else array.tobytes()
    height, width = array.shape
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries += [(279, len(content)), (339, kind)]
    entries = sorted({**dict(entries), **dict(tags)}.items())
    folder = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + folder + b"\0\0\0\0"


def read(content: bytes, preprocess: Preprocess = GREY) -> np.ndarray:
    return preprocess.read(content)[0].squeeze(-1).numpy()


# --- what is no image -------------------------------------------------------------------------------------------------


def test_no_program_is_started(tmp_path, monkeypatch):
    """PostScript is refused by its content, whatever its name, and Ghostscript stays where it is."""

    def never(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", never)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("a.eps", "a.png"):
        (tmp_path / name).write_bytes(content)
        assert_fails(lambda name=name: GREY.read(tmp_path / name), name, "not an image", image_file.NAMES)


@pytest.mark.parametrize("form", ["TGA", "ICO", "PCX", "JPEG2000", "SGI", "PDF", "DDS", "MSP"])
def test_other_formats_are_refused_by_name(form):
    content = encoded(Image.new("1" if form == "MSP" else "RGB", (32, 32)), form)
    assert_fails(lambda: GREY.read(content), "the image: not an image that can be read", image_file.NAMES)


def test_the_suffixes_are_those_of_the_formats():
    Image.init()
    known = Image.registered_extensions()
    suffixes = image_file.readable_suffixes()
    assert {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm"} <= suffixes
    assert {known[suffix] for suffix in suffixes} == set(image_file.FORMATS)
    assert not suffixes & {".eps", ".ps", ".pdf", ".wmf", ".emf", ".tga", ".ico"}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_each_format_is_read_and_cut_short_refused(form):
    picture = Image.new("RGB", (20, 30), (200, 40, 40))
    content = encoded(picture, form)
    assert np.abs(read(content, COLOUR).astype(int) - (200, 40, 40)).max() < 4
    assert_fails(lambda: COLOUR.read(content[:20]), "not an image that can be read")
    assert_fails(lambda: COLOUR.read(b""), "the file is empty")


@pytest.mark.slow
def test_the_libraries_print_nothing(command, tmp_path):
    """Of damaged files of every format; libtiff writes past sys.stderr, and Pillow's own log goes there."""
    code = """
import sys, tempfile, warnings
from tests.fuzz_images import GOOD, good, mutated
from tests.test_image_file import CUT, RAMP, read, tiff
from zoo.errors import ZooError
warnings.simplefilter("ignore")
samples = tiff(RAMP.astype("u1"), 8, tags=((277, 99),))
refused = 0
for content in [samples, *(mutated(form, i) for form in GOOD for i in range(60 if form == "TIFF" else 10))]:
    try:
        CUT.read(content)
    except ZooError:
        refused += 1
print(refused)
"""
    result = command("-c", code)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 40
    assert result.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="has no pipes in folders")
def test_only_regular_files(tmp_path):
    """A pipe, a device and a folder with an image's name are told at once; the image beside them is read."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").symlink_to("/dev/zero")
    (tmp_path / "e.png").symlink_to("nowhere")
    (tmp_path / "f.png").write_bytes(png_header(1, 40_000)[:60])
    found, errors = read_files(GREY, [tmp_path])
    assert [file.name for file, _ in found] == ["a.png"]
    words = ("b.png: a pipe", "c.png: a folder", "d.png: a pipe, a socket or a device", "e.png: no such file", "f.png")
    assert all(word in error for word, error in zip(words, errors, strict=True))


def test_what_of_a_folder_is_not_read_is_counted_and_named(tmp_path, capsys):
    """Each folder's in one line on stderr; hidden files are not."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    for name in ("b.heic", "c.txt", "d", "e.\x1b[31m", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    found, errors = read_files(GREY, [tmp_path])
    assert (len(found), errors) == (1, [])
    assert capsys.readouterr().err == (
        f"note: {tmp_path}: some of its entries are left out; not named as images are: 4 (b.heic, c.txt, d, …); "
        f"folders, which can be given too: 1 (more)\n"
    )
    (tmp_path / "a.png").unlink()
    _, (error,) = read_files(GREY, [tmp_path])
    assert "the folder has no images in it; not named as images are: 4 (b.heic, c.txt, d, …); folders" in error
    (tmp_path / "only").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "only" / "a.png")
    read_files(GREY, [tmp_path / "only"])
    assert capsys.readouterr().err == ""


# --- limits -----------------------------------------------------------------------------------------------------------


def test_limits_are_told_before_decoding(monkeypatch):
    for preprocess in (GREY, CUT):
        assert_fails(
            lambda p=preprocess: p.read(png_header(20_000, 10_000)), "200 megapixels (20,000×10,000)", "89", "scale"
        )
        assert_fails(lambda p=preprocess: p.read(png_header(13_000, 13_000, 6)), "169 megapixels", "250 for JPEG")
        assert_fails(lambda p=preprocess: p.read(png_header(1, 100_001)), "1×100,001", "100,000 per side")
    monkeypatch.setattr(image_file, "MAX_BYTES", 1000)
    assert_fails(lambda: GREY.read(encoded(Image.new("RGB", (9, 9))) + b" " * 1000), "more than 0 MB", "scale it down")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # a program that has lifted Pillow's limit has not lifted ours
    assert_fails(lambda: GREY.read(png_header(20_000, 10_000)), "200 megapixels")


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 9×9 pixels with these chunks before its pixels."""
    content = encoded(Image.new("L", (9, 9)))
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:33] + b"".join(packed) + content[33:]


def test_files_of_a_million_pieces_are_refused():
    """Which Pillow goes through one by one: 12 MB took a minute, and as much again at each reading."""
    jpeg, gif = encoded(Image.new("RGB", (9, 9)), "jpeg"), encoded(Image.new("RGB", (9, 9)), "gif")
    many = 1_000_000
    for content in (
        png_of(*[(b"teXt", b"")] * many), png_of(*[(b"IDAT", b"")] * many), jpeg[:2] + b"\xff" * many + jpeg[2:],
        jpeg[:2] + b"\xff\xfe\0\2" * many + jpeg[2:], gif[:13] + b"!\xfe\1a\0" * many + gif[13:],
        b"P5 #" + b"x" * many + b"\n1 1 255\n\0",
    ):  # fmt: skip
        assert_fails(lambda content=content: GREY.read(content), "the image: not an image", "more than 300,000 pieces")
    assert (read(png_of(*[(b"teXt", b"a\0b")] * 1000)) == 0).all()


def test_a_jpeg_of_many_scans_is_refused(monkeypatch):
    """Each goes through all pixels again: 50 MB would take hours."""
    content = encoded(Image.new("L", (80, 80), 200), "jpeg", progressive=True)
    scans, start = content.count(image_file.SCAN), content.index(image_file.SCAN)
    monkeypatch.setattr(image_file, "MAX_SCANNED", 6400 * scans)
    assert np.abs(read(content).astype(int) - 200).max() < 4
    more = content[:-2] + content[start:-2] + content[-2:]
    assert_fails(lambda: read(more), f"a JPEG of {2 * scans} scans", "save it again")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(10**12)  # of which nothing is on the disk
    tracemalloc.start()
    try:
        assert_fails(lambda: GREY.read(tmp_path / "a.png"), "a.png: a file of more than 500 MB", "scale it down")
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_a_large_jpeg_is_halved_as_it_is_decoded(monkeypatch):
    monkeypatch.setattr(image_file, "MAX_PIXELS", 5000)
    picture = Image.new("RGB", (100, 80), (200, 40, 40))
    picture.paste((40, 40, 200), (50, 0, 100, 80))
    halved = read(encoded(picture, "jpeg", quality=95), COLOUR)
    assert halved.shape == (8, 8, 3)
    assert np.abs(halved[:, 0].astype(int) - (200, 40, 40)).max() < 20
    assert np.abs(halved[:, 7].astype(int) - (40, 40, 200)).max() < 20
    assert_fails(lambda: COLOUR.read(encoded(picture)), "megapixels (100×80)")


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (3, 99_999)])
def test_very_long_images_are_cut_before_they_are_scaled(size, monkeypatch):
    scaled: list[tuple[int, int]] = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda p, to, *rest: scaled.append(to) or resize(p, to, *rest))
    content = encoded(Image.new("RGB", size, (10, 20, 30)))
    large = Preprocess(224, [0.5] * 3, [0.5] * 3, resize=256)
    assert (large.read(content).numpy() == (10, 20, 30)).all()
    assert (COLOUR.read(content).numpy() == (10, 20, 30)).all()
    assert max(width * height for width, height in scaled) <= 256 * 256 * 8


@pytest.mark.slow
def test_memory_is_bounded(command):
    """Of 80 megapixels with transparency, of which 4 bytes each stand in memory while they are decoded."""
    code = """
import resource, sys
from tests.test_image_file import CUT, COLOUR, png_header
content = png_header(8000, 10_000, 6, b"\\0" * (10_000 * 32_001))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert (CUT.read(content) == 255).all()
assert (COLOUR.read(content) == 255).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 // 10**6)
"""
    result = command("-c", code)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 900


# --- numbers of other than 8 bits -------------------------------------------------------------------------------------


def packed_12(values: np.ndarray) -> bytes:
    """Two values in three bytes."""
    pairs = values.reshape(-1, 2)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())


def scaled_ramp(largest: int, kind: str) -> np.ndarray:
    return (RAMP * largest // 63).astype(kind)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("PNG of 16 bits", encoded(Image.fromarray(scaled_ramp(65_535, "<u2")))),
        ("TIFF of 16 bits", tiff(scaled_ramp(65_535, "<u2"), 16)),
        ("TIFF of 12 bits", tiff(RAMP, 12, packed=packed_12(RAMP * 4095 // 63))),
        ("TIFF of 16 bits with a sign", tiff(scaled_ramp(32_767, "<i2"), 16, 2)),
        ("TIFF of 32 bits to 65,535", tiff(scaled_ramp(65_535, "<i4"), 32, 2)),
        ("TIFF of 32 bits to 255", tiff(scaled_ramp(255, "<i4"), 32, 2)),
        ("TIFF of floats to 1", tiff((RAMP / 63).astype("<f4"), 32, 3)),
        ("TIFF of floats to 255", tiff(scaled_ramp(255, "<f4"), 32, 3)),
        ("TIFF of floats to 65,535", tiff(scaled_ramp(65_535, "<f4"), 32, 3)),
        ("PGM of 16 bits", b"P5 8 8 65535\n" + scaled_ramp(65_535, ">u2").tobytes()),
        ("PGM of 12 bits", b"P5 8 8 4095\n" + scaled_ramp(4095, ">u2").tobytes()),
        ("PFM", b"Pf 8 8 -1.0\n" + (RAMP / 63).astype("<f4")[::-1].tobytes()),
    ],
)
def test_larger_numbers_are_scaled(name, content):
    """As the format says, to all 64 greys; in colour all three channels are these."""
    difference = read(content).astype(int) - EXPECTED
    assert np.abs(difference).max() <= 1, name
    assert (np.abs(read(content, COLOUR).astype(int) - EXPECTED[..., None]) <= 1).all(), name


def test_a_dark_picture_of_16_bits_stays_dark():
    assert read(tiff(scaled_ramp(255, "<u2"), 16)).max() == 0
    assert read(tiff(RAMP // 8, 12, packed=packed_12(RAMP * 0 + 17))).max() == 1


def test_white_is_zero_where_the_file_says_so():
    assert (
        np.abs(read(tiff(scaled_ramp(65_535, "<u2"), 16, tags=((262, 0),))).astype(int) - (255 - EXPECTED)).max() <= 1
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_keeps_its_numbers(orientation):
    """What a TIFF says of its bits holds for one that is to be turned."""
    content = tiff(RAMP, 12, packed=packed_12(RAMP * 4095 // 63), tags=((274, orientation),))
    upright = Image.fromarray(EXPECTED.astype(np.uint8))
    if orientation in image_file.TURNS:
        upright = upright.transpose(image_file.TURNS[orientation])
    assert np.abs(read(content).astype(int) - np.asarray(upright)).max() <= 1


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_odd_orientations_turn_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(EXPECTED.astype(np.uint8)), exif=exif)
    assert np.array_equal(read(content), EXPECTED)


@pytest.mark.parametrize(
    ("array", "kind", "words"),
    [
        (np.full((8, 8), np.nan, "<f4"), 3, ("NaN or infinite", "8 or 16 bits")),
        (np.full((8, 8), np.inf, "<f4"), 3, ("NaN or infinite",)),
        (RAMP.astype("<f4") - 1, 3, ("floating-point numbers from -1 to 62", "0 to 1, 0 to 255 or 0 to 65,535")),
        (RAMP.astype("<f4") * 1e30, 3, ("floating-point numbers",)),
        (scaled_ramp(2**31 - 1, "<i4"), 2, ("whole numbers from 0 to 2", "0 to 255 or 0 to 65,535")),
        (RAMP.astype("<i4") - 9, 2, ("whole numbers from -9 to 54",)),
    ],
)
def test_numbers_that_say_nothing_are_refused(array, kind, words):
    for preprocess in (GREY, CUT):
        assert_fails(lambda p=preprocess: p.read(tiff(array, 32, kind)), "the image: ", *words)


def test_bytes_with_a_sign():
    """White is 127; below zero there is nothing."""
    expected = scaled_ramp(127, "i8") * 255 // 127
    assert np.array_equal(read(tiff(scaled_ramp(127, "i1"), 8, 2)), expected)
    assert np.array_equal(read(tiff(scaled_ramp(127, "i1"), 8, 2), COLOUR), np.repeat(expected[..., None], 3, 2))
    for preprocess in (GREY, COLOUR, CUT):
        words = ("the image: ", "8 bits with a sign, and some are below 0", "save it without a sign")
        assert_fails(lambda p=preprocess: p.read(tiff((RAMP - 1).astype("i1"), 8, 2)), *words)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_16_bits_a_channel_in_colour_and_with_transparency(colour):
    """RGB, grey with transparency and RGBA of a PNG; what is transparent is white."""
    channels = {2: 3, 4: 2, 6: 4}[colour]
    values = np.repeat(scaled_ramp(65_535, ">u2")[..., None], channels, axis=2)
    if colour != 2:
        values[..., -1] = 65_535
        values[0, 0, -1] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    content = png_header(8, 8, colour, rows).replace(
        struct.pack(">IIBB", 8, 8, 8, colour), struct.pack(">IIBB", 8, 8, 16, colour)
    )
    at = content.index(b"IHDR")
    content = content[: at + 17] + struct.pack(">I", zlib.crc32(content[at : at + 17])) + content[at + 21 :]
    expected = EXPECTED.copy()
    if colour != 2:
        expected[0, 0] = 255
    assert np.abs(read(content, COLOUR).astype(int) - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_becomes_colour_and_grey(mode):
    steps = {"PA": "P", "La": "LA", "RGBa": "RGBA"}
    picture = Image.new("RGB", (20, 20), (255, 255, 255))
    for step in [steps[mode], mode] if mode in steps else [mode]:
        picture = Image.new(mode, (20, 20), 100) if mode == "LAB" else picture.convert(step)
    for preprocess in (GREY, COLOUR, CUT):
        assert preprocess.read(picture).shape == (1, 8, 8, preprocess.channels)
    if mode != "LAB":
        assert (COLOUR.read(picture) >= 254).all()


def test_strips_give_what_the_whole_gives(monkeypatch):
    """Large pictures are converted a strip at a time."""
    values = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    pictures = [
        Image.fromarray(values),
        Image.fromarray(values[..., 0].astype("<u2") * 250),
        Image.fromarray(values[..., :3]),
    ]
    pictures.append(pictures[2].quantize(50))
    pictures[3].info["transparency"] = 3
    whole = [p.read(picture) for picture in pictures for p in (GREY, CUT)]
    monkeypatch.setattr(eight_bits, "STRIP", 100)
    parts = [p.read(picture) for picture in pictures for p in (GREY, CUT)]
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize(("form", "options"), [("gif", {}), ("png", {}), ("tiff", {}), ("webp", {"lossless": True})])
def test_the_first_of_several_pictures(form, options):
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue"))
    content = encoded(first, form, save_all=True, append_images=others, **options)
    assert (read(content, COLOUR) == (255, 0, 0)).all()


def test_a_picture_of_the_callers_is_left_as_it_is(tmp_path):
    picture = Image.fromarray(np.full((300, 10, 4), 7, np.uint8))
    before = picture.copy()
    CUT.read(picture)
    assert picture == before
    path: Path = tmp_path / "a.png"
    picture.save(path)
    with path.open("rb") as file:
        assert (CUT.read(file) == CUT.read(path)).all()
