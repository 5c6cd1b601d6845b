"""The twelve 2D sets of MedMNIST v2 and MedMNIST+ in their npz files, 28, 64, 128 and 224 px, with their splits."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genmed.ground.errors import DataError
from genmed.parts.data.labelling import one_of
from genmed.parts.data.layout import check_root, wrong_layout
from genmed.parts.data.npz import Member, NpzImages, check_array, list_members, read_array
from genmed.parts.data.records import SPLITS, Colour, DatasetFacts, Labels, Records, TaskKind
from genmed.records.config import Config

SIZES = (28, 64, 128, 224)
OWN = "it must be MedMNIST's own 2D file of this set"
ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
LITS = "its images are cut from the CT scans of LiTS, like those of the other two Organ sets"


class Flag(NamedTuple):
    """What MedMNIST's authors say of one set; classes in the order of their numbers."""

    title: str
    task: TaskKind
    colour: Colour
    counts: tuple[int, int, int]
    """Of train, val and test."""
    classes: tuple[str, ...]
    source: str
    """Where its images come from."""
    sources: tuple[str, ...] = ()
    licence: str = "CC BY 4.0"


FLAGS: Mapping[str, Flag] = {
    "pathmnist": Flag(
        "colorectal histology, 9 tissues",
        "multi-class",
        "rgb",
        (89_996, 10_004, 7_180),
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        "its images are those of NCT-CRC-HE-100K and CRC-VAL-HE-7K",
    ),
    "chestmnist": Flag(
        "chest radiographs, 14 findings",
        "multi-label",
        "grey",
        (78_468, 11_219, 22_433),
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        "its images are those of NIH ChestX-ray14",
        ("nih",),
    ),
    "dermamnist": Flag(
        "dermatoscopy, 7 lesions",
        "multi-class",
        "rgb",
        (7_007, 1_003, 2_005),
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        "its images are those of HAM10000, of which several may show one lesion, on two sides of the split",
        licence="CC BY-NC 4.0",
    ),
    "octmnist": Flag(
        "retinal OCT, 4 diagnoses",
        "multi-class",
        "grey",
        (97_477, 10_832, 1_000),
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        "its images are of Kermany et al. 2018",
        ("kermany2018",),
    ),
    "pneumoniamnist": Flag(
        "children's chest radiographs, pneumonia or not",
        "binary",
        "grey",
        (4_708, 524, 624),
        ("normal", "pneumonia"),
        "its images are the chest X-rays of Kermany et al. 2018, which are on Kaggle as a folder, too",
        ("kermany2018",),
    ),
    "retinamnist": Flag(
        "fundus photographs, 5 grades of diabetic retinopathy",
        "ordinal",
        "rgb",
        (1_080, 120, 400),
        ("0", "1", "2", "3", "4"),
        "its images are of the DeepDRiD challenge",
    ),
    "breastmnist": Flag(
        "breast ultrasound, malignant or not",
        "binary",
        "grey",
        (546, 78, 156),
        ("malignant", "normal, benign"),
        "its images are those of BUSI; MedMNIST's positive class is the one that is not malignant",
    ),
    "bloodmnist": Flag(
        "blood cells under the microscope, 8 kinds",
        "multi-class",
        "rgb",
        (11_959, 1_712, 3_421),
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        "its images are of Acevedo et al. 2020",
    ),
    "tissuemnist": Flag(
        "kidney cortex cells under the microscope, 8 kinds",
        "multi-class",
        "grey",
        (165_466, 23_640, 47_280),
        (
            "collecting duct, connecting tubule",
            "distal convoluted tubule",
            "glomerular endothelial cells",
            "interstitial endothelial cells",
            "leukocytes",
            "podocytes",
            "proximal tubule segments",
            "thick ascending limb",
        ),
        "its images are those of BBBC051",
    ),
    "organamnist": Flag(
        "CT, axial, 11 organs", "multi-class", "grey", (34_561, 6_491, 17_778), ORGANS, LITS, ("lits",)
    ),
    "organcmnist": Flag(
        "CT, coronal, 11 organs", "multi-class", "grey", (12_975, 2_392, 8_216), ORGANS, LITS, ("lits",)
    ),
    "organsmnist": Flag(
        "CT, sagittal, 11 organs", "multi-class", "grey", (13_932, 2_452, 8_827), ORGANS, LITS, ("lits",)
    ),
}
"""Counts as of the third release; the first two had up to 77 more images of organs."""


def _needs(name: str) -> str:
    return f"{name}.npz (28 px), or {name}_64.npz, {name}_128.npz or {name}_224.npz"


def load_records(name: str, root: Path, config: Config) -> Records:
    """All three sides. Raises DataError where the file is missing, or is not of this set.

    An archive that is damaged anywhere is refused also where broken images are to be left out.
    """
    flag = FLAGS[name]
    path = _choose_file(name, root, config.data.image_size)
    members = list_members(path)
    sides = sorted(SPLITS)  # so that the ids are sorted
    images = [_check_images(path, members, f"{side}_images", flag) for side in sides]
    if config.data.on_bad_image == "skip":
        for image in images:
            check_array(path, image)
    counts = [image.shape[0] for image in images]
    labels = [_read_labels(path, members, side, flag, count) for side, count in zip(sides, counts, strict=True)]
    numbered = [(side, number) for side, count in zip(sides, counts, strict=True) for number in range(count)]
    size = images[0].shape[1]
    wanted = config.data.image_size
    return Records(
        ids=tuple(f"{side}-{number:06d}" for side, number in numbered),
        classes=_positive(flag),
        labels=np.concatenate(labels),
        images=NpzImages(path, images),
        task=flag.task,
        colour=flag.colour,
        root=root / path.name,
        official=tuple(side for side, _ in numbered),
        notes=(f"Images of {path.name}, {size} px, {'reduced' if size > wanted else 'enlarged'} to {wanted} px",)
        * (size != wanted),
    )


def _positive(flag: Flag) -> tuple[str, ...]:
    """Of two classes the second is the one that is scored."""
    return flag.classes[1:] if flag.task == "binary" else flag.classes


def check_layout(name: str, root: Path, config: Config) -> None:
    """Raises DataError where no file of the set is there."""
    _choose_file(name, root, config.data.image_size)


def _choose_file(name: str, root: Path, wanted: int) -> Path:
    """The file of the wanted size; else the next larger one, else the largest."""
    check_root(root, _needs(name))
    present = {size: path for size in SIZES if (path := root / f"{name}{_suffix(size)}.npz").is_file()}
    if not present:
        raise wrong_layout(root, f"MedMNIST's {name}", _needs(name))
    return present[min((size for size in present if size >= wanted), default=max(present))]


def _suffix(size: int) -> str:
    return "" if size == 28 else f"_{size}"


def _check_images(path: Path, members: Mapping[str, Member], key: str, flag: Flag) -> Member:
    found = members.get(key)
    if found is None:
        raise DataError(
            f"{path} has no {key}; it holds {', '.join(members) or 'no arrays'}", "it must be MedMNIST's own"
        )
    colours = (3,) if flag.colour == "rgb" else ()
    fits = len(found.shape) == 3 + len(colours) and found.shape[3:] == colours and found.shape[1] == found.shape[2]
    if found.dtype != np.uint8 or not fits or found.shape[1] not in SIZES:
        raise DataError(
            f"{path}: {key} is {found.dtype} {found.shape}, not uint8 (N, S, S{', 3' if colours else ''}), S 28 to 224",
            OWN,
        )
    return found


def _read_labels(path: Path, members: Mapping[str, Member], side: str, flag: Flag, count: int) -> Labels:
    """(N, L), of the file's (N, 1) numbers of classes or (N, L) of 0 and 1."""
    key = f"{side}_labels"
    found = members.get(key)
    width = len(flag.classes) if flag.task == "multi-label" else 1
    if found is None or found.shape != (count, width) or not np.issubdtype(found.dtype, np.integer):
        what = "missing" if found is None else f"{found.dtype} {found.shape}"
        raise DataError(f"{path}: {key} is {what}, not integers ({count}, {width})", OWN)
    values = read_array(path, found).astype(np.int64)
    most = 1 if flag.task in ("multi-label", "binary") else len(flag.classes) - 1
    wrong = np.argwhere((values < 0) | (values > most))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise DataError(
            f"{path}: {key}[{row}] is {values[row, column]}, not 0 to {most}", "it must be MedMNIST's own file"
        )
    return values.astype(np.int8) if most == 1 and flag.task != "multi-class" else one_of(values[:, 0], most + 1)


def _state(name: str, flag: Flag) -> DatasetFacts:
    return DatasetFacts(
        name=f"medmnist:{name}",
        title=f"MedMNIST's {name}: {flag.title}",
        load_records=partial(load_records, name),
        needs=_needs(name),
        licence=flag.licence,
        citation="Yang et al., MedMNIST v2, Scientific Data 2023",
        classes=_positive(flag),
        task=flag.task,
        defaults={"data.image_size": 28, "model.name": "resnet18_small", "training.epochs": 10},
        check_layout=partial(check_layout, name),
        counts={"images": sum(flag.counts), **dict(zip(SPLITS, flag.counts, strict=True))},
        sources=flag.sources,
        lineage=flag.source,
        folder="medmnist",
    )


FACTS = tuple(_state(name, flag) for name, flag in FLAGS.items())
