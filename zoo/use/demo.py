"""A page in the browser to try three models: draw a digit, move through a VAE's codes, let Shakespeare continue a line.

The page is served by gradio (the extra ``demo``) on this machine's loopback address only. It loads nothing from another
host, and nothing is reported to gradio's authors. ``OwnPageOnly`` refuses requests that other web pages cause.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zoo.errors import ZooError
from zoo.use.live import (
    CODES,
    DIGITS,
    LAYERS,
    LONGEST_PROMPT,
    REACH,
    continue_text,
    decode,
    directions,
    load_once,
    read_digit,
    values_of,
)

TEXTS = ("lstm_tiny_shakespeare", "gru_tiny_shakespeare", "rnn_tiny_shakespeare", "lstm_shakespeare")
CANVAS = 308  # side of the drawing in pixels, 11 times the model's 28
ONE_BY_ONE = {"show_progress": "hidden", "api_visibility": "private"}
AS_IT_MOVES = {**ONE_BY_ONE, "trigger_mode": "always_last"}  # the last state is always shown, some between may not be
HEIGHTS = (160, 250)  # of the pictures of feature maps, in pixels
PACE = 0.1  # seconds between two states of a text on the page
PICTURE = {"format": "png", "buttons": [], "interactive": False}


# --- the page ---------------------------------------------------------------------------------------------------------


def import_gradio() -> Any:
    """Gradio, with its telemetry off, which it reads from the environment when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError:
        raise ZooError("zoo demo needs an extra: pip install 'reference-zoo[demo]'") from None
    return gradio


def page() -> Any:
    """The page with its three tabs, as gradio's ``Blocks``."""
    gr = import_gradio()
    # the files of pictures that were shown are deleted after ten minutes, and at the end
    with gr.Blocks(title="reference zoo", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.Markdown("# Reference zoo")
        with gr.Tab("Draw a digit"):
            draw_tab(gr, blocks)
        with gr.Tab("Move through codes"):
            codes_tab(gr, blocks)
        with gr.Tab("Continue a text"):
            text_tab(gr)
    return blocks


def paced(texts: Iterator[str]) -> Iterator[str]:
    """A growing text as often as a page can show it, and its end: one character at a time would block the browser."""
    shown, text = time.monotonic(), None
    for text in texts:
        if time.monotonic() - shown >= PACE:
            yield text
            shown = time.monotonic()
    if text is not None:
        yield text


@contextmanager
def told(gr: Any) -> Iterator[None]:
    """Show a ``ZooError`` on the page."""
    try:
        yield
    except ZooError as error:
        raise gr.Error(str(error), print_exception=False) from None


# gradio's sketchpad starts without a tool: take the brush as soon as it is there
TAKE_BRUSH = """() => {
    const timer = setInterval(() => {
        const brush = document.querySelector("#pad canvas") && document.querySelector("#pad button[aria-label=Brush]");
        if (brush) { clearInterval(timer); brush.click(); }
    }, 100);
}"""


def draw_tab(gr: Any, blocks: Any) -> None:
    gr.Markdown(
        f"Draw a digit, large and in the middle. `{DIGITS}` reads it after every stroke; see its features light up."
    )
    with gr.Row():
        pad = gr.Sketchpad(
            label="your digit",
            elem_id="pad",
            type="pil",
            image_mode="L",
            layers=False,
            transforms=(),
            height=CANVAS + 90,
            canvas_size=(CANVAS, CANVAS),
            fixed_canvas=True,
            brush=gr.Brush(default_size=20, colors=["#000000"], color_mode="fixed"),
        )
        with gr.Column():
            probabilities = gr.Label(num_top_classes=4, label="probabilities", elem_id="probabilities")
            seen = gr.Image(label="what the model sees", height=210, **PICTURE)
    shown = []
    for (layer, label), height in zip(LAYERS.items(), HEIGHTS, strict=True):
        gr.Markdown(label)
        shown.append(gr.Image(show_label=False, container=False, height=height, elem_id=f"features_{layer}", **PICTURE))

    def read(drawing: Any) -> tuple[Any, ...]:
        with told(gr):
            return read_digit(drawing)

    pad.change(read, pad, [probabilities, seen, *shown], **AS_IT_MOVES)
    blocks.load(None, js=TAKE_BRUSH)


def codes_tab(gr: Any, blocks: Any) -> None:
    gr.Markdown(
        f"`{CODES}` turns a code of {load_once(CODES).latent} random numbers into an image. The sliders are the "
        f"{len(directions())} numbers that change images most, in standard deviations."
    )
    with gr.Row():
        image = gr.Image(label="the image of this code", height=380, elem_id="decoded", **PICTURE)
        with gr.Column():
            seed = gr.Number(0, label="the seed of the code", precision=0, minimum=0, maximum=2**31)
            sliders = [
                gr.Slider(-REACH, REACH, value, step=0.05, label=f"number {i} of the code")
                for i, value in zip(directions(), values_of(0), strict=True)
            ]
    blocks.load(decode, [seed, *sliders], image, **ONE_BY_ONE)
    seed.change(values_of, seed, sliders, **AS_IT_MOVES).then(decode, [seed, *sliders], image, **ONE_BY_ONE)
    for slider in sliders:
        slider.input(decode, [seed, *sliders], image, **AS_IT_MOVES)


def text_tab(gr: Any) -> None:
    gr.Markdown("Write a line, and a model that has read Shakespeare goes on with it.")
    with gr.Row():
        with gr.Column(scale=1):
            prompt = gr.Textbox("ROMEO:\nTo be", lines=3, max_length=LONGEST_PROMPT, label="your line")
            name = gr.Dropdown(list(TEXTS), value=TEXTS[0], label="model")
            temperature = gr.Slider(0.1, 1.5, 0.8, step=0.05, label="temperature: low is likely, high is bold")
            length = gr.Slider(50, 5000, 500, step=50, label="characters")
            with gr.Row():
                go = gr.Button("Continue", variant="primary", min_width=80)
                stop = gr.Button("Stop", min_width=80)
        text = gr.Textbox(lines=20, max_lines=20, label="the text", scale=2, elem_id="continued", buttons=["copy"])

    def stream(*settings: Any) -> Iterator[str]:
        with told(gr):
            yield from paced(continue_text(*settings))

    running = go.click(stream, [prompt, name, length, temperature], text, **ONE_BY_ONE)
    stop.click(None, cancels=[running])


# --- the server -------------------------------------------------------------------------------------------------------


class OwnPageOnly:
    """ASGI middleware that answers only requests of the demo's own page, and all others with status 403.

    Another web page can send requests to the loopback address, but not with the demo's own Origin; and a host name that
    its owner lets point to the loopback address (DNS rebinding) stands in Host.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and not own(scope["headers"]):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"only the demo's own page may do this"})
            return
        await self.app(scope, receive, send)


def own(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request is for the loopback address and, if it names the page that caused it, from that address."""
    given = dict(headers)
    host = given.get(b"host", b"")
    return host.partition(b":")[0] in (b"127.0.0.1", b"localhost") and given.get(b"origin", b"http://" + host) == (
        b"http://" + host
    )


def serve(port: int | None = None, browser: bool = True) -> tuple[Any, str]:
    """Start the server in a thread.

    Args:
        port: its port; None takes the first free one from 7860 on.
        browser: open the page in the browser.

    Returns:
        Gradio's ``Blocks``, whose ``block_thread`` waits for Ctrl+C, and the page's address.

    Raises:
        ZooError: gradio is not installed, or the port is in use.
    """
    gr = import_gradio()
    from starlette.middleware import Middleware

    system = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none is downloaded
    blocks = page()
    try:
        _, address, _ = blocks.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            theme=gr.themes.Default(**system),
            app_kwargs={"middleware": [Middleware(OwnPageOnly)], "docs_url": None, "redoc_url": None},  # type: ignore[arg-type]
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            max_file_size="5mb",
        )
    except OSError:
        raise ZooError(f"port {port or '7860 to 7959'} is in use; choose another one by --port") from None
    return blocks, address
