"""Which models there are and the smallest image each can take; read before torch is imported."""

from collections.abc import Sequence

from genmed.ground.errors import ConfigError
from genmed.ground.user_files import find_user_file, is_user_file
from genmed.records.config import suggest

OURS = ("resnet18_small",)
TESTED = (
    "resnet18",
    "resnet18_small",
    "resnet50",
    "densenet121",
    "vit_b_16",
    "efficientnet_b0",
    "convnext_tiny",
)

# Smallest side in px, in train mode, two images a batch; found by trying each size. Others take any from 8.
MIN_SIZES = {
    "alexnet": 63,
    "convnext": 32,
    "densenet": 29,
    "googlenet": 15,
    "inception_v3": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "vgg": 32,
}
SMALLEST = 8
PATCHES = {"vit_b_16": 16, "vit_l_16": 16, "vit_b_32": 32, "vit_l_32": 32, "vit_h_14": 14, "maxvit_t": 224}

TORCHVISION = tuple(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
    regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
    regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
    resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
    shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn
    vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2
    wide_resnet50_2
    """.split()  # as `torchvision.models.list_models` names them; a test compares
)


def list_models() -> Sequence[str]:
    return sorted({*OURS, *TORCHVISION})


def check_model(name: str, image_size: int) -> None:
    """Raises ConfigError for an unknown name (with the nearest ones), a missing file, or too small an image."""
    if is_user_file(name):
        find_user_file(name, "model")
        return
    if name.endswith(".py"):
        raise ConfigError(f"{name} is a file: name its function, too", f"for example {name}:build")
    if name not in list_models():
        raise ConfigError(
            f"unknown model {name!r}", f"{suggest(name, list_models())}; or file.py:function for a model of your own"
        )
    smallest = next((size for prefix, size in MIN_SIZES.items() if name.startswith(prefix)), SMALLEST)
    if image_size < smallest:
        raise ConfigError(f"{name} needs images of at least {smallest} px, got {image_size}", "raise --image-size")
    if image_size % (patch := PATCHES.get(name, 1)):
        raise ConfigError(f"{name} needs an image size that {patch} divides, got {image_size}", "change --image-size")
