"""From a source to a record, under the policy of the installation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from palimpsest.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from palimpsest.models import (
    check_source,
    fingerprint_folder,
    register,
    register_made,
    unregister,
    verify,
)
from palimpsest.progress import NullProgress

QUIET = NullProgress()


@pytest.fixture
def enrol(catalogue, settings):
    def run(model_id, source, **details):
        return register(model_id, str(source), catalogue, settings, QUIET, **details)

    return run


def test_folder(enrol, catalogue, tiny_model):
    record = enrol("tiny", tiny_model, labels={"a": "b"})
    assert catalogue.get("tiny") == record
    assert record.fingerprint == fingerprint_folder(tiny_model).model
    assert (record.source, record.source_format, record.path) == (
        str(tiny_model),
        "safetensors",
        str(tiny_model),
    )
    assert record.labels == {"a": "b"}
    assert record.create_time > 0


def test_same_and_other_content(enrol, copy, tiny_model):
    first = enrol("tiny", tiny_model)
    moved = copy("moved")
    assert enrol("tiny", moved) == replace(first, path=str(moved))
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AlreadyExists):
        enrol("tiny", moved)


def test_gguf(enrol, catalogue, settings, tiny_gguf):
    record = enrol("tiny", tiny_gguf)
    assert record.source_format == "gguf"
    assert Path(record.path).parent == settings.models_dir
    twin = enrol("twin", tiny_gguf)
    assert twin.path == record.path
    unregister("tiny", catalogue, settings, QUIET)
    assert Path(twin.path).is_dir(), "another model still lies there"
    unregister("twin", catalogue, settings, QUIET)
    assert [path for path in settings.models_dir.iterdir() if path.is_dir()] == []
    assert enrol("tiny", tiny_gguf).fingerprint == record.fingerprint


def test_folders_registered_in_place_are_left_alone(enrol, catalogue, settings, tiny_model):
    enrol("tiny", tiny_model)
    unregister("tiny", catalogue, settings, QUIET)
    assert (tiny_model / "model.safetensors").exists()
    with pytest.raises(NotFound):
        catalogue.get("tiny")


def test_parents(enrol, catalogue, settings, tiny_model):
    with pytest.raises(NotFound):
        enrol("child", tiny_model, parent="root")
    enrol("root", tiny_model)
    enrol("child", tiny_model, parent="root", relation="RELATION_FINE_TUNED")
    with pytest.raises(FailedPrecondition):
        unregister("root", catalogue, settings, QUIET)


def test_nothing_is_registered_from_a_bad_source(enrol, catalogue, copy):
    folder = copy("m")
    (folder / "config.json").unlink()
    with pytest.raises(InvalidArgument):
        enrol("m", folder)
    assert catalogue.list() == ([], "")


@pytest.mark.parametrize(
    "source", ["models/x", "./x", "hub:", "hub:name", "hub:a/b/c", "hub:../x@y z", "SAMPLE", "/x\0y"]
)
def test_not_a_source(settings, source):
    with pytest.raises(InvalidArgument):
        check_source(source, settings)


def test_no_such_path(enrol, tmp_path):
    with pytest.raises(NotFound) as caught:
        enrol("m", tmp_path / "nothing")
    assert caught.value.reason == "MODEL_SOURCE_NOT_FOUND"
    single = tmp_path / "model.safetensors"
    single.write_bytes(b"")
    with pytest.raises(InvalidArgument):
        enrol("m", single)


def test_model_roots(catalogue, settings, copy, tiny_model, tmp_path):
    inside = copy("roots/inside")
    walled = settings.model_copy(update={"model_roots": [tmp_path / "roots"]})
    assert register("m", str(inside), catalogue, walled, QUIET).path == str(inside)
    (tmp_path / "roots" / "link").symlink_to(tiny_model)
    half = copy("roots/half")
    (half / "model.safetensors").unlink()
    (half / "model.safetensors").symlink_to(tiny_model / "model.safetensors")
    for source in (tiny_model, tmp_path / "roots" / ".." / "x", tmp_path / "roots" / "link", half):
        with pytest.raises(PermissionDenied) as caught:
            register("n", str(source), catalogue, walled, QUIET)
        assert caught.value.reason == "MODEL_SOURCE_FORBIDDEN"


def test_paths_need_roots_off_loopback(settings, tiny_model):
    for listen in ("127.0.0.1:7600", "[::1]:7600", "localhost:7600", "unix:/tmp/x.sock"):
        check_source(str(tiny_model), settings.model_copy(update={"listen": listen}))
    for listen in ("0.0.0.0:7600", "[::]:7600", "example.org:7600"):
        reachable = settings.model_copy(update={"listen": listen})
        check_source("sample", reachable)
        check_source("hub:a/b@main", reachable)
        with pytest.raises(PermissionDenied):
            check_source(str(tiny_model), reachable)


def test_hub_offline(enrol, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotFound) as caught:
        enrol("m", "hub:nobody/nothing-of-this-name@v1")
    assert caught.value.reason == "MODEL_SOURCE_NOT_FOUND"
    assert "PALIMPSEST_HUB_OFFLINE" in caught.value.message


def test_verify(enrol, settings, copy):
    folder = copy("m")
    record = enrol("m", folder)
    verify(record, settings, QUIET)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=9))
    verify(record, settings, QUIET)
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    with pytest.raises(FailedPrecondition) as caught:
        verify(record, settings, QUIET)
    assert caught.value.reason == "MODEL_CHANGED"
    (folder / "model.safetensors").unlink()
    with pytest.raises(FailedPrecondition):
        verify(record, settings, QUIET)


@pytest.fixture
def made(settings, copy):
    """A trained model in the folder of models, under a name nobody looks for."""

    def make(name, scale=2.0):
        folder = copy(name)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= scale
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        return folder.rename(settings.models_dir / f".{name}.partial")

    return make


@pytest.fixture
def enrol_made(catalogue, settings):
    def run(model_id, folder, name, parent="tiny"):
        return register_made(
            model_id,
            folder,
            name,
            catalogue,
            settings,
            QUIET,
            source="operations/1",
            parent=parent,
            relation="RELATION_FINE_TUNED",
        )

    return run


def models_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_a_model_that_was_made_here_is_moved_and_goes_with_its_record(
    enrol, enrol_made, made, catalogue, settings, tiny_model
):
    base = enrol("tiny", tiny_model)
    record = enrol_made("child", made("trained"), "made-1")
    assert catalogue.get("child") == record
    assert (record.parent, record.relation, record.source) == ("tiny", "RELATION_FINE_TUNED", "operations/1")
    assert record.path == str(settings.models_dir / "made-1")
    assert record.fingerprint == fingerprint_folder(Path(record.path)).model != base.fingerprint
    verify(record, settings, QUIET)
    assert models_in(settings.models_dir) == ["made-1"]
    unregister("child", catalogue, settings, QUIET)
    assert models_in(settings.models_dir) == []


def test_the_same_work_done_again_finds_itself_registered(enrol, enrol_made, made, settings, tiny_model):
    enrol("tiny", tiny_model)
    first = enrol_made("child", made("one"), "made-1")
    inode = (settings.models_dir / "made-1").stat().st_ino
    assert enrol_made("child", made("two"), "made-1") == first
    assert (settings.models_dir / "made-1").stat().st_ino == inode, "readers keep their files"
    assert models_in(settings.models_dir) == ["made-1"]


def test_what_a_dead_process_left_is_replaced(enrol, enrol_made, made, settings, tiny_model):
    enrol("tiny", tiny_model)
    (settings.models_dir / "made-1").mkdir(parents=True)
    (settings.models_dir / "made-1" / "half").touch()
    record = enrol_made("child", made("one"), "made-1")
    assert not (Path(record.path) / "half").exists()


@pytest.mark.parametrize(
    ("model_id", "parent", "scale", "error"),
    [("tiny", "tiny", 2.0, AlreadyExists), ("child", "nobody", 2.0, NotFound)],
)
def test_nothing_is_left_of_what_is_not_registered(
    enrol, enrol_made, made, settings, tiny_model, model_id, parent, scale, error
):
    enrol("tiny", tiny_model)
    with pytest.raises(error):
        enrol_made(model_id, made("one", scale), "made-1", parent)
    assert models_in(settings.models_dir) == []


def test_a_folder_that_is_no_model_is_not_registered(enrol, enrol_made, made, settings, tiny_model):
    enrol("tiny", tiny_model)
    folder = made("one")
    (folder / "config.json").unlink()
    with pytest.raises(InvalidArgument):
        enrol_made("child", folder, "made-1")
    assert models_in(settings.models_dir) == []
