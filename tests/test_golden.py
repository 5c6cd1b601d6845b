"""Golden digests: what a fixed small run must leave, by platform class, and what must be the same everywhere."""

import json
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmed.ground.fingerprints import digest_bytes
from genmed.ground.randomness import derive_seed, draw_uniform, step_seed
from genmed.parts.data.datasets.phantom import draw_image
from genmed.parts.data.loader import plan_epoch
from genmed.parts.data.split import assign_patient
from genmed.records.config import Config
from tests.harness import Genmed

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
RUN = (
    "train --model resnet18 --augmentation standard --epochs 1 --batch-size 8 --threads 1 --cpu-isa avx2"
    " --set training.max_steps=4 --set training.select=last --json"
).split()


def name_class(environment: dict[str, Any]) -> str:
    """Within a class equal bits are promised: CPU, caches, instruction set in effect, threads, torch and numpy."""
    cpu, threads = environment["cpu"], environment["threads"]
    caches = "/".join(str(size) for size in cpu["caches"].values())
    parts = [
        f"{cpu['vendor']} family {cpu['family']} model {cpu['model_number']}",
        f"caches {caches}",
        f"{cpu['capability_in_effect']} {cpu['onednn_isa_in_effect']}",
        f"{threads['intra_op']} thread",
        f"torch {environment['libraries']['torch_build']}",
        f"numpy {environment['packages']['numpy']}",
    ]
    return ", ".join(parts)


@pytest.fixture(scope="module")
def folder(server: ForkServerContext, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the fixed run."""
    genmed = Genmed(server, tmp_path_factory.mktemp("golden"), image_cache)
    result = genmed(*RUN)
    assert result.code == 0, result.err
    return genmed.run_folder()


def test_fixed_run_leaves_the_trace_of_its_platform_class(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    lines = (folder / "trace.jsonl").read_text().splitlines()[1:]
    found = {
        "trace": run["trace_digest"],
        "state": run["fingerprint"],
        "losses": [json.loads(line)["loss"][0] for line in lines],
    }
    platform = name_class(json.loads((folder / "environment.json").read_text()))
    if platform not in GOLDEN["platforms"]:
        pytest.skip(f"no golden digest for this platform class; to add it: {json.dumps({platform: found})}")
    assert found == GOLDEN["platforms"][platform]


def test_what_needs_no_floating_point_kernel_is_the_same_everywhere() -> None:
    patients = [f"p{number:04d}" for number in range(700)]
    orders = [plan_epoch(42, epoch, np.arange(1344), 32, 1) for epoch in (1, 2)]
    found = {
        "phantom": digest_bytes(b"".join(draw_image(row).tobytes() for row in range(0, 2091, 10))),
        "split": digest_bytes("".join(assign_patient(patient, Config().data)[1] for patient in patients).encode()),
        "orders": digest_bytes(b"".join(batch.astype("<i8").tobytes() for order in orders for batch in order)),
        "uniform": draw_uniform((42, "augment", 1), (2, 2)).tolist(),
        "seeds": [derive_seed(42, "init"), step_seed(42, 1), step_seed(42, 2**32 - 1)],
    }
    assert found == GOLDEN["everywhere"]


def test_data_fingerprint_of_phantom_is_the_same_everywhere(folder: Path) -> None:
    described = json.loads((folder / "data.json").read_text())
    assert described["fingerprint"] == GOLDEN["data_fingerprint_of_phantom"]
