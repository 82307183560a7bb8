"""How the vision results are trained: augmentation with labels, test-time views, averages, schedules, precision."""

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback
from torch import nn

import zoo
from tests.conftest import some, toy
from tests.data_helpers import assert_fails, image_data
from tests.test_batches import trainer
from tests.test_resume import STOP, StopAt, assert_same, last
from zoo.data.augment import Augment, cutmix, cutout, jitter_colour, mixup, shift_and_flip
from zoo.errors import ZooError
from zoo.models.speednet import SpeedNet
from zoo.paths import CONFIGS
from zoo.run.averaging import Lookahead
from zoo.run.guard import fast_precision
from zoo.tasks.classify import Classify, views
from zoo.tasks.losses import MAPLoss
from zoo.tasks.schedules import triangle

# --- augmentation -----------------------------------------------------------------------------------------------------


def test_a_reflected_border_is_narrower_than_the_image():
    """A wider one has no pixels of the image's own."""
    images = torch.zeros(2, 8, 9, 1, dtype=torch.uint8)
    shift_and_flip(images, 7, border="reflect")
    with pytest.raises(ZooError, match="shift=8 with border=reflect: images of 8×9 px allow 7"):
        shift_and_flip(images, 8, border="reflect")
    shift_and_flip(images, 20)  # zeros may be as many as one likes


def test_reflected_border():
    """A shift brings in the image's own reflection, without its edge: as torch's and numpy's "reflect"."""
    images = torch.arange(36, dtype=torch.uint8).view(1, 6, 6, 1).repeat(200, 1, 1, 1)
    torch.manual_seed(0)
    shifted = shift_and_flip(images, 2, border="reflect")
    padded = F.pad(images[:1].permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    windows = padded.unfold(2, 6, 1).unfold(3, 6, 1).reshape(25, 6, 6)
    found = {windows.eq(image.squeeze(-1)).flatten(1).all(1).nonzero().item() for image in shifted}
    assert found == set(range(25))


def test_alternating_flip_shows_both_sides_in_two_epochs(toy_data):
    data = image_data(augment=Augment(flip="alternate"), batch_size=100)
    data.setup()
    seen = []
    for epoch in (0, 1, 2):
        data.trainer = trainer(training=True)
        loader = data._loader("train", 100)
        data.trainer.current_epoch = epoch
        seen.append(torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in loader]))
    plain = data.preprocess(data.splits["train"][0])
    mirrored = (seen[0] == plain.flip(3)).flatten(1).all(1)
    assert 150 < mirrored.sum() < 350  # of 500
    assert torch.equal(seen[0][~mirrored], plain[~mirrored])
    assert torch.equal(seen[1], seen[0].flip(3))
    assert torch.equal(seen[2], seen[0])


def test_colour_keeps_shape_and_grey():
    """Every image has its own draw; where all pixels are one grey they stay one grey."""
    images = toy(200, 32, 3)[0]
    torch.manual_seed(0)
    changed = jitter_colour(images, 0.4)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    grey = jitter_colour(torch.full((200, 4, 4, 3), 100, dtype=torch.uint8), 0.4)
    assert (grey == grey[:, :1, :1, :1]).all()  # neither contrast nor saturation can change it
    levels = grey[:, 0, 0, 0].float()
    assert 59 <= levels.min() < 65
    assert 135 < levels.max() <= 140
    assert (jitter_colour(toy(10)[0], 0.4).shape) == (10, 28, 28, 1)


def test_cutout():
    x = torch.ones(400, 3, 16, 16)
    torch.manual_seed(0)
    holes = (cutout(x, 6) == 0).all(1)  # (400, 16, 16)
    size = holes.sum((1, 2))
    assert size.max() == 36
    assert 9 <= size.min() < 18  # with its centre near a corner little more than a quarter is left
    assert holes.any(0).all()  # anywhere


def test_mixup_and_cutmix_mix_labels_as_they_mix_images():
    """Images that are all of their class's number: what is in the image is what is in the label."""
    y = torch.arange(200) % 10
    targets = F.one_hot(y, 10).float()
    x = y.float()[:, None, None, None].expand(200, 1, 12, 12).clone()
    for mix in (mixup, cutmix):
        torch.manual_seed(0)
        mixed, labels = mix(x, targets, 1.0)
        torch.testing.assert_close(labels.sum(1), torch.ones(200))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), labels @ torch.arange(10.0), rtol=1e-4, atol=1e-4)
        share = labels.max(1).values
        assert share.min() < 0.6
        assert share.unique().numel() > 30  # every image has its own draw
    mixed, labels = cutmix(x, targets, 1.0)
    assert set(mixed.unique().tolist()) <= set(range(10))  # pixels are of one image or the other


def test_mix_leaves_labels_alone_without_need():
    x, y = torch.randn(8, 1, 6, 6), torch.arange(8)
    same, labels = Augment(shift=2).mix(x, y, 10)
    assert same is x
    assert labels is y
    assert Augment(mixup=1.0, cutmix=1.0).mix(x, y, 10)[1].shape == (8, 10)
    assert_fails(lambda: MAPLoss()(x.flatten(1), torch.rand(8, 10)), "mixup", "task/loss=map")


@pytest.mark.parametrize("extra", ["data.augment.mixup=0.4", "data.augment.cutmix=1.0"])
def test_a_run_with_mixed_labels(run_train, extra):
    code, out = run_train("model=linear", "debug=fast", "logger=none", extra, "data.augment.cutout=4")
    assert code == 0, out


@pytest.mark.parametrize(
    "arguments",
    [{"cutout": -1}, {"mixup": -0.1}, {"colour": 1.0}, {"cutmix": -1.0}, {"border": "wrap"}, {"flip": "both"}],
)
def test_impossible(arguments):
    assert_fails(lambda: Augment(**arguments), "data.augment", "not valid")


# --- a part of the classes --------------------------------------------------------------------------------------------


def test_keep_takes_some_classes_and_numbers_them_anew(toy_data):
    data = image_data(keep=[7, 2], num_classes=2)
    data.setup()
    whole = image_data(val_size=0)
    whole.setup()
    assert list(data.classes) == ["7", "2"]
    images, labels = whole.splits["test"]
    kept, new = data.splits["test"]
    assert torch.equal(kept[new == 0], images[labels == 7])
    assert torch.equal(kept[new == 1], images[labels == 2])
    assert len(data.splits["train"][0]) + len(data.splits["val"][0]) == 120
    assert_fails(lambda: image_data(keep=[1, 1], num_classes=2), "data.keep", "different numbers, 0 to 9")
    assert_fails(lambda: image_data(keep=[1, 2]), "data.num_classes=2")


# --- test-time augmentation -------------------------------------------------------------------------------------------


class Corner(nn.Module):
    """Logits that are the corner pixel: as far from invariant as can be."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x[:, 0, 0, :2] * self.scale


def test_views_by_hand():
    x = torch.randn(3, 1, 5, 5)
    (weight, mirror), *none = views(x, "mirror")
    assert (weight, none) == (0.5, [])
    assert torch.equal(mirror, x.flip(3))
    others = list(views(x, "mirror_shift"))
    assert [w for w, _ in others] == [0.25, 0.125, 0.125, 0.125, 0.125]  # and a quarter is the image itself
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(others[1][1], padded[:, :, :5, :5])
    assert torch.equal(others[4][1], padded[:, :, 2:, 2:].flip(3))


@pytest.mark.parametrize("tta", ["none", "mirror", "mirror_shift"])
def test_tested_logits_are_the_mean_over_views(tta, monkeypatch):
    task = Classify(Corner(), 2, tta=tta)
    monkeypatch.setattr(task, "log", lambda *a, **k: None)
    x, y = torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 0, 1])
    logits, _ = task.test_step((x, y), 0)
    others = list(views(x, tta)) if tta != "none" else []
    expected = (1 - sum(w for w, _ in others)) * task.model(x) + sum(w * task.model(v) for w, v in others)
    torch.testing.assert_close(logits, expected)


def test_a_test_with_views_says_the_accuracy_without(run_train, tmp_path):
    code, out = run_train(
        "model=linear", "debug=fast", "logger=none", "task.tta=mirror", "trainer.limit_test_batches=null"
    )
    assert code == 0, out
    import json

    (metrics,) = tmp_path.glob("logs/*/*/metrics.json")
    assert {"test/accuracy", "test/accuracy_plain"} <= set(json.loads(metrics.read_text()))


# --- averages, schedule, precision ------------------------------------------------------------------------------------

LOOKAHEAD = (
    "callbacks=[default,lookahead]", "callbacks.lookahead.every=3", "callbacks.progress=null", "callbacks.graph=null",
    "model=speednet", "model.widths=[4,4,4]", "data=cifar10_small", "data.batch_size=100", "logger=none",
    "data.augment.flip=alternate", "scheduler=triangle", "trainer.max_epochs=3", "optimizer.lr=0.5", "test=false",
)  # fmt: skip


def test_lookahead_by_hand():
    """Slow weights follow by 1 − decay·(step/steps)³ every few updates, and the weights go on from them."""
    from types import SimpleNamespace as Names

    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    model.bias.requires_grad = False
    task, callback = Names(model=model), Lookahead(every=2, decay=0.9)
    run = Names(global_step=0, estimated_stepping_batches=5)

    def numbers() -> torch.Tensor:
        return torch.stack([model.weight.detach(), model.running_mean, model.running_var])  # type: ignore[list-item]

    callback.on_train_start(run, task)  # type: ignore[arg-type]
    slow, bias = numbers(), model.bias.clone()
    for step in range(1, 6):
        for tensor in (model.weight.data, model.running_mean, model.running_var):
            tensor += step  # type: ignore[operator]
        free = numbers()
        run.global_step = step
        for _ in range(2):  # of accumulated gradients: the second changes nothing
            callback.on_train_batch_end(run, task, None, None, step - 1)  # type: ignore[arg-type]
        if step % 2:
            expected = slow if step == 5 else free  # at the end the weights are the slow ones
        else:
            slow = slow + (1 - 0.9 * (step / 5) ** 3) * (free - slow)
            expected = slow
        torch.testing.assert_close(numbers(), expected)
    assert torch.equal(model.bias, bias)
    run.estimated_stepping_batches = float("inf")
    assert_fails(lambda: callback.on_train_start(run, task), "callbacks=lookahead", "trainer.max_steps")  # type: ignore[arg-type]


def test_lookahead_resumes_exactly(run_train, tmp_path, monkeypatch):
    ends = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        StopAt.step = 7 if name == "parts" else -1
        code, out = run_train(*LOOKAHEAD, STOP)
        assert code == (130 if name == "parts" else 0), out
        if name == "parts":
            StopAt.step = -1
            code, out = run_train("resume=last", STOP)
            assert code == 0, out
        ends.append(last(tmp_path / name))
    whole, parts = ends
    assert whole["global_step"] == parts["global_step"] == 15
    for key in ("state_dict", "optimizer_states", "random"):
        assert_same(whole[key], parts[key], key)
    assert_same(*([state["slow"] for key, state in end["callbacks"].items() if "Lookahead" in key] for end in ends))


def test_triangle():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = triangle(optimizer, total_steps=100, start=0.2, peak=0.25, end=0.1)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.4)
    assert rates[25] == max(rates) == pytest.approx(2.0)
    assert rates[100] == pytest.approx(0.2)
    assert rates[50] == pytest.approx(2 * (1 - 0.9 / 3))


@pytest.mark.parametrize(
    ("able", "expected"), [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed")]
)
def test_precision_is_what_the_processor_has(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fast_precision("auto") == fast_precision("cpu") == expected


class Halves(Callback):
    """Notes what the model computes in, in training and in the test."""

    seen: ClassVar[dict[str, set[torch.dtype]]] = {}

    def on_fit_start(self, trainer, pl_module):
        Halves.seen = {"train": set(), "test": set()}

        def note(module, inputs, output):
            if not trainer.validating and not trainer.sanity_checking:
                Halves.seen["test" if trainer.testing else "train"].add(output.dtype)

        pl_module.model.head.register_forward_hook(note)


def test_half_precision_is_for_training_alone(run_train):
    """A run in bfloat16 is tested in 32 bits, as its weights are used."""
    extra = "++callbacks.halves._target_=tests.test_recipe.Halves"
    off = "callbacks.graph=null", "callbacks.projector=null"
    code, out = run_train("model=linear", "debug=fast", "logger=none", "trainer.precision=bf16-mixed", extra, *off)
    assert code == 0, out
    assert Halves.seen["train"] == {torch.bfloat16}
    assert Halves.seen["test"] == {torch.float32}


# --- speednet ---------------------------------------------------------------------------------------------------------


def test_whitening():
    """After ``init_from_data`` the outputs are 12 decorrelated ones of variance 1, and their negatives."""
    torch.manual_seed(0)
    x = F.avg_pool2d(torch.randn(200, 3, 34, 34), 3, stride=1)  # neighbours correlate, as in photographs
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    model = SpeedNet()
    model.init_from_data(x, eps=0.0)
    out = model.whiten(x).permute(1, 0, 2, 3).flatten(1)  # (24, n)
    torch.testing.assert_close(out[:12], -out[12:])
    covariance = out[:12] @ out[:12].T / out.shape[1]
    torch.testing.assert_close(covariance, torch.eye(12), atol=2e-2, rtol=0)
    assert not model.whiten.weight.requires_grad


def test_speednet_starts_as_the_paper_says():
    model = zoo.create("speednet")
    x = torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(model.block1.conv1(x)[:, :24], x)  # the identity, where there are inputs
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "whiten.bias" in trained
    assert not any(name.endswith("norm1.weight") for name in trained)
    assert model.head.bias is None
    assert zoo.create("speednet", num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 256)
    assert zoo.create("speednet", convs=3)(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert_fails(lambda: zoo.create("speednet", convs=4), "convs=4", "2 or 3")


def test_training_starts_from_the_datas_whitening(run_train, tmp_path):
    code, out = run_train(*LOOKAHEAD, "trainer.max_epochs=1")
    assert code == 0, out
    data = image_data(
        name="cifar10_small", in_channels=3, image_size=32, mean=[0.4914, 0.4822, 0.4465], std=[0.247, 0.2435, 0.2616]
    )
    data.setup()
    model = SpeedNet(widths=(4, 4, 4))
    model.init_from_data(data.sample(5000)[0])
    state = last(tmp_path)["state_dict"]
    torch.testing.assert_close(state["model.whiten.weight"], model.whiten.weight.detach())


# --- published settings -----------------------------------------------------------------------------------------------

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
# one of each task and each kind of settings
SOME = (
    "adding", "cgan_mnist", "cifar10_to_fashion", "lenet5_mnist", "lstm_mnist_rows", "lstm_tiny_shakespeare",
    "made_mnist", "mlp_pretrained_mnist", "plain_and_residual", "ppca_mnist", "resnet20_cifar10", "sdae_mnist",
    "semi_mnist", "seq2seq_tatoeba_ko_en", "vae_mnist",
)  # fmt: skip


@pytest.mark.parametrize("name", some(EXPERIMENTS, *SOME))
def test_every_experiment_trains(run_train, tmp_path, name):
    """Two steps of everything. Studies of transfer start from weights of the right shape, not from the real ones."""
    sources = {"cifar10_first_to_last": 5, "cifar10_last_to_first": 5, "cifar10_to_fashion": 10}
    source = []
    if name in sources:
        torch.save(zoo.create("resnet20", num_classes=sources[name]).state_dict(), tmp_path / "source.pt")
        source = ["init.source=source.pt"]
    if name == "mlp_pretrained_mnist":
        encoder = zoo.create("autoencoder", hidden=[1000, 1000], code=1000, tied=True)
        torch.save(encoder.state_dict(), tmp_path / "source.pt")
        source = ["init.weights=source.pt"]
    if name == "vae_mnist":
        source = ["task.nll_samples=50"]  # of 5,000
    if name in ("speednet_cifar10_4000", "semi_cifar10"):  # there are 600 toy images
        source = ["data.labels_per_class=4", *(["data.unlabelled=32"] if name == "semi_cifar10" else [])]
    if name.startswith("seq2seq_") and "unsupervised" not in name:  # without sacrebleu, which only the extra brings
        source = ["task.bleu=false", "task.monitor=val/loss", "task.mode=min"]
    if name == "seq2seq_tatoeba_ko_en":  # there are 280 toy pairs
        source += ["data.val_size=20", "data.test_size=20"]
    if "unsupervised" in name:  # the toys have too few words
        source = ["task.align=false", "task.word_by_word=0"]
    quick = "debug=fast", "logger=none", "data.batch_size=16", "data.eval_batch_size=16"
    code, out = run_train(f"experiment={name}", *quick, *source)
    assert code == 0, out
