"""The config: where values come from, what is refused and how, what the fingerprint covers, and `config.yaml`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from genmed.ground.errors import ConfigError
from genmed.records.config import Config, affects_bits, flatten, layer_of_file, list_keys, resolve, write_document
from genmed.records.config.sections import Mark, Section
from genmed.records.config.sources import suggest_key
from genmed.workflows.configure import configure
from tests.harness import Genmed

Arguments = Callable[..., list[object]]

FREE = {
    "data.root",
    "compute.num_workers",
    "compute.patience_seconds",
    "compute.prefetch",
    "compute.processes",
    "compute.share_memory",
    "compute.persistent_workers",
    "compute.images",
    "checkpoints.keep",
    "checkpoints.every_minutes",
    "checkpoints.every_steps",
    "checkpoints.keep_every_epochs",
    "checkpoints.keep_every_steps",
    "run.name",
    "run.tags",
    "run.code_files",
    "run.note",
    "run.report",
    "run.trace",
    "run.trace_modules",
    "run.tensorboard",
}
"""All that may differ between two runs of equal bits."""

PARTNERS: dict[str, dict[str, Any]] = {
    "normalisation.method": {"normalisation.mean": None, "normalisation.std": None},
    "normalisation.mean": {"normalisation.method": "fixed", "normalisation.mean": 0.3, "normalisation.std": 0.3},
    "normalisation.std": {"normalisation.method": "fixed", "normalisation.mean": 0.3, "normalisation.std": 0.3},
    "model.mode": {"model.weights": "torchvision"},
}
"""What a key needs beside it to have two valid values."""


def change(key: str) -> tuple[Config, Config]:
    """Two valid configs that differ in this key alone."""
    base = Config().replace(**PARTNERS.get(key, {}))
    choices = [value for part in (list_keys()[key].annotation, *get_args(list_keys()[key].annotation))
               for value in get_args(part) if isinstance(value, str)]  # fmt: skip
    for value in (*choices, 2, 4, 12, 0.25, 0.5, "another", ["a"], [0.1, 0.2], False, True):
        try:
            other = base.replace(**{key: value})
        except ValidationError:
            continue
        if flatten(other)[key] != flatten(base)[key]:
            return base, other
    raise AssertionError(f"no second value for {key}")


def refusal(text: str | None = None, *, path: Path | None = None, **more: Any) -> ConfigError:
    """The error that `configure` raises, for a YAML text or otherwise."""
    if text is not None:
        assert path is not None
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configure(file=path, **{"environ": {}, **more})
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


# Layers and origins


def test_each_layer_lies_over_the_ones_before(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"data: {{dataset: nih, root: {tmp_path}}}\n")
    key = "training.epochs"

    def resolved(**more: Any) -> tuple[Any, str]:
        found = configure(file=file, **{"environ": {}, **more})
        return flatten(found.config)[key], found.origins.get(key, "default")

    alone = configure(environ={}, settings=["data.dataset=phantom"])
    assert flatten(alone.config)[key] == 5
    assert resolved() == (10, "default for nih")
    file.write_text(file.read_text() + "training: {epochs: 11}\n")
    assert resolved() == (11, str(file))
    variable = {"environ": {"GENMED_TRAINING__EPOCHS": "12"}}
    assert resolved(**variable) == (12, "GENMED_TRAINING__EPOCHS")
    assert resolved(**variable, flags={key: 13}, origins={key: "--epochs"}) == (13, "--epochs")
    assert resolved(**variable, settings=[f"{key}=14"]) == (14, "--set")
    assert resolved(**variable, flags={key: None}, origins={key: "--epochs"})[0] == 12


def test_document_names_the_origin_of_each_value(genmed: Genmed, nih: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\noptimizer:\n  name: sgd\n  lr: 1.0\n  momentum: 0.5\n")
    arguments = ["train", "--dry-run", "--config", file, "--dataset", "nih", "--data-root", nih, "--lr", "0.25"]
    result = genmed(*arguments, "--set", "schedule.warmup=0", GENMED_OPTIMIZER__LR="2", GENMED_OPTIMIZER__MOMENTUM="0")
    assert result.code == 0, result.err
    found = {line.split(":")[0].strip(): " ".join(line.split()) for line in result.out.splitlines() if ": " in line}
    assert found["seed"] == f"seed: 1 # {file}"
    assert found["lr"] == "lr: 0.25 # --lr"
    assert found["momentum"] == "momentum: 0.0 # GENMED_OPTIMIZER__MOMENTUM"
    assert found["warmup"] == "warmup: 0.0 # --set"
    assert found["root"] == f"root: {nih} # --data-root"
    assert found["image_size"] == "image_size: 224 # default for nih"
    assert found["epochs"] == "epochs: 10 # default for nih"
    assert found["threads"] == "threads: 2 # GENMED_COMPUTE__THREADS"
    assert found["beta2"] == "beta2: 0.999 # default"


def test_nothing_given_is_the_built_in_dataset_at_its_size() -> None:
    values = flatten(configure({"seed": 42}, environ={}).config)
    chosen = ("seed", "data.dataset", "data.image_size", "data.split_seed", "model.name", "model.weights")
    assert [values[key] for key in chosen] == [42, "phantom", 64, 0, "resnet18", "random"]


def test_data_lie_below_data_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no data folder data/nih for nih" in refusal(flags={"data.dataset": "nih"}).message
    (tmp_path / "data" / "nih").mkdir(parents=True)
    assert configure({"data.dataset": "nih"}, environ={}).config.data.root == str(tmp_path / "data" / "nih")


def test_paths_are_kept_absolute_so_that_a_run_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "start.pt"):
        (tmp_path / name).touch()
    config = configure({"model.name": "net.py:build", "model.weights": "start.pt", "data.root": "d"}, environ={}).config
    assert config.model.name == f"{tmp_path}/net.py:build"
    assert config.model.weights == f"{tmp_path}/start.pt"
    assert config.data.root == f"{tmp_path}/d"


def test_variables_that_are_no_keys_are_left_alone() -> None:
    others = {"GENMED_ROOT": "x", "GENMED_REGISTRY": "x", "GENMED_CACHE": "x", "PATH": "x", "genmed_seed": "x"}
    assert configure(environ=others).config == configure(environ={}).config


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "010", 10),  # YAML 1.1 reads 8
        ("seed", "1_000", 1000),
        ("optimizer.lr", "1e-3", 1e-3),  # and text
        ("optimizer.lr", ".5", 0.5),
        ("run.name", "2024", "2024"),
        ("run.note", "1.50", "1.50"),
    ],
)
def test_text_means_the_same_by_flag_variable_file_and_set(key: str, text: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"{key}: {text}\n")
    ways = [
        configure({key: text}, environ={}),
        configure(environ={"GENMED_" + key.upper().replace(".", "__"): text}),
        configure(file=file, environ={}),
        configure(settings=[f"{key}={text}"], environ={}),
    ]
    assert [flatten(way.config)[key] for way in ways] == [value] * 4


# Unknown keys


@pytest.mark.parametrize(
    ("arguments", "variables", "told", "meant"),
    [
        (["--epocs", "3"], {}, "--epocs", "--epochs"),
        (["--set", "training.epcohs=3"], {}, "unknown key training.epcohs (--set)", "did you mean training.epochs?"),
        ([], {"GENMED_SED": "1"}, "unknown key sed (variable GENMED_SED)", "did you mean GENMED_SEED?"),
        ([], {"GENMED_LR": "1"}, "(variable GENMED_LR)", "did you mean GENMED_OPTIMIZER__LR?"),
        (["--config", "wrong.yaml"], {}, "unknown key optimizer.lrr in wrong.yaml", "did you mean optimizer.lr?"),
    ],
)
def test_unknown_key_anywhere_is_refused_with_the_nearest(
    genmed: Genmed, tmp_path: Path, arguments: list[str], variables: dict[str, str], told: str, meant: str
) -> None:
    (tmp_path / "wrong.yaml").write_text("optimizer:\n  lrr: 3\n")
    result = genmed("train", "--dry-run", *arguments, **variables)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert told in result.err
    assert meant in result.err


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("lr", "optimizer.lr"),
        ("batch-size", "training.batch_size"),
        ("optimiser.lr", "optimizer.lr"),
        ("data.splitseed", "data.split_seed"),
        ("normalization.mean", "normalisation.mean"),
        ("Seed", "seed"),
        ("xyzzy", None),
    ],
)
def test_nearest_key_is_found_by_its_last_word_or_spelling(wrong: str, meant: str | None) -> None:
    assert suggest_key(wrong) == meant


@pytest.mark.parametrize(
    "text", ["xyzzy: 1", "1: 2", "null: 2", "a: {b: {c: 1}}", "data: {seed: {x: 1}}", "seed: {x: 1}"]
)
def test_what_is_no_key_at_all_is_refused_by_name_and_file(text: str, tmp_path: Path) -> None:
    error = refusal(text, path=tmp_path / "c.yaml")
    assert str(tmp_path / "c.yaml") in error.message + error.hint


# Wrong values

WRONG = [
    ("seed", "-1", "greater than or equal to 0", "-1"),
    ("seed", "4294967296", "less than or equal to 4294967295", "4294967296"),
    ("seed", "abc", "a valid integer", "abc"),
    ("seed", "1.5", "a valid integer", "1.5"),
    ("data.val_ratio", "1", "less than 1", "1"),
    ("data.val_ratio", "-0.1", "greater than or equal to 0", "-0.1"),
    ("data.test_ratio", "nan", "must be", "nan"),
    ("data.image_size", "0", "greater than or equal to 1", "0"),
    ("data.split", "random", "'auto', 'official' or 'patient'", "random"),
    ("training.batch_size", "1", "greater than or equal to 2", "1"),
    ("training.epochs", "0", "greater than or equal to 1", "0"),
    ("optimizer.lr", "0", "greater than 0", "0"),
    ("optimizer.lr", "inf", "finite number", "inf"),
    ("optimizer.lr", "nan", "must be", "nan"),
    ("optimizer.lr", "fast", "a valid number", "fast"),
    ("optimizer.weight_decay", "-1", "greater than or equal to 0", "-1"),
    ("augmentation.rotate", "91", "less than or equal to 90", "91"),
    ("schedule.milestones", "[0.7, 0.2]", "increasing", "[0.7, 0.2]"),
    ("schedule.milestones", "[0.5, 1.5]", "between 0 and 1", "[0.5, 1.5]"),
    ("compute.shards", "3", "a power of two", "3"),
    ("compute.device", "gpu", "'auto', 'cpu', 'cuda' or 'mps'", "gpu"),
    ("compute.threads", "0", "greater than or equal to 1", "0"),
    ("model.input_channels", "2", "'auto', '1' or '3'", "2"),
    ("run.name", "a/b", "letters, digits, dots", "a/b"),
    ("loss.positive_weights", "heavy", "'none' or 'balanced'", "heavy"),
]


@pytest.mark.parametrize(("key", "text", "rule", "shown"), WRONG)
def test_wrong_value_is_told_with_key_rule_value_and_origin(
    key: str, text: str, rule: str, shown: str, tmp_path: Path
) -> None:
    file, variable = tmp_path / "c.yaml", "GENMED_" + key.upper().replace(".", "__")
    section, _, name = key.rpartition(".")
    ways = {
        "--set": refusal(settings=[f"{key}={text}"]),
        variable: refusal(environ={variable: text}),
        str(file): refusal(f"{section}: {{{name}: {text}}}" if section else f"{name}: {text}", path=file),
    }
    for origin, error in ways.items():
        assert error.message.startswith(f"{key} must ")
        assert rule in error.message
        assert error.message.endswith(f", got {shown}")
        assert error.hint == f"set by {origin}"


@pytest.mark.parametrize("key", list_keys())
def test_every_key_refuses_a_value_of_another_kind(key: str) -> None:
    error = refusal(settings=[f"{key}={{a: b}}"])
    assert error.message.startswith(f"{key} must be ")
    assert error.message.endswith(", got {'a': 'b'}")
    assert error.hint == "set by --set"


def may_be_number(annotation: Any) -> bool:
    """Whether the annotation allows a number that stands for itself: not one in a list, no boolean."""
    if annotation in (int, float):
        return True
    return get_origin(annotation) is not tuple and any(map(may_be_number, get_args(annotation)))


@pytest.mark.parametrize("key", [key for key, info in list_keys().items() if may_be_number(info.annotation)])
def test_boolean_is_no_number(key: str) -> None:
    error = refusal(settings=[f"{key}=true"])
    assert error.message.lower() == f"{key} must be a number, got true"
    assert error.hint == "set by --set"


def test_boolean_in_a_list_of_numbers_is_refused() -> None:
    assert "got true" in refusal(settings=["loss.positive_weights=[true, 1, 1, 1, 1]"]).message.lower()


def test_wrong_weight_of_a_class_is_told_by_its_own_rule() -> None:
    error = refusal(settings=["loss.positive_weights=[1, 1, -2, 1, 1]"])
    assert error.message == "loss.positive_weights must be greater than 0, got -2"
    assert error.hint == "set by --set"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["data.val_ratio=0.5", "data.test_ratio=0.5"], "val_ratio + test_ratio must be below 1, got 0.5 + 0.5"),
        (["normalisation.method=fixed"], "method fixed needs both mean and std"),
        (["normalisation.mean=0.5"], "mean and std go with method fixed, not with dataset"),
        (["model.mode=linear_probe"], "mode linear_probe needs trained weights"),
        (["training.batch_size=3", "compute.shards=2"], "at least 2 a shard, got 3 for 2 shards"),
        (["training.batch_size=33", "compute.shards=2"], "must divide training.batch_size, got 2 and 33"),
        (["loss.positive_weights=[1, 2]"], "has 2 numbers, phantom has 5 classes"),
        (["model.name=vit_b_16", "data.image_size=60"], "an image size that 16 divides, got 60"),
    ],
)
def test_values_that_do_not_go_together_are_told_with_both(settings: list[str], told: str) -> None:
    assert told in refusal(settings=settings).message


# YAML


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimizer: {lr: 1e-3}", "optimizer.lr", 1e-3),  # YAML 1.1 reads this as text
        ("optimizer: {lr: '0.5'}", "optimizer.lr", 0.5),
        ("optimizer.lr: 0.5", "optimizer.lr", 0.5),
        ("\ufeffseed: 7", "seed", 7),
        ("seed: 7\r\n", "seed", 7),
        ("", "seed", 42),
        ("# nothing\n---\n", "seed", 42),
        ("optimizer:\n", "optimizer.lr", 1e-3),
        ("model: {input_channels: 1}", "model.input_channels", "1"),
        ("optimizer: {clip_norm: null}", "optimizer.clip_norm", None),
        ("schedule: {milestones: []}", "schedule.milestones", []),
        ("run: {tags: [a, b]}", "run.tags", ["a", "b"]),
        ("run: {note: 'a: b # c'}", "run.note", "a: b # c"),
        ("compute: {tf32: yes}", "compute.tf32", True),
        ("data: &d {val_ratio: 0.1}\ntraining: {<<: {epochs: 3}}", "training.epochs", 3),
    ],
)
def test_yaml_is_read_as_meant(text: str, key: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(text.encode())
    assert flatten(configure(file=file, environ={}).config)[key] == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nseed: 2", "key 'seed' is given twice"),
        ("data:\n  root: a\n  root: b", "key 'root' is given twice"),
        ("optimizer.lr: 1\noptimizer: {lr: 2}", "twice"),
        ("- seed", "must hold keys and values, found list"),
        ("seed", "must hold keys and values, found str"),
        ("seed: [1", "is not YAML"),
        ("\tseed: 1", "is not YAML"),
        ("seed: 1\n---\nseed: 2", "is not YAML"),
        ("? [a]\n: 1", "c.yaml"),
        ("x: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("seed: \x00", "is not YAML"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused_with_the_file_and_the_place(text: str, told: str, tmp_path: Path) -> None:
    error = refusal(text, path=tmp_path / "c.yaml")
    assert str(tmp_path / "c.yaml") in error.message
    assert told in error.message


def test_yaml_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal(path=tmp_path / "absent.yaml").message == f"no config file {tmp_path / 'absent.yaml'}"
    assert str(tmp_path) in refusal(path=tmp_path).message
    (tmp_path / "latin.yaml").write_bytes(b"run: {note: caf\xe9}")
    assert str(tmp_path / "latin.yaml") in refusal(path=tmp_path / "latin.yaml").message


# The document


@settings(max_examples=100, deadline=None, derandomize=True)
@example(note="a\u2028b\x85c\nd", tags=["...", "- x", "é # ü"], root="\\x", lr=1e-3, milestones=[], seed=0)
@given(
    note=st.text(),
    tags=st.lists(st.text(), max_size=3),
    root=st.text(st.characters(exclude_characters="\0")),
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    milestones=st.lists(st.floats(0.001, 0.999), unique=True, max_size=3).map(sorted),
    seed=st.integers(0, 2**32 - 1),
)
def test_document_is_read_back_as_the_config_that_was_written(tmp_path_factory: Any, **values: Any) -> None:
    keys = dict(
        zip(["run.note", "run.tags", "data.root", "optimizer.lr", "schedule.milestones"], values.values(), strict=False)
    )
    config = Config().replace(**keys, seed=values["seed"])
    file = tmp_path_factory.getbasetemp() / "document.yaml"
    file.write_bytes(write_document(config, {}).encode())
    assert resolve([layer_of_file(file)]).config == config


def test_document_holds_every_key_in_its_section() -> None:
    document = yaml.safe_load(write_document(Config(), {}))
    found = []
    for name, value in document.items():
        found += [f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name]
    assert found == list(list_keys())


def test_dry_run_prints_the_document_and_leaves_nothing(genmed: Genmed, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"GENMED_ROOT": str(empty / "root"), "GENMED_CACHE": str(empty / "cache")}
    result = genmed("train", "--dry-run", "--seed", 5, cwd=empty, **places)
    assert (result.code, result.err) == (0, "")
    assert list(empty.iterdir()) == []
    file = tmp_path / "printed.yaml"
    file.write_text(result.out)
    as_harness = {"seed": 5, "compute.threads": 2, "run.report": False}
    assert resolve([layer_of_file(file)]).config == configure(as_harness, environ={}).config
    again = genmed("train", "--dry-run", "--config", file, cwd=empty, **places)
    assert yaml.safe_load(again.out) == yaml.safe_load(result.out)


def test_dry_run_under_json_prints_json_alone(genmed: Genmed) -> None:
    printed = genmed("train", "--dry-run", "--json")
    assert printed.json["seed"] == 42


def test_config_of_a_run_starts_the_same_run_again(genmed: Genmed, trained: Genmed) -> None:
    first = trained.run_folder()
    result = genmed("train", "--config", first / "config.yaml", "--json", "--name", "again")
    assert result.code == 0, result.err
    recorded = trained("show", "latest", "--json").json
    assert result.json["trace_digest"] == recorded["trace_digest"]
    assert result.json["metrics"] == recorded["metrics"]
    one, two = (resolve([layer_of_file(folder / "config.yaml")]).config for folder in (first, genmed.run_folder()))
    assert two == one.replace(**{"run.name": "again"})
    assert two.fingerprint == one.fingerprint


# Fields and the fingerprint


@pytest.mark.parametrize("key", list_keys())
def test_field_is_documented_and_marked(key: str) -> None:
    info = list_keys()[key]
    assert info.description
    assert info.description.endswith(".")
    assert len([mark for mark in info.metadata if isinstance(mark, Mark)]) == 1


def test_sections_are_documented_and_frozen() -> None:
    config = Config()
    for name, field in Config.model_fields.items():
        part = getattr(config, name)
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, name, part)
        if isinstance(part, Section):
            assert type(part).__doc__ != Section.__doc__
            inner = next(iter(type(part).model_fields))
            with pytest.raises(ValidationError, match="frozen"):
                setattr(part, inner, getattr(part, inner))
        assert field.default == part


@pytest.mark.parametrize("key", list_keys())
def test_fingerprint_changes_with_what_affects_bits_and_nothing_else(key: str) -> None:
    base, other = change(key)
    assert (base.fingerprint != other.fingerprint) == (key not in FREE)
    assert base.fingerprint == Config.model_validate(base.model_dump()).fingerprint
    assert base.fingerprint.startswith("sha256:")


def test_fields_marked_free_are_those_that_a_run_may_differ_in() -> None:
    assert {key for key in list_keys() if not affects_bits(key)} == FREE


def test_fields_marked_free_change_no_bit(genmed: Genmed, trained: Genmed, tiny: Arguments, tmp_path: Path) -> None:
    given = {
        "data.root": "",
        "compute.processes": 1,
        "run.trace": True,
        "run.name": "free",
        "run.tags": "[a]",
        "checkpoints.every_steps": 2,
        "run.code_files": f"[{__file__}]",
    }
    changed = [f"{key}={given.get(key, flatten(change(key)[1])[key])}" for key in FREE if given.get(key) != ""]
    (tmp_path / "elsewhere").symlink_to(tiny()[4])
    more = [part for text in changed for part in ("--set", text)]
    result = genmed(*tiny("--data-root", tmp_path / "elsewhere", *more))
    assert result.code == 0, result.err
    recorded = trained("show", "latest", "--json").json
    for name in ("trace_digest", "fingerprint", "metrics"):
        assert result.json[name] == recorded[name]


def test_metrics_do_not_depend_on_how_often_one_validates_or_the_fingerprint_does(
    genmed: Genmed, tiny: Arguments
) -> None:
    runs = [genmed(*tiny("--lr", "0.01", "--set", f"training.validate_every={number}")).json for number in (1, 4)]
    fingerprints = [
        resolve([layer_of_file(genmed.root / run["path"] / "config.yaml")]).config.fingerprint for run in runs
    ]
    assert runs[0]["metrics"] == runs[1]["metrics"] or fingerprints[0] != fingerprints[1]


def test_fingerprint_takes_files_by_name_not_by_place() -> None:
    def fingerprint(folder: str) -> str:
        return Config().replace(**{"model.name": f"{folder}/n.py:f", "model.weights": f"{folder}/w.pt"}).fingerprint

    assert fingerprint("a") == fingerprint("/b/c")
    assert fingerprint("a") != Config().replace(**{"model.name": "a/n.py:g", "model.weights": "a/w.pt"}).fingerprint


def test_replace_validates() -> None:
    with pytest.raises(ValidationError):
        Config().replace(seed=-1)
    with pytest.raises(ValidationError):
        Config().replace(**{"training.epcohs": 1})


def test_fields_that_came_after_the_first_runs_are_in_the_fingerprint_only_where_they_are_chosen() -> None:
    first = Config().affecting_bits()
    assert {"seed", "data.image_size", "augmentation.preset"} <= first.keys()
    for key, chosen in (("labels.blank", "ignore"), ("data.bits", 12), ("augmentation.crop", 0.5)):
        assert key not in first
        assert Config().replace(**{key: chosen}).affecting_bits()[key] == chosen
        assert Config().replace(**{key: chosen}).fingerprint != Config().fingerprint
