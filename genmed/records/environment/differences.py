"""Where two environments differ, and whether such a difference can change a bit of a training."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

CPU, CUDA, MPS = "cpu", "cuda", "mps"
EVERYWHERE = frozenset({CPU, CUDA, MPS})
ON_CUDA = frozenset({CUDA})
OFF_CUDA = frozenset({CPU, MPS})  # Apple's GPU is part of the processor, whose model names it
ON_MPS = frozenset({MPS})
NOWHERE: frozenset[str] = frozenset()

# `where` holds paths; `git.diff` may hold 1 MiB, and the code's digest decides; the driver stands under `cuda`
NOT_COMPARED = (
    *("schema", "where.*", "git.diff", "git.diff_truncated", "gpus.*.driver", "gpus.*.index", "installed.*"),
    "code.without_copy",
)

HARMLESS: dict[str, str] = {
    name: why
    for names, why in (
        ("annotated-doc click markdown-it-py mdurl pygments rich shellingham typer", "it reads commands and prints"),
        ("annotated-types pydantic pydantic-core pyyaml typing-extensions typing-inspection", "it checks the config"),
        ("alembic greenlet mako markupsafe psycopg psycopg-binary sqlalchemy sqlmodel", "it keeps the registry"),
        (
            "contourpy cycler fonttools jinja2 kiwisolver matplotlib pyparsing python-dateutil six",
            "it draws the report",
        ),
        ("cuda-pathfinder filelock fsspec packaging pip protobuf psutil", "it finds, reads and writes"),
        ("safetensors setuptools tensorboardx tqdm xxhash", "it reads, writes and counts"),
    )
    for name in names.split()
}
"""Packages that take no part in the arithmetic of a training, and what they do in it."""

# A field's pattern, the devices on which a difference can change bits, and why; the first that matches counts.
RULES: tuple[tuple[str, frozenset[str], str], ...] = (
    ("code.*", EVERYWHERE, "the code says what is computed; `genmed verify` shows the difference"),
    ("python.*", EVERYWHERE, "another interpreter may order and round otherwise"),
    ("os.system", EVERYWHERE, "another system has other builds of every library"),
    ("os.machine", EVERYWHERE, "another architecture has other arithmetic"),
    ("os.libc", EVERYWHERE, "its exp, log and cos may round otherwise, and initial weights are drawn with them"),
    ("os.release", ON_MPS, "macOS brings Metal's kernels"),
    ("packages.torch", EVERYWHERE, "its kernels and random generators change between versions"),
    ("packages.torchvision", EVERYWHERE, "its models and transforms change between versions"),
    ("packages.numpy", EVERYWHERE, "its arithmetic changes between versions"),
    ("packages.pillow", EVERYWHERE, "it decodes and resizes the images"),
    ("packages.pydicom", EVERYWHERE, "it decodes the images"),
    ("packages.genmed", NOWHERE, "the digest of its code decides, not its version"),
    ("package_sources.genmed", NOWHERE, "the digest of its code decides, not its version"),
    ("packages.*", EVERYWHERE, "it was imported, and may take part in the arithmetic"),
    ("package_sources.*", EVERYWHERE, "what was installed from elsewhere may be another build under the same version"),
    ("libraries.torch_build", EVERYWHERE, "another build of torch has other kernels"),
    ("libraries.onednn", OFF_CUDA, "its kernels compute convolutions on the CPU"),
    ("libraries.mkl", OFF_CUDA, "its kernels compute matrix products on the CPU"),
    ("libraries.blas", OFF_CUDA, "its kernels compute matrix products on the CPU"),
    ("libraries.openmp", OFF_CUDA, "it divides a kernel's work among threads"),
    ("libraries.*", EVERYWHERE, "it decodes the images"),
    ("cpu.capability_in_effect", EVERYWHERE, "torch's CPU kernels differ; initial weights are drawn on the CPU"),
    ("cpu.onednn_isa_in_effect", OFF_CUDA, "oneDNN's kernels add in another order"),
    ("cpu.instruction_sets", OFF_CUDA, "MKL, NumPy and the C library choose their kernels by them"),
    ("cpu.caches.*", OFF_CUDA, "oneDNN and MKL cut their work into blocks by the size of the caches"),
    ("cpu.model", OFF_CUDA, "libraries choose kernels by the processor's model"),
    ("cpu.vendor", OFF_CUDA, "libraries choose kernels by the processor's vendor"),
    ("cpu.family", OFF_CUDA, "libraries choose kernels by the processor's family"),
    ("cpu.model_number", OFF_CUDA, "libraries choose kernels by the processor's model"),
    ("cpu.stepping", NOWHERE, "a revision of the same processor has the same arithmetic"),
    ("cpu.cores_*", NOWHERE, "the number of threads decides, not of cores"),
    ("threads.intra_op", EVERYWHERE, "sums are cut into as many parts as there are threads"),
    ("threads.mkl", OFF_CUDA, "MKL's sums are cut into as many parts as it has threads"),
    ("threads.inter_op", NOWHERE, "it divides no sum: kernels run one after another"),
    ("threads.OMP_THREAD_LIMIT", EVERYWHERE, "there may be fewer threads than torch was given"),
    ("threads.*", NOWHERE, "it was asked for; threads.intra_op and threads.mkl were in effect"),
    ("memory.total_bytes", NOWHERE, "the size of memory changes no arithmetic"),
    ("gpus.*.memory_bytes", NOWHERE, "the size of memory changes no arithmetic"),
    ("gpus.*", ON_CUDA, "kernels are chosen by the GPU's model"),
    ("cuda.*", ON_CUDA, "CUDA, cuDNN and the driver bring the kernels"),
    ("mps.available", ON_MPS, "Metal's kernels are not the CPU's"),
    ("determinism.deterministic_algorithms", EVERYWHERE, "operations may take a form that varies"),
    ("determinism.warn_only", EVERYWHERE, "operations without a deterministic form are let through"),
    ("determinism.fill_uninitialized_memory", NOWHERE, "memory that nobody wrote is read by nobody"),
    ("determinism.cudnn_*", ON_CUDA, "cuDNN may choose another algorithm"),
    ("determinism.mkldnn_deterministic", OFF_CUDA, "oneDNN may choose another algorithm"),
    ("determinism.tf32_*", ON_CUDA, "TF32 keeps 10 bits of a factor, not 23"),
    ("determinism.float32_*", OFF_CUDA, "oneDNN may multiply in fewer bits"),
    ("determinism.PYTHONHASHSEED", EVERYWHERE, "it orders sets of strings"),
    ("determinism.CUBLAS_WORKSPACE_CONFIG", ON_CUDA, "cuBLAS chooses its way of adding by it"),
    ("determinism.OMP_DYNAMIC", EVERYWHERE, "there may be fewer threads when the machine is busy"),
    ("determinism.MKL_DYNAMIC", OFF_CUDA, "there may be fewer threads when the machine is busy"),
    ("determinism.OMP_WAIT_POLICY", NOWHERE, "it changes how threads wait, not what they add"),
    ("determinism.ONEDNN_MAX_CPU_ISA", NOWHERE, "it was asked for; cpu.onednn_isa_in_effect was in effect"),
    ("determinism.ATEN_CPU_CAPABILITY", NOWHERE, "it was asked for; cpu.capability_in_effect was in effect"),
    ("determinism.ONEDNN_*", OFF_CUDA, "oneDNN chooses kernels or precision by it"),
    ("determinism.MKL_*", OFF_CUDA, "MKL chooses kernels by it"),
    ("determinism.NPY_DISABLE_CPU_FEATURES", EVERYWHERE, "NumPy chooses kernels by it"),
    ("determinism.*TF32*", ON_CUDA, "it overrides the TF32 switches"),
    ("git.*", NOWHERE, "the digest of the code decides, not the commit"),
    ("host.*", NOWHERE, "a name changes no arithmetic"),
    ("container.*", NOWHERE, "a container changes no arithmetic; what is in it is compared by itself"),
)

NAMED = {pattern.partition(".")[2] for pattern, devices, _ in RULES if pattern.startswith("packages.") and devices}


@dataclass(frozen=True)
class Difference:
    """One field of the environment with two values."""

    field: str
    """Dotted, e.g. "cpu.caches.l2", "gpus.0.name"."""
    recorded: Any
    """The run's value; null if it recorded none."""
    found: Any
    """The value here; null if there is none."""
    changes_bits: bool
    """Whether the training's bits can differ by it."""
    why: str
    """One clause, without a full stop."""


def compare_environments(recorded: dict[str, Any], found: dict[str, Any], device: str) -> list[Difference]:
    """What differs between two captures, in the order of their fields; empty if nothing does.

    Of packages those count that either has imported, and those that each record has.

    device: where the run computes, "cpu", "cuda", "cuda:1", "mps": on the CPU no GPU can change a bit, on CUDA no
    oneDNN; of several GPUs only the run's own counts. A field that no rule knows is taken to change bits.
    """
    before, after = (dict(_flatten(entry)) for entry in _align_packages(recorded, found))
    imported = {*recorded.get("package_sources", ()), *found.get("package_sources", ())}
    differences = []
    for field in before | after:
        values = before.get(field), after.get(field)
        if values[0] != values[1] and not any(fnmatchcase(field, pattern) for pattern in NOT_COMPARED):
            judged = judge(field, device)
            name = field.removeprefix("packages.")
            if judged[0] and field != name and name not in imported and name not in NAMED:
                judged = False, "it was not imported"
            differences.append(Difference(field, *values, *judged))
    return differences


def _align_packages(*captures: dict[str, Any]) -> list[dict[str, Any]]:
    """The captures with version and source of the same packages: of one that only the other has imported, those that
    were installed. A capture that was made before all were listed knows of its own alone."""
    names = list(dict.fromkeys(name for entry in captures for name in entry.get("packages", ())))
    aligned = []
    for entry in captures:
        installed = entry.get("installed", {})
        versions = {name: known["version"] for name, known in installed.items()} | entry.get("packages", {})
        sources = {name: known["source"] for name, known in installed.items()} | entry.get("package_sources", {})
        aligned.append((entry, versions, sources))
    versioned = [name for name in names if all("installed" in entry or name in known for entry, known, _ in aligned)]
    sourced = [name for name in names if all(name in known for _, _, known in aligned)]
    return [
        {
            **entry,
            "packages": {name: versions.get(name) for name in versioned},
            "package_sources": {name: sources[name] for name in sourced},
        }
        for entry, versions, sources in aligned
    ]


def judge(field: str, device: str) -> tuple[bool, str]:
    """Whether a difference in the field can change the bits of a run on the device, and why."""
    kind, _, number = device.partition(":")
    assert kind in EVERYWHERE, device
    if kind == CUDA and field.startswith("gpus.") and field.split(".")[1] != (number or "0"):
        return False, f"the run used GPU {number or 0}"
    section, _, package = field.partition(".")
    if section in ("packages", "package_sources") and (why := HARMLESS.get(package)):
        return False, why
    devices, why = next(
        ((devices, why) for pattern, devices, why in RULES if fnmatchcase(field, pattern)),
        (EVERYWHERE, "nothing is known of it"),
    )
    if devices == NOWHERE or kind in devices:
        return kind in devices, why
    return False, f"the run computed on {kind}, and this matters on {' and '.join(sorted(devices))} alone"


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted field, value) of each leaf; GPUs go by number, a list of plain values is one leaf, an empty one none."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = {str(index): item for index, item in enumerate(value)}.items()
    elif value == []:
        return
    else:
        yield path, value
        return
    for key, item in items:
        yield from _flatten(item, f"{path}.{key}" if path else key)
