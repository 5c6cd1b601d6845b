"""Models: the table of names and sizes, networks that train, weights from files, networks of the user's own."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision import models

from genmed.ground.errors import ConfigError
from genmed.parts.models.build import build_model, count_input_channels, find_head, set_training_mode
from genmed.parts.models.table import MIN_SIZES, PATCHES, SMALLEST, TESTED, TORCHVISION, check_model, list_models
from genmed.records.config.sections import Model
from genmed.seed import set_seed
from tests.harness import TINY_MODEL, Genmed

Arguments = Callable[..., list[object]]
Tensors = dict[str, torch.Tensor]
SMALL = "squeezenet1_1"
"""A torchvision network of 0.7 M parameters, whose head is a convolution."""


def build(name: str, *, classes: int = 5, size: int = 32, seed: int = 0, **config: Any) -> nn.Module:
    set_seed(seed)
    return build_model(Model(name=name, **config), classes, size)


def refusal(name: str = TINY_MODEL, **config: Any) -> str:
    """Message and hint, one line each."""
    with pytest.raises(ConfigError) as caught:
        build(name, **config)
    assert "\n" not in caught.value.message + caught.value.hint
    return f"{caught.value.message} ({caught.value.hint})"


def smallest_size(name: str) -> int:
    """The smallest that `check_model` lets pass."""
    for size in range(1, 300):
        try:
            check_model(name, size)
        except ConfigError:
            continue
        return size
    raise AssertionError(name)


# The table


def test_table_is_torchvision_s_own() -> None:
    assert sorted(TORCHVISION) == sorted(models.list_models(module=models))
    assert set(list_models()) == {*TORCHVISION, "resnet18_small"}
    assert set(TESTED) <= set(list_models())
    assert all(any(name.startswith(prefix) for name in TORCHVISION) for prefix in (*MIN_SIZES, *PATCHES))


@pytest.mark.parametrize(
    "name",
    "alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mobilenet_v2 resnet18"
    " resnet18_small shufflenet_v2_x0_5 squeezenet1_0 squeezenet1_1 swin_t vgg11 vit_b_16".split(),
)
def test_smallest_size_is_taken_and_is_no_larger_than_it_must_be(name: str) -> None:
    size = smallest_size(name)
    with torch.device("meta"):  # shapes alone
        model = build_model(Model(name=name), 5, size).train()
        assert model(torch.empty(2, count_input_channels(model), size, size)).shape == (2, 5)
        if name not in PATCHES and size > SMALLEST:
            with pytest.raises((RuntimeError, ValueError)):
                model(torch.empty(2, count_input_channels(model), size - 1, size - 1))


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("densenet121", 28, "densenet121 needs images of at least 29 px, got 28 (raise --image-size)"),
        ("vit_b_16", 60, "vit_b_16 needs an image size that 16 divides, got 60 (change --image-size)"),
        ("resnet50", 7, "resnet50 needs images of at least 8 px, got 7 (raise --image-size)"),
        ("resnet_50", 64, "did you mean resnet50 or"),
        ("ResNet50", 64, "did you mean resnet50"),
        ("unet", 64, "file.py:function"),
    ],
)
def test_model_that_there_is_not_or_not_at_this_size_is_refused(name: str, size: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_model(name, size)
    assert told in f"{caught.value.message} ({caught.value.hint})"


# Networks that train


@pytest.mark.parametrize("name", TESTED)
def test_tested_model_takes_grey_images_and_learns_from_them(name: str) -> None:
    size = 28 if name == "resnet18_small" else 32
    model = build(name, classes=14, size=size).train()
    assert count_input_channels(model) == 1
    images = torch.randn(2, 1, size, size)
    scores = model(images)
    assert scores.shape == (2, 14)
    binary_cross_entropy_with_logits(scores, torch.ones(2, 14)).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    _, head = find_head(model, 14)
    assert isinstance(head, nn.Linear)
    assert head.weight.grad is not None
    assert head.weight.grad.abs().sum() > 0


def test_weights_are_drawn_from_the_seed() -> None:
    first, second, other = (build(SMALL, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_grey_images_enter_as_repeated_over_three_channels() -> None:
    grey, colour = (build("resnet18", input_channels=channels).eval() for channels in ("auto", "3"))
    assert (count_input_channels(grey), count_input_channels(colour)) == (1, 3)
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_small_resnet_keeps_the_resolution() -> None:
    model = build("resnet18_small", size=28)
    assert isinstance(model.get_submodule("maxpool"), nn.Identity)
    first = model.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d)
    assert (first.kernel_size, first.stride) == ((3, 3), (1, 1))


def test_model_of_the_user_is_taken_as_it_is() -> None:
    assert count_input_channels(build(TINY_MODEL)) == 3
    assert "takes no single channel" not in str(build(TINY_MODEL, input_channels="auto"))


# Weights


def write_weights(path: Path, tensors: Tensors) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_are_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    source = build(SMALL, seed=1).state_dict()
    model = build(SMALL, seed=2, weights=str(write_weights(tmp_path / f"weights{suffix}", source)))
    assert all(torch.equal(tensor, source[name]) for name, tensor in model.state_dict().items())


def test_weights_may_lie_under_state_dict(tmp_path: Path) -> None:
    source = build(SMALL, seed=1).state_dict()
    torch.save({"state_dict": source, "epoch": 3}, tmp_path / "weights.pt")
    model = build(SMALL, seed=2, weights=str(tmp_path / "weights.pt"))
    assert torch.equal(model.state_dict()["features.0.weight"], source["features.0.weight"])


def test_weights_of_colour_images_with_another_head_are_summed_and_keep_our_head(tmp_path: Path) -> None:
    source = build("resnet18", seed=1, classes=1000, input_channels="3").state_dict()
    file = write_weights(tmp_path / "weights.safetensors", source)
    own = build("resnet18", seed=2).state_dict()
    loaded = build("resnet18", seed=2, weights=str(file)).state_dict()
    assert torch.equal(loaded["conv1.weight"], source["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(loaded["layer4.1.conv2.weight"], source["layer4.1.conv2.weight"])
    assert torch.equal(loaded["bn1.running_mean"], source["bn1.running_mean"])
    assert torch.equal(loaded["fc.weight"], own["fc.weight"])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda tensors: tensors.update({"3.weight": torch.zeros(16, 8, 5, 5)}),
            "3.weight: weights have (16, 8, 5, 5), the model (16, 8, 3, 3)",
        ),
        (lambda tensors: tensors.pop("1.running_var"), "lack 1.running_var of"),
        (lambda tensors: tensors.update({"7.weight": torch.zeros(1)}), "have 7.weight, which"),
    ],
    ids=["another shape", "one missing", "one too many"],
)
def test_weights_that_do_not_fit_are_told_by_name_and_shapes(
    tmp_path: Path, suffix: str, change: Callable[[Tensors], Any], told: str
) -> None:
    tensors = dict(build(TINY_MODEL).state_dict())
    change(tensors)
    assert told in refusal(weights=str(write_weights(tmp_path / f"weights{suffix}", tensors)))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
@pytest.mark.parametrize(
    "spoil",
    [cut, lambda file: file.write_bytes(b""), lambda file: file.write_text("hello"), lambda file: file.unlink()],
    ids=["cut short", "empty", "text", "absent"],
)
def test_weights_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, spoil: Callable[[Path], Any]) -> None:
    file = write_weights(tmp_path / name, dict(build(TINY_MODEL).state_dict()))
    spoil(file)
    assert str(file) in refusal(weights=str(file))


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, "text", {"state_dict": {"a": [1]}}])
def test_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert f"{tmp_path / 'weights.pt'} holds no state dict of tensors" in refusal(weights=str(tmp_path / "weights.pt"))


class Evil:
    """Its unpickling leaves a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    file, trace = tmp_path / "weights.pt", tmp_path / "it-ran"
    content = pickle.dumps({"0.weight": Evil(trace)}, protocol=2)
    pickle.loads(content)
    trace.rmdir()  # so it would run
    if legacy:
        file.write_bytes(content)
    else:
        torch.save(dict(build(TINY_MODEL).state_dict()), file)
        with zipfile.ZipFile(file) as made:
            parts = {name: made.read(name) for name in made.namelist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as spoiled:
            for name, part in parts.items():
                spoiled.writestr(name, content if name.endswith("data.pkl") else part)
    assert f"cannot read weights from {file}" in refusal(weights=str(file))
    assert not trace.exists()


def test_torchvision_s_weights_are_read_from_torch_s_folder(
    genmed: Genmed, tiny: Arguments, nih: Path, tmp_path: Path
) -> None:
    url = models.get_model_weights(SMALL).DEFAULT.url
    source = models.get_model(SMALL, weights=None).state_dict()
    file = tmp_path / "home" / "hub" / "checkpoints" / Path(url).name
    file.parent.mkdir(parents=True)
    torch.save(source, file)
    given = ["--model", SMALL, "--weights", "torchvision", "--image-size", 32, "--epochs", 1]
    result = genmed(*tiny(*given, "--lr", "1e-12"), TORCH_HOME=str(tmp_path / "home"))
    assert result.code == 0, result.err
    trained = load_file(next(genmed.run_folder().glob("checkpoints/*/model.safetensors")))
    torch.testing.assert_close(trained["features.3.squeeze.weight"], source["features.3.squeeze.weight"])
    torch.testing.assert_close(trained["features.0.weight"], source["features.0.weight"].sum(1, keepdim=True))
    recorded = json.loads((genmed.run_folder() / "run.json").read_text())["weights"]
    assert recorded["source"] == "torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1"


def test_torchvision_s_weights_without_network_are_one_line_that_says_where_to_put_them(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    given = [
        part for part in tiny("--model", SMALL, "--weights", "torchvision", "--image-size", 32) if part != "--json"
    ]
    nowhere = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path / "home")}
    result = genmed(*given, **nowhere)
    assert (result.code, result.out) == (2, "")
    (told,) = [line for line in result.err.splitlines() if line.startswith("error")]
    assert told.startswith("error: cannot load torchvision's weights from https://")
    assert "hub/checkpoints" in told
    assert "--weights" in told
    assert "Traceback" not in result.err
    assert list(genmed.root.iterdir()) == []


@pytest.mark.parametrize("name", [TINY_MODEL, "resnet18_small"])
def test_torchvision_has_no_weights_for_other_models(name: str) -> None:
    assert "torchvision has no weights for" in refusal(name, weights="torchvision")


# Linear probe


def test_linear_probe_trains_the_head_alone_and_leaves_statistics_still(tmp_path: Path) -> None:
    name = "shufflenet_v2_x0_5"
    file = write_weights(tmp_path / "weights.pt", dict(build(name, seed=1).state_dict()))
    config = Model(name=name, weights=str(file), mode="linear_probe")
    model = build(name, **config.model_dump(exclude={"name"}))
    head = ["fc.weight", "fc.bias"]
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == head
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    set_training_mode(model, config, 5)
    model(torch.randn(4, 1, 32, 32)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == head
    set_training_mode(model, Model(name=name), 5)
    model(torch.randn(4, 1, 32, 32))
    assert not torch.equal(dict(model.named_buffers())["conv1.1.running_mean"], before["conv1.1.running_mean"])


def test_linear_probe_as_a_run_moves_the_head_alone(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    source = dict(build(TINY_MODEL, classes=14, seed=1).state_dict())
    file = write_weights(tmp_path / "weights.safetensors", source)
    result = genmed(*tiny("--weights", file, "--mode", "linear_probe", "--epochs", 2))
    assert result.code == 0, result.err
    for path in genmed.run_folder().glob("checkpoints/*/model.safetensors"):
        trained = load_file(path)
        moved = {name for name, tensor in trained.items() if not torch.equal(tensor, source[name])}
        assert moved == {"9.weight", "9.bias"}


def test_linear_probe_needs_a_head_that_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "headless.py").write_text(
        "from torch import nn\n\n\ndef build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))\n"
    )
    name = f"{tmp_path / 'headless.py'}:build"
    torch.save(build(name).state_dict(), tmp_path / "weights.pt")
    told = refusal(name, weights=str(tmp_path / "weights.pt"), mode="linear_probe")
    assert "no last layer with 5 outputs" in told


# Models of the user's own

NET = "from torch import nn\n\n\ndef build(num_classes):\n    return {}\n"


@pytest.mark.parametrize(
    ("text", "function", "told"),
    [
        (NET.format("nn.Linear(1, 1)"), "make", "model.py has no function make (give file.py:function)"),
        (NET.format("'net'"), "build", "model.py:build gave str, not a torch.nn.Module"),
        (NET.format("nn.Linear"), "build", "model.py:build gave type, not a torch.nn.Module"),
        ("import nothing_of_the_kind", "build", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def build(:", "build", "model.py cannot be imported: SyntaxError"),
        ("raise ValueError('too early')", "build", "model.py cannot be imported: ValueError: too early"),
        ("build = 3", "build", "model.py has no function build"),
        ("def build():\n    pass", "build", "TypeError: build() takes 0 positional arguments but 1 was given"),
        (NET.format("1 / 0"), "build", "ZeroDivisionError: division by zero"),
        (
            NET.format("nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))"),
            "build",
            "fails on a batch of 16 x 16 px",
        ),
        (
            NET.format("nn.Sequential(nn.Flatten(), nn.Linear(768, 3))"),
            "build",
            "fails on a batch of 16 x 16 px",
        ),
    ],
    ids=[
        "no function",
        "text",
        "a class",
        "import error",
        "syntax error",
        "error at import",
        "no callable",
        "no argument",
        "error when called",
        "other input",
        "other outputs",
    ],
)
def test_model_of_the_user_that_does_not_work_is_one_line(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, text: str, function: str, told: str
) -> None:
    (tmp_path / "model.py").write_text(text)
    given = tiny("--model", f"{tmp_path / 'model.py'}:{function}")
    result = genmed(*[part for part in given if part != "--json"])
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1, result.err
    assert told in result.err
    assert str(tmp_path / "model.py") in result.err
    assert list(genmed.root.iterdir()) == []
