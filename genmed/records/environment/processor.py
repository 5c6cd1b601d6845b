"""The processor: what it is, what it can do, and which instruction sets the libraries really use on it."""

import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genmed.records.environment.cores import (
    count_logical_processors,
    count_physical_cores,
    count_usable_processors,
    list_online_processors,
)
from genmed.records.environment.machine import read_sysctl, read_text, run_text

ARITHMETIC = re.compile(r"s?sse|avx|fma|f16c|amx|asimd|neon|sve|sme(?!p)|bf16|fp16|fphp|i8mm")

# What each of oneDNN's sets adds to another, in /proc/cpuinfo's words; the strongest first. From oneDNN 3.13's
# src/cpu/x64/cpu_isa_traits.hpp. What has to be asked for by name (AVX10.2) is left out: no Linux flag tells it yet.
ONEDNN_SETS: dict[str, tuple[str, set[str]]] = {
    "AVX512_CORE_AMX_FP16": ("AVX512_CORE_AMX", {"amx_fp16"}),
    "AVX512_CORE_AMX": ("AVX512_CORE_FP16", {"amx_tile", "amx_int8", "amx_bf16"}),
    "AVX512_CORE_FP16": ("AVX512_CORE_BF16", {"avx512_fp16", "avx_vnni"}),
    "AVX512_CORE_BF16": ("AVX512_CORE_VNNI", {"avx512_bf16"}),
    "AVX512_CORE_VNNI": ("AVX512_CORE", {"avx512_vnni"}),
    "AVX512_CORE": ("AVX2", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    "AVX2_VNNI_2": ("AVX2_VNNI", {"avx_vnni_int8", "avx_ne_convert"}),
    "AVX2_VNNI": ("AVX2", {"avx_vnni"}),
    "AVX2": ("AVX", {"avx2"}),
    "AVX": ("SSE41", {"avx"}),
    "SSE41": ("", {"sse4_1"}),
}
ONEDNN_ALIASES = {
    "AVX10_1_512": "AVX512_CORE_FP16",
    "AVX10_1_512_AMX": "AVX512_CORE_AMX",
    "AVX10_1_512_AMX_FP16": "AVX512_CORE_AMX_FP16",
}


def describe_processor(with_torch: bool, root: Path = Path("/")) -> dict[str, Any]:
    """Model, cores, caches in bytes, instruction sets; what only torch tells is null without it."""
    described = _describe_apple() if sys.platform == "darwin" else _describe_linux(root)
    flags = described.pop("flags")
    online = list_online_processors(root)
    return {
        **described,
        "cores_physical": count_physical_cores(online, root),
        "cores_logical": count_logical_processors(),
        "cores_usable": count_usable_processors(),
        "caches": describe_caches(root),
        "instruction_sets": sorted(flag for flag in flags if ARITHMETIC.match(flag)),
        "capability_in_effect": _read_capability() if with_torch else None,
        "onednn_isa_in_effect": _read_onednn_set(flags) if with_torch else None,
    }


def _describe_linux(root: Path) -> dict[str, Any]:
    """From /proc/cpuinfo; Arm's has no names but numbers: implementer, part, variant and revision."""
    lines = (read_text(root / "proc/cpuinfo") or "").split("\n\n", 1)[0].splitlines()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "CPU part" in told:
        part = f"implementer {told.get('CPU implementer')} part {told['CPU part']}"
        return {
            "model": told.get("model name", part),
            "vendor": told.get("CPU implementer"),
            "family": told.get("CPU architecture"),
            "model_number": told["CPU part"],
            "stepping": f"r{int(told.get('CPU variant', '0'), 0)}p{told.get('CPU revision', '0')}",
            "flags": {"neon" if flag == "asimd" else flag for flag in told.get("Features", "").split()},
        }
    return {
        "model": told.get("model name"),
        "vendor": told.get("vendor_id"),
        "family": told.get("cpu family"),
        "model_number": told.get("model"),
        "stepping": told.get("stepping"),
        "flags": set(told.get("flags", "").split()),
    }


def _describe_apple() -> dict[str, Any]:
    return {
        "model": read_sysctl("machdep.cpu.brand_string"),
        "vendor": "Apple" if platform.machine() == "arm64" else read_sysctl("machdep.cpu.vendor"),
        "family": read_sysctl("hw.cpufamily"),
        "model_number": read_sysctl("hw.model"),
        "stepping": read_sysctl("hw.cpusubfamily"),
        "flags": parse_apple_features(run_text("/usr/sbin/sysctl", "hw.optional") or ""),
    }


def parse_apple_features(listing: str) -> set[str]:
    """Names of `sysctl hw.optional` that are 1, in lower case: {"neon", "bf16", ...}."""
    found = re.findall(r"^hw\.optional\.(?:arm\.)?(?:FEAT_)?(\w+): 1$", listing, re.MULTILINE)
    return {name.lower() for name in found}


def describe_caches(root: Path = Path("/")) -> dict[str, int | None]:
    """Bytes of the first processor's caches; null for a level that it lacks or does not tell."""
    sizes: dict[str, int | None] = dict.fromkeys(("l1d", "l1i", "l2", "l3"))
    if sys.platform == "darwin":
        names = {"l1d": "hw.l1dcachesize", "l1i": "hw.l1icachesize", "l2": "hw.l2cachesize", "l3": "hw.l3cachesize"}
        return {level: int(read_sysctl(name) or 0) or None for level, name in names.items()}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(read_text(folder / "type") or "", "")
        level = f"l{read_text(folder / 'level')}{kind}"
        size = re.fullmatch(r"(\d+)([KM]?)", read_text(folder / "size") or "")
        if level in sizes and size:
            sizes[level] = int(size[1]) * {"": 1, "K": 2**10, "M": 2**20}[size[2]]
    return sizes


def _read_capability() -> str:
    """Of ATen's own kernels, after ATEN_CPU_CAPABILITY: "DEFAULT", "AVX2", "AVX512", "SVE256"."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def _read_onednn_set(flags: set[str]) -> str | None:
    """The instruction set that oneDNN's kernels use in this process, in the words of ONEDNN_MAX_CPU_ISA.

    torch exports no function that tells it, and oneDNN prints it only to stdout, with the first kernel. So it is
    worked out as oneDNN does, and held against the one thing that oneDNN says through torch: whether it may use
    AVX-512. The two disagree if the variable was changed after oneDNN had read it; then it is null, for unknown.
    Null too without oneDNN. On Arm it is the limit that was asked for ("ALL" without one): the rest is in the model
    and its instruction sets.
    """
    import torch

    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available():
        return None
    asked = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    if platform.machine() != "x86_64":
        return (asked or "all").upper()
    used = find_onednn_set(flags, asked)
    uses_avx512 = used is not None and used.startswith("AVX512")
    return used if uses_avx512 == torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


def find_onednn_set(flags: Iterable[str], asked: str | None) -> str | None:
    """The strongest set whose features the processor has and the set asked for includes, None below SSE4.1.

    A name that oneDNN does not know limits nothing; upper and lower case are the same to it.
    """
    name = (asked or "").upper()
    name = ONEDNN_ALIASES.get(name, name)
    features = set(flags)
    if name in ONEDNN_SETS:
        features &= _list_features(name)
    return next((name for name in ONEDNN_SETS if _list_features(name) <= features), None)


def _list_features(name: str) -> set[str]:
    if not name:
        return set()
    below, added = ONEDNN_SETS[name]
    return added | _list_features(below)
