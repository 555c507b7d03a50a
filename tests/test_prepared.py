"""Compiled tasks are stored on disk: privately, with checks, and without ever causing a failure."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from llmtasker import InputField, OutputField, Signature
from llmtasker.cache import DiskCache, default_directory, stored_json
from llmtasker.cache.stored_json import stored
from llmtasker.compiler.prepared import Prepared, prepared_once
from llmtasker.compiler.program import compile_program

MADE: dict[str, Any] = {"b": [1, None, "é"], "a": {"x": True}}


class Maker:
    """Prepares something, and counts its calls."""

    def __init__(self, made: dict[str, Any] = MADE) -> None:
        self.made = made
        self.calls = 0

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        return self.made


def folder() -> Path:
    return default_directory() / "compiled"


def only_file() -> Path:
    (path,) = folder().iterdir()
    return path


def test_it_is_prepared_once_and_comes_back_as_it_was() -> None:
    make = Maker()
    found = [stored({"schema": {"é": 1}}, __file__, make) for _ in range(3)]
    assert make.calls == 1
    assert found == [MADE] * 3
    assert [list(each) for each in found] == [["b", "a"]] * 3, "the LLM sees the order"


@pytest.mark.parametrize("other", ["source", "code", "version"])
def test_it_holds_for_what_it_was_prepared_from(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    stored({"mode": "tools"}, __file__, make)
    (tmp_path / "code.py").write_text("pass")
    if other == "version":
        monkeypatch.setattr(stored_json, "_PACKAGES", ("pytest",))
        stored_json._versions.cache_clear()
    source = {"mode": "json" if other == "source" else "tools"}
    stored(source, str(tmp_path / "code.py") if other == "code" else __file__, make)
    assert make.calls == 2
    stored_json._versions.cache_clear()


def test_folder_and_files_are_private() -> None:
    before = os.umask(0)
    try:
        stored({}, __file__, Maker())
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder().stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file().stat().st_mode) == 0o600
    cache = DiskCache()
    default_directory().chmod(0o755)
    cache.put("0" * 64, "{}")
    assert stat.S_IMODE(default_directory().stat().st_mode) == 0o700
    cache.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "{",
        "x\n{}",
        "[{}]",
        "[" * 100_000,
        "\udcff",
        "null",
        "7",
    ],
)
@pytest.mark.parametrize("sound", [False, True])
def test_a_damaged_or_forged_file_is_prepared_again(text: str, sound: bool) -> None:
    make = Maker()
    stored({}, __file__, make)
    path = only_file()
    if sound and text.isascii():
        text = f"{stored_json._checksum(path.stem, text)}\n{text}"
    path.write_text(text, "utf-8", "surrogateescape")
    assert stored({}, __file__, make) == MADE
    assert make.calls == 2
    assert stored({}, __file__, make) == MADE
    assert make.calls == 2


def test_a_flipped_byte_is_seen() -> None:
    make = Maker()
    stored({}, __file__, make)
    path = only_file()
    whole = path.read_bytes()
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        path.write_bytes(spoilt)
        assert stored({}, __file__, make) == MADE
    assert make.calls == 1 + len(whole)


@pytest.mark.parametrize("spoil", ["file", "folder", "link", "directory"])
def test_what_others_may_write_is_not_read(spoil: str, tmp_path: Path) -> None:
    make = Maker()
    stored({}, __file__, make)
    path = only_file()
    if spoil == "file":
        path.chmod(0o666)
    elif spoil == "folder":
        folder().chmod(0o777)
    elif spoil == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        path.mkdir()
    assert stored({}, __file__, make) == MADE
    assert make.calls == 2


@pytest.mark.parametrize("where", ["a file", "no home", "NaN"])
def test_where_nothing_can_be_kept_it_is_prepared_each_time(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    source: dict[str, Any] = {}
    if where == "a file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("LLMTASKER_CACHE_DIR", str(tmp_path / "file"))
    elif where == "NaN":
        source = {"default": float("nan")}
    else:

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(stored_json, "default_directory", homeless)
    assert [stored(source, __file__, make) for _ in range(2)] == [MADE] * 2
    assert make.calls == 2


def test_old_files_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_json, "_MOST_FILES", 5)
    for number in range(12):
        stored({"number": number}, __file__, Maker())
    assert len(list(folder().iterdir())) == 5


class Sort(Signature):
    """Sort a message."""

    message: str = InputField(description="what the customer wrote")
    team: str = OutputField(description="who takes it")


def test_a_program_from_the_disk_sends_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmtasker.wire.request import Settings

    settings = Settings(endpoint="x", body={"model": "m"})
    keys = []
    for _ in range(2):
        for mode in ("tools", "json_schema", "json", "text"):
            program = compile_program(Sort, mode=mode)
            assert not program.ready
            program.warm_up()
            assert program.ready
            request = program.render(program.validate("hello"), settings)
            keys.append((request.key, json.dumps(request.body)))
    assert keys[:4] == keys[4:]


def test_labels_of_rows_are_not_kept() -> None:
    from typing import Literal

    team: Any = (Literal["a", "b"], OutputField(description="who takes it"))
    program = compile_program(Sort.with_fields(team=team))
    program.head(program.first_mode)
    before = set(folder().iterdir())
    variant = program.variant({"team": ["private label", "other label"]})
    variant.head(variant.first_mode)
    assert set(folder().iterdir()) == before


@pytest.mark.parametrize("found", [{}, {"fields": [], "note": ""}, {"fields": {}, "note": 1}])
def test_what_is_not_prepared_is_prepared_again(found: dict[str, Any]) -> None:
    made = Prepared(fields={"tools": [1]}, note="note")
    stored({"x": 1}, __file__, lambda: found)
    assert prepared_once({"x": 1}, __file__, lambda: made) == made
    assert prepared_once({"x": 2}, __file__, lambda: made) == made
    assert prepared_once({"x": 2}, __file__, lambda: pytest.fail("it is kept")) == made
