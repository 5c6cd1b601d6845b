"""The one config that all commands share: everything a person may choose, split by concern.

Each field is marked: `Bits` if it can change a bit of the trace or a metric, `Free` if it must not. The config's
fingerprint covers the `Bits` fields alone.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from genmed.ground.fingerprints import digest_json

T = TypeVar("T")


class Mark:
    """Whether a field affects bits, and whether it came after the first runs."""

    def __init__(self, affects_bits: bool, later: bool = False) -> None:
        self.affects_bits, self.later = affects_bits, later


Bits = Annotated[T, Mark(True)]
Later = Annotated[T, Mark(True, later=True)]
"""Affects bits; at its default it is no part of the fingerprint, so that earlier runs keep theirs."""
Free = Annotated[T, Mark(False)]

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Words = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""A list of texts; one alone needs no brackets."""

BOOLEAN = "boolean_given"


def _takes(kind: type, annotation: Any) -> bool:
    """Whether a type, or a union or list of types, has room for the kind; text has room for anything."""
    return annotation in (kind, str) or any(_takes(kind, inner) for inner in get_args(annotation))


def _check_power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("must be a power of two")
    return value


def _check_increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(not 0 < value < 1 for value in values) or list(values) != sorted(set(values)):
        raise ValueError("must be increasing fractions of the training between 0 and 1")
    return values


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return value


def check_name(value: str) -> str:
    """Of a run or a study, as part of a path. Raises ValueError."""
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError("must be of at most 64 letters, digits, dots, dashes and underscores, the first no mark")
    return value


class Section(BaseModel):
    """Frozen; unknown keys are refused; the docstring below a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_booleans_as_numbers(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name, value in values.items():
                given = value if isinstance(value, (list, tuple)) else [value]
                field = cls.model_fields.get(name)
                if field is not None and any(isinstance(v, bool) for v in given) and not _takes(bool, field.annotation):
                    told = {"name": name, "value": next(str(v).lower() for v in given if isinstance(v, bool))}
                    raise PydanticCustomError(BOOLEAN, "{name} must be a number, got {value}", told)
        return values


class Data(Section):
    """Which images, at which size, and how they are split."""

    dataset: Bits[str] = "phantom"
    """Name of a dataset that `genmed data list` names, or file.py:FACTS of your own."""
    root: Free[str] = ""
    """Folder that holds the data; data/<dataset> unless given."""
    image_size: Bits[Count] = 64
    """Side of the square image that the network sees, in pixels; the dataset's own unless given."""
    split: Bits[Literal["auto", "official", "patient"]] = "auto"
    """official: the lists that come with the data; patient: our own by patient; auto: official where there."""
    split_seed: Bits[Seed] = 0
    """Seed of our own split, apart from `seed`, so that another training seed keeps the split."""
    val_ratio: Bits[Fraction] = 0.2
    """Share of patients for validation."""
    test_ratio: Bits[Fraction] = 0.2
    """Share of patients for the test; not used where an official test list decides."""
    on_mismatch: Bits[Literal["stop", "skip"]] = "stop"
    """What to do about table rows without an image and images without a row."""
    on_bad_image: Later[Literal["stop", "skip"]] = "stop"
    """What to do about images that cannot be read; skip leaves them out and says so."""
    colour: Later[Literal["auto", "grey", "rgb"]] = "auto"
    """What the network sees; auto: as the dataset is."""
    bits: Later[Annotated[int, Field(ge=9, le=16)] | None] = None
    """Of image files with 16 bits a value, how many are used: 12 where white is 4095; null: all 16."""
    patient_pattern: Later[Annotated[str, AfterValidator(_check_pattern)]] = ""
    """Regular expression that finds the patient in an image's path, its first group if it has one, where the data name
    no patients: person(\\d+)."""

    @model_validator(mode="after")
    def _leave_room_for_training(self) -> "Data":
        if self.val_ratio + self.test_ratio >= 1:
            raise ValueError(f"val_ratio + test_ratio must be below 1, got {self.val_ratio} + {self.test_ratio}")
        return self


Uncertain = Literal["ones", "zeros", "ignore"]


class Labels(Section):
    """What the labels of a table mean."""

    task: Later[Literal["auto", "multi-label", "binary", "multi-class", "ordinal"]] = "auto"
    """auto: the dataset's own; ordinal for classes that are steps of one scale, in their order."""
    classes: Later[Words] = ()
    """Of a multi-label dataset, the classes to train and to measure, in this order; empty: all."""
    uncertain: Later[Uncertain | dict[str, Uncertain]] = "ignore"
    """CheXpert's -1: ones, zeros, or ignore; or one of them by class, `default` for those not named."""
    blank: Later[Literal["negative", "ignore"]] = "negative"
    """A cell with nothing in it: not there, or nobody knows."""
    readers: Later[Literal["majority", "any"]] = "majority"
    """VinBigData's three readers: a finding is there where more than half of them, or any, saw it."""


class Manifest(Section):
    """The columns of a CSV table of your own, for the dataset `manifest`. null: by their usual names."""

    file: Later[str] = "manifest.csv"
    """The table, in the data root or elsewhere; it counts by what it says of the images."""
    path: Later[str | None] = None
    """Column of the image's path, from the data root; path, image, file, filename or image_path."""
    labels: Later[Words] = ()
    """Columns of labels, one a class with 1 or True, 0 or False, -1 or nothing; or one of names. Empty: all others."""
    delimiter: Later[str] = "|"
    """Between several classes in one cell, unless the cell is a list such as ['mass', 'nodule']."""
    patient: Later[str | None] = None
    """Column of the patient; patient, patient_id or subject. A missing patient counts as one of its own."""
    site: Later[str | None] = None
    """Column of where the image comes from; site, source or hospital."""
    study: Later[str | None] = None
    """Column of the study, whose images are scored together; study or study_id."""
    split: Later[str | None] = None
    """Column with train, val and test; split or set."""
    sex: Later[str | None] = None
    """Column of the patient's sex, by which results are given too; sex or gender."""
    age: Later[str | None] = None
    """Column of the age in years, likewise; age."""
    view: Later[str | None] = None
    """Column of the view, likewise; view, view_position or projection."""


class Normalisation(Section):
    """How bytes become numbers: (pixel / 255 - mean) / std."""

    method: Bits[Literal["dataset", "imagenet", "half", "fixed"]] = "dataset"
    """dataset: mean and std of the training images; half: 0.5 and 0.5; fixed: `mean` and `std` below."""
    mean: Bits[float | None] = None
    """For `fixed`, on the scale 0 to 1."""
    std: Bits[Positive | None] = None
    """For `fixed`, on the scale 0 to 1."""

    @model_validator(mode="after")
    def _have_numbers_if_fixed(self) -> "Normalisation":
        given = self.mean is not None and self.std is not None
        if self.method == "fixed" and not given:
            raise ValueError("method fixed needs both mean and std")
        if self.method != "fixed" and (self.mean is not None or self.std is not None):
            raise ValueError(f"mean and std go with method fixed, not with {self.method}")
        return self


class Augmentation(Section):
    """Random changes of the training images, drawn for each image and epoch. null: as the preset says."""

    preset: Bits[Literal["none", "light", "standard", "chexnet", "crop", "baltruschat", "xrv"]] = "light"
    """light: small shifts and turns; standard: larger; chexnet, crop, baltruschat, xrv: see docs/AUGMENTATION.md."""
    flip: Bits[Annotated[float, Field(ge=0, le=1)] | None] = None
    """Probability of a horizontal flip."""
    rotate: Bits[Annotated[float, Field(ge=0, le=90)] | None] = None
    """Largest rotation either way, in degrees."""
    translate: Bits[Annotated[float, Field(ge=0, le=0.5)] | None] = None
    """Largest shift either way, as a share of the image's side."""
    scale: Bits[Fraction | None] = None
    """Largest change of size either way: 0.1 is 0.9 to 1.1."""
    contrast: Bits[Fraction | None] = None
    """Largest change of contrast either way: 0.1 is 0.9 to 1.1."""
    brightness: Bits[Fraction | None] = None
    """Largest change of brightness either way, as a share of the full range."""
    crop: Later[Annotated[float, Field(ge=0.01, le=1)] | None] = None
    """Smallest share of the area that a random patch has; it is enlarged to the whole. 1: no patches."""
    aspect: Later[Annotated[float, Field(ge=1, le=10)] | None] = None
    """Largest ratio of a patch's width to its height, and of its height to its width."""


class Model(Section):
    """Which network, and from where it starts."""

    name: Bits[str] = "resnet18"
    """A torchvision classification model, resnet18_small, or file.py:function of your own."""
    weights: Bits[str] = "random"
    """random; torchvision (its default weights); or a local .safetensors, .pt or .pth file."""
    mode: Bits[Literal["full_finetune", "linear_probe"]] = "full_finetune"
    """linear_probe trains the last layer alone and keeps the backbone in eval mode."""
    input_channels: Bits[Literal["auto", "1", "3"]] = "auto"
    """auto: grey images enter as 1 channel where the first layer allows it, else repeated as 3."""

    @model_validator(mode="before")
    @classmethod
    def _read_channels_as_text(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("input_channels"), int):
            return {**values, "input_channels": str(values["input_channels"])}
        return values

    @model_validator(mode="after")
    def _probe_something_trained(self) -> "Model":
        if self.mode == "linear_probe" and self.weights == "random":
            raise ValueError("mode linear_probe needs trained weights; set weights to torchvision or a file")
        return self


class Optimizer(Section):
    """How gradients become steps."""

    name: Bits[Literal["sgd", "adam", "adamw"]] = "adamw"
    """Update rule."""
    lr: Bits[Positive] = 1e-3
    """Learning rate at its highest."""
    weight_decay: Bits[NonNegative] = 1e-2
    """Decoupled for adamw, added to the gradient for sgd and adam."""
    momentum: Bits[Fraction] = 0.9
    """For sgd."""
    beta1: Bits[Fraction] = 0.9
    """For adam and adamw."""
    beta2: Bits[Fraction] = 0.999
    """For adam and adamw."""
    clip_norm: Bits[Positive | None] = None
    """Gradients are scaled down to this global 2-norm; null: not at all."""


class Schedule(Section):
    """The learning rate over the training: a function of the step alone."""

    name: Bits[Literal["cosine", "multistep", "constant"]] = "cosine"
    """cosine falls to 0; multistep multiplies by `gamma` at each milestone."""
    warmup: Bits[Fraction] = 0.05
    """Share of all steps over which the rate rises linearly from 0."""
    milestones: Bits[Annotated[tuple[float, ...], AfterValidator(_check_increasing)]] = (0.5, 0.75)
    """For multistep: shares of all steps."""
    gamma: Bits[Positive] = 0.1
    """For multistep."""


class Loss(Section):
    """Cross-entropy, and its adjustments."""

    name: Later[Literal["auto", "softmax"]] = "auto"
    """auto: by the task; softmax: of two classes and of a scale, too, one output a class, as MedMNIST's authors do."""
    label_smoothing: Bits[Fraction] = 0.0
    """Targets move this far towards one half."""
    positive_weights: Bits[Literal["none", "balanced"] | tuple[Positive, ...]] = "none"
    """none; balanced: negatives / positives of each class in training; or one number a class."""


class Training(Section):
    """How long, in which portions, and what counts as best."""

    epochs: Bits[Count] = 5
    """Passes over the training images; the dataset's own unless given."""
    batch_size: Bits[Annotated[int, Field(ge=2)]] = 32
    """Images a step, over all shards."""
    max_steps: Bits[Count | None] = None
    """Ends the training early, after this many steps; null: not."""
    select: Bits[Literal["best", "last"]] = "best"
    """Which state the final metrics are of: best by `monitor` on validation, or the last."""
    also_last: Later[bool] = False
    """Whether the last epoch's state is measured beside the best one's, as last_val_... and last_test_..."""
    monitor: Bits[Literal["auroc_macro", "loss"]] = "auroc_macro"
    """Validation figure that decides which epoch is best."""
    patience: Bits[Natural] = 0
    """Early stopping: epochs without a better `monitor` after which training ends; 0: off."""
    validate_every: Bits[Count] = 1
    """Epochs between validations; the last epoch is always validated. Changes which epoch can be best, no step."""


class Compute(Section):
    """On what and how exactly it is computed."""

    device: Bits[Literal["auto", "cpu", "cuda", "mps"]] = "auto"
    """auto is resolved when the run is born: cuda, else mps, else cpu."""
    determinism: Bits[Literal["strict", "seeded"]] = "strict"
    """strict: deterministic kernels or an error; seeded: everything seeded, kernels free."""
    precision: Bits[Literal["fp32", "bf16", "fp16"]] = "fp32"
    """bf16 and fp16 by autocast, fp16 with a gradient scaler."""
    tf32: Bits[bool] = False
    """Whether CUDA may use TF32 in matrix products and convolutions."""
    memory_format: Bits[Literal["channels_last", "contiguous"]] = "channels_last"
    """Order of the elements of images in memory; other bits, other speed."""
    threads: Bits[Count] = 1
    """CPU threads that share one operation; physical cores, at most 8, by the number of processes, unless given."""
    cpu_isa: Bits[Literal["native", "avx2", "avx512"]] = "native"
    """Highest CPU instruction set to use, so that unequal CPUs can give equal bits."""
    shards: Bits[Annotated[Count, AfterValidator(_check_power_of_two)]] = 1
    """Fixed slices of each batch on which the arithmetic is defined: a power of two."""
    processes: Free[Annotated[Count, AfterValidator(_check_power_of_two)]] = 1
    """Processes that compute the shards together: a power of two, at most the shards."""
    share_memory: Free[bool] = True
    """Whether those of one machine read each other's sums where they lie, and send them only to other machines."""
    patience_seconds: Free[Positive] = 300.0
    """How long one of these waits for another before it takes it for lost."""
    num_workers: Free[Natural] = 0
    """Processes that read batches ahead; 0: none, which is as fast where the cache lies in memory."""
    prefetch: Free[Count] = 2
    """Batches that each of these reads ahead."""
    persistent_workers: Free[bool] = True
    """Whether these stay from epoch to epoch."""
    images: Free[Literal["auto", "resident", "streamed"]] = "auto"
    """resident: all images in the device's memory; streamed: batch by batch; auto: resident on CUDA where they fit."""


class Checkpoints(Section):
    """When states are written, besides each epoch's end and a signal to stop; and which stay, besides the best."""

    every_steps: Free[Count | None] = None
    """Each so many steps; null: not."""
    every_minutes: Free[Positive | None] = 10.0
    """Within an epoch, when the last is so old; null: not."""
    keep: Free[Count] = 1
    """The newest so many stay."""
    keep_every_epochs: Free[Count | None] = None
    """The end of each so-many-th epoch stays; null: of none."""
    keep_every_steps: Free[Count | None] = None
    """One each so many steps is written and stays; null: none."""


class Run(Section):
    """How the run is called and what is written of it."""

    name: Free[Annotated[str, AfterValidator(check_name)]] = ""
    """Begins the run's name, before its id; <dataset>-<model>-s<seed> unless given."""
    tags: Free[Words] = ()
    """Words to find the run by."""
    note: Free[str] = ""
    """Anything worth remembering."""
    code_files: Free[Words] = ()
    """Files that the code of the model or the dataset reads, as paths or patterns (*, **): part of the run's code."""
    trace: Free[bool] = True
    """Whether each step's fingerprints are written; a run without cannot be verified."""
    report: Free[bool] = True
    """Whether report.html is written when the run is complete; `genmed report` makes it at any time."""
    trace_modules: Free[bool] = False
    """Whether each module's digests are written too, so that verify can name the module that differs elsewhere."""
    tensorboard: Free[bool] = False
    """Whether scalars are written for TensorBoard too; needs the extra `tensorboard`."""


class Config(Section):
    """Everything that a person may choose."""

    seed: Bits[Seed] = 42
    """Of weights, order, augmentation and dropout."""
    data: Data = Data()
    labels: Labels = Labels()
    manifest: Manifest = Manifest()
    normalisation: Normalisation = Normalisation()
    augmentation: Augmentation = Augmentation()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    training: Training = Training()
    compute: Compute = Compute()
    checkpoints: Checkpoints = Checkpoints()
    run: Run = Run()

    def affecting_bits(self) -> dict[str, Any]:
        """Dotted key -> value of each field that affects bits; of files the name, their content is digested as code."""
        values, defaults = flatten(self), flatten(Config())
        for key in ("data.dataset", "manifest.file", "model.name", "model.weights"):
            values[key] = Path(str(values[key])).name
        return {
            key: value
            for key, value in values.items()
            if (mark := _mark(key)).affects_bits and not (mark.later and value == defaults[key])
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `affecting_bits`."""
        return digest_json(self.affecting_bits())

    def replace(self, **values: Any) -> "Config":
        """A validated copy with dotted keys changed, e.g. `replace(**{"compute.device": "cpu"})`."""
        return Config.model_validate(unflatten({**flatten(self), **values}))


@cache
def list_keys() -> Mapping[str, Any]:
    """Dotted key -> pydantic's FieldInfo, in the order of the document."""
    keys: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys.update({f"{name}.{inner}": info for inner, info in field.annotation.model_fields.items()})
        else:
            keys[name] = field
    return MappingProxyType(keys)


def affects_bits(key: str) -> bool:
    """Whether the field under this dotted key can change a bit of the trace or a metric."""
    return _mark(key).affects_bits


def _mark(key: str) -> Mark:
    return next(mark for mark in list_keys()[key].metadata if isinstance(mark, Mark))


def flatten(config: Config) -> dict[str, Any]:
    """Dotted key -> plain value (tuples as lists)."""
    document = config.model_dump(mode="json")
    return {key: _look_up(document, key) for key in list_keys()}


def unflatten(values: dict[str, Any]) -> dict[str, Any]:
    """The nested document of dotted keys."""
    document: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (document.setdefault(section, {}) if section else document)[name] = value
    return document


def _look_up(document: dict[str, Any], key: str) -> Any:
    section, _, name = key.rpartition(".")
    return (document[section] if section else document)[name]
