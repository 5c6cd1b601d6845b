"""Bundles whose seals and digests are all right, and which say what would lead a reader astray."""

import json
import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from genmed.ground.fingerprints import digest_bytes
from tests.bundles.conftest import Lab
from tests.bundles.making import (
    CHECKPOINT,
    Cases,
    Files,
    Make,
    edited,
    put_together,
    replaced,
    reseal,
    seal_body,
)

CASES = Cases()


# What the files say: every seal and digest is right


@CASES.case("run.json cannot be read: RecursionError")
def json_that_nests_without_end(good: bytes, files: Files) -> bytes:
    return replaced(
        files,
        "run.json",
        lambda _: seal_body(b'{"id": ' + b"[1," * 200_000 + random.Random(1).randbytes(5000).hex().encode()),
    )


@CASES.case("environment.json nests more than 16 levels")
def json_that_nests_deep(good: bytes, files: Files) -> bytes:
    deep: Any = 1
    for _ in range(100):
        deep = {"deeper": deep}
    return edited("environment.json", lambda document: document.update(deep=deep))(good, files)


@CASES.case("run.json holds more than 20000 values")
def json_of_many_values(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document.update(config=dict.fromkeys(map(str, range(30_000)))))(
        good, files
    )


@CASES.case("config.yaml has the anchor 'a'")
def yaml_that_unfolds(good: bytes, files: Files) -> bytes:
    lines = [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    return replaced(files, "config.yaml", lambda _: "\n".join(["a: &a [lol]", *lines]).encode())


@CASES.case("config.yaml has the tag")
def yaml_that_calls_python(good: bytes, files: Files) -> bytes:
    return replaced(files, "config.yaml", lambda _: b"seed: !!python/object/apply:os.system ['touch evil']\n")


@CASES.case("config.yaml nests more than 16 levels")
def yaml_that_nests_deep(good: bytes, files: Files) -> bytes:
    return replaced(files, "config.yaml", lambda _: b"seed: " + b"[" * 20_000)


@CASES.case("config.yaml was edited: seed was 42, is 43")
def config_of_another_run(good: bytes, files: Files) -> bytes:
    return replaced(files, "config.yaml", lambda content: content.replace(b"seed: 42", b"seed: 43", 1))


@CASES.case("compute.threads is 1000000, more than the 1024")
def config_that_asks_for_a_million_threads(good: bytes, files: Files) -> bytes:
    config = files["config.yaml"].replace(b"threads: 2", b"threads: 1000000", 1)
    values = json.loads(files["run.json"])["config"] | {"compute.threads": 1_000_000}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    claim = {"config": values, "config_fingerprint": digest_bytes(text.encode())}
    run = reseal(files["run.json"], lambda document: document.update(claim))
    return put_together({**files, "config.yaml": config, "run.json": run})


@CASES.case("run.json says that the run is running")
def run_that_is_running(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document.update(status="running"))(good, files)


@CASES.case(r"run.json: '\.\./\.\./evil' is no name of a run")
def run_whose_name_is_a_path(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document.update(name="../../evil"))(good, files)


@CASES.case("run.json: .* is nan")
def metric_that_is_no_number(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document["metrics"].update(test_loss=float("nan")))(good, files)


@CASES.case(r"holds the control character '\\x1b'")
def text_that_a_terminal_obeys(good: bytes, files: Files) -> bytes:
    return edited("environment.json", lambda document: document["host"].update(hostname="\x1b]0;evil\x07"))(good, files)


@CASES.case("run.json is damaged: steps_done")
def run_json_of_other_types(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document.update(steps_done={"many": 1}))(good, files)


@CASES.case("there is no device 'tpu'")
def device_that_is_unknown(good: bytes, files: Files) -> bytes:
    return edited("run.json", lambda document: document.update(device="tpu"))(good, files)


@CASES.case("environment.json cannot be read: AttributeError")
def environment_without_its_structure(good: bytes, files: Files) -> bytes:
    return edited("environment.json", lambda document: document.update(code=[1, 2]))(good, files)


@CASES.case("data.json cannot be read: KeyError: 'images'")
def data_json_without_images(good: bytes, files: Files) -> bytes:
    return edited("data.json", lambda document: document.pop("images"))(good, files)


def with_images(change: Callable[[bytes], bytes]) -> Make:
    def make(good: bytes, files: Files) -> bytes:
        images = change(files["data-images.csv"])
        data = reseal(files["data.json"], lambda document: document["images"].update(sha256=digest_bytes(images)))
        return put_together({**files, "data-images.csv": images, "data.json": data})

    return make


CASES["table of other columns"] = (
    with_images(lambda content: content.replace(b"decoded", b"encoded", 1)),
    "data-images.csv has the columns",
)
CASES["table with a cell too few"] = (
    with_images(lambda content: content[: content.rindex(b",")] + b"\n"),
    "data-images.csv, row 101: too few or many columns",
)
CASES["table with an endless cell"] = (
    with_images(lambda content: content + b'"' + random.Random(1).randbytes(150_000).hex().encode()),
    "data-images.csv cannot be read: Error: field larger than field limit",
)
CASES["table that is no text"] = (
    with_images(lambda content: content + b"\xff"),
    "data-images.csv cannot be read: UnicodeDecodeError",
)


@CASES.case("trace.jsonl is damaged or was edited: line 2")
def edited_trace(good: bytes, files: Files) -> bytes:
    return replaced(files, "trace.jsonl", lambda content: content.replace(b'"epoch":1', b'"epoch":2', 2))


@CASES.case("trace.jsonl cannot be read: AttributeError")
def trace_whose_start_is_a_list(good: bytes, files: Files) -> bytes:
    return replaced(
        files, "trace.jsonl", lambda content: content.replace(b'{"schema":1', b'{"schema":1,"start":[1]', 1)
    )


@CASES.case("trace.jsonl was edited: it is")
def trace_of_another_run(good: bytes, files: Files) -> bytes:
    return replaced(files, "trace.jsonl", lambda content: content.splitlines(keepends=True)[0])


@CASES.case("trace.jsonl cannot be read: RecursionError")
def trace_that_nests_without_end(good: bytes, files: Files) -> bytes:
    return replaced(
        files,
        "trace.jsonl",
        lambda content: content + b"[" * 200_000 + random.Random(1).randbytes(5000).hex().encode() + b"\n",
    )


@CASES.case("tiny.py was edited: it fails its digest in environment.json")
def edited_code(good: bytes, files: Files) -> bytes:
    return replaced(files, "code/tiny.py", lambda content: content + b"import os\n")


@CASES.case("code/more.py is no file of the run's code")
def code_that_the_run_did_not_have(good: bytes, files: Files) -> bytes:
    return put_together({**files, "code/more.py": b""})


# Checkpoints


def with_state(**changed: bytes) -> Make:
    """The newest checkpoint's files changed (by stem), its manifest right about them."""

    def make(good: bytes, files: Files) -> bytes:
        names = {name.rpartition("/")[2].partition(".")[0]: name for name in files if name.startswith(CHECKPOINT)}
        contents = {names[stem]: content for stem, content in changed.items()}
        digests = {name.rpartition("/")[2]: digest_bytes(content) for name, content in contents.items()}
        manifest = f"{CHECKPOINT}/manifest.json"
        contents[manifest] = reseal(files[manifest], lambda document: document["files"].update(digests))
        return put_together({**files, **contents})

    return make


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil; touch ../evil",)


CASES["pickle called safetensors"] = (
    with_state(model=pickle.dumps(Evil())),
    "model.safetensors is no safetensors file",
)
CASES["state.json of other types"] = (
    with_state(state=b'{"progress": [], "trace": 1}'),
    "epoch-0004-end cannot be read: TypeError",
)
CASES["state.json that is a list"] = (with_state(state=b"[]"), "epoch-0004-end cannot be read: TypeError")


@CASES.case("step-0000028-epoch-0004-end is of step 27, epoch 4")
def state_of_another_step(good: bytes, files: Files) -> bytes:
    state = json.loads(files[f"{CHECKPOINT}/state.json"])
    state["progress"]["step"] = 27
    return with_state(state=json.dumps(state).encode())(good, files)


@CASES.case("state.json: progress.best_epoch is of another type")
def position_that_is_a_list(good: bytes, files: Files) -> bytes:
    state = json.loads(files[f"{CHECKPOINT}/state.json"])
    state["progress"]["best_epoch"] = [1]
    return with_state(state=json.dumps(state).encode())(good, files)


@CASES.case("'9.weight/hook' is no state of an optimizer")
def tensors_that_no_optimizer_has(good: bytes, files: Files) -> bytes:
    return with_state(optimizer=save({"9.weight/hook": np.zeros((14, 16))}))(good, files)


CASES["manifest that names a file elsewhere"] = (
    edited(f"{CHECKPOINT}/manifest.json", lambda document: document["files"].update({"/etc/passwd": "sha256:0"})),
    "manifest.json does not name the files that are there",
)
CASES["manifest without a schema"] = (
    edited(f"{CHECKPOINT}/manifest.json", lambda document: document.pop("schema")),
    "epoch-0004-end cannot be read: KeyError: 'schema'",
)


@CASES.case(f"it lacks {CHECKPOINT}/optimizer.safetensors")
def checkpoint_without_its_optimizer(good: bytes, files: Files) -> bytes:
    return put_together(
        {name: content for name, content in files.items() if not name.endswith("optimizer.safetensors")}
    )


@pytest.mark.parametrize(("make", "reason"), CASES.values(), ids=CASES)
def test_strange_record_is_refused_in_one_line(lab: Lab, good: bytes, files: Files, make: Make, reason: str) -> None:
    lab.refuses(make(good, files), reason)
