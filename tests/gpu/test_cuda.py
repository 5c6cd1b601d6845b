"""What only a CUDA device can show; skipped by name elsewhere."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genmed.engine.learner import build_learner
from genmed.engine.step import launch_step, run_step
from genmed.ground.mixing import mix_on_device
from genmed.ground.tensor_fingerprints import fingerprint_tensors
from genmed.parts.data.augmentation import draw_epoch
from genmed.parts.data.loader import Batch
from tests.harness import Genmed
from tests.resuming.runs import FRAGILE
from tests.teams.starting import describe, run_team, start_team
from tests.test_step import COUNT, list_batches, make_task
from tests.verifying.faults import NOISY_BACKWARD

Arguments = Callable[..., list[object]]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_fingerprint_on_the_device_is_that_of_the_same_bits_on_the_cpu() -> None:
    tensor = torch.randn(1000, 7)
    assert torch.equal(mix_on_device([tensor]).sums, mix_on_device([tensor.cuda()]).sums.cpu())


def test_fingerprint_on_the_device_sees_the_lowest_bit_and_a_swap() -> None:
    tensor = torch.randn(64, device="cuda")
    flipped, swapped = tensor.clone(), tensor.clone()
    flipped.view(torch.int32)[5] ^= 1
    swapped[[3, 9]] = swapped[[9, 3]]
    found = {fingerprint_tensors([("x", each)]) for each in (tensor, flipped, swapped)}
    assert len(found) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_twice_on_cuda_gives_equal_bits(genmed: Genmed, tiny: Arguments, precision: str) -> None:
    runs = [genmed(*tiny("--device", "cuda", "--precision", precision)) for _ in range(2)]
    assert [run.code for run in runs] == [0, 0], runs[0].err
    assert runs[0].json["trace_digest"] == runs[1].json["trace_digest"]
    assert runs[0].json["device"] == "cuda"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_run_killed_on_cuda_resumes_to_the_bit(genmed: Genmed, tiny: Arguments, tmp_path: Path, precision: str) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    how = ("--device", "cuda", "--precision", precision, "--set", "checkpoints.every_steps=2")
    command = tiny("--model", f"{tmp_path / 'fragile.py'}:build", *how)
    whole = genmed(*command)
    assert whole.code == 0, whole.err
    assert genmed(*command, GENMED_TEST_PASSES="11", GENMED_TEST_AWAIT="8").code == -signal.SIGKILL
    resumed = genmed("resume", "latest", "--json")
    assert resumed.code == 0, resumed.err
    for key in ("fingerprint", "trace_digest", "metrics"):
        assert resumed.json[key] == whole.json[key], key


def test_adaptive_pooling_is_refused_on_cuda_before_the_first_epoch(genmed: Genmed, tiny: Arguments) -> None:
    result = genmed(*tiny("--device", "cuda", "--model", "alexnet", "--image-size", 64))
    assert result.code == 2
    assert "_adaptive_avg_pool2d_backward" in result.json["error"]["message"]
    assert not (genmed.root / "runs").exists()


def test_run_on_cuda_verifies_identical_in_one_piece_and_in_segments(genmed: Genmed, tiny: Arguments) -> None:
    trained = genmed(*tiny("--device", "cuda", "--trace-modules", "--set", "checkpoints.keep_every_steps=10"))
    assert trained.code == 0, trained.err
    for options in ((), ("--jobs", 2)):
        result = genmed("verify", "latest", "--json", *options)
        assert (result.code, result.json["verdict"]) == (0, "identical"), result.json


def test_noise_in_a_backward_pass_on_cuda_is_put_to_its_module(genmed: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY_BACKWARD)
    trained = genmed(*tiny("--device", "cuda", "--model", f"{tmp_path / 'noisy.py'}:build", "--epochs", 1))
    assert trained.code == 0, trained.err
    report = genmed("verify", "latest", "--json").json
    assert (report["verdict"], report["first_divergence"]["module"]) == ("diverged", "2")
    assert (report["localisation"]["phase"], report["localisation"]["kind"]) == ("backward", "Noise")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_the_gpu_s_memory_or_streamed_ahead_of_the_step_give_equal_bits(
    genmed: Genmed, tiny: Arguments, workers: int
) -> None:
    digests = set()
    for images in ("resident", "streamed"):
        given = ("--set", f"compute.images={images}", "--num-workers", workers)
        result = genmed(*tiny("--device", "cuda", "--epochs", 2, *given))
        assert result.code == 0, result.err
        digests.add(result.json["trace_digest"])
    assert len(digests) == 1


def test_step_on_cuda_waits_for_nothing_that_it_launched(tmp_path: Path) -> None:
    task = replace(make_task(tmp_path), device="cuda")
    learner = build_learner(task)
    batches = [Batch(rows, images.cuda(), targets.cuda()) for _, (rows, images, targets) in list_batches(task, 1)]
    draws = draw_epoch(task.config.seed, 1, COUNT)
    run_step(learner, task, batches[0], draws, 1, 1)  # makes the optimizer's tensors and the tables of digests
    torch.cuda.set_sync_debug_mode("error")
    try:
        launched = launch_step(learner, task, batches[1], draws, 2, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert launched.wait().step == 2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_run_is_the_same_on_one_gpu_and_on_two(genmed: Genmed, tiny: Arguments) -> None:
    command = tiny("--device", "cuda", "--shards", 4)
    alone, together = (describe(run_team(genmed, size, *command)) for size in (1, 2))
    assert together == alone


def test_more_processes_than_gpus_are_refused_in_one_line(genmed: Genmed, tiny: Arguments) -> None:
    size = 2 * torch.cuda.device_count()
    size = 1 << (size.bit_length() - 1)
    results = [member.wait() for member in start_team(genmed, size, *tiny("--device", "cuda", "--shards", size))]
    assert {result.code for result in results} == {2}
    assert "on this machine need a GPU each" in results[0].json["error"]["message"]
