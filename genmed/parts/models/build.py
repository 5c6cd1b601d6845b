"""Networks from a name: torchvision's, ours, or a function in a file of the user's."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmed.ground.errors import ConfigError
from genmed.ground.user_files import is_user_file, load_from_user_file
from genmed.parts.models.table import PATCHES
from genmed.records.config.sections import Model

if TYPE_CHECKING:
    import torch
    from torch import nn


def build_model(config: Model, num_classes: int, image_size: int, image_channels: int = 1) -> "nn.Module":
    """A network on the CPU that takes (B, C, S, S) float32, C = `count_input_channels`, and gives (B, num_classes).

    image_channels: 1 for grey images, 3 for RGB. Random weights are drawn from torch's global generator: seed it first.
    Raises ConfigError.
    """
    if is_user_file(config.name):
        model = _call_user_function(config.name, num_classes)
    elif config.name == "resnet18_small":
        model = _build_small_resnet(num_classes)
    else:
        model = _build_torchvision(config.name, num_classes, image_size)
    if image_channels == 3:
        _refuse_one_channel(config, model)
    elif wants_one_channel(config, model):
        _enter_grey(model)
    if config.weights != "random":
        load_weights(model, read_weights(config), config)
    if config.mode == "linear_probe":
        freeze_backbone(model, num_classes)
    return model


def wants_one_channel(config: Model, model: "nn.Module") -> bool:
    """Whether grey images shall enter as one channel; a user's model is taken as it is."""
    first = first_convolution(model)
    possible = first is not None and first[1].in_channels == 3 and first[1].groups == 1
    if config.input_channels == "1" and not possible and not (first and first[1].in_channels == 1):
        raise ConfigError(f"the first layer of {config.name} takes no single channel", "choose model.input_channels=3")
    return possible and config.input_channels != "3" and not is_user_file(config.name)


def _refuse_one_channel(config: Model, model: "nn.Module") -> None:
    if config.input_channels == "1" or count_input_channels(model) == 1:
        named = "model.input_channels is 1" if config.input_channels == "1" else f"{config.name} takes one channel"
        raise ConfigError(f"{named}, but the images are RGB", "read them as grey with --set data.colour=grey")


def count_input_channels(model: "nn.Module") -> int:
    """1 or 3: what the first convolution takes; 3 where there is none."""
    first = first_convolution(model)
    return first[1].in_channels if first else 3


def first_convolution(model: "nn.Module") -> "tuple[str, nn.Conv2d] | None":
    from torch import nn

    return next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def find_head(model: "nn.Module", num_classes: int) -> "tuple[str, nn.Module]":
    """The last layer with one output a class. Raises ConfigError where there is none."""
    from torch import nn

    for name, module in reversed(list(model.named_modules())):
        outputs = module.out_features if isinstance(module, nn.Linear) else getattr(module, "out_channels", None)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and outputs == num_classes:
            return name, module
    raise ConfigError(f"the model has no last layer with {num_classes} outputs", "check its num_classes")


def freeze_backbone(model: "nn.Module", num_classes: int) -> None:
    """Leaves the gradient to the head alone."""
    _, head = find_head(model, num_classes)
    model.requires_grad_(False)
    head.requires_grad_(True)


def set_training_mode(model: "nn.Module", config: Model, num_classes: int) -> None:
    """Train mode; for a linear probe the backbone stays in eval mode, or its running statistics would move."""
    if config.mode == "linear_probe":
        model.eval()
        find_head(model, num_classes)[1].train()
    else:
        model.train()


def read_weights(config: Model) -> "Mapping[str, torch.Tensor]":
    """Tensors by name, from torchvision (downloaded by its own mechanism, hash checked) or a local file.

    Raises ConfigError. A pickle is read with `weights_only`: it can hold tensors, not code.
    """
    import torch

    if config.weights == "torchvision":
        from torchvision import models

        if is_user_file(config.name) or config.name == "resnet18_small":
            raise ConfigError(f"torchvision has no weights for {config.name}", "set model.weights to random or a file")
        weights = models.get_model_weights(config.name).DEFAULT
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it says there that it downloads
                return dict(weights.get_state_dict(progress=False, check_hash=True))
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"cannot load torchvision's weights from {weights.url}: {error}",
                "put that file into torch's hub/checkpoints folder, or name a local file with --weights",
            ) from None
    path = Path(config.weights)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no weights make a reader fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"cannot read weights from {path}: {reason}") from None
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ConfigError(f"{path} holds no state dict of tensors")
    return loaded


def load_weights(model: "nn.Module", weights: "Mapping[str, torch.Tensor]", config: Model) -> None:
    """Copies the weights in; all but the head must fit. Raises ConfigError with the first misfit and both shapes."""
    own = model.state_dict()
    head = _head_prefix(model)
    first = first_convolution(model)
    grey = f"{first[0]}.weight" if first else ""
    chosen = {}
    for name, tensor in weights.items():
        if name not in own:
            if name.startswith(("aux", "AuxLogits")):
                continue  # training heads of googlenet and inception, which we build without
            raise ConfigError(f"weights {config.weights} have {name}, which {config.name} has not")
        fitting = tensor
        if name == grey and own[name].shape[1] == 1 and tensor.shape[1] == 3:
            fitting = tensor.sum(1, keepdim=True)  # equal to repeating the grey image over three channels
        if fitting.shape != own[name].shape:
            if name.startswith(head):
                continue
            raise ConfigError(f"{name}: weights have {tuple(fitting.shape)}, the model {tuple(own[name].shape)}")
        chosen[name] = fitting
    missing = [name for name in own if name not in chosen and not name.startswith(head)]
    if missing:
        raise ConfigError(f"weights {config.weights} lack {missing[0]} of {config.name} ({len(missing)} in all)")
    model.load_state_dict({**own, **chosen})


def _head_prefix(model: "nn.Module") -> str:
    from torch import nn

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return f"{(names or convolutions)[-1]}."


def _build_torchvision(name: str, num_classes: int, image_size: int) -> "nn.Module":
    from torchvision import models

    options: dict[str, Any] = {}
    if name.startswith("vit"):
        options["image_size"] = image_size
    if name in PATCHES and name.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return model


def _build_small_resnet(num_classes: int) -> "nn.Module":
    """ResNet-18 for 28 to 64 px: a 3x3 first convolution of stride 1, no max-pool (He et al. 2016, section 4.2)."""
    from torch import nn

    model = _build_torchvision("resnet18", num_classes, 0)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model


def _enter_grey(model: "nn.Module") -> None:
    """Replaces the first convolution by one of one input channel: its kernels summed over the three colours."""
    import torch
    from torch import nn

    found = first_convolution(model)
    assert found is not None
    name, old = found
    with torch.device("meta"):
        new = nn.Conv2d(
            1,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
        )
    new.weight = nn.Parameter(old.weight.detach().sum(1, keepdim=True))
    if old.bias is not None:
        new.bias = nn.Parameter(old.bias.detach())
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


def _call_user_function(name: str, num_classes: int) -> "nn.Module":
    from torch import nn

    function = load_from_user_file(name, "model")
    if not callable(function):
        path, _, attribute = name.rpartition(":")
        raise ConfigError(f"{path} has no function {attribute}: it is {function!r}", "give file.py:function")
    try:
        model = function(num_classes)
    except Exception as error:
        raise ConfigError(f"{name}({num_classes}) fails: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} gave {type(model).__name__}, not a torch.nn.Module")
    return model
