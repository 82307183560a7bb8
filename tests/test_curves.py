"""The values that a run of each objective leaves for TensorBoard, against what is computed from its equations."""

import copy
import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import Callback
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

import zoo
from zoo.callbacks.picture import writer_of
from zoo.callbacks.text import Gates, Samples, ThroughTime
from zoo.models.recurrent import Recurrent
from zoo.tasks.language import Language
from zoo.use.pictures import with_labels
from zoo.use.sample import sample

from .test_tensorboard import read

SETTINGS = ("trainer.log_every_n_steps=1", "callbacks.progress=null", "trainer.max_epochs=1", "select=last")
INK = ("data=mnist", "data.mean=[0.0]", "data.std=[1.0]")


def scalars(events, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def shown(events, tag: str) -> Tensor:
    """The last image of a tag, (3, H, W) in [0, 1]."""
    picture = Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


# --- a game ---------------------------------------------------------------------------------------------------------


class Witness(Callback):
    """Plays the first round of a game on a copy, by the equations: losses, gradients before clipping, accuracy."""

    found: dict[str, float] = {}  # noqa: RUF012
    limit, rate = 0.05, 0.1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            model = copy.deepcopy(pl_module.model)
            with torch.random.fork_rng():
                Witness.found = self.play(model, batch[0], pl_module.loss)

    def play(self, model: Any, x: Tensor, loss: str) -> dict[str, float]:
        n = len(x)
        fake = model.generate(torch.randn(n, model.latent)).detach()
        real_score, fake_score = model.judge(x), model.judge(fake)
        found = {"train/discriminator_accuracy": ((real_score > 0).sum() + (fake_score < 0).sum()).item() / (2 * n)}
        if loss == "gan":
            total = -(torch.sigmoid(real_score).log().mean() + (1 - torch.sigmoid(fake_score)).log().mean())
        else:
            share = torch.rand(n, 1, 1, 1)
            between = (share * x + (1 - share) * fake).requires_grad_()
            slopes = torch.stack(
                [torch.autograd.grad(model.judge(between)[i], between, create_graph=True)[0][i] for i in range(n)]
            )
            penalty = (slopes.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
            found["train/gradient_penalty"] = penalty.item()
            total = fake_score.mean() - real_score.mean() + 10 * penalty
        found["train/discriminator_loss"] = total.item()
        found |= self.update(model, "discriminator", total)
        score = model.judge(model.generate(torch.randn(n, model.latent)))
        total = -torch.sigmoid(score).log().mean() if loss == "gan" else -score.mean()
        found["train/generator_loss"] = total.item()
        return found | self.update(model, "generator", total)

    def update(self, model: Any, player: str, loss: Tensor) -> dict[str, float]:
        """A step of a player with clipped gradients; the norms of each of its layers before that."""
        layers = {name: m for name, m in getattr(model, player).named_children() if list(m.parameters())}
        parameters = list(getattr(model, player).parameters())
        gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        norms = {
            f"grad_norm/{player}.{name}": math.sqrt(sum(gradients[p].square().sum().item() for p in layer.parameters()))
            for name, layer in layers.items()
        }
        whole = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
        assert whole > self.limit, "clipping would change nothing"
        with torch.no_grad():
            for p, gradient in gradients.items():
                p -= self.rate * gradient * self.limit / (whole + 1e-6)
        squares = sum(p.square().sum().item() for p in parameters)
        return {**norms, f"weight/{player}": squares}


@pytest.mark.parametrize("loss", ["gan", "wgan_gp"])
def test_a_games_curves(run_train, tmp_path, loss):
    """Losses, penalty, accuracy; each player's gradients are its own, and those of before clipping."""
    code, output = run_train(
        *SETTINGS, *INK, "model=gan", "model.hidden=[12]", "model.latent=5", "model.dropout=0.0", "task=adversarial",
        f"task.loss={loss}", "task.judge=null", f"task.clip_norm={Witness.limit}", "optimizer=sgd", "scheduler=none",
        f"optimizer.lr={Witness.rate}", "optimizer.momentum=0.0", "optimizer.nesterov=false", "data.batch_size=20",
        "trainer.limit_train_batches=3", "test=false", "+callbacks.witness._target_=tests.test_curves.Witness",
    )  # fmt: skip
    assert code == 0, output
    (run,) = tmp_path.glob("logs/*/*")
    events = read(run)
    expected = {tag: value for tag, value in Witness.found.items() if not tag.startswith("weight/")}
    layers = {"generator.fc1", "generator.head", "discriminator.fc1", "discriminator.head"}
    tags = events.Tags()["scalars"]
    assert {tag.removeprefix("grad_norm/") for tag in tags if tag.startswith("grad_norm/")} == layers
    assert ("train/gradient_penalty" in tags) == (loss == "wgan_gp")
    for tag, value in expected.items():
        curve = scalars(events, tag)
        assert curve[0][1] == pytest.approx(value, rel=1e-3, abs=1e-6), tag
        assert len(curve) == 3, tag
    for layer in layers:  # a batch is an update of each of the two, at the one step that it has in all curves
        assert [step for step, _ in scalars(events, f"grad_norm/{layer}")] == [0, 1, 2]


# --- a language model -----------------------------------------------------------------------------------------------


def test_a_language_models_pictures(run_train, tmp_path):
    """Texts are the model's own; the learning rate is the schedule's."""
    code, output = run_train(
        *SETTINGS, "data=tiny_shakespeare", "model=lstm", "model.hidden=8", "task=language", "optimizer=adam",
        "optimizer.lr=0.01", "scheduler=cosine", "data.seq_len=16", "data.batch_size=8", "test=false",
        "trainer.limit_train_batches=5", "callbacks.samples.length=20", "callbacks.samples.prompts=['to be','or']",
    )  # fmt: skip
    assert code == 0, output
    (run,) = tmp_path.glob("logs/*/*")
    events = read(run)
    assert {"gates/first_layer", "gradient/through_time"} <= set(events.Tags()["images"])
    model: Any = zoo.load(run / "checkpoints" / "last.ckpt")
    for i, prompt in enumerate(("to be", "or")):
        (event,) = events.Tensors(f"samples/{prompt}/text_summary")
        tokens = model.preprocess.encode(prompt)
        unknown = [model.preprocess.unknown]
        text = prompt + model.preprocess.decode(list(sample(model, tokens, 20, 0.8, forbidden=unknown, seed=i)))
        assert event.tensor_proto.string_val[0].decode() == "".join(f"    {line}\n" for line in text.splitlines())
    rates = [0.01 * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]
    assert [value for _, value in scalars(events, "lr-Adam")] == pytest.approx(rates)


class Shown:
    """A writer that keeps figures."""

    def __init__(self):
        self.figures: dict[str, Any] = {}

    def add_figure(self, tag, figure, step, close):
        self.figures[tag] = figure


class Given:
    """A trainer whose data are these tokens."""

    def __init__(self, x: Tensor, y: Tensor):
        self.datamodule, self.logger, self.loggers, self.pair = self, None, [], (x, y)
        self.validating = self.testing = False
        self.fit_loop = self.epoch_loop = self
        self._batches_that_stepped = 4

    def sample(self, n: int, split: str) -> tuple[Tensor, Tensor]:
        assert split == "val"
        return self.pair[0][:n], self.pair[1][:n]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_and_gradients_through_time(cell):
    """The curve is ‖∂ℓ_T/∂x_t‖ by finite differences; the picture's shades are the gates by their equations."""
    torch.manual_seed(0)
    model: Any = zoo.create(cell, num_classes=7, vocab_size=7, hidden=5).eval().double()
    x, y = torch.randint(7, (3, 6)), torch.randint(7, (3, 6))
    writer, trainer, task = Shown(), Given(x, y), torch.nn.Linear(1, 1)
    task.device = torch.device("cpu")  # type: ignore[assignment]
    ThroughTime().show(writer, trainer, task, model)  # type: ignore[arg-type]
    (line,) = writer.figures["gradient/through_time"].axes[0].lines
    assert list(line.get_xdata()) == [5, 4, 3, 2, 1, 0]

    def loss(read: Tensor) -> Tensor:
        logits = model.head(model.trunk(read)[0][:, -1])
        return F.cross_entropy(logits, y[:, -1], reduction="none")  # (B,)

    read_, step = model.embed(x).detach(), 1e-4
    slopes = torch.zeros_like(read_)
    for t in range(6):
        for j in range(5):
            moved = torch.zeros_like(read_)
            moved[:, t, j] = step
            slopes[:, t, j] = (loss(read_ + moved) - loss(read_ - moved)).detach() / (2 * step)
    np.testing.assert_allclose(line.get_ydata(), slopes.norm(dim=2).mean(0).numpy(), rtol=1e-2)

    Gates(steps=4, units=3).show(writer, trainer, task, model)  # type: ignore[arg-type]
    layer = model.layers[0].directions[0]
    pictures = {
        axes.get_ylabel().split(",")[0]: axes.images[0].get_array() for axes in writer.figures["gates/first_layer"].axes
    }
    rows, names = ("ifgo", ("i", "f", "o")) if cell == "lstm" else ("rz", ("z", "r"))
    assert tuple(pictures) == names
    outputs, _ = layer(read_[:1])
    before = torch.cat([torch.zeros(1, 5).double(), outputs[0, :3]])  # h of the step before
    for name, values in pictures.items():
        at = slice(rows.index(name) * 5, rows.index(name) * 5 + 5)
        total = before @ layer.weight_hh_l0[at].T + layer.bias_hh_l0[at]
        total = total + read_[0, :4] @ layer.weight_ih_l0[at].T + layer.bias_ih_l0[at]
        gate = torch.sigmoid(-total if name == "z" else total)  # torch's z is what ours is less than 1
        np.testing.assert_allclose(values, gate.T[:3].detach().numpy(), rtol=1e-4)


def test_samples_need_a_tokenizer():
    """Data of tokens without a text, as the copy task, show none."""
    task = Language(Recurrent(8, vocab_size=10, hidden=4), 8)
    assert not Samples(["a"]).fits(task, Given(torch.zeros(1, 1), torch.zeros(1, 1)))
    text = SimpleNamespace(tokenizer=None, windows="streams", units=len)
    assert Samples(["a"]).fits(task, text)
    assert writer_of(Given(torch.zeros(1), torch.zeros(1))) is None  # type: ignore[arg-type]


# --- a variational autoencoder --------------------------------------------------------------------------------------


def test_a_variational_autoencoders_curves_and_pictures(run_train, tmp_path):
    """The two parts of the bound by torch's distributions; each picture is what the weights that were kept draw."""
    code, output = run_train(
        *SETTINGS, *INK, "model=vae", "model.hidden=[20]", "model.latent=3", "task=variational", "optimizer=adam",
        "data.batch_size=50", "data.eval_batch_size=100", "test=false", "callbacks.sample_grid.most=9",
        "callbacks.reconstructions.most=4", "trainer.limit_train_batches=4",
    )  # fmt: skip
    assert code == 0, output
    (run,) = tmp_path.glob("logs/*/*")
    events = read(run)
    model: Any = zoo.load(run / "checkpoints" / "last.ckpt")
    x = validation_images(model)
    with torch.no_grad():
        mean, log_variance = model.posterior(x)
        posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        pixels = torch.distributions.ContinuousBernoulli(logits=model.logits(mean + posterior.scale * noise))
        odds = pixels.logits
        likelihood = x * F.logsigmoid(odds) + (1 - x) * F.logsigmoid(-odds)
        prior = torch.distributions.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean().item()
        reconstruction = -likelihood.sum((1, 2, 3)).mean().item()
        grids = {
            "samples": make_grid(model.sample(9, torch.Generator().manual_seed(0)), nrow=3, padding=1),
            "reconstructions": make_grid(torch.cat([x[:4], model(x[:4])]), nrow=4, padding=1),
        }
        walk = torch.zeros(3, 13, 3)
        for i in range(3):
            walk[i, :, i] = torch.linspace(-3, 3, 13)
        grids["latent/traversal"] = make_grid(model.decode(walk.flatten(0, 1)), nrow=13, padding=1)
    assert scalars(events, "val/kl") == [(3, pytest.approx(kl, rel=1e-4))]
    assert scalars(events, "val/reconstruction") == [(3, pytest.approx(reconstruction, rel=1e-4))]
    assert scalars(events, "val/loss") == [(3, pytest.approx(kl + reconstruction, rel=1e-4))]
    assert "latent/map" in events.Tags()["images"]
    for tag, grid in grids.items():  # at the lower right; the rest are words
        drawn = shown(events, tag)
        torch.testing.assert_close(
            drawn[:, -grid.shape[1] :, -grid.shape[2] :], grid.clamp(0, 1), atol=1.01 / 255, rtol=0
        )
        assert (drawn.shape[2] > grid.shape[2]) == (tag != "samples")


def test_words_beside_a_grid_leave_it_as_it_is():
    grid = torch.rand(1, 60, 90, generator=torch.Generator().manual_seed(0))
    labelled = with_labels(grid, ["input", "reconstruction"])
    assert labelled.shape[:2] == (3, 60)
    assert torch.equal(labelled[:, :, -90:], grid.expand(3, -1, -1))
    margin = labelled[0, :, :-90]
    assert (margin[:30] < 0.5).any()
    assert (margin[30:] < 0.5).sum() > 1.5 * (margin[:30] < 0.5).sum()  # the longer word
    both = with_labels(grid, ["z1", "z2"], ["-3", "0", "3"])
    assert both.shape[1] == 76
    above = both[0, :16, -90:]
    assert all((part < 0.5).any() for part in above.chunk(3, 1))
    assert torch.equal(both[:, 16:, -90:], grid.expand(3, -1, -1))


def validation_images(model: Any) -> Tensor:
    """The 100 validation images of the toy data, as the run had them."""
    from hydra.utils import instantiate

    from zoo.pretrained.reading import read_checkpoint

    (path,) = Path.cwd().glob("logs/*/*/checkpoints/last.ckpt")
    data = instantiate(read_checkpoint(path)["config"]["data"], _convert_="all")
    data.prepare_data()
    data.setup()
    return data.sample(100, "val")[0]
