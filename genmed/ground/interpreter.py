"""What must be set before the interpreter starts: hash seed, thread counts, cuBLAS workspace, instruction sets.

`restart` replaces the process once by one that has these; a sentinel in its environment ends the chain, for
`sys.flags.hash_randomization` stays 1 and tells nothing. Imports nothing heavy.
"""

import hashlib
import os
import sys
from collections.abc import Mapping

from genmed.ground.errors import DeterminismError

SENTINEL = "GENMED_STARTED_FOR"

INSTRUCTION_SETS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512"},
}
# What a shell may have set that changes bits or hangs: older names, hints, overrides, limits on threads.
FOREIGN = {
    "DNNL_MAX_CPU_ISA",
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "OMP_MAX_ACTIVE_LEVELS",
    "OMP_THREAD_LIMIT",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
}
WAITING_ALONE, WAITING_BESIDE = {"GOMP_SPINCOUNT": "4000"}, {"GOMP_SPINCOUNT": "1000"}
"""Unless the shell says otherwise: a thread looks out for the next operation for some 80 us, then sleeps; for 20 us in
processes that are known to share the cores. Longer gains nothing and costs whoever shares them; what GNU's library does
by default (300,000) makes two trainings beside each other more than twice as slow: benchmarks/waiting.py.
"""
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Unless the shell says otherwise: else a process that loses another one prints where in torch that was noticed."""
NOT_INHERITED = FOREIGN.union(*INSTRUCTION_SETS.values())


def list_variables(seed: int, threads: int, cpu_isa: str, strict: bool) -> dict[str, str]:
    """Environment variables that the interpreter must have started with."""
    variables = {
        "PYTHONHASHSEED": str(seed),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if strict:
        variables |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
    return variables | INSTRUCTION_SETS[cpu_isa]


def is_started_with(variables: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started for exactly these variables."""
    return environ.get(SENTINEL) == _identify(variables)


def prepare_environment(
    variables: Mapping[str, str], environ: Mapping[str, str] = os.environ, *, beside: bool = False
) -> dict[str, str]:
    """The environment for a process that is to run with these variables; what else changes bits is not inherited.

    beside: others of genmed's own will share the cores with it.
    """
    kept = {name: value for name, value in environ.items() if name not in NOT_INHERITED}
    return {
        **QUIET,
        **(WAITING_BESIDE if beside else WAITING_ALONE),
        **kept,
        **variables,
        SENTINEL: _identify(variables),
    }


def restart(variables: Mapping[str, str], *, beside: bool = False) -> None:
    """Starts this command anew with the variables, unless it was started with them; then it only returns.

    beside: it will start processes that share the cores.

    Raises DeterminismError where Python was told to ignore its environment (-E, -I).
    """
    if sys.flags.ignore_environment:
        raise DeterminismError(
            "python runs with -E or -I and ignores PYTHONHASHSEED, so hashes cannot be seeded",
            "run it without -E and -I",
        )
    if is_started_with(variables):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    environ = prepare_environment(variables, beside=beside)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def _identify(variables: Mapping[str, str]) -> str:
    text = "\n".join(f"{name}={variables[name]}" for name in sorted(variables))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
