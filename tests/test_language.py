"""Language models: the task's measures, the carried state, an exact resume, and sampling."""

import math
import os
import signal
from functools import partial
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, seed_everything
from typer.testing import CliRunner

from tests.conftest import TOY, some
from tests.test_resume import assert_same
from zoo.callbacks.text import through_time
from zoo.cli import app
from zoo.config.build import build
from zoo.data import tokens
from zoo.data.text import TextData, known_tokenizer
from zoo.data.tokens import Bytes, Characters
from zoo.errors import ZooError
from zoo.models.recurrent import Recurrent
from zoo.pretrained.reading import read_checkpoint
from zoo.tasks.language import Language
from zoo.use.sample import choose, encoded_prompt, sample, text_of

TEXT = [
    "data=shakespeare", "model=lstm", "task=language", "optimizer=adamw", "scheduler=none", "optimizer.lr=0.01",
    "model.hidden=32", "data.batch_size=8", "data.seq_len=16", "callbacks.progress=null", "trainer.precision=32-true",
]  # fmt: skip


def last(folder, name="last"):
    (path,) = folder.glob(f"logs/*/*/checkpoints/{name}.ckpt")
    return path


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
@pytest.mark.parametrize("windows", some(["streams", "shuffled"], "streams"))
def test_a_text_is_learned_at_every_level(run_train, tmp_path, level, windows):
    """The command line alone; the vocabulary is in the checkpoint, which is measured again and sampled from."""
    code, out = run_train(*TEXT, f"data.level={level}", f"data.windows={windows}", "trainer.max_epochs=3")
    assert code == 0, out
    assert f"test tokens ({level})" in out
    assert " sample " in out
    card = read_checkpoint(last(tmp_path, "best"))["card"]
    metrics = card["metrics"]
    assert {"loss", "accuracy", "bits_per_character", "perplexity_per_word"} <= set(metrics)
    assert metrics["loss"] < 0.7 * math.log(card["data"]["vocab_size"])
    assert card["metric"] == "loss"
    result = CliRunner().invoke(app, ["evaluate", str(last(tmp_path, "best"))])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["sample", str(last(tmp_path, "best")), "--prompt", "to be", "--length", "20"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("to be")


def with_data(task, **units):
    """The task as if a trainer had it, with a text's sizes."""
    task._trainer = SimpleNamespace(
        datamodule=SimpleNamespace(units=lambda part: units[part], tokenizer=None, windows="streams")
    )
    return task


def uniform(vocabulary: int) -> Recurrent:
    """A model that knows nothing."""
    model = Recurrent(vocabulary, vocab_size=vocabulary, hidden=4).eval()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


def measured(task, data, batches=None):
    task._trainer = SimpleNamespace(datamodule=data, world_size=1)
    task.start_measuring("test")
    for batch in islice(data.test_dataloader(), batches):
        task.measure(batch, "test")
    return {name: float(value) for name, value in task.metrics("test").items()}


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_measures_are_of_the_text_whatever_the_tokens(tmp_path, level):
    """A model that knows nothing spends log₂ V bits a token: that many over the characters, e^nats over the words."""
    text = "안녕 세상 the end\n" * 200
    (tmp_path / "t.txt").write_text(text)
    size = len(tokens.fit(level, text, 300 if level == "bpe" else None).vocabulary)
    data = TextData(None, size, file=str(tmp_path / "t.txt"), level=level, most=300 if level == "bpe" else None)
    data.setup()
    size = len(data.tokenizer.vocabulary)
    metrics = measured(Language(uniform(size), size), data)
    encoded, characters = data.splits["test"], len(data.texts["test"])
    nats = (len(encoded) - 1) * math.log(size)
    first = len(data.tokenizer.decode(encoded[:1].tolist()))
    assert metrics["loss"] == pytest.approx(math.log(size), rel=1e-5)
    assert metrics["bits_per_character"] == pytest.approx(nats / math.log(2) / (characters - first), rel=1e-4)
    words = len(data.texts["test"].split()) + data.texts["test"].count("\n")  # as Penn Treebank counts
    if level == "word":
        words -= 1  # the first is not predicted
        assert metrics["perplexity_per_word"] == pytest.approx(size, rel=1e-3)
    assert math.log(metrics["perplexity_per_word"]) == pytest.approx(nats / words, rel=1e-4)


def test_evaluation_carries_the_state(tmp_path):
    """The loss is that of the whole text in one call."""
    torch.manual_seed(0)
    text = (TOY + "\n") * 60
    (tmp_path / "t.txt").write_text(text)
    data = TextData(None, 14, file=str(tmp_path / "t.txt"), tokenizer=Characters.fit(text), eval_batch_size=1)
    data.vocab_size = len(data.tokenizer.vocabulary)
    data.setup()
    model = Recurrent(data.vocab_size, vocab_size=data.vocab_size, hidden=16).eval()
    data.seq_len = 5
    x = data.splits["test"]
    with torch.no_grad():
        metrics = measured(Language(model, data.vocab_size), data)
        whole = F.cross_entropy(model(x[None, :-1])[0], x[1:])
    assert metrics["loss"] == pytest.approx(whole.item(), rel=1e-5)


class Stop(Callback):
    step = -1

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == Stop.step:
            os.kill(os.getpid(), signal.SIGINT)


def whole_and_resumed(run_train, folder, settings, step, stopped=lambda checkpoint: None, stop=Stop):
    """The last checkpoints of a run, and of the same one that was stopped after some updates and resumed.

    What it was stopped with goes to ``stopped``; ``stop`` is the callback that does it, at its ``step``.
    """
    callback = f"++callbacks.stop._target_={stop.__module__}.{stop.__name__}"
    ends = []
    for name, at in (("whole", -1), ("resumed", step)):
        (folder / name).mkdir()
        os.chdir(folder / name)
        stop.step = at
        code, out = run_train(*settings, callback)
        assert code == (130 if at > 0 else 0), out
        if at > 0:
            stopped(read_checkpoint(last(folder / name)))
            stop.step = -1
            code, out = run_train("resume=last", callback)
            assert code == 0, out
        ends.append(read_checkpoint(last(folder / name)))
    return ends


def test_resume_inside_an_epoch_reads_on(run_train, tmp_path):
    """Weights, state and place in the text: n + m updates equal n, stop, m."""
    settings = (
        *TEXT,
        "logger=none",
        "test=false",
        "trainer.max_epochs=2",
        "model.dropout=0.2",
        "trainer.limit_train_batches=12",
    )

    def carries(checkpoint):
        (own,) = checkpoint["random"]
        assert own["carried"] is not None

    whole, resumed = whole_and_resumed(run_train, tmp_path, settings, 17, carries)
    for key in ("state_dict", "optimizer_states", "TextData", "random"):
        assert_same(whole[key], resumed[key], key)


def test_gradients_are_clipped(run_train, tmp_path):
    """To task.clip_norm, unless the trainer says otherwise: a step of plain SGD is no longer than lr · clip."""
    base = [o for o in TEXT if not o.startswith("optimizer")]
    base += [
        "optimizer=sgd",
        "optimizer.momentum=0",
        "optimizer.nesterov=false",
        "optimizer.lr=1",
        "trainer.max_steps=1",
    ]
    for name, extra, longest in (("a", "task.clip_norm=1e-3", 1e-3), ("b", "trainer.gradient_clip_val=1e-4", 1e-4)):
        (tmp_path / name).mkdir()
        os.chdir(tmp_path / name)
        code, out = run_train(*base, extra, "logger=none", "test=false", "seed=5", "callbacks.best=null")
        assert code == 0, out
        after = read_checkpoint(last(tmp_path / name))["state_dict"]
        seed_everything(5, workers=True, verbose=False)
        config = read_checkpoint(last(tmp_path / name))["config"]["model"]
        before = build(config).state_dict()
        length = torch.stack([(after[f"model.{k}"] - v).norm() for k, v in before.items()]).norm()
        assert 0.5 * longest < length <= 1.01 * longest


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classify"], "set task=language"),
        (["model.read=last"], "leave model.read"),
        (["model=mlp"], "this model needs data.in_channels, which this data does not have"),
        (["model.bidirectional=true"], "lets the model see the token"),
        (["data.level=letter"], "is not valid: char, byte, word, bpe"),
        (["model.peephole=true"], "set backend=reference"),
    ],
)
def test_what_does_not_fit_is_said(run_train, overrides, message):
    code, out = run_train(*TEXT, "debug=fast", *overrides)
    assert code == 1
    assert message in out, out


@pytest.mark.parametrize(
    ("data", "task", "read"),
    [("adding", "regress", "last"), ("copy", "language", "each"), ("parity", "classify", "last")],
)
def test_synthetic_problems_train(run_train, data, task, read):
    code, out = run_train(
        f"data={data}", "model=lstm", f"task={task}", "data.steps=8", "data.train_size=200", "data.test_size=50",
        "data.batch_size=20", "model.hidden=8", "trainer.max_epochs=1", "callbacks.progress=null",
    )  # fmt: skip
    assert code == 0, out
    assert f"{data}, T = 8" in out


def test_examples_are_measured_each_alone():
    """No state goes from one batch of examples to the next, whatever their sizes."""
    torch.manual_seed(0)
    found = []
    for size in (3, 4, 10):
        data = build({
            "_target_": "zoo.data.synthetic.SyntheticData", "name": "copy", "steps": 5, "vocab_size": 10,
            "in_features": None, "num_classes": 8, "read": "each", "train_size": 10, "val_size": 10, "test_size": 10,
            "eval_batch_size": size,
        }, "data")  # fmt: skip
        data.setup()
        torch.manual_seed(1)
        found.append(measured(Language(Recurrent(8, vocab_size=10, hidden=16), 8), data)["loss"])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_a_part_that_is_measured_in_part(tmp_path):
    """The loss is of what was measured; what would need all of the text is left out."""
    text = "the cat sat on the mat\n" * 2000
    (tmp_path / "t.txt").write_text(text)
    tokenizer = Characters.fit(text)
    size = len(tokenizer.vocabulary)
    data = TextData(None, size, file=str(tmp_path / "t.txt"), tokenizer=tokenizer)
    data.setup()
    metrics = measured(Language(uniform(size), size), data, batches=1)
    assert set(metrics) == {"loss", "accuracy", "unknown"}
    assert metrics["loss"] == pytest.approx(math.log(size), rel=1e-5)


def test_the_share_of_unknown_tokens_is_said(tmp_path):
    (tmp_path / "t.txt").write_text("a b c d\n" * 100)
    data = TextData(None, 4, file=str(tmp_path / "t.txt"), level="word", tokenizer=tokens.Words(["a", "b"]))
    data.setup()
    metrics = measured(Language(uniform(4), 4), data)
    assert metrics["unknown"] == pytest.approx(0.4, abs=0.02)  # c and d of a, b, c, d and the end


def test_validation_begins_at_its_beginning_each_time(run_train, monkeypatch):
    """Cut short, it is the same part of the text in every epoch."""
    from zoo.data.streams import Evaluation

    taken, original = [], Evaluation.take
    monkeypatch.setattr(Evaluation, "take", lambda self, plan, i: taken.append(i) or original(self, plan, i))
    code, out = run_train(*TEXT, "trainer.max_epochs=3", "trainer.limit_val_batches=1", "test=false")
    assert code == 0, out
    assert taken == [0, 0, 0]


def test_a_text_that_has_changed_is_not_trained_on(run_train, tmp_path):
    own = [*TEXT, "data=text_file", "data.file=t.txt", "trainer.max_epochs=1"]
    (tmp_path / "t.txt").write_text("the cat sat on the mat\n" * 300)
    code, out = run_train(*own)
    assert code == 0, out
    assert "logs/lstm_text_file/" in out
    (tmp_path / "t.txt").write_text("thx cat sat on thx mat\n" * 300)
    known_tokenizer.cache_clear()  # as in another process
    code, out = run_train("resume=last", "trainer.max_epochs=2", "++data.file=t.txt")  # a path is said again
    assert code == 1
    assert "their preprocessing or vocabulary differs" in out


def test_a_tagger_may_read_both_ways(run_train):
    code, out = run_train(
        "data=copy", "model=gru", "task=language", "data.steps=8", "data.train_size=200", "data.test_size=50",
        "data.batch_size=20", "model.hidden=8", "trainer.max_epochs=1", "callbacks.progress=null",
        "model.bidirectional=true",
    )  # fmt: skip
    assert code == 0, out


# --- sampling ---------------------------------------------------------------------------------------------------------


def model_and_tokenizer():
    torch.manual_seed(0)
    tokenizer = Characters.fit(TOY + "\n")
    n = len(tokenizer.vocabulary)
    return Recurrent(n, vocab_size=n, hidden=16, depth=2).eval(), tokenizer


def test_sampling_carries_the_state():
    """It draws what reading the whole text again at every step would draw, and the same for a seed."""
    model, tokenizer = model_and_tokenizer()
    prompt = tokenizer.encode("to be")
    drawn = list(sample(model, prompt, 30, seed=3))
    assert drawn == list(sample(model, prompt, 30, seed=3))
    assert drawn != list(sample(model, prompt, 30, seed=4))
    generator, text = torch.Generator().manual_seed(3), prompt
    with torch.inference_mode():
        for token in drawn:
            assert int(choose(model(text[None])[0, -1], 1.0, None, None, generator)) == token
            text = torch.cat([text, torch.tensor([token])])


def test_ways_to_draw():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    draw = partial(choose, logits, generator=torch.Generator().manual_seed(0))
    assert int(draw(0.0, None, None)) == 0
    assert int(draw(1.0, 1, None)) == 0

    def drawn(temperature, top_k, top_p):
        return torch.stack([draw(temperature, top_k, top_p) for _ in range(2000)]).bincount(minlength=4) / 2000

    torch.testing.assert_close(drawn(1.0, None, None), logits.exp(), atol=0.04, rtol=0)
    torch.testing.assert_close(drawn(1.0, 2, None), torch.tensor([0.625, 0.375, 0, 0]), atol=0.04, rtol=0)
    torch.testing.assert_close(drawn(1.0, None, 0.8), torch.tensor([0.625, 0.375, 0, 0]), atol=0.04, rtol=0)
    torch.testing.assert_close(drawn(0.5, None, None), (2 * logits).softmax(0), atol=0.04, rtol=0)


def test_streaming_never_breaks_a_character():
    text = "가é😀\n"
    parts = list(text_of(Bytes(), Bytes().encode(text).tolist()))
    assert "".join(parts) == text
    assert "\ufffd" not in "".join(parts)
    broken = list(text_of(Bytes(), Bytes().encode("é").tolist()[:1]))
    assert "".join(broken) == "\ufffd"


def test_prompts():
    _, tokenizer = model_and_tokenizer()
    assert tokenizer.decode(encoded_prompt(tokenizer, "").tolist()) == "\n"
    assert len(encoded_prompt(tokenizer, "to 中")) == 4
    words = tokens.Words(["to", "be"])
    assert encoded_prompt(words, "to be").tolist() == [2, 3]
    assert encoded_prompt(words, "to be\n").tolist() == [2, 3, 1]
    for one in (tokenizer, words):
        with pytest.raises(ZooError, match="knows nothing of the prompt"):
            encoded_prompt(one, "中文")
    told = CliRunner().invoke(app, ["sample", "--prompt", "to 中", "--length", "3"])
    assert told.exit_code == 0
    assert "lstm_shakespeare does not know 1 of the 4 tokens of --prompt" in told.output


@pytest.mark.parametrize(
    "bad",
    [*({"temperature": bad} for bad in (-1.0, math.nan, math.inf)), {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}],
)
def test_impossible_draws(bad):
    model, tokenizer = model_and_tokenizer()
    with pytest.raises(ZooError, match="is not valid"):
        sample(model, tokenizer.encode("to"), 5, **bad)


def test_only_language_models_write():
    result = CliRunner().invoke(app, ["sample", "lenet5_mnist"])
    assert "writes no text" in str(result.exception)


def test_gradient_through_time_reaches_every_step():
    """It is the derivative: finite differences agree at a step far back."""
    model, tokenizer = model_and_tokenizer()
    x = tokenizer.encode(TOY)[None].double().long()
    model = model.double()
    norms = through_time(model, x[:, :-1], x[:, 1:])
    assert norms.shape == (x.shape[1] - 1,)
    assert (norms > 0).all()
    read = model.embed(x[:, :-1]).detach()

    def loss(shift):
        moved = read.clone()
        moved[0, 5] += shift
        return F.cross_entropy(model.head(model.trunk(moved)[0][:, -1]), x[:, -1], reduction="sum").item()

    eps = 1e-5
    basis = torch.eye(read.shape[-1], dtype=torch.float64)
    gradient = torch.tensor([(loss(eps * e) - loss(-eps * e)) / (2 * eps) for e in basis])
    assert gradient.norm().item() == pytest.approx(norms[5].item(), rel=1e-2)
