"""Unsupervised learning: PCA, autoencoders, variational bounds, autoregressive models and binary images."""

import itertools
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback

import zoo
from tests.conftest import some
from tests.test_language import last, whole_and_resumed
from tests.test_resume import assert_same
from zoo.data.images import binary
from zoo.errors import ZooError
from zoo.models.autoencoder import Autoencoder
from zoo.models.made import MADE
from zoo.models.mlp import MLP
from zoo.models.pixelcnn import PixelCNN
from zoo.models.ppca import PPCA
from zoo.models.vae import VAE
from zoo.pretrained.evaluate import evaluate
from zoo.pretrained.transfer import copy_weights
from zoo.tasks.reconstruct import (
    Reconstruct,
    corrupt,
    cross_entropy,
    jacobian,
    sparseness,
)
from zoo.tasks.variational import importance, kl, log_likelihood

# --- probabilistic PCA ------------------------------------------------------------------------------------------------


def low_rank(n: int = 400, seed: int = 0) -> torch.Tensor:
    """Images (n, 1, 4, 4) of five directions and noise."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.randn(5, 16, generator=g) * torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5])[:, None]
    x = torch.randn(n, 5, generator=g) @ directions + 0.3 * torch.randn(n, 16, generator=g) + 1
    return x.view(n, 1, 4, 4)


def fitted(x: torch.Tensor, code: int = 3) -> PPCA:
    model = PPCA(image_size=4, code=code)
    model.init_from_data(x)
    return model


def test_ppca_is_scikit_learns():
    """Log-likelihood, noise, subspace and projection; its covariance is of N − 1, the likelihood's maximum of N."""
    pca = pytest.importorskip("sklearn.decomposition").PCA(3)
    x = low_rank()
    flat = x.flatten(1).double().numpy()
    pca.fit(flat)
    model = fitted(x)
    n = len(x)
    assert model.log_variance.exp().item() == pytest.approx(pca.noise_variance_ * (n - 1) / n, rel=1e-5)
    theirs = torch.from_numpy(pca.components_)
    ours = torch.linalg.qr(model.weight.detach().double()).Q
    assert torch.linalg.svdvals(theirs @ ours).min().item() == pytest.approx(1, abs=1e-6)
    projected = torch.from_numpy(pca.inverse_transform(pca.transform(flat)))
    torch.testing.assert_close(model.project(x).flatten(1).double(), projected, atol=1e-4, rtol=0)
    # the same model scored by both: scale ours to their covariance
    scale = n / (n - 1)
    with torch.no_grad():
        model.weight.mul_(math.sqrt(scale))
        model.log_variance.add_(math.log(scale))
    torch.testing.assert_close(model.log_prob(x), torch.from_numpy(pca.score_samples(flat)), atol=1e-3, rtol=1e-5)


def test_ppca_likelihood_is_the_gaussians():
    x = low_rank()
    model = fitted(x).double()
    covariance = model.weight @ model.weight.T + model.log_variance.exp() * torch.eye(16)
    expected = torch.distributions.MultivariateNormal(model.mean, covariance).log_prob(x.flatten(1).double())
    torch.testing.assert_close(model.log_prob(x), expected)


def test_em_climbs_to_the_closed_form():
    """The likelihood never falls, and ends at the maximum, in the same subspace."""
    x = low_rank()
    best = fitted(x)
    model = PPCA(image_size=4, code=3, closed_form=False)
    model.init_from_data(x)
    centred = x.flatten(1) - x.flatten(1).mean(0)
    assert model.log_variance.exp().item() == pytest.approx(centred.square().mean().item(), rel=1e-5)
    found = []
    for _ in range(200):
        halves = [model.statistics(part) for part in x.split(150)]
        model.update(*[sum(parts) for parts in zip(*halves, strict=True)])
        found.append(model.log_prob(x).mean().item())
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(found))
    assert found[0] < found[-1] - 0.1
    assert found[-1] == pytest.approx(best.log_prob(x).mean().item(), abs=1e-3)


def test_ppca_at_its_maximum_has_no_gradient():
    model = fitted(low_rank())
    (-model.log_prob(low_rank()).mean()).backward()
    assert all(p.grad.abs().max() < 1e-4 for p in model.parameters())


def test_missing_pixels_are_the_gaussians_conditional_mean():
    x = low_rank()
    model = fitted(x)
    known = torch.rand(len(x), 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    filled = model.fill(x * known, known)
    assert torch.equal(filled[known], x[known])
    w, mean = model.weight.detach().double(), model.mean.detach().double()
    covariance = w @ w.T + model.log_variance.exp().double() * torch.eye(16)
    seen, centred = known[0].flatten(), x[0].flatten().double() - mean
    expected = mean[~seen] + covariance[~seen][:, seen] @ torch.linalg.solve(covariance[seen][:, seen], centred[seen])
    torch.testing.assert_close(filled[0].flatten()[~seen].double(), expected.detach(), atol=1e-4, rtol=1e-4)


def test_ppca_samples_are_from_it():
    model = fitted(low_rank())
    drawn = model.sample(20_000, torch.Generator().manual_seed(0)).flatten(1).double()
    w = model.weight.detach().double()
    covariance = w @ w.T + model.log_variance.exp().double() * torch.eye(16)
    assert ((torch.cov(drawn.T) - covariance).norm() / covariance.norm()).item() < 0.03


# --- autoencoders -----------------------------------------------------------------------------------------------------


def test_linear_autoencoder_finds_pcas_subspace():
    """Without nonlinearities its best reconstruction is PCA's (Bourlard & Kamp 1988)."""
    torch.manual_seed(0)
    x = low_rank()
    model = Autoencoder(image_size=4, hidden=[], code=3, output="identity")
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = F.mse_loss(model(x), x)
        error.backward()
        return error

    optimizer.step(loss)
    assert loss().item() == pytest.approx(F.mse_loss(fitted(x).project(x), x).item(), rel=1e-3)


def test_tied_weights_are_the_encoders():
    model = Autoencoder(image_size=4, hidden=[8], code=3, tied=True)
    assert sum(p.numel() for p in model.parameters()) == 16 * 8 + 8 + 8 * 3 + 3 + 8 + 16
    model.decoder.fc2.bias.data.fill_(2.0)
    z = torch.randn(2, 3)
    torch.testing.assert_close(model.decoder.fc2(z), z @ model.encoder.fc2.weight + 2)
    model(torch.rand(2, 1, 4, 4)).sum().backward()
    assert model.encoder.fc2.weight.grad.abs().sum() > 0


def test_an_encoder_becomes_a_classifier():
    """Its layers are the hidden layers of an MLP, by the same names."""
    source, target = Autoencoder(hidden=[20], code=8, code_activation="relu"), MLP(hidden=[20, 8])
    rows = copy_weights(target, source.state_dict(), ["head", "decoder"], {"encoder": "layers"})
    assert {row.name for row in rows if row.status == "copied"} == {
        f"layers.fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
    }
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(target.layers(x.flatten(1)), source.encode(x))


@pytest.mark.parametrize("tied", [False, True])
def test_layers_are_trained_one_after_the_other(tied):
    """Layer k learns from what those before it make; no other gets a gradient; the epoch says which it is. The first
    loss is that of pixels, the others are of numbers.
    """
    torch.manual_seed(0)
    model = Autoencoder(image_size=4, hidden=[9, 7], code=5, tied=tied)
    task = Reconstruct(model, corruption="masking", amount=0.5, layerwise=True, loss="bce")
    assert model.depth() == 3
    x = torch.rand(6, 1, 4, 4)
    for epoch, number in ((0, 1), (1, 1), (2, 2), (5, 3)):
        task.trainer = SimpleNamespace(  # type: ignore[assignment]
            current_epoch=epoch, max_epochs=6, _logger_connector=SimpleNamespace(should_update_logs=False)
        )
        model.zero_grad()
        torch.manual_seed(epoch)
        loss = task.training_step((x, x), 0)
        loss.backward()
        torch.manual_seed(epoch)
        before, layer, back = model.layer(number - 1)
        wanted = before(x.flatten(1))
        output = back[0](layer(wanted * (torch.rand_like(wanted) >= 0.5)))
        pixels = F.binary_cross_entropy_with_logits
        torch.testing.assert_close(loss, (pixels if number == 1 else F.mse_loss)(output, wanted))
        touched = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
        assert touched == {f"fc{number}"}
    before, layer, back = model.layer(1)
    torch.testing.assert_close(model.encode(x), model.layer(2)[1](layer(before(x.flatten(1)))))
    assert back(layer(before(x.flatten(1)))).shape == (6, 9)


def test_bfloat16_saturates_no_output():
    """Log-odds of 8 are a probability below 1, with a gradient; under autocast too."""
    model = Autoencoder(image_size=4, hidden=[], code=3)
    model.decoder.fc1.bias.data.fill_(8.0)
    x = torch.full((2, 1, 4, 4), 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
        loss = cross_entropy(output, x)
    assert output.max() < 1
    assert loss.item() == pytest.approx(4.0, abs=0.5)
    loss.backward()
    assert model.decoder.fc1.bias.grad.min() > 0


def test_projection_leaves_the_variance_of_the_other_directions():
    """That of the singular values after the third; the same from all images at once and from 1,000 at a time."""
    x = low_rank(2300)
    flat = x.flatten(1).double()
    left = torch.linalg.svdvals(flat - flat.mean(0))[3:].square().sum() / flat.numel()
    assert F.mse_loss(fitted(x).project(x), x).item() == pytest.approx(left.item(), rel=1e-5)


def test_projection_onto_fewer_directions_than_the_code_has():
    """Two of three columns span the plane; nothing of the third, which has no length, is kept."""
    model = fitted(low_rank())
    with torch.no_grad():
        model.weight[:, 2] = 0
    x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    basis = torch.linalg.qr(model.weight.detach()[:, :2].double()).Q
    mean = model.mean.detach().double()
    expected = (x.flatten(1).double() - mean) @ basis @ basis.T + mean
    torch.testing.assert_close(model.project(x).flatten(1).double(), expected, atol=1e-5, rtol=1e-5)


def test_convolutional_shapes():
    model = zoo.create("conv_autoencoder", in_channels=3, image_size=32, channels=[4, 8, 16], code=10)
    x = torch.rand(2, 3, 32, 32)
    assert model.encode(x).shape == (2, 10)
    assert model(x).shape == x.shape
    for name in ("conv_autoencoder", "vae"):
        with pytest.raises(ZooError, match="3 stages, and 28 px cannot be halved so often"):
            zoo.create(name, channels=[4, 8, 16])


def test_corruption():
    """As much as was asked for, of the kind; the images given stay as they are."""
    torch.manual_seed(0)
    x = torch.full((100, 1, 28, 28), 0.6)
    assert corrupt(x, "none", 0) is not x
    assert (corrupt(x, "gaussian", 0.3) - x).std().item() == pytest.approx(0.3, abs=0.01)
    masked = corrupt(x, "masking", 0.25)
    assert (masked == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (masked == x).float().mean().item() == pytest.approx(0.75, abs=0.01)
    noisy = corrupt(x, "salt_pepper", 0.2)
    for value, share in ((0.0, 0.1), (1.0, 0.1), (x[0, 0, 0, 0], 0.8)):
        assert (noisy == value).float().mean().item() == pytest.approx(share, abs=0.01)
    assert x.unique().tolist() == [x[0, 0, 0, 0].item()]


def test_penalties_on_the_code():
    """Sparseness is 0 where units are as active as asked; the contraction is the squared norm of the Jacobian."""
    assert sparseness(torch.full((5, 3), 0.05), 0.05).item() == pytest.approx(0, abs=1e-6)
    rho, mean = 0.05, 0.5
    expected = 3 * (rho * math.log(rho / mean) + (1 - rho) * math.log((1 - rho) / (1 - mean)))
    assert sparseness(torch.full((5, 3), 0.5), rho).item() == pytest.approx(expected, rel=1e-5)
    torch.manual_seed(0)
    w = torch.randn(6, 16)
    x = torch.randn(4000, 1, 4, 4, requires_grad=True)
    assert jacobian(x.flatten(1) @ w.T, x).item() == pytest.approx(w.square().sum().item(), rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corruption": "masking"}, "need an amount above 0 and up to 1"),
        ({"corruption": "masking", "amount": 1.5}, "need an amount above 0 and up to 1"),
        ({"amount": 0.5}, "and none an amount of 0"),
        ({"loss": "l1"}, "valid: mse, bce"),
        ({"layerwise": True, "sparsity": 0.1}, "excludes sparsity"),
        ({"layerwise": True, "l2": 0.1}, "excludes sparsity, contraction, l1, l2"),
    ],
)
def test_impossible_objectives(arguments, message):
    with pytest.raises(ZooError, match=message):
        Reconstruct(Autoencoder(), **arguments)


# --- variational autoencoders -----------------------------------------------------------------------------------------


def linear_gaussian() -> tuple[VAE, torch.Tensor]:
    """A small VAE, and binary images."""
    torch.manual_seed(0)
    model = VAE(image_size=4, hidden=[12], latent=2)
    return model, (torch.rand(3, 1, 4, 4) < 0.5).float()


def test_kl_is_torchs():
    q = torch.distributions.Normal(torch.randn(5, 3), torch.rand(5, 3) + 0.5)
    p = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(1)
    torch.testing.assert_close(kl(q.mean, 2 * q.stddev.log()), expected)


def test_bounds_rise_to_the_likelihood():
    """log p(x) by a grid over the two latent numbers; the bound lies below, more samples are nearer (Burda 2016)."""
    model, x = linear_gaussian()
    with torch.no_grad():
        axis = torch.linspace(-6, 6, 241)
        z = torch.cartesian_prod(axis, axis)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + 2 * math.log(axis[1] - axis[0])
        truth = torch.stack([(log_likelihood(model, one[None], z) + prior).logsumexp(0) for one in x])
        mean, log_variance = model.posterior(x)
        g = torch.Generator().manual_seed(0)
        several = [importance(model, x, mean, log_variance, k, g) for k in (1, 5, 20_000)]
        one = torch.stack([importance(model, x, mean, log_variance, 1, g) for _ in range(2000)]).mean(0)
        five = torch.stack([importance(model, x, mean, log_variance, 5, g) for _ in range(500)]).mean(0)
        drawn = mean + (log_variance / 2).exp() * torch.randn(4000, 3, 2, generator=g)
        bound = log_likelihood(model, x, drawn.flatten(0, 1)).view(4000, 3).mean(0) - kl(mean, log_variance)
    assert all(values.shape == (3,) for values in several)
    torch.testing.assert_close(several[2], truth, atol=0.02, rtol=0)
    torch.testing.assert_close(one, bound, atol=0.06, rtol=0)
    assert (bound < five).all()
    assert (five < truth).all()


def test_a_vae_samples_from_its_seed():
    model, _ = linear_gaussian()
    a, b = (model.sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    assert ((a > 0) & (a < 1)).all()


# --- autoregressive ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [[40], [40, 30]])
def test_no_pixel_sees_itself_or_a_later_one(hidden):
    """By gradients, in every order; and nearly every earlier one is seen."""
    model = MADE(image_size=4, hidden=hidden, orderings=3, activation="softplus").double()
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    for i in range(3):
        jac = torch.autograd.functional.jacobian(lambda x, i=i: model.logits(x, i).flatten(), x).view(16, 16)
        places = model.places[i]
        earlier = places[None, :] < places[:, None]  # of row's output, column's input
        assert (jac[~earlier] == 0).all()
        assert (jac[earlier] != 0).double().mean() > 0.9
    assert len({tuple(p.tolist()) for p in model.places}) == 3
    assert model.places[0].tolist() == list(range(1, 17))


def test_pixelcnn_sees_all_that_is_before_and_nothing_else():
    """By gradients: every pixel above or to the left within reach, with no blind spot; none of itself or later."""
    torch.manual_seed(0)
    model = PixelCNN(image_size=6, channels=16, depth=3).double()
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    jac = torch.autograd.functional.jacobian(lambda x: model(x).flatten(), x).view(36, 36)
    earlier = torch.ones(36, 36).tril(-1).bool()
    assert (jac[~earlier] == 0).all()
    assert (jac[earlier] != 0).all()


def test_pixelcnn_draws_what_it_says():
    """Drawing row by row, on the rows so far alone, is by the conditionals of the whole image."""
    torch.manual_seed(0)
    model = PixelCNN(image_size=5, channels=4, depth=2).eval()
    with torch.no_grad():
        for p in model.parameters():  # so that pixels depend on each other
            p *= 4
    noise = model.noise(3, torch.Generator().manual_seed(0))
    x = model.generate(noise)
    assert torch.equal(x, (noise.view(3, 1, 5, 5) < model(x).sigmoid()).float())
    assert not torch.equal(x, (noise.view(3, 1, 5, 5) < model(torch.zeros_like(x)).sigmoid()).float())
    with pytest.raises(ZooError, match="give in_channels=1 and an odd kernel"):
        PixelCNN(in_channels=3)


@pytest.mark.parametrize(
    "model",
    [MADE(image_size=3, hidden=[50], orderings=n) for n in (1, 3)] + [PixelCNN(image_size=3, channels=4, depth=2)],
    ids=["made", "made of 3 orders", "pixelcnn"],
)
def test_probabilities_sum_to_one(model):
    """Over all binary images of 3×3."""
    model.eval()
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9))).view(-1, 1, 3, 3)
    assert model.log_prob(every).logsumexp(0).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        MADE(image_size=2, hidden=[30]),
        MADE(image_size=2, hidden=[30, 20]),
        MADE(image_size=2, hidden=[30], orderings=4),
        MADE(image_size=2, hidden=[30, 20], orderings=4),
        PixelCNN(image_size=2, channels=4, depth=2),
    ],
    ids=["made", "made of 2 layers", "made of 4 orders", "made of 2 layers and 4 orders", "pixelcnn"],
)
def test_samples_follow_the_probabilities(model):
    """Half of Σ |share of an image − its probability| over the 16 images, of 20,000; 0.01 by chance alone."""
    torch.manual_seed(4)
    model.eval()
    with torch.no_grad():
        for p in model.parameters():  # so that pixels depend on each other
            p.normal_()
    drawn = model.sample(20_000, torch.Generator().manual_seed(0)).flatten(1)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    shares = torch.stack([(drawn == one).all(1).float().mean() for one in every])
    expected = model.log_prob(every.view(-1, 1, 2, 2)).exp()
    assert (shares - expected).abs().sum() / 2 < 0.02
    torch.testing.assert_close(shares, expected, atol=0.012, rtol=0)
    chance = every.T @ expected  # of each pixel to be 1
    independent = (every * chance + (1 - every) * (1 - chance)).prod(1)
    assert (expected - independent).abs().sum() / 2 > 0.04


def test_an_image_has_its_own_order():
    """By the last of its numbers; the same noise gives the same images, alone or among others. Progress is of all."""
    torch.manual_seed(0)
    model = MADE(image_size=3, hidden=[20], orderings=3).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    noise, told = model.noise(12, torch.Generator().manual_seed(0)), []
    assert noise.shape == (12, 10)
    x = model.generate(noise, lambda done, total: told.append((done, total)))
    assert told == [(3 * (i + 1), 27) for i in range(9)]
    assert torch.equal(x, torch.cat([model.generate(one[None]) for one in noise]))
    for one, image in zip(noise, x, strict=True):
        order = int(one[9] * 3)
        conditional = model.logits(image[None], order).sigmoid().flatten()
        assert torch.equal(image.flatten(), (one[:9] < conditional).float())


def test_training_takes_an_order_by_chance():
    model = MADE(image_size=3, hidden=[50], orderings=4)
    x = (torch.rand(5, 1, 3, 3) < 0.5).float()
    torch.manual_seed(0)
    assert len({model.log_prob(x)[0].item() for _ in range(40)}) == 4
    assert len({model.eval().log_prob(x)[0].item() for _ in range(10)}) == 1


# --- binary images ----------------------------------------------------------------------------------------------------


def test_binary_pixels_are_drawn_by_brightness():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(2500, 28, 1).view(2500, 28, 3, 1)
    drawn = binary(images, seed=0)
    assert set(drawn.unique().tolist()) == {0, 255}
    means = drawn.float().mean((0, 1, 3)) / 255
    assert means[0] == 0
    assert means[1].item() == pytest.approx(0.2, abs=0.005)
    assert means[2] == 1
    assert torch.equal(drawn, binary(images, seed=0))
    assert not torch.equal(drawn, binary(images, seed=1))
    assert torch.equal(drawn[:1500], binary(images[:1500], seed=0))  # whatever comes after


# --- runs -------------------------------------------------------------------------------------------------------------

PIXELS = (
    "data=mnist", "data.mean=[0.0]", "data.std=[1.0]", "data.batch_size=50", "callbacks.progress=null", "logger=none",
    "scheduler=none",
)  # fmt: skip
RUNS = {
    "denoising": ("model=autoencoder", "model.hidden=[16]", "task=reconstruct", "optimizer=adam",
                  "task.corruption=salt_pepper", "task.amount=0.2", "task.contraction=0.01"),
    "sparse": ("model=autoencoder", "model.code_activation=sigmoid", "model.tied=true", "model.hidden=[16]",
               "task=reconstruct", "optimizer=adam", "task.sparsity=0.1", "task.loss=bce"),
    "layerwise": ("model=autoencoder", "model.hidden=[16,8]", "task=reconstruct", "optimizer=adam",
                  "task.corruption=masking", "task.amount=0.2", "task.layerwise=true"),
    "vae": ("model=vae", "model.hidden=[16]", "model.latent=3", "task=variational", "optimizer=adam",
            "data.binarise=stochastic", "task.nll_samples=3"),
    "iwae": ("model=vae", "model.hidden=[16]", "model.channels=[2]", "task=variational", "optimizer=adam",
             "data.binarise=fixed", "task.samples=4"),
    "made": ("model=made", "model.hidden=[16]", "model.orderings=3", "task=density", "optimizer=adam",
             "data.binarise=fixed"),
    "pixelcnn": ("model=pixelcnn", "model.channels=2", "model.depth=1", "task=density", "optimizer=adam",
                 "data.binarise=fixed", "trainer.limit_test_batches=1"),
}  # fmt: skip


@pytest.mark.parametrize("name", some(RUNS, "denoising", "vae", "made"))
def test_runs_resume_and_are_measured_again(run_train, tmp_path, name):
    """n + m updates equal n, stop, m, inside of an epoch; and the test's figures are found again from the file."""
    settings = (*PIXELS, *RUNS[name], "trainer.max_epochs=3", "select=last")
    whole, resumed = whole_and_resumed(run_train, tmp_path, settings, 13)
    for key in ("state_dict", "optimizer_states", "random", "ImageData"):
        assert_same(whole[key], resumed[key], key)
    if "trainer.limit_test_batches=1" not in RUNS[name]:
        _, metrics, off = evaluate(last(tmp_path / "whole"))
        assert metrics
        assert off == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=made", "model.hidden=[9]", "task=density"), "set data.binarise=fixed"),
        (("model=vae", "model.hidden=[9]", "task=variational", "task.nll_samples=3"), "set data.binarise=fixed"),
        (("model=autoencoder", "task=reconstruct", "data.mean=[0.5]"), "are for pixels in [0, 1]"),
        (("model=autoencoder", "task=reconstruct", "task.sparsity=1"), "set model.code_activation=sigmoid"),
        (("model=autoencoder", "task=reconstruct", "task.layerwise=true", "trainer.max_epochs=2"), "a multiple"),
        (
            ("model=conv_autoencoder", "task=reconstruct", "task.layerwise=true"),
            "needs depth, layer, which ConvAutoencoder does not have",
        ),
        (("model=ppca", "task=em", "model.code=784"), "give 1 to 783"),
        (("model=lenet5", "data.unlabelled=40"), "for task=semi"),
        (("model=lenet5", "task=density"), "needs log_prob, which LeNet5 does not have"),
        (("model=autoencoder", "task=reconstruct", "trainer=fsdp"), "calls parts of its model: use ddp"),
    ],
)
def test_what_does_not_go_together(run_train, overrides, message):
    code, out = run_train(*PIXELS, *overrides)
    assert code == 1
    assert message in out


def test_pictures_of_a_run(run_train, tmp_path):
    """With validation or without, and of one latent number too."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name, more in (("with", ()), ("without", ("data.val_size=0", "model.latent=1"))):
        settings = ("model=vae", "model.hidden=[9]", "task=variational", "optimizer=adam", "trainer.max_epochs=1")
        pixels = [setting for setting in PIXELS if setting != "logger=none"]
        code, out = run_train(*pixels, *settings, f"name={name}", *more)
        assert code == 0, out
        (folder,) = tmp_path.glob(f"logs/{name}/*")
        tags = EventAccumulator(str(folder)).Reload().Tags()["images"]
        assert {"reconstructions", "samples", "latent/traversal", "latent/map"} <= set(tags)


class StopAtBatch(Callback):
    """Presses Ctrl-C in a batch of the second epoch."""

    step = -1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_em_goes_on_inside_an_epoch(run_train, tmp_path):
    """The sums of an epoch that was broken off are in its checkpoint."""

    def carries(checkpoint):
        assert checkpoint["random"][0]["carried"]

    settings = (*PIXELS, "model=ppca", "model.code=4", "model.closed_form=false", "task=em", "trainer.max_epochs=2")
    whole, resumed = whole_and_resumed(run_train, tmp_path, settings, 7, carries, StopAtBatch)
    for key in ("state_dict", "optimizer_states", "random", "ImageData"):
        assert_same(whole[key], resumed[key], key)
    _, metrics, off = evaluate(last(tmp_path / "whole"))
    assert metrics
    assert off == {}
