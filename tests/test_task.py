"""The classification task: losses, penalties, parameter groups, schedules, max-norm."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.tasks.classify import Classify
from zoo.tasks.schedules import warmup_cosine
from zoo.tasks.task import Mean

SGD = partial(torch.optim.SGD, lr=0.1)


def task_for(model=None, **arguments) -> Classify:
    torch.manual_seed(0)
    model = model or zoo.create("lenet5", hidden=[20], batch_norm=True)
    return Classify(model, 10, **{"optimizer": SGD, **arguments})


def test_cross_entropy_identities():
    """CE(one-hot, softmax(z)) = NLL = logsumexp(z) − z_y (the slide's H has lost its minus sign)."""
    z, y = torch.randn(6, 10), torch.arange(6)
    p = z.exp() / z.exp().sum(1, keepdim=True)
    cross_entropy = -(F.one_hot(y, 10) * p.log()).sum(1).mean()
    likelihood = -p[torch.arange(6), y].log().mean()
    logs = (z.logsumexp(1) - z[torch.arange(6), y]).mean()
    for value in (cross_entropy, likelihood, logs):
        torch.testing.assert_close(task_for().loss(z, y), value)


def test_explicit_penalty_is_weight_decay():
    """λΣw² on the loss gives the same SGD step as the optimizer's weight_decay = 2λ; biases and norms are left out."""
    x, y, after = torch.randn(8, 1, 28, 28), torch.arange(8), []
    for arguments in ({"l2": 1e-2}, {"optimizer": partial(torch.optim.SGD, lr=0.1, weight_decay=2e-2)}, {}):
        task = task_for(**arguments)
        optimizer = task.configure_optimizers()
        (task.loss(task(x), y) + task.penalty()).backward()
        optimizer.step()
        after.append({k: p.detach().clone() for k, p in task.model.named_parameters()})
    for name in after[0]:
        torch.testing.assert_close(after[0][name], after[1][name], msg=name)
        changed = not torch.allclose(after[0][name], after[2][name])
        assert changed == (after[0][name].ndim > 1), name


def test_l1_penalty():
    task = task_for(l1=0.5)
    expected = 0.5 * sum(p.abs().sum() for p in task.model.parameters() if p.ndim > 1)
    torch.testing.assert_close(task.penalty(), expected)


def test_weight_norm_falls_as_decay_grows():
    norms = []
    for decay in (0.0, 0.1, 1.0):
        task = task_for(optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=decay))
        optimizer = task.configure_optimizers()
        for _ in range(5):
            optimizer.zero_grad()
            task.loss(task(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
            optimizer.step()
        norms.append(sum(p.norm() for p in task.decayed().values()).item())
    assert norms[0] > norms[1] > norms[2]


def test_max_norm_limits_hidden_units():
    task = task_for(zoo.create("mlp", hidden=[8, 8]), max_norm=0.5)
    head = task.model.head.weight.detach().clone()
    with torch.no_grad():
        task.model.layers.fc2.weight[0] *= 1e-3
    small = task.model.layers.fc2.weight[0].clone()
    task.constrain()
    assert task.model.layers.fc1.weight.norm(dim=1).max() <= 0.5 + 1e-5
    assert torch.equal(task.model.layers.fc2.weight[0], small)  # shorter ones stay
    assert torch.equal(task.model.head.weight, head)


def test_max_norm_of_a_transposed_convolution():
    """Its weight is (inputs, outputs, height, width), and a unit is an output as everywhere."""
    layer = nn.ConvTranspose2d(3, 5, 2)
    task = task_for(nn.Sequential(layer, nn.Flatten(), nn.Linear(2, 2)), max_norm=0.2)
    task.constrain()
    norms = layer.weight.detach().transpose(0, 1).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((5,), 0.2))


def test_lr_scale_makes_groups():
    task = task_for(lr_scale={"conv*": 0.1, "head": 2.0}, optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.1))
    rates = {}
    for group in task.configure_optimizers().param_groups:
        for p in group["params"]:
            rates[next(n for n, q in task.model.named_parameters() if q is p)] = (group["lr"], group["weight_decay"])
    assert rates["conv1.weight"] == pytest.approx((0.01, 0.1))
    assert rates["norm1.weight"] == pytest.approx((0.1, 0.0))
    assert rates["head.weight"] == pytest.approx((0.2, 0.1))
    assert rates["head.bias"] == pytest.approx((0.2, 0.0))
    assert len(rates) == len(list(task.model.parameters()))
    (only,) = task_for(lr_scale={"*": 0.5}).configure_optimizers().param_groups
    assert only["lr"] == pytest.approx(0.05)
    with pytest.raises(ZooError, match="no parameter fits 'cnov'; layers with parameters: conv1"):
        task_for(lr_scale={"cnov": 0.1}).parameter_groups()


def with_trainer(task: Classify, steps: int) -> Classify:
    class Steps:
        estimated_stepping_batches, max_epochs = steps, 4

    task._trainer = Steps()  # type: ignore[assignment]
    task.__class__ = type("Task", (Classify,), {"trainer": property(lambda self: self._trainer)})
    return task


def test_schedule_totals_and_scaled_max_lr():
    onecycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps="total_steps")
    task = with_trainer(task_for(scheduler=onecycle, lr_scale={"conv*": 0.1}), 40)
    settings = task.configure_optimizers()
    assert settings["lr_scheduler"]["interval"] == "step"
    scheduler, optimizer = settings["lr_scheduler"]["scheduler"], settings["optimizer"]
    peaks = [0.0] * len(optimizer.param_groups)
    for _ in range(40):
        peaks = [max(a, g["lr"]) for a, g in zip(peaks, optimizer.param_groups, strict=True)]
        optimizer.step()
        scheduler.step() if _ < 39 else None
    assert sorted(round(p, 4) for p in set(peaks)) == [0.01, 0.1]
    step = partial(torch.optim.lr_scheduler.StepLR, step_size=2)
    assert with_trainer(task_for(scheduler=step), 40).configure_optimizers()["lr_scheduler"]["interval"] == "epoch"


@pytest.mark.parametrize("metric", ["val/loss", "val/nll"])
def test_plateau_watches_the_validation(metric):
    """Its loss, or where none is measured what the task watches; the rate falls when that has not."""
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, factor=0.1)
    task = with_trainer(task_for(scheduler=plateau, monitor=metric), 40)
    settings = task.configure_optimizers()
    task.trainer.sanity_checking = False
    task.trainer.lr_scheduler_configs = [SimpleNamespace(scheduler=settings["lr_scheduler"]["scheduler"])]
    rates = []
    for loss in (2.0, 1.0, 1.0, 0.5):
        task.trainer.callback_metrics = {metric: torch.tensor(loss), "val/accuracy": torch.tensor(0.9)}
        task.on_validation_end()
        rates.append(settings["optimizer"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_warmup_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, total_steps=100, warmup=0.1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)), abs=0.01)
    assert rates[-1] < 1e-3


def test_nothing_left_to_train():
    task = task_for()
    task.model.requires_grad_(False)
    with pytest.raises(ZooError, match="nothing is left to train"):
        task.configure_optimizers()


def test_minibatch_gradients_average_to_the_full_batch():
    """GD and SGD from the same start: the mean of the minibatches' gradients is the full batch's."""
    model = zoo.create("lenet5")
    x, y = torch.randn(32, 1, 28, 28), torch.arange(32) % 10
    task = task_for(model)

    def gradient(a, b):
        model.zero_grad()
        task.loss(task(a), b).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    parts = [gradient(x[i : i + 8], y[i : i + 8]) for i in range(0, 32, 8)]
    torch.testing.assert_close(torch.stack(parts).mean(0), gradient(x, y), rtol=1e-4, atol=1e-6)


def test_a_mean_goes_by_the_number_of_examples():
    """Batches of several sizes, a loss that is no number, and a new beginning."""
    mean = Mean()
    mean.update(torch.tensor(1.0), 3)
    mean.update(torch.tensor(5.0), torch.tensor(1))
    assert float(mean.compute()) == 2.0
    mean.update(torch.tensor(torch.nan), 1)
    assert mean.compute().isnan()
    mean.reset()
    mean.update(torch.tensor(7.0), 2)
    assert float(mean.compute()) == 7.0
