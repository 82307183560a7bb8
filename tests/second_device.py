"""A second device "far" on any machine: its tensors lie apart, and an operation on tensors of two devices is refused.

It is torch's own place for a device of one's own, in Python (torch.utils.backend_registration): each operation on a
tensor of "far" is run by a kernel that is registered for that device alone, on memory that only this kernel reads;
between the two devices numbers move by copying. A process has one such device for good, so tests run this file in a
process of its own: ``python -m tests.second_device`` runs AlexNet's towers on both.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

from zoo.models.alexnet import AlexNet2012

copies: list[tuple[str, str]] = []  # from a device to another


memories: dict[int, Tensor] = {}  # the numbers of a tensor on the device, by its storage, which detached copies share


def far(memory: Tensor) -> Tensor:
    """A tensor of the device."""
    tensor = torch._C._acc.create_empty_tensor(memory.shape, memory.dtype)  # type: ignore[attr-defined]
    memories[tensor.untyped_storage()._cdata] = memory.contiguous()  # as the tensor says of itself
    return tensor


def is_far(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type == "far"


def memory(tensor: Tensor) -> Tensor:
    return memories[tensor.untyped_storage()._cdata]


def on_far(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation: on the memory of tensors that must all be here."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if strangers := [t for t in tensors if not is_far(t) and t.ndim]:
        raise RuntimeError(f"{operation}: tensors on far and {strangers[0].device}")
    given, more = tree_map(lambda t: memory(t) if is_far(t) else t, (args, kwargs))
    if "device" in more:
        more["device"] = torch.device("cpu")
    result = operation(*given, **more)
    known = {id(memory(t)): t for t in tensors if is_far(t)}  # of an operation in place
    storages = {t.untyped_storage().data_ptr() for t in tree_leaves((given, more)) if isinstance(t, Tensor)}

    def placed(t: Any) -> Any:
        if not isinstance(t, Tensor) or id(t) in known:
            return known.get(id(t), t) if isinstance(t, Tensor) else t
        # a view has memory of its own here, as autograd adds up gradients in place where it sees no other owner
        return far(t.clone() if t.untyped_storage().data_ptr() in storages else t)

    return tree_map(placed, result)


def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Between devices, and on this one."""
    numbers = memory(source) if is_far(source) else source
    if source.device != target.device:
        copies.append((source.device.type, target.device.type))
    (memory(target) if is_far(target) else target).copy_(numbers)
    return target


def empty(size: Any, *_: Any, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
    return far(torch.empty(size, dtype=dtype))


def empty_strided(size: Any, stride: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return far(torch.empty(size, dtype=dtype))


def convolution(*args: Any) -> Tensor:
    return on_far(torch.ops.aten.convolution.default, *args)


def convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Any:
    """The same as torch's, which is told the bias's size too."""
    *options, wanted = settings
    backward = torch.ops.aten.convolution_backward.default
    return on_far(backward, gradient, x, weight, [weight.shape[0]], *options, wanted)


def register() -> list[Any]:
    """Make the device; what is returned must be kept."""
    backend_registration._setup_privateuseone_for_python_backend("far")
    every = torch.library.Library("_", "IMPL")
    every.fallback(on_far, "PrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    aten.impl("_copy_from", copy_from, "PrivateUse1")
    aten.impl("empty.memory_format", empty, "PrivateUse1")
    aten.impl("empty_strided", empty_strided, "PrivateUse1")
    aten.impl("convolution_overrideable", convolution, "PrivateUse1")
    aten.impl("convolution_backward_overrideable", convolution_backward, "PrivateUse1")
    return [every, aten]


def main() -> None:
    kept = register()  # until the end
    torch.manual_seed(0)
    model = AlexNet2012(num_classes=10, image_size=63, pixel_scale=1.0, dropout=0.0).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x, labels = torch.randn(3, 3, 63, 63).double(), torch.arange(3)
    F.cross_entropy(model(x), labels).backward()
    logits, gradients = model(x).detach(), {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad()

    model.place("cpu", "far")
    assert {p.device.type for p in model.tower1.parameters()} == {"cpu"}
    assert {p.device.type for p in model.tower2.parameters()} == {"far"}
    copies.clear()
    found = model(x)
    # the image and three exchanges to the second tower; three and the head's from it
    assert sorted(copies) == [("cpu", "far")] * 4 + [("far", "cpu")] * 4, copies
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, logits)
    F.cross_entropy(found, labels).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.device == p.device
        torch.testing.assert_close(p.grad.cpu(), gradients[name], msg=lambda m, name=name: f"{name}: {m}")
    try:
        torch.cat([torch.ones(1), torch.ones(1).to("far")])
    except RuntimeError:
        print("crossed")  # this device is as strict as others
    del kept


if __name__ == "__main__":
    main()
