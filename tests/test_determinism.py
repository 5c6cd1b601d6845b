"""Determinism: the switches of torch, the variables of the interpreter, and trainings that nothing else can move."""

import csv
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from genmed.engine.schedule import learning_rate
from genmed.ground.determinism import apply_settings
from genmed.ground.fingerprints import digest_names
from genmed.ground.interpreter import SENTINEL, list_variables, prepare_environment
from genmed.ground.randomness import derive_seed, draw_order, step_seed
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.cache import ImageBytes, ImageDigests
from genmed.parts.data.loader import BatchLoader
from genmed.parts.data.processes import run_over_rows
from genmed.records.config import layer_of_file, resolve
from tests.harness import SEED, THREADS, Genmed
from tests.test_seed import run_cleanly

Arguments = Callable[..., list[object]]
Line = dict[str, Any]


def read_trace(folder: Path) -> list[Line]:
    """The header, then a line a step."""
    return [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]


def write_model(folder: Path, more: str) -> Path:
    """A user's file: the tiny model's `build`, and more."""
    path = folder / "users.py"
    path.write_text((Path(__file__).parent / "models" / "tiny.py").read_text() + more)
    return path


def as_if_started(threads: int = THREADS, strict: bool = True) -> dict[str, str]:
    """Variables that spare a forked process the restart, where the restart is not what a test is about."""
    return prepare_environment(list_variables(SEED, threads, "native", strict), {})


# torch's switches

SWITCHES: dict[str, Callable[[bool, bool], Any]] = {
    "threads": lambda strict, tf32: 3,
    "deterministic": lambda strict, tf32: strict,
    "warn_only": lambda strict, tf32: False,
    "fill_uninitialized_memory": lambda strict, tf32: False,
    "cudnn.benchmark": lambda strict, tf32: False,
    "cudnn.deterministic": lambda strict, tf32: strict,
    "mkldnn.deterministic": lambda strict, tf32: strict,
    "cuda.matmul": lambda strict, tf32: "tf32" if tf32 else "ieee",
    "cudnn.conv": lambda strict, tf32: "tf32" if tf32 else "ieee",
    "cudnn.rnn": lambda strict, tf32: "tf32" if tf32 else "ieee",
    "mkldnn.matmul": lambda strict, tf32: "ieee",
    "mkldnn.conv": lambda strict, tf32: "ieee",
    "mkldnn.rnn": lambda strict, tf32: "ieee",
}
MODES = [(strict, tf32) for strict in (True, False) for tf32 in (True, False)]


@pytest.fixture(scope="module")
def switches(server: ForkServerContext) -> dict[tuple[bool, bool], dict[str, Any]]:
    return {mode: run_cleanly(server, read_switches_after_applying, *mode) for mode in MODES}


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(("strict", "tf32"), MODES)
def test_switch_is_set_whatever_it_was_before(
    switches: dict[tuple[bool, bool], dict[str, Any]], strict: bool, tf32: bool, name: str
) -> None:
    assert switches[strict, tf32][name] == SWITCHES[name](strict, tf32)


def read_switches_after_applying(strict: bool, tf32: bool) -> dict[str, Any]:
    """In a process of its own: each switch is turned the other way, then the settings are applied."""
    import torch

    backends: Any = torch.backends
    parts = {
        f"{library}.{name}": getattr(getattr(backends, library), name)
        for library, names in {
            "cuda": ["matmul"],
            "cudnn": ["conv", "rnn"],
            "mkldnn": ["matmul", "conv", "rnn"],
        }.items()
        for name in names
    }
    torch.set_num_threads(5)
    torch.set_deterministic_debug_mode("default" if strict else "warn")
    torch.utils.deterministic.fill_uninitialized_memory = True
    backends.cudnn.benchmark = True
    backends.cudnn.deterministic = backends.mkldnn.deterministic = not strict
    for name, part in parts.items():
        part.fp32_precision = "bf16" if name.startswith("mkldnn") else "ieee" if tf32 else "tf32"

    apply_settings(strict=strict, tf32=tf32, threads=3)
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill_uninitialized_memory": torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn.benchmark": backends.cudnn.benchmark,
        "cudnn.deterministic": backends.cudnn.deterministic,
        "mkldnn.deterministic": backends.mkldnn.deterministic,
        **{name: part.fp32_precision for name, part in parts.items()},
    }


# the interpreter's variables

ALWAYS = {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}
IF_STRICT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}
BY_INSTRUCTION_SET = {
    "native": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX512"},
}


@pytest.mark.parametrize("cpu_isa", BY_INSTRUCTION_SET)
@pytest.mark.parametrize("strict", [True, False])
def test_variables_are_these_and_no_others(strict: bool, cpu_isa: str) -> None:
    expected = ALWAYS | (IF_STRICT if strict else {}) | BY_INSTRUCTION_SET[cpu_isa]
    assert list_variables(7, 3, cpu_isa, strict) == expected


def test_each_choice_needs_an_interpreter_of_its_own() -> None:
    choices = [(7, 3, "native", True), (8, 3, "native", True), (7, 4, "native", True), (7, 3, "avx2", True)]
    sentinels = {
        prepare_environment(list_variables(*choice), {})[SENTINEL] for choice in [*choices, (7, 3, "native", False)]
    }
    assert len(sentinels) == 5


# the restart of the interpreter

# Run by Python at its start: notes it, and ends a chain of restarts that has no end.
NOTING = """
import json, os
with open(os.environ["STARTS"], "a") as file:
    file.write(json.dumps([os.getpid(), dict(os.environ)]) + "\\n")
with open(os.environ["STARTS"]) as file:
    if len(file.readlines()) > 6:
        os._exit(99)
"""
RESTARTING = """
import json, os, sys
from genmed.ground.interpreter import restart
print("begun")
sys.stderr.write("half a line ")
restart(json.loads(os.environ["WANTED"]))
print(json.dumps([sys.argv[1:], sys.warnoptions, sys.flags.utf8_mode]))
"""


class Starts:
    """Commands whose interpreters note that they start."""

    def __init__(self, folder: Path) -> None:
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(NOTING)
        self._log = folder / "starts.jsonl"
        self.variables = {"PYTHONPATH": str(folder / "site"), "STARTS": str(self._log)}

    def restart(self, wanted: dict[str, str], *arguments: str, options: tuple[str, ...] = (), **environ: str) -> Any:
        """Runs a script that asks for a restart."""
        ours = ("GENMED_", "PYTHONUNBUFFERED")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            [sys.executable, *options, "-c", RESTARTING, *arguments],
            env={**inherited, **self.variables, "WANTED": json.dumps(wanted), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def of_first_process(self) -> list[dict[str, str]]:
        """The environment at each start of the interpreter in the process that was started first."""
        noted = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [environ for pid, environ in noted if pid == noted[0][0]]


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


WANTED = list_variables(SEED, THREADS, "native", True)


def test_restart_starts_the_command_anew_once_with_the_variables(starts: Starts) -> None:
    done = starts.restart(WANTED, "one", "two words", options=("-W", "error", "-X", "utf8"), KEPT="as it was")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["begun", "begun", json.dumps([["one", "two words"], ["error"], 1])]
    assert done.stderr == "half a line half a line ", "what was printed before the restart is lost"
    environs = starts.of_first_process()
    assert len(environs) == 2
    assert environs[1].items() >= WANTED.items()
    assert environs[1]["KEPT"] == "as it was"


def test_restart_only_returns_where_the_interpreter_was_started_for_the_variables(starts: Starts) -> None:
    done = starts.restart(WANTED, **prepare_environment(WANTED, {}))
    assert done.stdout.splitlines() == ["begun", json.dumps([[], [], 0])]
    assert len(starts.of_first_process()) == 1


def test_restart_below_a_process_that_was_started_for_others_happens_once(starts: Starts) -> None:
    others = list_variables(SEED + 1, THREADS, "avx2", True)
    done = starts.restart(WANTED, **prepare_environment(others, {}))
    assert done.returncode == 0, done.stderr
    environs = starts.of_first_process()
    assert len(environs) == 2
    assert environs[1].items() >= WANTED.items()
    assert not environs[1].keys() & BY_INSTRUCTION_SET["avx2"].keys(), "pins of another run are inherited"


def test_restart_pins_the_instruction_set_that_is_asked_for_over_one_in_the_shell(starts: Starts) -> None:
    wanted = list_variables(SEED, THREADS, "avx2", True)
    done = starts.restart(wanted, ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    assert done.returncode == 0, done.stderr
    assert starts.of_first_process()[-1].items() >= BY_INSTRUCTION_SET["avx2"].items()


@pytest.mark.parametrize("variable", ["DNNL_MAX_CPU_ISA", "OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS"])
def test_restart_drops_what_changes_bits_or_hangs_a_training_and_no_config_asked_for(
    starts: Starts, variable: str
) -> None:
    """oneDNN's older name gives other bits; with fewer OpenMP threads than torch counts on, backward waits for ever."""
    done = starts.restart(WANTED, **{variable: "1"})
    assert done.returncode == 0, done.stderr
    assert variable not in starts.of_first_process()[1]


@pytest.mark.parametrize("option", ["-E", "-I"])
def test_training_is_refused_where_python_ignores_its_environment(genmed: Genmed, tmp_path: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, option, "-m", "genmed", "train", "--epochs", "1", "--set", "training.max_steps=1"],
        cwd=tmp_path,
        env={**os.environ, **genmed.environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: python runs with -E or -I and ignores PYTHONHASHSEED, so hashes cannot be seeded"
        " (run it without -E and -I)\n"
    )
    assert list(genmed.root.iterdir()) == []


def test_restart_is_refused_under_ignored_environment_even_below_a_process_started_for_it(starts: Starts) -> None:
    done = starts.restart(WANTED, options=("-E",), **prepare_environment(WANTED, {}))
    assert "DeterminismError" in done.stderr


def test_fresh_training_restarts_once_and_nothing_set_in_the_shell_changes_a_bit(
    genmed: Genmed, trained: Genmed, tiny: Arguments, starts: Starts
) -> None:
    shell = dict.fromkeys(("PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    shell |= {"OMP_DYNAMIC": "TRUE", "MKL_DYNAMIC": "TRUE", "OMP_WAIT_POLICY": "ACTIVE"}
    shell |= {"CUBLAS_WORKSPACE_CONFIG": ":16:8", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    shell |= {"ONEDNN_MAX_CPU_ISA": "SSE41"}
    result = genmed.fresh(*tiny(), **starts.variables, **shell)
    assert result.code == 0, result.err
    assert len(starts.of_first_process()) == 2
    folder = genmed.run_folder()
    environment = json.loads((folder / "environment.json").read_text())
    found = environment["determinism"]
    assert {name: value for name, value in found.items() if name.isupper() and value is not None} == {
        name: value for name, value in WANTED.items() if not name.endswith("_NUM_THREADS")
    }
    assert {name: value for name, value in found.items() if not name.isupper()} == {
        "deterministic_algorithms": True,
        "warn_only": False,
        "fill_uninitialized_memory": False,
        "cudnn_deterministic": True,
        "cudnn_benchmark": False,
        "mkldnn_deterministic": True,
        "tf32_matmul": False,
        "tf32_cudnn": False,
        "float32_matmul_precision": "highest",
        "float32_convolution_precision": "highest",
    }
    threads = environment["threads"]
    assert threads["intra_op"] == THREADS
    assert (threads["OMP_NUM_THREADS"], threads["MKL_NUM_THREADS"]) == (str(THREADS), str(THREADS))
    assert read_trace(folder) == read_trace(trained.run_folder())


# the training itself


def test_trace_is_that_of_a_plain_loop_seeded_at_each_step(server: ForkServerContext, trained: Genmed) -> None:
    lines = read_trace(trained.run_folder())[1:]
    fields = ("samples", "input", "loss", "param", "buffer")
    assert [{name: line[name] for name in fields} for line in lines] == run_cleanly(
        server, train_plainly, trained.run_folder(), trained.cache
    )


def train_plainly(folder: Path, cache: Path) -> list[Line]:
    """The run's training in plain PyTorch: no dry step, no validation, no checkpoints, nothing seeded but the steps."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from genmed.engine.step import to_input
    from genmed.ground.tensor_fingerprints import fingerprint_tensors
    from genmed.workflows.assemble import assemble
    from genmed.workflows.reporting import Silent
    from tests.models.tiny import build

    os.environ["GENMED_CACHE"] = str(cache)
    config = resolve([layer_of_file(folder / "config.yaml")]).config
    session = assemble(config, Silent())
    task, train = session.task, session.task.rows["train"]
    images, labels = torch.from_numpy(task.images.read(slice(None))), torch.from_numpy(task.labels)

    torch.manual_seed(derive_seed(SEED, "init"))
    model = build(len(task.classes)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.optimizer.weight_decay, fused=True)
    lines: list[Line] = []
    for epoch in range(1, config.training.epochs + 1):
        order, draws = train[draw_order((SEED, "order", epoch), len(train))], draw_epoch(SEED, epoch, len(labels))
        size = config.training.batch_size
        for rows in (order[start : start + size] for start in range(0, len(order) - 1, size)):
            inputs = to_input(images[rows], session.learner, task, draws[rows])
            torch.manual_seed(step_seed(SEED, len(lines) + 1))
            loss = binary_cross_entropy_with_logits(model(inputs), labels[rows].float(), reduction="sum")
            loss = loss / (len(rows) * len(task.classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.param_groups[0]["lr"] = learning_rate(
                len(lines) + 1, task.total_steps, config.optimizer, config.schedule
            )
            optimizer.step()
            lines.append(
                {
                    "samples": digest_names([task.ids[row] for row in rows]),
                    "input": [fingerprint_tensors([("input", inputs)])],
                    "loss": [float(loss.detach()).hex()],
                    "param": fingerprint_tensors(model.named_parameters()),
                    "buffer": fingerprint_tensors(model.named_buffers()),
                }
            )
    return lines


def test_initial_weights_and_order_are_others_for_another_seed(
    genmed: Genmed, trained: Genmed, tiny: Arguments
) -> None:
    variables = prepare_environment(list_variables(SEED + 1, THREADS, "native", True), {})
    result = genmed(*tiny("--seed", SEED + 1, "--epochs", 1), **variables)
    assert result.code == 0, result.err
    one, other = read_trace(trained.run_folder()), read_trace(genmed.run_folder())
    assert one[0]["initial"] != other[0]["initial"]
    assert not {line["samples"] for line in one[1:]} & {line["samples"] for line in other[1:]}


DISTURBING_MODEL = """
import random, time
import numpy
import torch

def build_disturbing(num_classes):
    def disturb(module, inputs, output):
        for _ in range(time.time_ns() % 7):
            random.random(), numpy.random.random(), torch.rand(1)

    model = build(num_classes)
    model.register_forward_hook(disturb)  # when the step has drawn its dropout
    return model
"""


def test_draws_from_every_global_generator_between_steps_change_no_bit(
    genmed: Genmed, trained: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, DISTURBING_MODEL)
    results = [genmed(*tiny("--model", f"{model}:build_disturbing")) for _ in range(2)]
    assert [result.code for result in results] == [0, 0], results[0].err
    traces = [read_trace(genmed.root / result.json["path"]) for result in results]
    assert traces[0] == traces[1] == read_trace(trained.run_folder())


RECORDING_MODEL = """
import json, os, random
import numpy
import torch

def build_recording(num_classes):
    def record(module, inputs):
        with open(os.environ["SEEN"], "a") as file:
            seen = [torch.initial_seed(), random.getrandbits(32), int(numpy.random.randint(2**31))]
            file.write(json.dumps([module.training, *seen]) + "\\n")

    model = build(num_classes)
    model.register_forward_pre_hook(record)
    return model
"""


@pytest.mark.parametrize("shards", [1, 2])
def test_every_global_generator_is_seeded_at_each_shard_of_each_step_and_each_batch_of_an_evaluation(
    genmed: Genmed, tiny: Arguments, tmp_path: Path, shards: int
) -> None:
    model, seen = write_model(tmp_path, RECORDING_MODEL), tmp_path / "seen.jsonl"
    result = genmed(*tiny("--model", f"{model}:build_recording", "--shards", shards, "--epochs", 2), SEEN=str(seen))
    assert result.code == 0, result.err
    steps = len(read_trace(genmed.run_folder())) - 1
    seeds = [step_seed(SEED, counter) for counter in range((1 + steps) * shards)]  # the dry step is step 0
    passes = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [drawn for training, *drawn in passes if training] == [
        [seed, random.Random(seed).getrandbits(32), int(np.random.RandomState(seed).randint(2**31))] for seed in seeds
    ]
    at_rest = [seed for training, seed, *_ in passes if not training][1:]  # the first is the dry step's
    rows = list(csv.DictReader((genmed.run_folder() / "predictions.csv").read_text().splitlines()))
    counts = Counter(row["split"] for row in rows)
    of_side = {
        side: [derive_seed(SEED, "evaluate", side, batch) for batch in range(-(-counts[side] // 8))]
        for side in ("val", "test")
    }
    assert at_rest == of_side["val"] * 3 + of_side["test"]  # after each of two epochs, and of the best state


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_batches_and_rows_draws_nothing_from_the_global_generator(
    server: ForkServerContext, tmp_path: Path, workers: int
) -> None:
    assert run_cleanly(server, read_beside_the_global_generator, tmp_path, workers) == [True, True, True]


def read_beside_the_global_generator(folder: Path, workers: int) -> list[bool]:
    """Whether torch's global generator is where it was after the first epoch, the second, and after decoding."""
    import torch

    shape = (200, 1, 2, 2)
    np.zeros(shape, dtype=np.uint8).tofile(folder / "pixels.u8")
    images = ImageBytes(folder / "pixels.u8", shape, ImageDigests((), (), ()))
    labels = np.zeros((shape[0], 1), dtype=np.uint8)
    loader = BatchLoader(images, labels, workers=workers, prefetch=2, persistent=False, pin=False)
    before, found = torch.get_rng_state(), []
    for _ in range(2):
        assert len(list(loader.read([np.arange(4), np.arange(4, 8)]))) == 2
        found.append(torch.equal(torch.get_rng_state(), before))
    rows = list(run_over_rows(str, list(range(shape[0])), workers, lambda *_: None, "counting"))
    assert rows == [(row, str(row)) for row in range(shape[0])]
    return [*found, torch.equal(torch.get_rng_state(), before)]


def test_evaluation_moves_no_running_statistic(trained: Genmed) -> None:
    from safetensors.numpy import load_file

    folder = trained.run_folder()
    states = {line["step"]: line.get("state") for line in read_trace(folder)[1:]}
    checkpoints = sorted((folder / "checkpoints").glob("*-end"))
    assert checkpoints
    for checkpoint in checkpoints:  # written after the validation; the trace's state is of before
        step = json.loads((checkpoint / "state.json").read_text())["progress"]["step"]
        assert json.loads((checkpoint / "manifest.json").read_text())["state"] == states[step]
        counts = [
            int(value)
            for name, value in load_file(checkpoint / "model.safetensors").items()
            if name.endswith("num_batches_tracked")
        ]
        assert counts == [step, step]


def test_linear_probe_trains_the_head_and_leaves_weights_and_statistics_of_the_backbone_alone(
    genmed: Genmed, trained: Genmed, tiny: Arguments
) -> None:
    from safetensors.numpy import load_file

    weights = sorted((trained.run_folder() / "checkpoints").glob("*-end"))[-1] / "model.safetensors"
    result = genmed(*tiny("--weights", weights, "--mode", "linear_probe", "--epochs", 2))
    assert result.code == 0, result.err
    folder = genmed.run_folder()
    before = load_file(weights)
    after = load_file(sorted((folder / "checkpoints").glob("*-end"))[-1] / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"9.weight", "9.bias"}
    assert len({line["buffer"] for line in read_trace(folder)[1:]}) == 1


def test_number_of_threads_is_recorded_and_gives_a_trace_of_its_own(
    genmed: Genmed, trained: Genmed, tiny: Arguments
) -> None:
    results = [genmed(*tiny("--threads", 1), **as_if_started(threads=1)) for _ in range(2)]
    assert [result.code for result in results] == [0, 0], results[0].err
    folders = [genmed.root / result.json["path"] for result in results]
    assert read_trace(folders[0]) == read_trace(folders[1])
    for folder, threads in ((folders[0], 1), (trained.run_folder(), THREADS)):
        assert yaml.safe_load((folder / "config.yaml").read_text())["compute"]["threads"] == threads
        assert json.loads((folder / "environment.json").read_text())["threads"]["intra_op"] == threads
    configs = {json.loads((folder / "run.json").read_text())["config_fingerprint"] for folder in folders}
    other = json.loads((trained.run_folder() / "run.json").read_text())["config_fingerprint"]
    assert len(configs) == 1
    assert other not in configs


# operations that have no deterministic form

HAZARDOUS_MODELS = """
import torch
from torch.nn.functional import interpolate

class Paste(nn.Module):
    def __init__(self, when_training=True):
        super().__init__()
        self.when_training = when_training

    def forward(self, x):
        if self.training != self.when_training:
            return x
        return x.clone().put_(torch.tensor([0]), x.new_zeros(1))

def build_pasting(num_classes):
    model = build(num_classes)
    model.add_module("paste", Paste())
    return model

class Remember(nn.Module):
    def forward(self, x):
        self.register_buffer("seen", torch.ones(1))
        return x

def build_remembering(num_classes):
    model = build(num_classes)
    model.add_module("remember", Remember())
    return model

def build_pasting_at_rest(num_classes):
    model = build(num_classes)
    model.add_module("paste", Paste(when_training=False))
    return model

class Count(nn.Module):
    def forward(self, x):
        return x + torch.arange(3).cumsum(0).sum()

def build_counting(num_classes):
    model = build(num_classes)
    model.add_module("count", Count())
    return model

class Enlarge(nn.Module):
    def forward(self, x):
        return interpolate(x, scale_factor=2.0, mode="bilinear")

def build_pooling(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), Enlarge(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, num_classes)
    )
"""
REFUSAL = (
    "error: put_ in paste (Paste) has no deterministic form on cpu"
    " (replace this operation, or give up bit-equality with --determinism seeded)\n"
)


def without_json(arguments: list[object]) -> list[object]:
    return [argument for argument in arguments if argument != "--json"]


def test_operation_without_deterministic_form_stops_the_run_before_it_begins(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    result = genmed(*without_json(tiny("--model", f"{model}:build_pasting")))
    assert (result.code, result.out, result.err) == (2, "", REFUSAL)
    assert list(genmed.root.iterdir()) == []


def test_operation_without_deterministic_form_goes_on_where_kernels_are_free(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    arguments = tiny("--model", f"{model}:build_pasting", "--determinism", "seeded", "--epochs", 1)
    result = genmed(*arguments, **as_if_started(strict=False))
    assert result.code == 0, result.err
    environment = json.loads((genmed.run_folder() / "environment.json").read_text())
    assert environment["determinism"]["deterministic_algorithms"] is False


def test_operation_without_deterministic_form_at_rest_alone_stops_the_run_before_it_begins(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    result = genmed(*without_json(tiny("--model", f"{model}:build_pasting_at_rest")))
    assert (result.code, result.out, result.err) == (2, "", REFUSAL)


def test_model_that_makes_a_buffer_in_its_forward_pass_is_taken_or_refused_in_words(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    result = genmed(*without_json(tiny("--model", f"{model}:build_remembering", "--epochs", 1)))
    assert result.code in (0, 2)
    assert "Traceback" not in result.err


def test_operations_that_cuda_would_refuse_are_named_in_the_log_of_a_run_on_the_cpu(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    result = genmed(*tiny("--model", f"{model}:build_pooling", "--epochs", 1))
    assert result.code == 0, result.err
    lines = [line.partition("] ")[2] for line in (genmed.run_folder() / "train.log").read_text().splitlines()]
    assert sorted(line for line in lines if "CUDA" in line) == [
        "Not deterministic on CUDA: _adaptive_avg_pool2d_backward in 2 (AdaptiveAvgPool2d):"
        " pool to 1 x 1, or use AvgPool2d",
        "Not deterministic on CUDA: upsample_bilinear2d_backward in 1 (Enlarge):"
        " use mode nearest or a transposed convolution",
    ]


def test_operation_that_cuda_would_not_refuse_is_not_named(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    """Sums of integers were never refused; those of floats have had a deterministic form since before torch 2.15."""
    model = write_model(tmp_path, HAZARDOUS_MODELS)
    result = genmed(*tiny("--model", f"{model}:build_counting", "--epochs", 1))
    assert result.code == 0, result.err
    assert "CUDA" not in (genmed.run_folder() / "train.log").read_text()


def test_run_without_such_operations_has_no_such_line_in_its_log(trained: Genmed) -> None:
    assert "CUDA" not in (trained.run_folder() / "train.log").read_text()


# evaluation

RESTLESS_MODEL = """
import glob, os, signal
import torch

def build_restless(num_classes):
    def disturb_scores(module, inputs, output):
        if module.training:
            return output
        trained = glob.glob(os.environ["GENMED_ROOT"] + "/runs/*/checkpoints/*-epoch-0002-end")
        if trained and "KILL" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return output + torch.randn_like(output)  # as Monte Carlo dropout does

    model = build(num_classes)
    model.register_forward_hook(disturb_scores)
    return model
"""


def test_model_that_draws_at_rest_has_the_same_metrics_after_being_killed(
    genmed: Genmed, tiny: Arguments, tmp_path: Path
) -> None:
    model = write_model(tmp_path, RESTLESS_MODEL)
    arguments = tiny("--model", f"{model}:build_restless", "--epochs", 2)
    killed = genmed(*arguments, KILL="yes")
    assert killed.code < 0
    resumed = genmed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    alone = genmed(*arguments)
    assert resumed.json["metrics"] == alone.json["metrics"]


def test_threads_wait_longer_alone_than_beside_others_unless_the_shell_says_how_long() -> None:
    alone, beside = (prepare_environment(WANTED, {}, beside=beside) for beside in (False, True))
    assert int(alone.pop("GOMP_SPINCOUNT")) > int(beside.pop("GOMP_SPINCOUNT"))
    assert alone == beside
    for sharing in (False, True):
        assert prepare_environment(WANTED, {"GOMP_SPINCOUNT": "5"}, beside=sharing)["GOMP_SPINCOUNT"] == "5"
