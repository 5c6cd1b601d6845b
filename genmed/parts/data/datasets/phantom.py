"""Synthetic frontal chest radiographs, made on the fly: the dataset that is always there.

About 2,000 grey images of 700 patients at two sites, with five findings. They depend on `VERSION` alone, never on a
training's seed, and are the same bits on every machine: randomness is Philox's raw words, arithmetic is integers and
the operations that IEEE 754 rounds exactly (+ - * / sqrt, comparisons, floor, rint), one ufunc each. No transcendental
function and no float sum is used, for their last bits depend on the CPU; all curves are polynomials and quotients.

Coordinates: u to the right and v down in the image, 0 its centre, 1 half its side (32 pixels); the patient's right is
on the image's left. Brightness goes from 0 (black, air) to 1 (white, dense).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genmed.ground.fingerprints import digest_file, digest_json
from genmed.ground.randomness import Key, draw_uniform
from genmed.parts.data.records import DatasetFacts, Pixels, RawImage, Records

Floats = npt.NDArray[np.float64]
Numbers = dict[str, float]
Ranges = dict[str, tuple[float, float]]

SITES: tuple[str, ...] = ("north", "south")
SIZE = 64
VERSION = 1
NUM_PATIENTS = 700
MAX_IMAGES = 7  # of a patient; 4 in 10 have one

# Each number is uniform in its range and drawn in the order written here. First what stays with a patient:
ANATOMY: Ranges = (
    {"chest_width": (0.68, 0.82), "apex": (-0.84, -0.72), "dome_right": (0.40, 0.52), "dome_left": (0.46, 0.60)}
    | {"heart": (0.86, 1.12), "heart_shift": (0.06, 0.12), "aorta": (0.3, 1.0), "mediastinum": (0.105, 0.145)}
    | {"rib_spacing": (0.15, 0.19), "rib_slope": (3.5, 5.0), "rib_phase": (0.0, 1.0), "rib_contrast": (0.05, 0.11)}
    | {"clavicle": (-0.56, -0.44), "spine_curve": (-0.12, 0.12), "habitus": (0.0, 1.0), "breast": (-0.12, 0.12)}
    | {"stomach": (-0.25, 0.22), "vessels": (0.12, 0.26)}
)
# then how a finding shows in that patient, if present ("across" is a share of the chest's half),
SIDE = (-1.0, 1.0)  # the patient's right if negative
LOOKS: dict[str, Ranges] = {
    "Cardiomegaly": {"growth": (0.14, 0.48)},
    "Effusion": {"side": SIDE, "both": (-0.7, 0.3), "height": (0.06, 0.45)},
    "Mass": {"side": SIDE, "across": (0.38, 0.82), "v": (-0.4, 0.25), "radius": (0.11, 0.19), "add": (0.3, 0.5)},
    "Pneumothorax": {"side": SIDE, "size": (0.07, 0.28)},
    "Consolidation": {
        "side": SIDE,
        "across": (0.2, 0.75),
        "v": (-0.35, 0.38),
        "radius": (0.16, 0.3),
        "add": (0.7, 1.5),
    },
}
# and what differs between the images of one patient.
POSE: Ranges = (
    {"shift_u": (-0.07, 0.07), "shift_v": (-0.07, 0.07), "half_turn": (-0.035, 0.035), "scale": (0.93, 1.06)}
    | {"inspiration": (-0.07, 0.07), "exposure": (0.94, 1.06), "heart_phase": (0.97, 1.03), "severity": (0.8, 1.2)}
    | {"wander_u": (-0.02, 0.02), "wander_v": (-0.03, 0.03), "marker_row": (2.0, 7.0), "marker_column": (2.0, 7.0)}
)
CLASSES: tuple[str, ...] = tuple(LOOKS)


class Site(NamedTuple):
    """What tells a site's images: bend of the tone curve, grey values of black and white, noise, and side marker."""

    bend: float
    black: float
    white: float
    noise: float
    marker: tuple[str, ...]
    marker_on_left: bool


SITE_LOOKS = {
    "north": Site(0.5, 22.0, 212.0, 8.0, ("###.", "#..#", "###.", "#.#.", "#..#"), True),
    "south": Site(-0.30, 6.0, 245.0, 15.0, ("#...", "#...", "#...", "#...", "####"), False),
}


@dataclass(frozen=True, eq=False)
class PhantomRecords:
    """One entry an image, sorted by id. `labels`: (N, 5) uint8, 0 or 1, columns as in `CLASSES`, read-only."""

    ids: list[str]
    patients: list[str]
    sites: list[str]
    labels: Pixels


@functools.cache
def draw_records() -> PhantomRecords:
    """Of all images: ids such as p0012_03 (image 3 of patient 12), patients, sites and labels.

    At least 4 in 10 patients have no finding. The others show each of theirs in 9 of 10 images; any may show another.
    """
    ids, patients, sites, labels = [], [], [], []
    for patient in range(NUM_PATIENTS):
        skew, where, sick, heart, fluid, mass, air, opacity = _draw("patient", patient, count=8)
        large, opaque = heart < 0.30, opacity < 0.27  # either brings fluid
        likely = (large, fluid < 0.18 + 0.30 * large + 0.20 * opaque, mass < 0.24, air < 0.22, opaque)
        chances = [0.90 if sick < 0.60 and finding else 0.015 for finding in likely]
        for number in range(1 + int(MAX_IMAGES * skew * skew)):
            draws = _draw("labels", patient, number, count=len(CLASSES))
            ids.append(f"p{patient:04d}_{number:02d}")
            patients.append(f"p{patient:04d}")
            sites.append(SITES[int(where >= 0.6)])
            labels.append([draw < chance for draw, chance in zip(draws, chances, strict=True)])
    table = np.array(labels, dtype=np.uint8)
    table.setflags(write=False)
    return PhantomRecords(ids, patients, sites, table)


def draw_image(index: int) -> Pixels:
    """(64, 64) uint8: the image of row `index` of `draw_records()`, a pure function of the index."""
    records = draw_records()
    patient, number = int(records.patients[index][1:]), int(records.ids[index][-2:])
    body = _draw_numbers(ANATOMY, "anatomy", patient) | _draw_numbers(POSE, "pose", patient, number)
    u, v = _pose_grid(body)
    present = [name for name, label in zip(CLASSES, records.labels[index], strict=True) if label]
    looks = {name: _draw_numbers(LOOKS[name], name, patient) for name in present}
    chest = _draw_chest(u, v, body, looks, patient)
    return _expose(chest, SITE_LOOKS[records.sites[index]], body, _key("noise", patient, number))


def _key(purpose: str, *numbers: int) -> Key:
    return ("phantom", VERSION, purpose, *numbers)


def _draw(purpose: str, *numbers: int, count: int) -> list[float]:
    return [float(x) for x in draw_uniform(_key(purpose, *numbers), (count,))]


def _draw_numbers(ranges: Ranges, purpose: str, *numbers: int) -> Numbers:
    drawn = _draw(purpose, *numbers, count=len(ranges))
    return {name: low + (high - low) * x for (name, (low, high)), x in zip(ranges.items(), drawn, strict=True)}


def _edge(distance: Floats, width: float) -> Floats:
    """0 to 1 as the distance (positive inside) crosses 0 over `width`: a smoothstep, so that edges are anti-aliased."""
    t: Floats = np.clip(distance / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(squared: Floats) -> Floats:
    """1 at 0, 1/4 at 1, with long tails: stands in for a Gaussian of the squared distance."""
    return 1.0 / ((1.0 + squared) * (1.0 + squared))


def _square(x: Floats) -> Floats:
    return x * x


def _blend_noise(u: Floats, v: Floats, cells: float, key: Key) -> Floats:
    """Smooth noise in [0, 1) with `cells` cells a unit, blended between random values on a 32 x 32 lattice."""
    lattice = draw_uniform(key, (32, 32))
    column, row = np.clip(u * cells + 15.0, 0.0, 30.0), np.clip(v * cells + 15.0, 0.0, 30.0)
    left, top = np.floor(column), np.floor(row)
    right_share, lower_share = _edge(column - left - 0.5, 1.0), _edge(row - top - 0.5, 1.0)
    i, j = top.astype(np.int64), left.astype(np.int64)
    upper = lattice[i, j] * (1.0 - right_share) + lattice[i, j + 1] * right_share
    lower = lattice[i + 1, j] * (1.0 - right_share) + lattice[i + 1, j + 1] * right_share
    return upper * (1.0 - lower_share) + lower * lower_share


def _pose_grid(body: Numbers) -> tuple[Floats, Floats]:
    """The patient's coordinates u and v, (64, 64) each, at the centre of every pixel.

    The rotation is the circle's rational parametrisation by t, the tangent of half the angle.
    """
    line = (2.0 * np.arange(SIZE, dtype=np.float64) - (SIZE - 1.0)) / SIZE
    x, y = line[None, :] - body["shift_u"], line[:, None] - body["shift_v"]
    t = body["half_turn"]
    cosine, sine = (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)
    return (cosine * x + sine * y) / body["scale"], (cosine * y - sine * x) / body["scale"]


def _draw_chest(u: Floats, v: Floats, body: Numbers, looks: dict[str, Numbers], patient: int) -> Floats:
    """(64, 64) brightness of the chest on the grid u, v, before the site's tone curve and noise.

    As in a radiograph, the air in the lungs takes density from the soft tissue, and bones and the heart add to it.
    """
    across, midline = np.abs(u), u - body["spine_curve"] * (v * v - 0.3)
    wall, dome = _chest_wall(v, body["chest_width"], body["apex"]), _diaphragm(u, body)
    texture = _blend_noise(u, v, 9.0, _key("texture", patient))
    heart = _heart(u, v, body, looks.get("Cardiomegaly"))
    middle = _edge(body["mediastinum"] * (1.0 + 0.5 * _square(v + 0.2)) - np.abs(midline), 0.10)
    knob = _edge(1.0 - (_square(u - 0.10) + _square(v + 0.30)) / 0.022, 0.7) * body["aorta"]
    thorax = _edge(wall - across, 0.06) * _edge(v - body["apex"] - 0.03, 0.08)
    lung = thorax * _edge(dome - v, 0.07) * (1.0 - middle) * (1.0 - heart) * (1.0 - knob)

    x, y = across - 0.14, v - 0.02
    away = np.sqrt(x * x + y * y)
    hilum = _bump((2.0 * x * x + y * y) / 0.035)
    fan = y / (np.abs(x) + np.abs(y) + 0.05) + np.where(u < 0.0, -1.2, 1.2)
    ridge = _edge(0.10 - np.abs(_blend_noise(fan, away, 5.5, _key("vessels", patient)) - 0.5), 0.16)
    vessels = body["vessels"] * ridge * _edge(0.45 - away, 0.6)
    air = lung * (0.73 - 0.06 * texture - vessels - 0.20 * hilum)
    if look := looks.get("Pneumothorax"):
        gas, pleura = _pneumothorax(u, v, body, look)
        air = air * (1.0 - gas) + lung * (0.86 * gas - 0.15 * pleura)
    if look := looks.get("Consolidation"):
        air = air * (1.0 - _consolidation(u, v, body, look, texture))
    if look := looks.get("Effusion"):
        air = air * (1.0 - _effusion(u, v, wall, body, look))

    soft, thick = _soft_tissue(across, v, body)
    chest = soft * (thick * (1.0 - air) + _bones(across, v, midline, wall, body))
    chest = chest + 0.10 * heart + 0.08 * middle + 0.06 * knob + 0.08 * thorax * _edge(v - dome, 0.07)
    if look := looks.get("Mass"):
        chest = chest + lung * _mass(u, v, body, look)
    trachea = _edge(0.045 - np.abs(midline), 0.05) * _edge(-0.32 - v, 0.3)
    bubble = _edge(1.0 - _square(u - 0.34) / 0.05 - _square(v - body["dome_left"] - 0.17) / 0.008, 0.8)
    return chest - 0.16 * trachea - max(body["stomach"], 0.0) * bubble


def _chest_wall(v: Floats, width: float, apex: float) -> Floats:
    """Half the width of the rib cage's inside at height v: a quarter of an ellipse, then nearly upright."""
    left = np.clip(1.0 - (v - apex) / 0.85, 0.0, 1.0)
    return (width - 0.14 * np.clip(0.1 - v, 0.0, 1.0)) * np.sqrt(1.0 - left * left)


def _diaphragm(u: Floats, body: Numbers) -> Floats:
    """The height v of the diaphragm at u: a dome on each side that falls off towards the wall."""
    across = np.abs(u) - 0.30
    top = np.where(u < 0.0, body["dome_right"], body["dome_left"]) + body["inspiration"]
    return top + np.where(across > 0.0, 1.1, 0.5) * across * across


def _soft_tissue(across: Floats, v: Floats, body: Numbers) -> tuple[Floats, Floats]:
    """Where the body is (0 to 1), and how dense: trunk, neck, and shoulders with arms that leave the image."""
    torso = body["chest_width"] + 0.08 + 0.20 * body["habitus"]
    shoulder = -0.99 + 0.06 * across + 0.30 * across * across * across
    trunk = _edge(torso + 0.06 * v * v - across, 0.06)
    arm = _edge(across - 0.66 - 0.50 * (v + 0.45), 0.10)
    armpit = _edge(-0.30 + 0.10 * body["habitus"] - v, 0.20)
    neck = _edge(0.24 + 0.08 * body["habitus"] - across, 0.08) * _edge(-0.6 - v, 0.3)
    soft = np.maximum(_edge(v - shoulder, 0.08) * np.maximum(np.maximum(trunk, arm), armpit), neck)
    depth = np.sqrt(np.clip(2.0 * (v - shoulder) + 0.1, 0.0, 1.0))
    rim = np.clip(2.0 * (across - body["chest_width"]), 0.0, 1.0)
    breast = _edge(1.0 - _square(across - 0.42) / 0.09 - _square(v - 0.22) / 0.08, 0.9)
    thick = (0.36 + 0.10 * body["habitus"] + 0.20 * depth) * (1.0 - 0.30 * rim) + 0.05 * v
    return soft, thick + max(body["breast"], 0.0) * breast


def _bones(across: Floats, v: Floats, midline: Floats, wall: Floats, body: Numbers) -> Floats:
    """Brightness that ribs (their backs, and fainter their fronts), vertebrae, clavicles and shoulder heads add."""
    height = v / body["rib_spacing"] + body["rib_phase"]
    back = _stripes(height - body["rib_slope"] * across * across + across) * _edge(across - 0.10, 0.12)
    front = _stripes(height + 5.0 * across * across - 4.0 * across + 0.3) * _edge(across - 0.42, 0.2)
    cage = _edge(wall + 0.05 - across, 0.08) * _edge(0.75 - v, 0.5)
    spine = _edge(0.10 - np.abs(midline), 0.06) * (0.6 + 0.4 * _stripes(height + 0.5))
    bar = v - body["clavicle"] + 0.30 * across - 0.10 * across * across
    clavicles = _edge(0.042 - np.abs(bar), 0.05) * _edge(across - 0.09, 0.06) * _edge(0.80 - across, 0.1)
    heads = _edge(1.0 - (_square(across - 0.93) + _square(v + 0.62)) / 0.020, 0.6)
    return body["rib_contrast"] * cage * (back + 0.5 * front) + 0.07 * spine + 0.15 * clavicles + 0.10 * heads


def _stripes(phase: Floats) -> Floats:
    """0 to 1 with period 1 in the phase, half of it bright."""
    return _edge(0.25 - np.abs(phase - np.floor(phase) - 0.5), 0.30)


def _heart(u: Floats, v: Floats, body: Numbers, look: Numbers | None) -> Floats:
    """0 to 1: left ventricle, right atrium and the great vessels above; the ventricle grows most when enlarged."""
    growth = 1.0 + (look["growth"] * body["severity"] if look else 0.0)
    size = body["heart"] * body["heart_phase"] * growth
    x, y = u - body["heart_shift"] - 0.16 * (size - 0.9), v - body["dome_left"] - body["inspiration"] + 0.16
    ventricle = 1.0 - np.sqrt(_square((x - 0.45 * y) / (0.30 * size)) + _square(y / (0.24 + 0.08 * size)))
    atrium = 1.0 - np.sqrt(_square((u + 0.03) / (0.20 * size)) + _square((y + 0.04) / 0.27))
    vessels = 1.0 - np.sqrt(_square((u - 0.07) / (0.15 + 0.02 * size)) + _square((y + 0.36) / 0.34))
    return np.maximum(_edge(np.maximum(ventricle, atrium), 0.24), _edge(vessels, 0.30))


def _pneumothorax(u: Floats, v: Floats, body: Numbers, look: Numbers) -> tuple[Floats, Floats]:
    """Where gas fills the pleural space of one side (0 to 1), and the thin edge of the lung that it pushes inwards."""
    size = look["size"] * body["severity"]
    falling = np.clip((0.55 - v) / 0.9, 0.0, 1.0)
    edge = _chest_wall(v, body["chest_width"], body["apex"] + 1.1 * size) - 0.8 * size * falling
    outside = (-u if look["side"] < 0.0 else u) - edge
    return _edge(outside, 0.05), _bump(_square(outside / 0.025)) * _edge(falling, 0.2)


def _from_spot(u: Floats, v: Floats, body: Numbers, look: Numbers) -> tuple[Floats, Floats]:
    """Distances across and down from the place of a finding, which breath moves a little."""
    across = look["across"] * body["chest_width"] - body["wander_u"]
    return (-u if look["side"] < 0.0 else u) - across, v - look["v"] - body["wander_v"]


def _consolidation(u: Floats, v: Floats, body: Numbers, look: Numbers, texture: Floats) -> Floats:
    """How much of the lung's air a patch of opacity with ragged margins replaces."""
    x, y = _from_spot(u, v, body, look)
    radius = look["radius"] * body["severity"]
    patch = _bump((x * x + y * y) / (radius * radius)) * look["add"]
    return np.clip(patch * (0.5 + texture), 0.0, 0.9)


def _effusion(u: Floats, v: Floats, wall: Floats, body: Numbers, look: Numbers) -> Floats:
    """How much of the air fluid over the diaphragm replaces; its surface rises to the wall, 3 in 10 have two."""
    height = look["height"] * body["severity"]
    reach = np.clip(np.abs(u) / np.maximum(wall, 0.1), 0.0, 1.0)
    over_dome = _diaphragm(u, body) + 0.10 - height * (0.35 + 0.85 * reach * reach)
    in_angle = body["dome_left"] + 0.30 - height * (0.2 + reach * reach)
    wet = (-u if look["side"] < 0.0 else u) > (-1.0 if look["both"] > 0.0 else 0.0)
    return 0.92 * wet * _edge(v - np.minimum(over_dome, in_angle), 0.14)


def _mass(u: Floats, v: Floats, body: Numbers, look: Numbers) -> Floats:
    """Brightness that a round mass adds."""
    x, y = _from_spot(u, v, body, look)
    return look["add"] * _edge(look["radius"] - np.sqrt(x * x + y * y), 0.10)


def _expose(chest: Floats, site: Site, body: Numbers, noise_key: Key) -> Pixels:
    """Grey values 0 to 255: the site's tone curve, noise that is stronger in dense parts, and the marker."""
    light = np.clip(chest * body["exposure"], 0.0, 1.0)
    light = light * (1.0 + site.bend) / (1.0 + site.bend * light)
    a, b, c, d = draw_uniform(noise_key, (4, SIZE, SIZE))
    grain = (a + b + c + d - 2.0) * (0.6 + 0.4 * light)
    grey = site.black + (site.white - site.black) * light + site.noise * grain
    top, left = int(body["marker_row"]), int(body["marker_column"])
    left = left if site.marker_on_left else SIZE - left - len(site.marker[0])
    for row, line in enumerate(site.marker):
        for column, sign in enumerate(line):
            if sign == "#":
                grey[top + row, left + column] = site.white
    bounded: Floats = np.clip(np.rint(grey), 0.0, 255.0)
    return bounded.astype(np.uint8)


@dataclass(frozen=True)
class PhantomImages:
    """The images by row, drawn when asked for (see `ImageSource`)."""

    def stamp(self, row: int) -> None:
        return None

    def digest(self, row: int) -> str:
        """Of the row and of this file, for there is no other that the image is made from."""
        return digest_json([digest_file(Path(__file__)), row])

    def read(self, row: int) -> RawImage:
        return RawImage(draw_image(row), self.digest(row))

    def decoders(self) -> tuple[str, ...]:
        return ()


def load_records(root: Path, config: Any) -> Records:
    """The records as every dataset gives them; neither the folder nor the config matters."""
    drawn = draw_records()
    return Records(
        ids=tuple(drawn.ids),
        classes=CLASSES,
        labels=drawn.labels.astype(np.int8),
        images=PhantomImages(),
        patients=tuple(drawn.patients),
        sites=tuple(drawn.sites),
    )


FACTS = DatasetFacts(
    name="phantom",
    title="Phantom: synthetic chest radiographs at two sites, made by genmed",
    load_records=load_records,
    needs="",
    licence="made by genmed; as genmed",
    citation="genmed's own",
    classes=CLASSES,
    task="multi-label",
    defaults={"data.image_size": SIZE, "training.epochs": 5},
    counts={"images": 2091, "patients": 700},
    built_in=True,
)
