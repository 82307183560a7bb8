"""zoo demo: what its models answer, that it serves its own page only, and the page in a real Chromium."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from PIL import Image, ImageDraw

import zoo
from zoo import cli
from zoo.errors import ZooError
from zoo.use import demo, live

from .conftest import REPO

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240  # seconds; the sketchpad draws by WebGL, which is slow without a graphics card
WATCHED = """
import sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        print("left this machine:", arguments[1], file=sys.stderr, flush=True)
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None):
        print("left this machine:", arguments[0], file=sys.stderr, flush=True)
sys.addaudithook(watch)
from zoo.cli import main
main()
"""


def paper(*strokes: list[tuple[int, int]]) -> dict[str, Image.Image]:
    """The sketchpad's value for lines of black ink."""
    picture = Image.new("L", (308, 308), 255)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, fill=0, width=28, joint="curve")
    return {"background": None, "layers": [], "composite": picture}


# --- what the models answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digit", "strokes"),
    {
        "1": [[(154, 60), (154, 248)]],
        "7": [[(90, 75), (215, 75), (140, 245)]],
        "4": [[(105, 60), (95, 150), (205, 150)], [(200, 60), (195, 250)]],
    }.items(),
)
def test_a_drawn_digit_is_read(digit, strokes):
    probabilities, seen, first, second = live.read_digit(paper(*strokes))
    assert max(probabilities, key=probabilities.get) == digit
    assert sum(probabilities.values()) == pytest.approx(1)
    assert seen.width == seen.height
    assert first.width > 5 * first.height  # a row of 6 maps
    assert 3 * second.height < second.width < 5 * second.height  # two rows of 8
    assert len(set(first.get_flattened_data())) > 10  # something lights up


def test_an_empty_paper_is_not_read():
    assert live.read_digit(paper()) == (None,) * 4
    assert live.read_digit(None) == (None,) * 4


def test_the_sliders_start_at_the_code_and_change_the_image():
    model = zoo.load("vae_mnist")
    z = model.noise(1, torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = model.decode(z)[0, 0]
    image = live.decode(5, *z[0, list(live.directions())].tolist())
    assert (
        image.resize((28, 28), Image.Resampling.BOX).getpixel((14, 12)) == (round(255 * expected[12, 14].item()),) * 3
    )
    values = live.values_of(5)
    assert values == pytest.approx(z[0, list(live.directions())].clamp(-3, 3).tolist(), abs=0.006)
    moved = [live.decode(5, *(v if i != j else 3.0 - 6.0 * (v > 0) for j, v in enumerate(values))) for i in range(6)]
    assert len({picture.tobytes() for picture in [image, *moved]}) == 7
    assert live.values_of(None) == live.values_of(0)


def test_the_directions_are_those_that_matter():
    """The VAE leaves most of its 50 numbers unused; none of these has a slider."""
    model = zoo.load("vae_mnist")
    z = model.noise(200, torch.Generator().manual_seed(1))
    with torch.no_grad():
        change = [(model.decode(z + e) - model.decode(z)).abs().mean().item() for e in torch.eye(50)]
    strongest = sorted(range(50), key=change.__getitem__)[-10:]
    assert len(set(live.directions())) == 6
    assert set(live.directions()) <= set(strongest)
    assert min(change[i] for i in live.directions()) > 2 * sorted(change)[10]


def test_a_text_is_continued_character_by_character():
    texts = list(live.continue_text("ROMEO:\nI", "gru_tiny_shakespeare", 12, 0.8))
    assert [len(text) for text in texts] == list(range(9, 21))
    assert all(text.startswith("ROMEO:\nI") for text in texts)
    assert len(next(live.continue_text("a" * 5000, "gru_tiny_shakespeare", 1, 0.8))) == live.LONGEST_PROMPT + 1
    with pytest.raises(ZooError, match="knows nothing of the prompt"):
        next(live.continue_text("로미오", "gru_tiny_shakespeare", 5, 0.8))


def test_the_text_on_the_page_grows_at_a_pace_and_is_whole_at_the_end(monkeypatch):
    texts = ["a" * n for n in range(1, 100)]
    assert list(demo.paced(iter(texts))) == texts[-1:]  # all at once
    assert list(demo.paced(iter([]))) == []
    monkeypatch.setattr(demo, "PACE", 0)
    assert list(demo.paced(iter(texts))) == [*texts, texts[-1]]


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({"host": "127.0.0.1:7860"}, True),
        ({"host": "localhost:7860", "origin": "http://localhost:7860"}, True),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, True),
        ({"host": "evil.example:7860"}, False),  # a name that was pointed to 127.0.0.1
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "127.0.0.1:7860", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:8888"}, False),  # another server on this machine
        ({"host": "127.0.0.1:7860", "origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_the_own_page_is_answered(headers, answered):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(demo.OwnPageOnly(app)(scope, None, send))
    assert sent[0]["status"] == (200 if answered else 403)


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["zoo", "demo", "--no-browser"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capfd.readouterr() == ("", "error: zoo demo needs an extra: pip install 'reference-zoo[demo]'\n")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The running demo's address. At the end: its process has connected to no other machine."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    port, tmp_path = free_port(), tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-c", WATCHED, "demo", "--no-browser", "--port", str(port)]
    with open(tmp_path / "errors", "w+") as errors:
        server = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            line = server.stdout.readline()
            assert line == f"http://127.0.0.1:{port}/ (Ctrl+C ends it)\n", (tmp_path / "errors").read_text()
            yield line.split()[0]
        finally:
            server.terminate()
            server.wait(30)
            server.stdout.close()
    said = (tmp_path / "errors").read_text()
    assert "left this machine" not in said


@pytest.fixture
def page(address):
    """The demo in Chromium. At the end: the page asked no other host for anything, and no script failed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    asked, failed = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1150})
        page.set_default_timeout(1000 * PATIENCE)
        sync_api.expect.set_options(timeout=1000 * PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))] == []
    assert failed == []


@pytest.mark.slow
def test_the_page_in_chromium(page):
    from playwright.sync_api import expect

    # type a line, see it grow, and stop it
    page.get_by_role("tab", name="Continue a text").click()
    line = page.get_by_label("your line")
    line.click()
    line.press("Control+A")
    page.keyboard.type("JULIET: O")
    page.get_by_label("number input for characters").fill("5000")
    page.get_by_role("button", name="Continue").click()
    text = page.locator("#continued textarea")
    expect(text).to_have_value(re.compile(r"JULIET: O[\s\S]{5,}"))
    early = text.input_value()
    expect(text).not_to_have_value(early)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_timeout(3000)
    stopped = text.input_value()
    assert stopped.startswith(early)
    assert len(stopped) < 5009  # the whole text has 5000 characters more than the line
    page.wait_for_timeout(3000)
    assert text.input_value() == stopped

    # move a slider
    page.get_by_role("tab", name="Move through codes").click()
    image = page.locator("#decoded img")
    expect(image).to_be_visible()
    before = image.get_attribute("src")
    slider = page.get_by_role("slider").first
    slider.click(position={"x": 0.9 * slider.bounding_box()["width"], "y": slider.bounding_box()["height"] / 2})
    expect(image).not_to_have_attribute("src", before)

    # draw a 1 with the mouse; last, as without a graphics card the page is slow after that
    page.get_by_role("tab", name="Draw a digit").click()
    expect(page.locator("#pad canvas").first).to_be_visible()
    expect(page.locator("#pad").get_by_text("select the draw tool")).to_have_count(0)
    box = page.locator("#pad canvas").first.bounding_box()
    x, top, bottom = box["x"] + box["width"] / 2, box["y"] + 0.25 * box["height"], box["y"] + 0.75 * box["height"]
    page.mouse.move(x, top)
    page.mouse.down()
    for i in range(1, 9):
        page.mouse.move(x, top + (bottom - top) * i / 8)
    page.mouse.up()
    expect(page.locator("#probabilities [data-testid=label-output-value]")).to_have_text(re.compile(r"^\s*1\s*$"))
    expect(page.locator("#features_act1 img")).to_be_visible()
    expect(page.locator("#features_act2 img")).to_be_visible()


@pytest.mark.slow
def test_other_pages_and_a_port_in_use_are_refused(address):
    """Over a socket, as another web page's request would come; and a second demo says which port is in use."""
    host = address.split("/")[2]

    def status(**headers: str) -> int:
        with socket.create_connection(("127.0.0.1", int(host.split(":")[1])), timeout=PATIENCE) as one:
            lines = [f"{name}: {value}" for name, value in ({"Host": host} | headers).items()]
            one.sendall("\r\n".join(["GET /config HTTP/1.1", *lines, "Connection: close", "", ""]).encode())
            return int(one.makefile("rb").readline().split()[1])

    assert status() == status(Origin=f"http://{host}") == 200
    assert status(Host="evil.example") == status(Origin="http://evil.example") == status(Origin="null") == 403
    with pytest.raises(ConnectionRefusedError), socket.socket() as one:  # a server on all addresses would answer here
        one.connect(("127.0.0.2", int(host.split(":")[1])))
    again = [sys.executable, "-m", "zoo", "demo", "--no-browser", "--port", host.split(":")[1]]
    second = subprocess.run(again, cwd=REPO, capture_output=True, text=True, timeout=PATIENCE)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"error: port {host.split(':')[1]} is in use; choose another one by --port\n"
