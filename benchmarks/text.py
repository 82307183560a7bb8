"""A language model's epoch and its sampling against bare torch.nn.LSTM loops; and what the reference cells cost.

The epoch is ``python train.py`` with all its defaults, on characters of Shakespeare; before each of its epochs the bare
loop trains as many updates of nn.Embedding, nn.LSTM and nn.Linear of the same size on the same stretches of text, state
carried, with the same optimizer, clipping and precision. Sampling is ``zoo.use.sample.sample``, a character at a time,
which on a CPU steps by the equations; the bare loop calls nn.LSTM.
"""

import copy
import statistics
import time
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from lightning import LightningModule, Trainer
from timing import Json, in_turn, ratio, run, show
from torch import Tensor, nn

import zoo
from zoo.data.text import TextData
from zoo.use.sample import sample


class Bare(nn.Module):
    """What one writes without the zoo."""

    def __init__(self, vocab: int, hidden: int, depth: int, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, depth, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        out, state = self.lstm(self.embedding(x), state)  # (B, T, H)
        return self.head(out), state


class BareLoop:
    """Trains an epoch whenever it is called, and keeps the seconds."""

    def __init__(self, hidden: int, depth: int):
        self.hidden, self.depth = hidden, depth
        self.seconds: list[float] = []
        self.parts: tuple[Any, ...] = ()

    def __call__(self, trainer: Trainer, task: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not self.parts:
            model = Bare(data.vocab_size, self.hidden, self.depth)
            optimizer = task.make_optimizer(model.parameters())  # type: ignore[operator]
            loader: Any = copy.copy(data.train_dataloader())
            loader.before_batch = []
            self.parts = model, optimizer, loader
        model, optimizer, loader = self.parts
        bf16 = trainer.precision == "bf16-mixed"
        start, state = time.perf_counter(), None
        for x, y in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits, state = model(x, state)
            state = tuple(s.detach() for s in state)
            loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def settings(hidden: int, depth: int, updates: int) -> list[str]:
    return [
        "data=shakespeare", "model=lstm", "task=language", "optimizer=adamw", "scheduler=none", "test=false",
        f"model.hidden={hidden}", f"model.depth={depth}", f"trainer.limit_train_batches={updates}",
    ]  # fmt: skip


def main(
    hidden: Annotated[int, typer.Option(help="Units of a layer.")] = 512,
    depth: Annotated[int, typer.Option(help="Layers.")] = 2,
    updates: Annotated[int, typer.Option(help="An epoch is cut to so many.")] = 30,
    epochs: Annotated[int, typer.Option(min=2, help="Of each; the first is not counted.")] = 5,
    length: Annotated[int, typer.Option(help="Characters to sample.")] = 500,
    json: Json = None,
) -> None:
    """The epoch, sampling, and the reference cells."""
    rows: list[dict[str, Any]] = []
    bare = BareLoop(hidden, depth)
    characters = 64 * 128 * updates
    for precision in ("32-true", "auto"):
        bare.seconds, bare.parts = [], ()
        more = [f"trainer.max_epochs={epochs}", f"trainer.precision={precision}"]
        ours = run([*settings(hidden, depth, updates), *more], before_epoch=bare).seconds[1:]
        rows.append(row(f"epoch, {precision}: ours / bare", ours, bare.seconds[1:], characters))
    vocab = TextData("shakespeare", 1).tokenizer
    n = len(vocab.vocabulary)
    fused = zoo.create("lstm", num_classes=n, vocab_size=n, hidden=hidden, depth=depth).eval()
    reference = zoo.create("lstm", num_classes=n, vocab_size=n, hidden=hidden, depth=depth, backend="reference").eval()
    reference.load_state_dict(fused.state_dict())
    plain, prompt = Bare(n, hidden, depth).eval(), vocab.encode("\n")
    calls = {
        "ours": lambda: list(sample(fused, prompt, length)),
        "bare": lambda: bare_sample(plain, prompt, length),
    }
    found = in_turn(calls, 5)
    rows.append(row("sampling: ours / bare", found["ours"], found["bare"], length))
    x = torch.randint(n, (64, 128))
    training = in_turn({"ours": lambda: update(fused, x), "reference": lambda: update(reference, x)}, 5)
    rows.append(row("update: reference cells / torch's", training["reference"], training["ours"], x.numel()))
    show(f"LSTM, {depth} × {hidden}", rows, json)


def update(model: nn.Module, x: Tensor) -> None:
    F.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()


@torch.inference_mode()
def bare_sample(model: Bare, prompt: Tensor, length: int) -> list[int]:
    x, state, tokens = prompt[None], None, []
    for _ in range(length):
        logits, state = model(x, state)
        x = torch.multinomial(logits[0, -1].softmax(0), 1)[None]
        tokens.append(int(x))
    return tokens


def row(what: str, ours: list[float], theirs: list[float], characters: int) -> dict[str, Any]:
    rates = {name: characters / statistics.median(s) for name, s in (("first", ours), ("second", theirs))}
    return {"what": what, **{f"{name}, characters/s": rate for name, rate in rates.items()}, **ratio(ours, theirs)}


if __name__ == "__main__":
    typer.run(main)
