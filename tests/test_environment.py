"""The environment: captured as it is, compared by what changes bits, whatever the machine lacks."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genmed.ground.errors import ConfigError
from genmed.records.environment import (
    capture_environment,
    compare_environments,
    cores,
    count_default_threads,
    differences,
    digest_code,
    identify_process,
    is_alive,
    machine,
    processor,
    repository,
    torch_state,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
on_x86_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="oneDNN's sets are those of x86"
)


def run_python(code: str, **variables: str) -> str:
    """What a fresh interpreter prints; every warning in it is an error."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# capture


def test_capture_has_the_keys_that_users_rely_on_and_is_json() -> None:
    found = capture_environment()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        *("schema", "python", "os", "packages", "package_sources", "installed", "libraries", "cpu", "threads"),
        *("memory", "gpus", "cuda", "mps", "determinism", "git", "host", "container", "where"),
    ]
    assert found["schema"] == 1
    assert found["python"]["version"] == platform.python_version()
    assert all(found["packages"][name] for name in ("torch", "torchvision", "numpy", "pillow", "scipy"))
    assert found["libraries"]["torch_build"].startswith(found["packages"]["torch"].split("+")[0])
    assert found["cpu"]["model"]
    assert 1 <= found["cpu"]["cores_usable"] <= found["cpu"]["cores_logical"]
    assert found["memory"]["total_bytes"] > 2**28
    assert found["threads"]["intra_op"] >= 1


def test_capture_twice_finds_no_difference() -> None:
    assert compare_environments(capture_environment(), json.loads(json.dumps(capture_environment())), "cpu") == []


def test_capture_without_torch_has_the_same_keys_and_imports_neither_torch_nor_psutil() -> None:
    code = """
import json, sys
import genmed.records.environment as environment
assert not {"torch", "psutil", "PIL", "numpy"} & set(sys.modules), sorted(sys.modules)
environment.count_default_threads(), environment.identify_process(), environment.digest_code()
found = environment.capture_environment(with_torch=False)
assert not {"torch", "psutil"} & set(sys.modules)
print(json.dumps(found))
"""
    found, full = json.loads(run_python(code)), capture_environment()
    packages = ("packages", "package_sources", "installed")  # which were imported differs
    told = [{key: value for key, value in entry.items() if key not in packages} for entry in (found, full)]
    assert {field for field, _ in differences._flatten(told[0])} == {
        field for field, _ in differences._flatten(told[1])
    }
    assert found["packages"].items() <= full["packages"].items()
    assert (found["installed"] | found["packages"]).keys() == (full["installed"] | full["packages"]).keys()
    assert (found["threads"]["intra_op"], found["cpu"]["capability_in_effect"]) == (None, None)


@on_linux
def test_folder_whose_name_is_no_text_can_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    found = capture_environment(with_torch=False)
    assert found["where"]["folder"] == f"{tmp_path}/caf\N{REPLACEMENT CHARACTER}"
    json.dumps(found, ensure_ascii=False).encode()


def test_absent_package_has_a_null_version() -> None:
    code = """
from genmed.records.environment import capture
capture.PACKAGES = ("no-such-package-as-this",)
print(capture.describe_packages()["packages"]["no-such-package-as-this"])
"""
    assert run_python(code).strip() == "None"


def test_settings_are_those_in_effect_whichever_way_they_were_set() -> None:
    code = """
import json, os, torch
from genmed.records.environment import capture_environment

def show(*names):
    found = capture_environment()
    print(json.dumps([found["determinism"][name] for name in names]))

tf32 = ("tf32_matmul", "tf32_cudnn", "float32_matmul_precision")
torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, False
show(*tf32)
torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = "ieee", "tf32"
show(*tf32)
torch.backends.fp32_precision = "ieee"
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
show(*tf32)
torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler: 4 s
torch.backends.cudnn.deterministic = True
torch.utils.deterministic.fill_uninitialized_memory = False
show("deterministic_algorithms", "warn_only", "cudnn_deterministic", "cudnn_benchmark", "fill_uninitialized_memory")
torch.set_deterministic_debug_mode("warn")
torch.backends.cudnn.benchmark = True
show("warn_only", "cudnn_benchmark", "OMP_WAIT_POLICY")
torch.set_num_threads(3)
tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc") else []
threads = capture_environment()["threads"]
assert tasks == (os.listdir("/proc/self/task") if os.path.isdir("/proc") else [])
print(json.dumps([threads["intra_op"], threads["inter_op"], threads["OMP_NUM_THREADS"]]))
"""
    lines = run_python(code, OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1").splitlines()
    assert [json.loads(line) for line in lines] == [
        [True, False, "highest"],
        [False, True, "highest"],
        [False, True, "medium"],
        [True, False, True, False, False],
        [True, True, "PASSIVE"],
        [3, int(lines[-1].split(",")[1]), "1"],
    ]


@on_x86_linux
def test_instruction_sets_in_effect_are_those_that_the_libraries_use() -> None:
    code = """
import os, torch
from genmed.records.environment.processor import describe_processor

def show():
    found = describe_processor(with_torch=True)
    print("found", found["capability_in_effect"], found["onednn_isa_in_effect"])

show()
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.nn.Conv2d(8, 8, 3)(torch.randn(4, 8, 32, 32))
del os.environ["ONEDNN_MAX_CPU_ISA"]
show()
"""
    variables = {"ONEDNN_MAX_CPU_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_VERBOSE": "1"}
    lines = run_python(code, **variables).splitlines()
    found = [line for line in lines if line.startswith("found")]
    assert any(line.endswith("isa:Intel AVX2") for line in lines)
    assert found[0] == "found AVX2 AVX2"
    if "avx512f" in processor.describe_processor(False)["instruction_sets"]:
        assert found[1] == "found AVX2 None"


ZEN_5 = {
    "sse4_1",
    "avx",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512_vnni",
    "avx512_bf16",
}
ALDER_LAKE = {"sse4_1", "avx", "avx2", "avx_vnni"}


@pytest.mark.parametrize(
    ("flags", "asked", "expected"),
    [
        (ZEN_5, None, "AVX512_CORE_BF16"),
        (ZEN_5, "DEFAULT", "AVX512_CORE_BF16"),
        (ZEN_5, "nonsense", "AVX512_CORE_BF16"),
        (ZEN_5, "AVX512_CORE", "AVX512_CORE"),
        (ZEN_5, "avx2_vnni", "AVX2_VNNI"),
        (ZEN_5, "AVX2", "AVX2"),
        (ALDER_LAKE, "AVX512_CORE", "AVX2"),
        (ALDER_LAKE, None, "AVX2_VNNI"),
        (ZEN_5 | {"avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}, None, "AVX512_CORE_AMX"),
        (ZEN_5 | {"avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}, "AVX10_1_512", "AVX512_CORE_FP16"),
        ({"sse4_1"}, "AVX2", "SSE41"),
        (set(), None, None),
    ],
)
def test_onednn_set_is_the_strongest_of_the_processor_and_the_limit(flags, asked, expected) -> None:
    assert processor.find_onednn_set(flags, asked) == expected


@on_linux
def test_arm_processor_goes_by_its_numbers(tmp_path: Path) -> None:
    write(
        tmp_path / "proc/cpuinfo",
        "processor\t: 0\nFeatures\t: fp asimd sve bf16 crc32\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n\nprocessor\t: 1\nCPU part\t: 0xfff\n",
    )
    write(tmp_path / "sys/devices/system/cpu/online", "0-1")
    found = processor.describe_processor(False, tmp_path)
    expected = {"model": "implementer 0x41 part 0xd40", "vendor": "0x41", "family": "8", "model_number": "0xd40"}
    assert expected.items() <= found.items()
    assert found["stepping"] == "r1p1"
    assert found["instruction_sets"] == ["bf16", "neon", "sve"]
    assert found["caches"] == {"l1d": None, "l1i": None, "l2": None, "l3": None}


def test_apple_features_are_those_that_are_on() -> None:
    listing = "hw.optional.neon: 1\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.x: 10\n"
    assert processor.parse_apple_features(listing) == {"neon", "bf16"}


@on_linux
def test_caches_are_in_bytes_by_level_and_kind(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate([(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2M")]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        for name, text in {"level": level, "type": kind, "size": size}.items():
            write(folder / name, f"{text}\n")
    assert processor.describe_caches(tmp_path) == {"l1d": 49152, "l1i": 32768, "l2": 2097152, "l3": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version:  gcc 12.3.0",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
        ("something else", None),
        (None, None),
    ],
)
def test_driver_version_is_read_without_a_program(tmp_path: Path, text: str | None, expected: str | None) -> None:
    if text is not None:
        write(tmp_path / "proc/driver/nvidia/version", text)
    assert machine.read_driver_version(tmp_path) == expected


def test_gpus_are_named_by_the_driver_where_cuda_must_not_start(tmp_path: Path) -> None:
    assert machine.list_driver_gpus(tmp_path) == []
    for bus, name in {"0000:41:00.0": "NVIDIA T4", "0000:01:00.0": "NVIDIA H200"}.items():
        write(tmp_path / f"proc/driver/nvidia/gpus/{bus}/information", f"Model: \t\t {name}\nIRQ:   1\n")
    found = machine.list_driver_gpus(tmp_path)
    assert [(gpu["index"], gpu["name"], gpu["memory_bytes"]) for gpu in found] == [
        (0, "NVIDIA H200", None),
        (1, "NVIDIA T4", None),
    ]


def test_gpus_of_a_run_on_cuda_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked = []
    told = SimpleNamespace(name="NVIDIA H200", total_memory=150_000_000_000, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: asked.append(index) or told)
    assert torch_state.list_gpus("cuda", "570.86.15", True) == [
        {
            "index": 0,
            "name": "NVIDIA H200",
            "driver": "570.86.15",
            "memory_bytes": 150_000_000_000,
            "compute_capability": "9.0",
        }
    ]
    torch_state.list_gpus("cpu", None, True)
    torch_state.list_gpus("cuda", None, False)
    assert asked == [0]


@on_linux
def test_driver_version_comes_from_nvidia_smi_where_proc_has_none(tmp_path: Path, monkeypatch) -> None:
    import torch

    write(tmp_path / "nvidia-smi", "#!/bin/sh\necho 551.61\necho 551.61\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch_state, "read_driver_version", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92600)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = torch_state.describe_cuda("cuda", True)
    assert (found["available"], found["driver"], found["cudnn"]) == (False, None, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = torch_state.describe_cuda("cuda", True)
    assert (found["available"], found["driver"], found["cudnn"]) == (True, "551.61", 92600)
    assert torch_state.describe_cuda("cpu", True)["cudnn"] is None, "asking cuDNN would start CUDA"
    monkeypatch.setattr(torch_state, "read_driver_version", lambda: "570.86.15")
    assert torch_state.describe_cuda("cpu", True)["driver"] == "570.86.15"


def test_system_tool_that_is_absent_fails_or_hangs_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SLOW", 0.2)
    assert machine.run_text("echo", " told ") == "told"
    assert machine.run_text("no-such-tool-as-this") is None
    assert machine.run_text("false") is None
    assert machine.run_text("sleep", "5") is None


def test_containers_are_told_by_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        monkeypatch.delenv(name, raising=False)
    assert not any(machine.describe_container(tmp_path).values())
    write(tmp_path / ".dockerenv", "")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert [kind for kind, found in machine.describe_container(tmp_path).items() if found] == ["docker", "kubernetes"]
    write(tmp_path / "run/.containerenv", "")
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        monkeypatch.setenv(name, "/images/genmed.sif")
        assert all(machine.describe_container(tmp_path).values())
        monkeypatch.delenv(name)


# cores


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000", "cpu.max": "400000 100000"}, 1.5),
        ("0::/elsewhere/on/the/host", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpuacct,cpu:/a", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3.0),
        ("3:cpuset:/\n4:memory:/", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_quota_is_the_smallest_from_the_group_to_the_root(tmp_path: Path, groups, files, expected) -> None:
    write(tmp_path / "proc/self/cgroup", f"{groups}\n" if groups else "")
    for name, text in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, f"{text}\n")
    assert cores.read_processor_quota(tmp_path) == expected


@on_linux
def test_hardware_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for number in range(4):
        siblings = f"{number % 2},{number % 2 + 2}"
        write(tmp_path / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", siblings)
    assert cores.count_physical_cores([0, 1, 2, 3], tmp_path) == 2
    assert cores.count_physical_cores([1, 3], tmp_path) == 1
    assert cores.count_physical_cores([0, 1, 8, 9], tmp_path) == 4


def test_processors_are_listed_from_the_kernels_ranges(tmp_path: Path) -> None:
    write(tmp_path / "sys/devices/system/cpu/online", "0-2,5,8-9\n")
    assert cores.list_online_processors(tmp_path) == [0, 1, 2, 5, 8, 9]


@pytest.mark.parametrize(
    ("physical", "quota", "expected"),
    [(64, None, 8), (4, None, 4), (4, 2.5, 3), (4, 0.3, 1), (4, 9.0, 4), (1, None, 1)],
)
def test_default_threads_are_the_cores_within_the_quota(monkeypatch, physical, quota, expected) -> None:
    monkeypatch.setattr(cores, "count_physical_cores", lambda processors: physical)
    monkeypatch.setattr(cores, "read_processor_quota", lambda: quota)
    assert count_default_threads() == expected


def test_usable_processors_obey_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "list_usable_processors", lambda: [0, 1, 2, 3])
    for quota, expected in ((None, 4), (1.5, 2), (0.1, 1), (32.0, 4)):
        monkeypatch.setattr(cores, "read_processor_quota", lambda quota=quota: quota)
        assert cores.count_usable_processors() == expected


@on_linux
def test_default_threads_obey_the_affinity() -> None:
    code = """
import os
from genmed.records.environment import count_default_threads
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(count_default_threads())
"""
    assert run_python(code) == "1\n"


# git


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs git in `tmp_path/repo`, an empty repository and the current folder, whatever this machine's settings."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    folder = tmp_path / "repo"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    run("init", "--initial-branch", "work")
    return run


def commit_file(git, name: str, text: str) -> str:
    write(Path(name), text)
    git("add", name)
    git("commit", "-m", "step")
    return git("rev-parse", "HEAD")


def describe_here(tmp_path: Path) -> Any:
    return repository.describe_repository(package=tmp_path / "not-tracked")


def test_repository_has_commit_branch_and_the_diff_of_tracked_files(git, tmp_path: Path) -> None:
    clean = {"commit": None, "branch": "work", "dirty": False, "diff": None, "diff_truncated": False}
    assert describe_here(tmp_path) == clean
    commit = commit_file(git, "model.py", "old line\n")
    assert describe_here(tmp_path) == clean | {"commit": commit}
    write(Path("untracked.csv"), "data")
    assert describe_here(tmp_path) == clean | {"commit": commit}

    write(Path("model.py"), "new line\n")
    changed = describe_here(tmp_path)
    assert (changed["dirty"], changed["diff_truncated"]) == (True, False)
    assert {"-old line", "+new line"} <= set(changed["diff"].splitlines())
    git("add", "model.py")
    assert describe_here(tmp_path) == changed
    git("checkout", "--detach")
    assert describe_here(tmp_path) == changed | {"branch": None}


def test_diff_is_limited_to_one_mebibyte(git, tmp_path: Path) -> None:
    commit_file(git, "model.py", "x\n")
    write(Path("model.py"), "a long line of text\n" * 100_000)
    found = describe_here(tmp_path)
    assert (len(found["diff"]), found["diff_truncated"]) == (2**20, True)


def test_file_added_before_the_first_commit_is_dirty_without_a_diff(git, tmp_path: Path) -> None:
    write(Path("model.py"), "x\n")
    git("add", "model.py")
    found = describe_here(tmp_path)
    assert (found["commit"], found["dirty"], found["diff"]) == (None, True, None)


def test_repository_that_tracks_the_package_comes_before_the_current_folder(git, tmp_path: Path, monkeypatch) -> None:
    commit = commit_file(git, "genmed/__init__.py", "")
    package = Path("genmed").resolve()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert repository.describe_repository(package)["commit"] == commit
    git("rm", "--cached", "genmed/__init__.py")
    assert repository.describe_repository(package) is None


def test_repository_is_null_without_one_and_without_git(git, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert describe_here(tmp_path) is None
    monkeypatch.chdir(tmp_path / "repo")
    assert describe_here(tmp_path) is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_here(tmp_path) is None


def test_hook_that_names_its_own_repository_does_not_mislead(git, tmp_path: Path, monkeypatch) -> None:
    commit = commit_file(git, "model.py", "x\n")
    subprocess.run(["git", "init", "--bare", tmp_path / "other"], capture_output=True, check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    assert describe_here(tmp_path)["commit"] == commit


def test_git_that_hangs_is_given_up(git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bin/git", "#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(repository, "SLOW", 0.2)
    assert describe_here(tmp_path) is None


# differences


def environment_with(field: str, value: Any) -> dict[str, Any]:
    """A small environment in which the dotted field has the value."""
    parts = field.split(".")
    tree: Any = value
    for part in reversed(parts):
        tree = {part: tree}
    if parts[0] == "gpus":
        tree = {"gpus": [{"index": i} | tree["gpus"].get(str(i), {}) for i in range(2)]}
    return tree


@pytest.mark.parametrize(
    ("devices", "fields"),
    [
        (
            "cpu cuda mps",
            "python.version os.system os.machine os.libc packages.torch packages.torchvision packages.numpy "
            "packages.pillow packages.pydicom libraries.libjpeg libraries.libjpeg_turbo libraries.zlib "
            "libraries.zlib_ng libraries.torch_build cpu.capability_in_effect threads.intra_op "
            "threads.OMP_THREAD_LIMIT determinism.deterministic_algorithms determinism.warn_only "
            "determinism.PYTHONHASHSEED determinism.OMP_DYNAMIC unheard.of determinism.unheard_of",
        ),
        (
            "cpu mps",
            "cpu.model cpu.vendor cpu.family cpu.model_number cpu.caches.l2 cpu.instruction_sets "
            "cpu.onednn_isa_in_effect libraries.onednn libraries.mkl threads.mkl determinism.MKL_CBWR "
            "determinism.float32_matmul_precision determinism.ONEDNN_DEFAULT_FPMATH_MODE",
        ),
        (
            "cuda",
            "cuda.version cuda.cudnn cuda.driver gpus.0.name gpus.0.compute_capability determinism.tf32_cudnn "
            "determinism.tf32_matmul determinism.cudnn_benchmark determinism.CUBLAS_WORKSPACE_CONFIG "
            "determinism.NVIDIA_TF32_OVERRIDE",
        ),
        ("mps", "os.release mps.available"),
        (
            "",
            "host.hostname memory.total_bytes cpu.cores_logical cpu.cores_physical cpu.stepping git.commit git.dirty "
            "packages.scipy packages.typer packages.rich packages.genmed container.docker gpus.0.memory_bytes "
            "gpus.1.name threads.inter_op threads.OMP_NUM_THREADS determinism.OMP_WAIT_POLICY "
            "determinism.ONEDNN_MAX_CPU_ISA determinism.ATEN_CPU_CAPABILITY determinism.fill_uninitialized_memory",
        ),
    ],
)
def test_difference_changes_bits_only_where_it_can(devices: str, fields: str) -> None:
    for field in fields.split():
        recorded, found = environment_with(field, "old"), environment_with(field, "new")
        for device in ("cpu", "cuda", "mps"):
            (difference,) = compare_environments(recorded, found, device)
            assert (difference.field, difference.recorded, difference.found) == (field, "old", "new")
            assert difference.changes_bits == (device in devices.split()), (field, device)
            assert difference.why


def test_every_captured_field_has_a_rule_and_every_rule_a_field() -> None:
    captured = capture_environment()
    captured["gpus"] = [{"index": 0, "name": "", "driver": "", "memory_bytes": 0, "compute_capability": ""}]
    captured["git"] = {"commit": "", "branch": "", "dirty": False, "diff": "", "diff_truncated": False}
    captured["code"] = {
        "digest": "",
        "files": {"model.py": ""},
        "without_copy": ["model.so"],
    }  # a run's record has it beside these
    fields = [field for field, _ in differences._flatten(captured)]
    patterns = [*differences.NOT_COMPARED, *(pattern for pattern, _, _ in differences.RULES)]
    matched = {
        field: next((pattern for pattern in patterns if differences.fnmatchcase(field, pattern)), None)
        for field in fields
    }
    assert [field for field, pattern in matched.items() if pattern is None] == []
    assert [pattern for pattern in patterns if pattern not in matched.values()] == []


def test_why_names_the_device_that_was_used() -> None:
    (difference,) = compare_environments(*(environment_with("cuda.driver", v) for v in "12"), "cpu")
    assert difference.why == "the run computed on cpu, and this matters on cuda alone"
    (difference,) = compare_environments(*(environment_with("gpus.0.name", v) for v in "12"), "cuda:1")
    assert (difference.changes_bits, difference.why) == (False, "the run used GPU 1")
    (difference,) = compare_environments(*(environment_with("gpus.1.name", v) for v in "12"), "cuda:1")
    assert difference.changes_bits


def test_paths_and_the_text_of_the_diff_are_not_compared() -> None:
    for field in ("where.folder", "schema", "git.diff", "gpus.0.driver"):
        assert compare_environments(environment_with(field, 1), environment_with(field, 2), "cuda") == []


def test_field_that_one_side_lacks_is_null_there() -> None:
    gpu = {"index": 0, "name": "NVIDIA T4"}
    (difference,) = compare_environments({"gpus": []}, {"gpus": [gpu]}, "cuda")
    assert (difference.field, difference.recorded, difference.found) == ("gpus.0.name", None, "NVIDIA T4")
    (difference,) = compare_environments({"git": {"commit": "abc"}}, {"git": None}, "cpu")
    assert (difference.field, difference.recorded, difference.found) == ("git.commit", "abc", None)
    assert compare_environments({"packages": {}}, {"packages": {"pydicom": None}}, "cpu") == []


def test_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AssertionError, match="auto"):
        compare_environments({"os": {"libc": "1"}}, {"os": {"libc": "2"}}, "auto")


# code


def test_code_digest_is_the_same_wherever_the_files_lie(tmp_path: Path) -> None:
    package = tmp_path / "a/other_name"
    shutil.copytree(repository.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    write(tmp_path / "mine/model.py", "x = 1\n")
    write(tmp_path / "yours/model.py", "x = 1\n")
    found = digest_code([tmp_path / "mine/model.py"])
    assert found.files == digest_code([tmp_path / "yours/model.py"], package).files
    assert {"genmed/seed.py", "genmed/records/environment/code.py", "model.py"} <= set(found.files)
    assert list(found.files) == sorted(found.files)
    assert all(digest.startswith("sha256:") for digest in (found.digest, *found.files.values()))


def test_code_digest_sees_each_source_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "genmed"
    write(package / "b.py", "b = 1\n")
    write(package / "deep/a.py", "")
    first = digest_code(package=package)
    assert list(first.files) == ["genmed/b.py", "genmed/deep/a.py"]
    write(package / "__pycache__/b.py", "")
    write(package / ".b.py", "")
    (package / ".#b.py").symlink_to("nobody@nowhere")
    write(package / "notes.txt", "")
    assert digest_code(package=package) == first
    write(package / "deep/a.py", "\n")
    assert digest_code(package=package).digest != first.digest
    write(package / "deep/a.py", "")
    (package / "b.py").rename(package / "c.py")
    assert digest_code(package=package).digest != first.digest


def test_users_file_does_not_take_the_place_of_a_source(tmp_path: Path) -> None:
    write(tmp_path / "genmed/seed.py", "a = 1\n")
    write(tmp_path / "seed.py", "a = 2\n")
    files = digest_code([tmp_path / "seed.py", tmp_path / "seed.py"], tmp_path / "genmed").files
    assert list(files) == ["genmed/seed.py", "seed.py"]
    assert files["seed.py"] != files["genmed/seed.py"]


def test_users_files_that_are_missing_or_share_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no code file .*gone\.py"):
        digest_code([tmp_path / "gone.py"])
    write(tmp_path / "a/model.py", "")
    write(tmp_path / "b/model.py", "")
    with pytest.raises(ConfigError, match=r"two code files are named model\.py: .*a/model\.py and .*b/model\.py"):
        digest_code([tmp_path / "a/model.py", tmp_path / "b/model.py"])


# process

IDENTIFY = """
import json, sys
from genmed.records.environment import identify_process
print(json.dumps(identify_process()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    """A process that lives until it is killed, and its identity as it was printed."""
    with subprocess.Popen(
        [sys.executable, "-c", IDENTIFY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_process_is_alive_until_it_is_killed(child) -> None:
    process, identity = child
    assert (identity["pid"], identity["host"]) == (process.pid, socket.gethostname())
    assert is_alive(identity) is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(identity) is False, "a zombie is dead"
    process.wait()
    assert is_alive(identity) is False


def test_identity_of_this_process_survives_json() -> None:
    assert is_alive(json.loads(json.dumps(identify_process()))) is True


def test_pid_that_another_process_has_now_is_dead(child) -> None:
    _, identity = child
    assert is_alive(identity | {"started": identity["started"] - 1}) is False
    assert is_alive(identity | {"pid": os.getpid()}) is False


def test_other_boot_is_dead_on_this_host_and_unknown_on_another(child) -> None:
    _, identity = child
    assert is_alive(identity | {"boot_id": "another"}) is False
    assert is_alive(identity | {"boot_id": "another", "host": "elsewhere"}) is None


def test_same_boot_is_this_machine_by_whatever_name(child) -> None:
    process, identity = child
    assert is_alive(identity | {"host": "renamed"}) is True
    process.kill()
    process.wait()
    assert is_alive(identity | {"host": "renamed"}) is False


@on_linux
def test_process_of_another_container_is_unknown(child) -> None:
    _, identity = child
    assert is_alive(identity | {"pid_namespace": "pid:[1]"}) is None


@on_linux
def test_process_that_proc_hides_is_unknown(child, monkeypatch: pytest.MonkeyPatch) -> None:
    process, identity = child
    process.kill()
    process.wait()

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(identity) is None


@on_linux
def test_process_that_ends_while_it_is_looked_at_is_dead(child, monkeypatch: pytest.MonkeyPatch) -> None:
    process, identity = child
    read_text = Path.read_text

    def end_first(path: Path, **options: str) -> str:
        if path.name != "stat":
            return read_text(path, **options)
        with path.open() as file:
            process.kill()
            process.wait()
            return file.read()

    monkeypatch.setattr(Path, "read_text", end_first)
    assert is_alive(identity) is False


@on_linux
def test_name_with_brackets_does_not_mislead(tmp_path: Path) -> None:
    from genmed.records.environment.process import _start_time

    (tmp_path / "a) Z (b").symlink_to("/bin/sh")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([tmp_path / "a) Z (b", "-c", "echo ready; read line"], **pipes) as process:
        process.stdout.readline()
        name = Path(f"/proc/{process.pid}/comm").read_text()
        started = _start_time(process.pid)
        process.kill()
    own = _start_time(os.getpid())
    assert name == "a) Z (b\n"
    assert started is not None
    assert own is not None
    assert own <= started < own + 3600
