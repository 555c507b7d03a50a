"""The journal: rows on the disk as they are done, whatever ends the process."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import programs
import pytest

from llmtasker.errors import ConfigurationError
from llmtasker.files import Journal, read_rows


def journal_at(folder: Path, content: bytes) -> Path:
    path = folder / "out.jsonl"
    path.write_bytes(content)
    return path


def earlier(path: Path) -> list[dict[str, Any]]:
    with Journal(path) as journal:
        return list(journal.earlier())


def test_a_row_is_readable_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append({"n": number, "t": "é\n\ud800"})
            assert [row["n"] for row in read_rows(path)] == list(range(number + 1))
        assert list(journal.earlier()) == []
    with Journal(path) as journal:
        journal.append({"n": 3})
        assert [row["n"] for row in journal.earlier()] == [0, 1, 2]
        assert [row["n"] for row in journal.earlier()] == [0, 1, 2]
    assert [row["n"] for row in earlier(path)] == [0, 1, 2, 3]
    assert earlier(path)[0]["t"] == "é\n\ud800"


@pytest.mark.parametrize(
    ("tail", "after"),
    [
        (b"", b'{"n": 1}\n'),
        (b'{"n": 2}', b'{"n": 1}\n{"n": 2}\n'),
        (b'{"n": 2', b'{"n": 1}\n'),
        (b'{"t": "\xc3', b'{"n": 1}\n'),
        (b"\0" * 5_000, b'{"n": 1}\n'),
        (b'{"t": "' + b"x" * 200_000, b'{"n": 1}\n'),
        (b'{"t": "' + b"x" * 200_000 + b'"}', b'{"n": 1}\n{"t": "' + b"x" * 200_000 + b'"}\n'),
        (b"12", b'{"n": 1}\n'),
    ],
)
def test_a_torn_last_line_is_mended(tmp_path: Path, tail: bytes, after: bytes) -> None:
    path = journal_at(tmp_path, b'{"n": 1}\n' + tail)
    with Journal(path) as journal:
        assert path.read_bytes() == after
        journal.append({"n": 9})
        assert len(list(journal.earlier())) == after.count(b"\n")
    assert path.read_bytes() == after + b'{"n": 9}\n'


@pytest.mark.parametrize("content", [b'{"n"', b"\0\0\0", b"", b"\n"])
def test_a_journal_of_a_torn_line_only_starts_anew(tmp_path: Path, content: bytes) -> None:
    path = journal_at(tmp_path, content)
    assert earlier(path) == []
    assert path.read_bytes() in {b"", b"\n"}


def test_a_line_torn_in_the_middle_is_counted(tmp_path: Path) -> None:
    path = journal_at(tmp_path, b'\xef\xbb\xbf{"n": 1}\n{"n": \n\n[]\n{"n": 2}\n')
    with Journal(path) as journal:
        assert list(journal.earlier()) == [{"n": 1}, {"n": 2}]
        assert journal.damaged == 2


def test_a_journal_that_was_shortened_meanwhile_ends_early(tmp_path: Path) -> None:
    path = journal_at(tmp_path, b'{"n": 1}\n{"n": 2}\n')
    with Journal(path) as journal:
        path.write_bytes(b'{"n": 1}\n')
        assert list(journal.earlier()) == [{"n": 1}]


@pytest.mark.parametrize("content", [b"a;b\n1;2", b"notes", b'{\n "a": 1\n}', b"[1, 2]", b"PK\x03\x04\n..."])
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = journal_at(tmp_path, content)
    with pytest.raises(ConfigurationError, match="holds no JSON lines"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as first:
        first.append({"n": 1})
        with pytest.raises(ConfigurationError, match="another run"):
            Journal(path)
        first.append({"n": 2})
    assert [row["n"] for row in earlier(path)] == [1, 2]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't write"):
        Journal(tmp_path / "missing" / "out.jsonl")


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.append({})


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as journal:

        def work(name: int) -> None:
            for number in range(100):
                journal.append({"name": name, "number": number, "t": "x" * 5_000})

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = sorted((row["name"], row["number"]) for row in earlier(path))
    assert found == [(name, number) for name in range(8) for number in range(100)]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A file size limit makes the write stop in the middle of a line, as a full disk does."""
    path = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
        with Journal(path) as journal:
            journal.append({"n": 1})
            with pytest.raises(OSError, match="too large"):
                journal.append({"t": "x" * 2_000})
            assert path.read_bytes() == b'{"n": 1}\n'
            journal.append({"n": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert earlier(path) == [{"n": 1}, {"n": 2}]


WRITER = """
import sys
from llmtasker.files import Journal
journal = Journal(sys.argv[1])
number = sum(1 for _ in journal.earlier())
while True:
    journal.append({"n": number, "t": "x" * 3_000})
    number += 1
    print(number, flush=True)
"""


def test_a_killed_process_loses_no_row_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    told = 0
    for _ in range(3):
        with programs.started("-c", WRITER, path) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told = int(line)
                if told % 40 == 0:
                    break
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
            told = int(rest[-1]) if rest else told
        numbers = [row["n"] for row in earlier(path)]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= told
    for line in path.read_bytes().splitlines():
        json.loads(line)
