"""compile=true compiles what a task calls of its model, or says that it does not."""

import copy
import functools

import pytest
import torch

import zoo
from zoo.run import report
from zoo.tasks.variational import Variational

IMAGES_OF_INK = ("data.mean=[0.0]", "data.std=[1.0]")
PARTS = {  # what training calls of a model, by settings
    "model=linear": {"forward"},
    "model=made model.hidden=[20] task=density data.binarise=fixed": {"log_prob"},
    "model=vae model.hidden=[20] task=variational": {"posterior", "logits"},
    "model=gan model.hidden=[20] task=adversarial task.judge=null": {"generate", "judge"},
    "model=gan model.hidden=[20] task=adversarial task.judge=null task.loss=wgan_gp": {"generate"},
    "model=autoencoder model.hidden=[20] task=reconstruct": {"forward"},
    "model=autoencoder model.hidden=[20] task=reconstruct task.contraction=0.1": {"decode"},
    "model=ladder model.hidden=[20] model.costs=[1,1,1] task=semi task.method=ladder data.unlabelled=50 "
    "data.labels_per_class=10": {"corrupted_and_cost"},
}  # fmt: skip


@pytest.mark.parametrize("settings", PARTS)
def test_what_training_calls_is_compiled(run_train, monkeypatch, settings):
    """By a compiler that only notes what it compiled and was called in training mode, with gradients."""
    called = set()

    def note(function):
        @functools.wraps(function)
        def noted(*args, **kwargs):
            name = "forward" if function.__name__ == "_call_impl" else function.__name__
            model = getattr(function, "__self__", args[0] if args else None)
            if torch.is_grad_enabled() and isinstance(model, torch.nn.Module) and model.training:
                called.add(name)
            return function(*args, **kwargs)

        return noted

    monkeypatch.setattr(torch, "compile", note)
    code, output = run_train(
        *settings.split(), *IMAGES_OF_INK, "optimizer=adam", "data.batch_size=50", "debug=fast", "compile=true",
        "logger=none", "callbacks.progress=null",
    )  # fmt: skip
    assert code == 0, output
    assert called >= PARTS[settings]
    twice = {"encode"} if "contraction" in settings else {"judge"} if "wgan_gp" in settings else set()
    assert not called & twice, "torch compiles nothing whose gradient has a gradient"


def test_a_compiled_models_copy_has_its_own_weights(monkeypatch):
    """As that of averaged weights."""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    task = Variational(zoo.create("vae", hidden=[20]))
    report.compile_or_warn(task)
    copied = copy.deepcopy(task.model)
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(copied.posterior(x)[0], task.model.posterior(x)[0])
    with torch.no_grad():
        for p in copied.parameters():
            p.zero_()
    assert not copied.posterior(x)[0].any()
    assert task.model.posterior(x)[0].any()


def test_what_cannot_be_compiled_is_said(run_train):
    for settings in ("model=ppca task=em", "model=autoencoder task=reconstruct task.layerwise=true"):
        with pytest.warns(UserWarning, match="calls nothing of its model that can be compiled"):
            code, output = run_train(
                *settings.split(), *IMAGES_OF_INK, "optimizer=adam", "scheduler=none", "debug=fast", "compile=true",
                "logger=none", "callbacks.progress=null",
            )  # fmt: skip
        assert code == 0, output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of torch's own tracing
@pytest.mark.parametrize("settings", PARTS)
def test_compiled_training_learns_the_same(run_train, tmp_path, settings):
    """With torch's own compiler, where there is one: the weights after two updates are those of the bare model."""
    from torch._inductor import config

    common = (
        *settings.split(), *IMAGES_OF_INK, "optimizer=sgd", "data.batch_size=50", "logger=none",
        "callbacks.progress=null", "trainer.max_steps=4", "trainer.limit_val_batches=0", "test=false", "scheduler=none",
        "callbacks.best=null", "select=last", "seed=1",
    )  # fmt: skip
    found = []
    for compiled in ("true", "false"):
        folder = tmp_path / compiled
        with config.patch(fallback_random=True):  # dropout and noise are drawn as without the compiler
            code, output = run_train(*common, f"compile={compiled}", f"hydra.run.dir={folder}")
        assert code == 0, output
        found.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    for name, tensor in found[1].items():
        torch.testing.assert_close(found[0][name], tensor, rtol=1e-3, atol=1e-5)
