"""What only torch tells: its build, threads, GPUs, and the determinism settings as they are in effect.

TF32 is read through `fp32_precision` (torch 2.9 on) and nothing else: the older getters warn, and raise once a program
has set the newer ones. The newer ones report what was set by either.
"""

import os
import re
from typing import Any

from genmed.records.environment.machine import list_driver_gpus, read_driver_version, run_text

# Variables that change what the libraries compute, or on how many threads; null where they are not set.
DETERMINISM_VARIABLES = (
    "PYTHONHASHSEED",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_DYNAMIC",
    "MKL_DYNAMIC",
    "OMP_WAIT_POLICY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def describe_libraries(with_torch: bool) -> dict[str, str | None]:
    """Versions of torch's build ("2.15.0+cu132 d0f2af8b66b2") and of the arithmetic libraries within it."""
    if not with_torch:
        return dict.fromkeys(("torch_build", "onednn", "mkl", "blas", "openmp"))
    import torch

    config = torch.__config__.show()

    def find(pattern: str) -> str | None:
        found = re.search(pattern, config)
        return found.group(1) if found else None

    return {
        "torch_build": f"{torch.__version__} {(torch.version.git_version or 'unknown')[:12]}",
        "onednn": find(r"(?:MKL-DNN|oneDNN) v([\d.]+)"),
        "mkl": find(r"Math Kernel Library Version ([\d.]+)"),
        "blas": find(r"BLAS_INFO=(\w+)"),
        "openmp": find(r"\bOpenMP (\d+)"),
    }


def describe_threads(with_torch: bool) -> dict[str, Any]:
    """Threads of one kernel (`intra_op`, and MKL's own), threads that run kernels side by side, and the variables."""
    threads: dict[str, Any] = dict.fromkeys(("intra_op", "inter_op", "mkl"))
    if with_torch:
        import torch

        mkl = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
        threads["intra_op"] = torch.get_num_threads()
        threads["inter_op"] = torch.get_num_interop_threads()
        threads["mkl"] = int(mkl[1]) if mkl else None
    return threads | {name: os.environ.get(name) for name in THREAD_VARIABLES}


def describe_determinism(with_torch: bool) -> dict[str, Any]:
    """The switches of torch as they stand now, then the variables that the process was started with.

    `tf32_matmul` and `tf32_cudnn` hold on CUDA; `float32_matmul_precision` and `float32_convolution_precision` are
    oneDNN's on the CPU, in the words of `torch.set_float32_matmul_precision`: "highest", "high", "medium".
    """
    switches: dict[str, Any] = dict.fromkeys(
        (
            "deterministic_algorithms",
            "warn_only",
            "fill_uninitialized_memory",
            "cudnn_deterministic",
            "cudnn_benchmark",
            "mkldnn_deterministic",
            "tf32_matmul",
            "tf32_cudnn",
            "float32_matmul_precision",
            "float32_convolution_precision",
        )
    )
    if with_torch:
        import torch

        backends: Any = torch.backends  # torch's stubs lack half of it
        utils: Any = torch.utils
        switches |= {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
            "fill_uninitialized_memory": utils.deterministic.fill_uninitialized_memory,
            "cudnn_deterministic": backends.cudnn.deterministic,
            "cudnn_benchmark": backends.cudnn.benchmark,
            "mkldnn_deterministic": backends.mkldnn.deterministic,
            "tf32_matmul": backends.cuda.matmul.fp32_precision == "tf32",
            "tf32_cudnn": backends.cudnn.conv.fp32_precision == "tf32",
            "float32_matmul_precision": _legacy_name(backends.mkldnn.matmul.fp32_precision),
            "float32_convolution_precision": _legacy_name(backends.mkldnn.conv.fp32_precision),
        }
    return switches | {name: os.environ.get(name) for name in DETERMINISM_VARIABLES}


def _legacy_name(precision: str) -> str:
    return {"none": "highest", "ieee": "highest", "tf32": "high", "bf16": "medium"}.get(precision, precision)


def describe_cuda(device: str, with_torch: bool) -> dict[str, Any]:
    """Whether torch can use CUDA, and the versions; cuDNN's for a run on CUDA alone, for asking it starts CUDA."""
    driver = read_driver_version()
    if not with_torch:
        return {"available": None, "version": None, "cudnn": None, "driver": driver}
    import torch

    available = torch.cuda.is_available()
    cudnn: Any = torch.backends.cudnn
    if driver is None and available:  # Windows' Linux has no /proc/driver/nvidia
        driver = (run_text("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "").split("\n")[0]
    return {
        "available": available,
        "version": torch.version.cuda,
        "cudnn": cudnn.version() if available and device.startswith("cuda") else None,
        "driver": driver or None,
    }


def describe_mps(with_torch: bool) -> dict[str, Any]:
    """Whether torch can use Apple's GPU."""
    if not with_torch:
        return {"available": None}
    import torch

    return {"available": torch.backends.mps.is_available()}


def list_gpus(device: str, driver: str | None, with_torch: bool) -> list[dict[str, Any]]:
    """NVIDIA's GPUs. For a run on CUDA those that torch sees, by its numbers; else those that the driver names."""
    if not (with_torch and device.startswith("cuda")):
        return list_driver_gpus()
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "index": index,
                "name": told.name,
                "driver": driver,
                "memory_bytes": told.total_memory,
                "compute_capability": f"{told.major}.{told.minor}",
            }
        )
    return gpus
