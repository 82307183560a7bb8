"""Semi-supervised classification: what a batch holds, each method's objective, and its baseline."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import some
from tests.data_helpers import image_data
from tests.test_language import whole_and_resumed
from tests.test_resume import assert_same
from zoo.data.augment import Augment
from zoo.data.loader import MixedLoader
from zoo.errors import ZooError
from zoo.models.ladder import Denoise, Ladder
from zoo.models.mlp import MLP
from zoo.tasks.semi import SemiSupervised

QUICK = (
    "task=semi", "model=mlp", "model.hidden=[16]", "data.labels_per_class=5", "data.unlabelled=40",
    "data.batch_size=10", "callbacks.progress=null", "logger=none",
)  # fmt: skip


def test_batches_of_both_kinds():
    """All images without labels once an epoch; those with labels again and again, each as often as any other."""
    labelled = (torch.arange(6), torch.arange(6) * 10)
    loader = MixedLoader(labelled, (torch.arange(100, 125),), batch_size=4, beside=5, seed=1)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    for x, y, u in batches:
        assert torch.equal(x * 10, y)
        assert (len(x), len(u)) == (4, 5)
    assert sorted(torch.cat([u for _, _, u in batches]).tolist()) == list(range(100, 125))
    counts = torch.bincount(torch.cat([x for x, _, _ in batches]))
    assert counts.max() - counts.min() <= 1
    again = list(loader)
    assert not torch.equal(again[0][2], batches[0][2])
    shares = [MixedLoader(labelled, (torch.arange(25),), 4, 6, 1, rank, 2) for rank in (0, 1)]
    whole = next(iter(MixedLoader(labelled, (torch.arange(25),), 4, 6, 1)))
    parts = [next(iter(loader)) for loader in shares]
    for i in range(3):
        assert sorted(torch.cat([part[i] for part in parts]).tolist()) == sorted(whole[i].tolist())


def test_images_without_labels_are_those_of_training(toy_data):
    """As many as without labels_per_class, none of validation; two views, changed each for itself."""
    data = image_data(labels_per_class=5, unlabelled=40, batch_size=10, augment=Augment(shift=3))
    data.setup()
    assert len(data.splits["train"][0]) == 50
    assert len(data.splits["unlabelled"][0]) == 500
    x, y, u, v = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (len(x), len(y), len(u), len(v)) == (10, 10, 40, 40)
    assert not torch.equal(u, v)
    still = image_data(labels_per_class=5, unlabelled=40, batch_size=10)
    still.setup()
    _, _, u, v = still.on_after_batch_transfer(next(iter(still.train_dataloader())), 0)
    assert torch.equal(u, v)
    assert "50 training images with labels and 500 without" in data.summary()


class Spy:
    """What a task asks of its trainer."""

    def __init__(self, step: int):
        self.global_step, self._logger_connector = step, type("Quiet", (), {"should_update_logs": False})()


def objective(method, step=10**6, **arguments):
    """A task at a late update, its model and a batch."""
    torch.manual_seed(0)
    model = MLP(hidden=[8], image_size=4, num_classes=3)
    task = SemiSupervised(model, 3, method=method, **arguments)
    task._trainer, task.length = Spy(step), 1000.0
    x, u, v = (torch.rand(n, 1, 4, 4) for n in (3, 5, 5))
    y = torch.tensor([0, 1, 2])
    return task, model, (x, y, u, v), task.training_step((x, y, u, v), 0)


def test_objectives_are_as_published():
    _, model, (x, y, u, v), loss = objective("none")
    labelled = F.cross_entropy(model(x), y)
    torch.testing.assert_close(loss, labelled)
    _, _, _, loss = objective("pi", weight=7.0)
    torch.testing.assert_close(loss, labelled + 7 * (model(u).softmax(1) - model(v).softmax(1)).square().mean())
    chance, label = model(u).softmax(1).max(1)
    bar = chance.median().item()
    _, _, _, loss = objective("pseudo_label", weight=2.0, threshold=bar)
    each = F.cross_entropy(model(v), label, reduction="none") * (chance >= bar)
    torch.testing.assert_close(loss, labelled + 2 * each.mean())


def test_the_weight_rises():
    """From λ e^-5 to λ in the share of the run that was asked for."""
    for step, expected in ((0, math.exp(-5)), (100, math.exp(-5 * 0.25)), (200, 1.0), (900, 1.0)):
        task, *_ = objective("pi", step=step, weight=3.0, ramp_up=0.2)
        assert task.lambda_now() == pytest.approx(3 * expected)
    assert objective("pi", step=0, weight=3.0, ramp_up=0.0)[0].lambda_now() == 3.0  # from the first update on


def small_ladder(**arguments) -> Ladder:
    torch.manual_seed(0)
    return Ladder(3, image_size=4, hidden=[9, 7], **{"costs": (5.0, 3.0, 2.0, 1.0), **arguments})


def test_a_ladder_denoises_by_equations_1_and_2():
    """One unit by hand; without noise the layers are the clean ones, and classify as forward does."""
    level = Denoise(1, None)
    level.a.data = torch.arange(1, 11.0) / 10
    noisy, above = torch.tensor([[0.7], [-0.2]]), torch.tensor([[3.0], [1.0]])
    for row, u in enumerate((1, -1)):  # normalised over a batch of two
        mu = 0.1 / (1 + math.exp(-(0.2 * u + 0.3))) + 0.4 * u + 0.5
        share = 0.6 / (1 + math.exp(-(0.7 * u + 0.8))) + 0.9 * u + 1.0
        expected = (noisy[row].item() - mu) * share + mu
        assert level(noisy, above)[row].item() == pytest.approx(expected, rel=1e-4)
    model, x = small_ladder(noise=0.0), torch.rand(6, 1, 4, 4)
    logits, corrupted = model.noisy(x)
    torch.testing.assert_close(logits, model(x))
    for noisy, (z, _, _) in zip(corrupted, model.clean(x), strict=True):
        torch.testing.assert_close(noisy, z)


def batch_normed(x):
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def test_a_ladders_cost_is_algorithm_1s():
    """Written out for one hidden layer, with every parameter drawn at random."""
    torch.manual_seed(0)
    model = Ladder(3, image_size=2, hidden=[5], noise=0.3, costs=(5.0, 3.0, 2.0))
    for p in model.parameters():
        torch.nn.init.normal_(p)
    x, (first, top) = torch.rand(7, 1, 2, 2), (model.layers[0], model.head)
    labelled = torch.rand(4, 1, 2, 2)
    torch.manual_seed(1)
    logits, found = model.corrupted_and_cost(labelled, x)
    torch.manual_seed(1)
    labelled_noise, noise = ([0.3 * torch.randn(n, width) for width in (4, 5, 3)] for n in (4, 7))
    x = x.flatten(1)

    def up(images, noise):
        z0 = images + noise[0]
        z1 = batch_normed(z0 @ first.linear.weight.T) + noise[1]
        h1 = (z1 + first.bias).relu()
        z2 = batch_normed(h1 @ top.linear.weight.T) + noise[2]
        return z0, z1, z2, top.scale * (z2 + top.bias)

    torch.testing.assert_close(logits, up(labelled.flatten(1), labelled_noise)[-1], rtol=1e-4, atol=1e-4)
    z0, z1, z2, y = up(x, noise)
    y = y.softmax(1)
    before1 = x @ first.linear.weight.T
    before2 = (batch_normed(before1) + first.bias).relu() @ top.linear.weight.T
    estimate, total = y, 0.0
    levels = ((2, z2, before2, 2.0), (1, z1, before1, 3.0), (0, z0, None, 5.0))
    for i, noisy, before, cost in levels:
        v = model.decoder[i].linear
        u = batch_normed(estimate if v is None else estimate @ v.weight.T)
        a = model.decoder[i].a.view(10, -1)
        mu = a[0] * (a[1] * u + a[2]).sigmoid() + a[3] * u + a[4]
        share = a[5] * (a[6] * u + a[7]).sigmoid() + a[8] * u + a[9]
        estimate = (noisy - mu) * share + mu
        if before is None:
            total = total + cost * (estimate - x).square().mean()
        else:
            shifted = (estimate - before.mean(0)) / (before.var(0, correction=0) + 1e-5).sqrt()
            total = total + cost * (shifted - batch_normed(before)).square().mean()
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-4)


def test_a_ladder_decays_its_matrices_alone():
    decayed = SemiSupervised(small_ladder(), 3).decayed()
    assert {name.rpartition(".")[2] for name in decayed} == {"weight"}


def test_a_ladder_is_evaluated_by_running_averages():
    model = small_ladder()
    x = torch.rand(500, 1, 4, 4)
    for _ in range(200):
        model.train().corrupted_and_cost(x, x)
    together = model.eval()(x)
    torch.testing.assert_close(together, model.train()(x), rtol=0.05, atol=0.02)
    torch.testing.assert_close(model.eval()(x[:1]), together[:1])


def test_a_ladders_objective():
    """The loss of the noisy copy with labels, and the cost without; another model is an error."""
    model = small_ladder()
    task = SemiSupervised(model, 3, method="ladder", weight=2.0)
    task._trainer, task.length = Spy(10**6), 1000.0
    x, u, y = torch.rand(6, 1, 4, 4), torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(3)
    logits, cost = model.corrupted_and_cost(x, u)
    expected = F.cross_entropy(logits, y) + 2 * cost
    torch.manual_seed(3)
    torch.testing.assert_close(task.training_step((x, y, u, u), 0), expected)
    with pytest.raises(ZooError, match=r"set data\.batch_size and data\.unlabelled to 2 or more"):
        task.training_step((x[:1], y[:1], u, u), 0)
    with pytest.raises(ZooError, match=r"needs corrupted_and_cost, which MLP does not have .* choose model=ladder"):
        SemiSupervised(MLP(), 10, method="ladder").check_output(torch.rand(2, 10), x[:2], y[:2])
    with pytest.raises(ZooError, match=r"pixels in \[0, 1\]"):
        task.check_output(torch.rand(2, 3), x[:2] - 0.5, y[:2])
    with pytest.raises(ZooError, match="two more costs"):
        small_ladder(costs=(1.0,))


LADDER = ["model=ladder", "model.hidden=[16]", "model.costs=[10.0,1.0,0.1]", "data.mean=[0.0]", "data.std=[1.0]"]


def test_a_ladder_is_said_to_predict(run_train):
    """Its noise is a deviation, and not where images are drawn from."""
    code, out = run_train(*QUICK, *LADDER, "task.method=ladder", "trainer.max_epochs=1")
    assert code == 0, out
    assert "zoo predict" in out
    assert "zoo sample" not in out


@pytest.mark.parametrize(
    "method", some(["none", "pseudo_label", "pi", "mean_teacher", "ladder"], "mean_teacher", "ladder")
)
def test_every_method_trains_and_resumes(run_train, tmp_path, method):
    """n + m updates equal n, stop, m; the averaged weights of a mean teacher too."""
    settings = [*QUICK, f"task.method={method}", "trainer.max_epochs=2", "test=false", "data.augment.shift=2"]
    settings += ["callbacks=[default,ema]"] if method == "mean_teacher" else []
    settings += LADDER if method == "ladder" else []
    whole, resumed = whole_and_resumed(run_train, tmp_path, settings, 17)
    for key in ("state_dict", "optimizer_states", "random", "ImageData"):
        assert_same(whole[key], resumed[key], key)


def test_the_teacher_is_the_average(run_train, monkeypatch):
    """It gives the wanted probabilities, and no gradient reaches it."""
    seen = []
    original = SemiSupervised.teacher

    def look(self):
        found = original(self)
        pairs = zip(found.parameters(), self.model.parameters(), strict=True)
        seen.append((found, self.model, any(torch.equal(a, b) for a, b in pairs)))
        return found

    monkeypatch.setattr(SemiSupervised, "teacher", look)
    code, out = run_train(*QUICK, "task.method=mean_teacher", "callbacks=[default,ema]", "trainer.max_epochs=1")
    assert code == 0, out
    teacher, student, same = seen[-1]  # in the last step
    assert teacher is not student
    assert all(p.grad is None for p in teacher.parameters())
    assert not same


def test_a_mean_teachers_objective(monkeypatch):
    """The squared distance of the student's probabilities from the teacher's, of the other view."""
    torch.manual_seed(1)
    other = MLP(hidden=[8], image_size=4, num_classes=3)
    monkeypatch.setattr(SemiSupervised, "teacher", lambda self: other)
    _, model, (x, y, u, v), loss = objective("mean_teacher", weight=5.0)
    distance = (model(v).softmax(1) - other(u).softmax(1)).square().mean()
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y) + 5 * distance)


def test_views_are_cut_out_too(toy_data):
    data = image_data(labels_per_class=5, unlabelled=40, batch_size=10, strong=Augment(cutout=20))
    data.setup()
    _, _, u, v = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert not torch.equal(u, v)
    with pytest.raises(ZooError, match="takes no mixup"):
        image_data(unlabelled=40, augment=Augment(mixup=0.2))


def test_what_does_not_go_together(run_train, tmp_path):
    for overrides, message in (
        (("data.unlabelled=0",), "set data.unlabelled"),
        (("task.method=mean_teacher",), "set 'callbacks=[default,ema]'"),
        (("task.threshold=1.5",), "a threshold from 0 to less than 1"),
    ):
        code, out = run_train(*QUICK[:-1], *overrides)  # with its logger
        assert code == 1, out
        assert message in out
        assert not list(tmp_path.glob("logs/**/events*"))  # TensorBoard has no empty run
    code, out = run_train(*QUICK, "data.unlabelled=5000")
    assert code == 1, out
    assert "there are 500 training images" in out
    with pytest.raises(ZooError, match="valid: none, pseudo_label, pi, mean_teacher, ladder"):
        SemiSupervised(MLP(), 10, method="vat")  # type: ignore[arg-type]
