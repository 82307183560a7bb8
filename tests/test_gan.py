"""The adversarial game, its exact resume, what ends it, and the measures of made images."""

import json
import math
import os
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import zoo
from tests.test_language import last, whole_and_resumed
from tests.test_resume import assert_same
from zoo.cli import app
from zoo.errors import ZooError
from zoo.models.dcgan import DCGAN
from zoo.models.gan import GAN
from zoo.models.made import MADE
from zoo.models.ppca import PPCA
from zoo.models.vae import VAE
from zoo.pretrained.measures import Judge, frechet_distance, modes, precision_and_recall
from zoo.pretrained.reading import read_checkpoint
from zoo.tasks.adversarial import Adversarial, gradient_penalty
from zoo.use.pictures import draw, interpolate

QUICK = (
    "data=mnist", "data.mean=[0.0]", "data.std=[1.0]", "task=adversarial", "optimizer=adam", "optimizer.lr=0.0002",
    "data.batch_size=50", "callbacks.progress=null", "logger=none",
)  # fmt: skip
SMALL = ("model=dcgan", "model.channels=4", "model.latent=8")


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("kind", "size", "channels"), [(GAN, 28, 1), (DCGAN, 28, 1), (DCGAN, 32, 3), (DCGAN, 64, 3)])
def test_shapes_and_gradients(kind, size, channels, conditional):
    """Every parameter of a player learns from its own loss, and pixels are in [0, 1]."""
    torch.manual_seed(0)
    small = {"hidden": [32]} if kind is GAN else {"channels": 8}
    model = kind(channels, size, latent=16, num_classes=10, conditional=conditional, **small)
    labels = torch.arange(4)
    x = model.generate(torch.randn(4, 16), labels)
    assert x.shape == (4, channels, size, size)
    assert ((x > 0) & (x < 1)).all()
    F.softplus(-model.judge(x, labels)).mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
    drawn = [model.eval().sample(6, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert drawn[0].shape == (6, channels, size, size)


def test_a_class_is_seen_by_both():
    torch.manual_seed(0)
    for model in (GAN(conditional=True), DCGAN(conditional=True, channels=8)):
        if isinstance(model, DCGAN):
            nn.init.normal_(model.discriminator.class_matches.weight)
        model.eval()
        z, x = torch.randn(2, 100), torch.rand(2, 1, 28, 28)
        a, b = torch.tensor([0, 1]), torch.tensor([2, 1])
        for function, given in ((model.generate, z), (model.judge, x)):
            one, other = function(given, a), function(given, b)
            assert not torch.allclose(one[0], other[0])
            assert torch.equal(one[1], other[1])
    assert {name for name, _ in model.named_children()} == {"generator", "discriminator"}


def test_impossible_sizes():
    with pytest.raises(ZooError, match="image_size=30 is not valid: give 4 or 7 times a power of 2"):
        zoo.create("dcgan", image_size=30)
    with pytest.raises(ZooError, match="valid: batch, none"):
        zoo.create("dcgan", norm="layer")


def test_the_penalty_is_the_gradients():
    """Of D(x) = w · x it is (|w| − 1)², wherever x is."""
    w = torch.randn(16)

    class Linear:
        def judge(self, x, labels):
            return x.flatten(1) @ w

    real, fake = torch.rand(8, 1, 4, 4), torch.rand(8, 1, 4, 4)
    expected = (w.norm() - 1) ** 2
    torch.testing.assert_close(gradient_penalty(Linear(), real, fake, None), expected)


def players(checkpoint):
    """A run's generator and discriminator."""
    state = checkpoint["state_dict"]
    return [{k: v for k, v in state.items() if k.startswith(f"model.{p}.")} for p in ("generator", "discriminator")]


def test_each_player_is_updated_in_its_turn(run_train, tmp_path):
    """With three critic steps, the generator is the same after three batches and after five, and after six another."""
    found = {}
    for n in (3, 5, 6):
        (tmp_path / str(n)).mkdir()
        os.chdir(tmp_path / str(n))
        code, out = run_train(
            *QUICK, *SMALL, "model.norm=none", "task.loss=wgan_gp", "task.critic_steps=3", "trainer.max_epochs=1",
            f"trainer.limit_train_batches={n}", "test=false", "task.judge=null", 
            "scheduler=none",
        )  # fmt: skip
        assert code == 0, out
        content = read_checkpoint(last(tmp_path / str(n)))
        found[n] = players(content)
        assert len(content["optimizer_states"]) == 2
    weights = [{k: v for k, v in found[n][0].items() if "running" not in k and "num_b" not in k} for n in (3, 5, 6)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not any(torch.equal(weights[1][k], weights[2][k]) for k in weights[0] if "weight" in k)
    assert not torch.equal(
        found[3][1]["model.discriminator.head.weight"], found[5][1]["model.discriminator.head.weight"]
    )


def test_resume_is_exact(run_train, tmp_path):
    """Both players, both optimizers and schedules, and the random numbers: n + m updates equal n, stop, m."""
    settings = (
        *QUICK, *SMALL, "scheduler=cosine", "trainer.max_epochs=2", "test=false", "trainer.limit_train_batches=6",
        "task.critic_steps=2", "trainer.limit_val_batches=1", "task.smoothing=0.1", "model.conditional=true",
        "callbacks=[default,ema]", "task.discriminator_lr=0.1",
    )  # fmt: skip
    whole, resumed = whole_and_resumed(run_train, tmp_path, settings, 12)
    for key in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "random", "global_step"):
        assert_same(whole[key], resumed[key], key)
    rates = [o["param_groups"][0]["lr"] for o in whole["optimizer_states"]]
    assert rates[1] == pytest.approx(rates[0] / 10)


def test_a_longer_run_has_longer_schedules(run_train, tmp_path):
    """Both players', and the rates are those of a run that was so long from the beginning."""
    found = {}
    for name, epochs in (("once", ["trainer.max_epochs=3"]), ("twice", ["trainer.max_epochs=1"])):
        settings = (*QUICK, *SMALL, "scheduler=onecycle", "test=false", "task.judge=null", f"name={name}", *epochs)
        assert run_train(*settings)[0] == 0
        if name == "twice":
            path = next(tmp_path.glob("logs/twice/*/checkpoints/last.ckpt"))
            code, out = run_train(f"resume={path}", "trainer.max_epochs=3")
            assert code == 0, out
        content = read_checkpoint(next(tmp_path.glob(f"logs/{name}/*/checkpoints/last.ckpt")))
        found[name] = [o["param_groups"][0]["lr"] for o in content["optimizer_states"]]
    assert found["once"] == pytest.approx(found["twice"])


def test_a_game_that_is_over_is_said(run_train, tmp_path, monkeypatch):
    """The step, what to change, and the checkpoint of the epoch before."""
    original = Adversarial.check_game

    def beaten(self):
        if self.current_epoch == 1:
            self.carried[0] = self.carried[1]
        original(self)

    monkeypatch.setattr(Adversarial, "check_game", beaten)
    code, out = run_train(
        *QUICK, *SMALL, "scheduler=none", "trainer.max_epochs=3", "trainer.limit_train_batches=4", "task.judge=null",
        "task.discriminator_lr=0.01",
    )  # fmt: skip
    assert code == 1
    assert "right on all 400 images of epoch 2 (to step 16)" in out
    assert "Try a lower task.discriminator_lr" in out
    assert read_checkpoint(last(tmp_path))["global_step"] == 8


def test_what_does_not_go_together(run_train):
    for overrides, message in (
        (("model=lenet5",), "needs generate, judge, latent, noise, sample, which LeNet5 does not have"),
        (("model=dcgan", "task.loss=wgan_gp"), "set model.norm=none"),
        (("model=gan", "data.mean=[0.5]"), "set data.mean=[0.0] and data.std=[1.0]"),
        (("model=gan", "task.judge=resnet20_cifar10"), "looks at images of (3, 32, 32)"),
        (("model=gan", "task.judge=nobody"), "nobody"),
        (("model=gan", "optimizer=lbfgs"), "but task=adversarial has two"),
        (("model=gan", "scheduler=plateau"), "a GAN's need not fall"),
        (("model=gan", "task.critic_steps=11"), "more than an epoch has batches"),
        (("model=gan", "trainer.strategy=ddp"), "trains in one process"),
    ):
        code, out = run_train(*QUICK, *overrides)
        assert code == 1, overrides
        assert message in out


# --- measures ---------------------------------------------------------------------------------------------------------


def test_frechet_distance():
    """Of Gaussians by the formula; 0 of the same points; the same either way."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(50_000, 3, generator=g, dtype=torch.float64)
    b = 2 * torch.randn(50_000, 3, generator=g, dtype=torch.float64) + torch.tensor([1.0, 0.0, 2.0])
    assert frechet_distance(a, b) == pytest.approx(5 + 3 * (2 - 1) ** 2, rel=0.03)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    mixed = torch.randn(3, 3, generator=g, dtype=torch.float64)
    c = a @ mixed
    root = torch.linalg.cholesky(torch.cov(a.T))
    eigen = torch.linalg.eigvals(root.T @ torch.cov(c.T) @ root).real.sqrt().sum()
    by_hand = (a.mean(0) - c.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(c.T).trace() - 2 * eigen
    assert frechet_distance(a, c) == pytest.approx(by_hand.item(), rel=1e-8)


def test_precision_and_recall():
    """A half of the modes: all samples are good, and half of the images covered; noise far away: neither."""
    g = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(300, 4, generator=g), torch.randn(300, 4, generator=g) + 50])
    half = torch.randn(600, 4, generator=g) * 0.8
    precision, recall = precision_and_recall(real, half)
    assert precision > 0.9
    assert 0.3 < recall < 0.51
    assert precision_and_recall(real, torch.randn(600, 4, generator=g) + 500) == (0.0, 0.0)


def test_modes():
    assert modes(torch.arange(1000) % 10, 10) == (10, pytest.approx(0, abs=1e-9))
    hit, divergence = modes(torch.zeros(1000, dtype=torch.int64), 10)
    assert (hit, divergence) == (1, pytest.approx(math.log(10)))


def test_the_judge_sees_digits():
    """Its features are what its head reads, of images with pixels in [0, 1]."""
    judge = Judge("lenet5_mnist")
    model = zoo.load("lenet5_mnist")
    raw = torch.randint(0, 256, (3, 28, 28, 1), dtype=torch.uint8)
    features, classes = judge.look(raw.permute(0, 3, 1, 2).float() / 255)
    logits = model(model.preprocess(raw))
    assert torch.equal(classes, logits.argmax(1))
    torch.testing.assert_close(model.head(features.float()), logits, rtol=1e-4, atol=1e-4)


def test_measured_again(run_train, tmp_path):
    """The test's figures are in the card, and ``zoo evaluate`` finds the same."""
    from zoo.pretrained.evaluate import evaluate

    code, out = run_train(
        *QUICK, *SMALL, "scheduler=none", "trainer.max_epochs=1", "model.conditional=true", "task.judge=lenet5_mnist",
        "task.discriminator_lr=0.1",
    )  # fmt: skip
    assert code == 0, out
    card, metrics, off = evaluate(last(tmp_path, "best"))
    assert set(metrics) == {"fid", "fid_floor", "precision", "recall", "modes", "reverse_kl", "agreement"}
    assert off == {}
    assert card.metric == "fid"


def test_validation_shows_modes(monkeypatch):
    """Which of the classes samples are of, beside the distance; for TensorBoard."""
    task, seen = Adversarial(DCGAN(channels=4, latent=8, conditional=True), judge="lenet5_mnist"), {}
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(num_classes=10))  # type: ignore[assignment]
    monkeypatch.setattr(task, "log", lambda name, value, **_: seen.update({name: value}))
    task.on_validation_epoch_start()
    task.validation_step((torch.rand(40, 1, 28, 28), torch.arange(40) % 10), 0)
    task.on_validation_epoch_end()
    assert set(seen) == {"val/fid", "val/modes", "val/reverse_kl", "val/agreement"}
    assert 1 <= seen["val/modes"] <= 10


def test_inception_is_torchmetrics(run_train, monkeypatch, tmp_path):
    """It gets bytes in three channels, and says nothing of classes; what is missing is said."""
    from torchmetrics.image import fid

    class Seen(torch.nn.Module):
        def __init__(self, name, features):
            super().__init__()
            assert features == ["2048"]

        def forward(self, x):
            assert x.dtype == torch.uint8
            assert x.shape[1:] == (3, 28, 28)
            return x.float().flatten(1)[:, :1000:50]

    def unreachable(*_):
        raise URLError("no route to host")

    game = (
        *QUICK,
        *SMALL,
        "scheduler=none",
        "trainer.max_epochs=1",
        "task.judge=inception",
        "task.discriminator_lr=0.1",
    )
    monkeypatch.setattr(fid, "_TORCH_FIDELITY_AVAILABLE", False)
    code, out = run_train(*game)
    assert code == 1
    assert "pip install 'reference-zoo[fid]'" in out
    monkeypatch.setattr(fid, "NoTrainInceptionV3", unreachable)
    code, out = run_train(*game)
    assert code == 1
    assert "could not be fetched" in out
    monkeypatch.setattr(fid, "NoTrainInceptionV3", Seen)
    code, out = run_train(*game)
    assert code == 0, out
    metrics = json.loads(next(tmp_path.glob("logs/*/*/metrics.json")).read_text())
    metrics = {name: value for name, value in metrics.items() if name.startswith("test/")}
    assert set(metrics) == {f"test/{name}" for name in ("fid", "fid_floor", "precision", "recall")}


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_samples_are_of_their_seed_on_any_split():
    torch.manual_seed(0)
    models = [DCGAN(channels=4, latent=8, conditional=True), VAE(hidden=[16], latent=3), PPCA(code=3)]
    models.append(MADE(image_size=6, hidden=[30]))
    for model in models:
        model.eval()
        done = []
        whole = draw(model, 7, seed=3, progress=lambda *p, done=done: done.append(p))
        torch.testing.assert_close(draw(model, 7, seed=3, batch=3), whole)
        assert not torch.allclose(draw(model, 7, seed=4), whole)
        assert whole.min() >= 0
        assert whole.max() <= 1
        assert (done[-1:] == [(36, 36)]) == isinstance(model, MADE)
    same = draw(models[0], 3, seed=3, label=2)
    torch.testing.assert_close(same[2], whole_of(models[0])[2])
    with pytest.raises(ZooError, match="this model cannot draw class 11: it has 0 to 9"):
        draw(models[0], 2, label=11)
    with pytest.raises(ZooError, match="it was trained without classes"):
        draw(models[1], 2, label=1)
    with pytest.raises(ZooError, match="draws no images from noise"):
        draw(zoo.create("lenet5"), 2)


def whole_of(model):
    return draw(model, 3, seed=3)


def test_a_way_ends_where_it_should():
    torch.manual_seed(0)
    vae = VAE(hidden=[16], latent=20).eval()
    a, b = torch.randn(1, 20), torch.randn(1, 20)
    path = interpolate(vae, a, b, 5, noise=True)
    assert path.shape == (5, 1, 28, 28)
    torch.testing.assert_close(path[0], vae.generate(a)[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(path[4], vae.generate(b)[0], atol=1e-5, rtol=1e-4)
    same = interpolate(vae, a, a, 3, noise=True)
    torch.testing.assert_close(same[1], vae.generate(a)[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(interpolate(vae, a, b, 3, noise=False)[1], vae.decode((a + b) / 2)[0])
    pair = DCGAN(channels=4, latent=8, conditional=True).eval()
    z = pair.noise(2, torch.Generator().manual_seed(0))
    threes = pair.generate(z, torch.tensor([3, 3]))
    torch.testing.assert_close(interpolate(pair, z[:1], z[1:], 4, True, 3)[0], threes[0], atol=1e-5, rtol=1e-4)
    ppca = PPCA(image_size=4, code=3)
    assert interpolate(ppca, torch.randn(1, 3), torch.randn(1, 3), 4, noise=False).shape == (4, 1, 4, 4)
    plain = zoo.create("autoencoder", hidden=[16], code=3).eval()
    a, b = torch.randn(1, 3), torch.randn(1, 3)
    torch.testing.assert_close(interpolate(plain, a, b, 3, noise=False)[1], plain.decode((a + b) / 2)[0])


def test_pictures_from_the_command_line(run_train, tmp_path):
    """Each command writes its picture; what a model cannot do is one line."""
    quick = ("data=mnist", "data.mean=[0.0]", "data.std=[1.0]", "optimizer=adam", "trainer.max_epochs=1", "logger=none")
    assert run_train(*quick, "model=vae", "model.hidden=[16]", "task=variational", "name=v")[0] == 0
    assert run_train(*quick, "model=autoencoder", "model.hidden=[16]", "task=reconstruct", "name=a")[0] == 0
    assert run_train(*QUICK, *SMALL, "model.conditional=true", "task.discriminator_lr=0.1", "trainer.max_epochs=1",
                     "scheduler=none", "name=g")[0] == 0  # fmt: skip
    v, a, g = (str(next(tmp_path.glob(f"logs/{n}/*/checkpoints/best.ckpt"))) for n in "vag")
    (tmp_path / "digits").mkdir()
    digits = [str(tmp_path / "digits" / f"{i}.png") for i in (1, 2)]
    for i, digit in enumerate(digits):
        Image.fromarray(torch.full((28, 28), 100 * i, dtype=torch.uint8).numpy()).save(digit)
    sizes = {}
    for out, arguments in {
        "s.png": ["sample", v, "-n", "9"],
        "c.png": ["sample", g, "-n", "4", "--class", "3", "--seed", "5"],
        "r.png": ["reconstruct", a, *digits],
        "i.png": ["interpolate", v, "--rows", "2", "--steps", "5"],
        "w.png": ["interpolate", a, *digits, "--steps", "4"],
        "p.png": ["interpolate", "ppca_mnist", "--rows", "3", "--steps", "4"],
        "f.png": ["reconstruct", a, str(tmp_path / "digits")],
    }.items():
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / out)])
        assert result.exit_code == 0, result.output
        with Image.open(tmp_path / out) as picture:
            sizes[out] = picture.size
    assert sizes["s.png"] == (2 * 88, 2 * 88)
    assert sizes["i.png"] == (2 * (5 * 29 + 1), 2 * (2 * 29 + 1))
    assert sizes["r.png"] == sizes["f.png"] == (4 * 59, 4 * 59)
    assert sizes["p.png"] == (2 * (4 * 29 + 1), 2 * (3 * 29 + 1))
    bad = CliRunner().invoke(app, ["reconstruct", a, digits[0], "no.png", "--out", str(tmp_path / "b.png")])
    assert bad.exit_code == 1
    assert "error: no.png: " in bad.output
    assert (tmp_path / "b.png").exists()
    for arguments, message in (
        (["sample", a], "draws no images from noise"),
        (["sample", g, "--class", "cat"], "no class of"),
        (["sample", g, "--top-k", "3", "--temperature", "0.8"], "--temperature, --top-k: for a model of text, and"),
        (["sample", "-n", "3"], "-n: for a model of images, and lstm_shakespeare writes text"),
        (["reconstruct", g, *digits], "this model does not reconstruct images"),
        (["interpolate", g, *digits], "give two images"),
        (["interpolate", a], "draws no images from a code"),
        (["sample", v, "-n", "1", "--out", str(tmp_path / "x.nonsense")], "cannot be written"),
        (["predict", v, *digits], "so it is no classifier"),
    ):
        assert message in str(CliRunner().invoke(app, arguments).exception), arguments


@pytest.mark.parametrize("image_size", [4, 7, 9])
def test_a_dcgan_has_a_stage(image_size):
    with pytest.raises(ZooError, match="give 4 or 7 times a power of 2, 8 or more"):
        DCGAN(image_size=image_size)
