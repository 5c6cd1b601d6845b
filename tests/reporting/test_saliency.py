"""Grad-CAM against its formula, and what it leaves as it was."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from genmed.engine.learner import Learner
from genmed.engine.normalise import Scaling
from genmed.engine.saliency import draw_saliency
from genmed.engine.task import Task
from genmed.parts.data.augmentation import choose_strength
from genmed.records.config import Config

IMAGES = np.random.Generator(np.random.Philox(5)).integers(0, 255, (3, 1, 16, 16)).astype(np.uint8)


def make_task(kind: Any = "multi-label", classes: tuple[str, ...] = ("a", "b", "c"), **settings: Any) -> Task:
    config = Config().replace(**settings)
    nothing = cast(Any, None)
    return Task(
        config=config,
        device="cpu",
        classes=classes,
        ids=(),
        kind=kind,
        labels=nothing,
        targets=nothing,
        studies=(),
        images=nothing,
        rows={},
        scaling=Scaling(0.5, 0.25),
        strength=choose_strength(config.augmentation),
        weights=None,
    )


def make_learner(model: nn.Module) -> Learner:
    return Learner(model, torch.optim.SGD(model.parameters(), lr=0.1), None, 1)


class Pooled(nn.Module):
    """Features, the mean over places, a linear layer."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(1, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(5, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.head(self.pool(self.features(images)).flatten(1)))


def compute_by_formula(model: Pooled, weights: torch.Tensor) -> np.ndarray[Any, Any]:
    """Of a mean over places the gradient is the weight of the head, by the number of places.

    weights: (B, 5).
    """
    model.eval()
    with torch.no_grad():
        features = model.features((torch.from_numpy(IMAGES).float() / 255 - 0.5) / 0.25)
    maps = (features * weights[:, :, None, None]).sum(1).clamp(min=0)
    return (maps / maps.amax((1, 2), keepdim=True)).numpy()


def test_map_is_that_of_the_formula() -> None:
    model = Pooled()
    found = draw_saliency(make_learner(model), make_task(), IMAGES, [0, 2, 1])
    expected = compute_by_formula(model, model.head.weight.detach()[[0, 2, 1]])
    assert found is not None
    assert found.shape == (3, 8, 8)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_step_of_a_scale_is_reached_and_not_passed() -> None:
    model = Pooled(outputs=2)
    found = draw_saliency(make_learner(model), make_task("ordinal"), IMAGES, [0, 1, 2])
    head = model.head.weight.detach()
    expected = compute_by_formula(model, torch.stack([-head[0], head[0] - head[1], head[1]]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_class_of_two_under_softmax_is_the_second_output() -> None:
    model = Pooled(outputs=2)
    task = make_task("binary", ("ill",), **{"loss.name": "softmax"})
    found = draw_saliency(make_learner(model), task, IMAGES, [0, 0, 0])
    expected = compute_by_formula(model, model.head.weight.detach()[[1, 1, 1]])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_learner_is_as_before(training: bool) -> None:
    model = Pooled()
    model.train(training)
    learner = make_learner(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = draw_saliency(learner, make_task(), IMAGES, [0, 1, 2])
    again = draw_saliency(learner, make_task(), IMAGES, [0, 1, 2])
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())
    np.testing.assert_array_equal(first, again)


def test_frozen_features_have_a_map() -> None:
    model = Pooled()
    model.features.requires_grad_(False)
    assert draw_saliency(make_learner(model), make_task(), IMAGES, [0, 1, 2]) is not None


def test_coarse_map_gives_way_to_the_one_before() -> None:
    model = Pooled()
    model.features.append(nn.Conv2d(5, 5, 4, stride=4))  # 2 x 2
    found = draw_saliency(make_learner(model), make_task(), IMAGES, [0, 1, 2])
    assert found is not None
    assert found.shape == (3, 8, 8)


class Tokens(nn.Module):
    """Patches that go on as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 5, 4, stride=4)
        self.mix = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.mix(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize("model", [Tokens(), nn.Sequential(nn.Flatten(), nn.Linear(256, 3))], ids=["tokens", "flat"])
def test_network_without_a_map_has_none(model: nn.Module) -> None:
    assert draw_saliency(make_learner(model), make_task(), IMAGES, [0, 1, 2]) is None
