"""The journal of a run: stored items are not lost, and other files are not touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import programs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtasker.errors import ConfigurationError
from llmtasker.files import Journal


def test_entries_are_found_by_identity_first_those_of_their_number_then_the_latest(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.put(2, b"same", '{"n": 2}')
        journal.put(1, b"same", '{"n": 1}')
        journal.put(2, b"other", '{"n": 3}')  # another row has its number now
        found = [journal.find(number, b"same") for number in (1, 2, 9)]
        assert found == [(True, '{"n": 1}'), (True, '{"n": 2}'), (True, '{"n": 1}')]
        assert (journal.find(2, b"other"), journal.find(1, b"none"), len(journal)) == ((True, '{"n": 3}'), None, 2)
    with Journal(tmp_path / "j") as journal:
        journal.put(2, b"other", '{"n": 4}')  # the last entry of the file is replaced
        journal.put(1, b"new", '{"n": 5}')
        found = [journal.find(number, identity) for number, identity in ((2, b"other"), (1, b"new"), (1, b"same"))]
        assert found == [(True, '{"n": 4}'), (True, '{"n": 5}'), (False, '{"n": 1}')]


def test_an_entry_that_did_not_fail_is_found_before_one_that_did(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.put(1, b"same", "failed 1", failed=True)
        journal.put(3, b"same", "failed 3", failed=True)
        assert [journal.find(number, b"same") for number in (1, 2)] == [(True, "failed 1"), (True, "failed 3")]
        journal.put(2, b"same", "answer")
        journal.put(4, b"same", "failed 4", failed=True)
        assert {journal.find(number, b"same") for number in (1, 2, 4, 9)} == {(True, "answer")}
        journal.put(1, b"same", "own answer")
        assert [journal.find(number, b"same") for number in (1, 2)] == [(True, "own answer"), (True, "answer")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.binary(min_size=1, max_size=16), st.text()), max_size=30))
def test_what_was_put_last_is_there_again(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, bytes, str]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    entries = [(number, identity, text.replace("\0", "")) for number, identity, text in entries]
    with Journal(path) as journal:
        for entry in entries:
            journal.put(*entry)
    last = {(number, identity): item for number, identity, item in entries}
    with Journal(path) as journal:
        assert len(journal) == len({number for number, _ in last})
        for place, item in last.items():
            assert journal.find(*place) == (False, item)


def test_what_a_run_is_can_be_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        assert journal.about == {}
        journal.describe({"input": "a", "columns": "b"})
        journal.describe({"input": "c"})
    with Journal(tmp_path / "j") as journal:
        assert journal.about == {"input": "c", "columns": "b"}


@pytest.mark.parametrize("content", [b"my notes\n", b"SQLite format 3\0" + b"x" * 200, b"\0" * 100])
def test_a_file_that_is_not_a_journal_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


def test_the_database_of_another_program_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "j")) as database, database:
        database.execute("CREATE TABLE rows (number INTEGER)")
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(ConfigurationError, match="not a journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_a_journal_of_an_earlier_version_keeps_its_entries(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.describe({"input": "a"})
        journal.put(2, b"b", "[2]")
        journal.put(1, b"a", "[1]")
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as database:
        database.executescript(
            """
            ALTER TABLE rows RENAME TO new;
            CREATE TABLE rows (
                number INTEGER PRIMARY KEY, identity BLOB NOT NULL, item TEXT NOT NULL, checksum BLOB NOT NULL
            );
            INSERT INTO rows SELECT number, identity, item, checksum FROM new;
            DROP TABLE new;
            CREATE INDEX identities ON rows (identity);
            PRAGMA application_id = 0x6C740001;
            """
        )
    for added in range(2):
        with Journal(tmp_path / "j") as journal:
            found = [journal.find(*place) for place in ((1, b"a"), (2, b"b"), (7, b"b"))]
            assert found == [(False, "[1]"), (False, "[2]"), (False, "[2]")]
            assert (journal.about, len(journal)) == ({"input": "a"}, 2)
            journal.put(1, b"c%d" % added, "[3]")
    with closing(sqlite3.connect(tmp_path / "j")) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (4,)
        assert {"identities"} <= {name for (name,) in database.execute("SELECT name FROM sqlite_master")}


def test_a_journal_without_marks_of_failures_gets_them(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.put(1, b"a", "[1]")
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as database:
        database.executescript(
            "DROP INDEX identities; ALTER TABLE rows DROP COLUMN failed; CREATE INDEX identities ON rows (identity);"
        )
    for _ in range(2):
        with Journal(tmp_path / "j") as journal:
            journal.put(2, b"a", "failed", failed=True)
            assert (journal.find(2, b"a"), journal.find(1, b"a")) == ((False, "[1]"), (False, "[1]"))


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as first:
        first.put(1, b"a", "{}")
        with pytest.raises(ConfigurationError, match="another run is writing"):
            Journal(tmp_path / "j")
    with Journal(tmp_path / "j") as second:
        assert len(second) == 1


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't write"):
        Journal(tmp_path / "nowhere" / "j")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match="can't"):
        Journal(tmp_path / "folder")


def test_a_journal_is_private(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"):
        assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_threads_do_not_mix_their_entries(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:

        def put(start: int) -> None:
            for number in range(start, start + 50):
                journal.put(number, b"%d" % number, f"[{number}]")

        threads = [threading.Thread(target=put, args=(50 * place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [journal.find(number, b"%d" % number) for number in range(200)] == [(True, f"[{n}]") for n in range(200)]


def test_of_equal_rows_one_is_read(tmp_path: Path) -> None:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with Journal(tmp_path / "j") as journal:
        for number in range(2000):
            journal.put(number, b"same", f"[{number}]")
        journal._database.set_progress_handler(step, 10)  # called after so many instructions of SQLite
        assert journal.find(1500, b"same") == (True, "[1500]")
        assert journal.find(9999, b"same") is not None
    assert steps < 50


KILLED = """
import sys
from llmtasker.files import Journal
journal = Journal(sys.argv[1])
for number in range(100_000):
    journal.put(number, b"%d" % number, "x" * 500)
    print(number, flush=True)
"""


def test_a_killed_process_loses_no_row_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with programs.started("-c", KILLED, path) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 200:
                break
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = max([200, *map(int, child.stdout.read().split()[:-1])])
    with Journal(path) as journal:
        assert all(journal.find(number, b"%d" % number) == (False, "x" * 500) for number in range(acknowledged + 1))


def fill(journal: Journal) -> None:
    for number in range(100):
        journal.put(number, b"x", "y" * 4_000)


def describe(journal: Journal) -> None:
    journal.describe({str(number): "y" * 4_000 for number in range(100)})


@pytest.mark.parametrize("write", [fill, describe])
def test_a_full_disk_is_an_os_error_that_says_what_to_do(tmp_path: Path, write: Callable[[Journal], None]) -> None:
    journal = Journal(tmp_path / "j")
    with closing(sqlite3.connect(":memory:")) as limited:
        for (table,) in journal._database.execute("SELECT sql FROM sqlite_master WHERE name IN ('rows', 'about')"):
            limited.execute(table)
        limited.execute("PRAGMA max_page_count = 8")
        journal._database, real = limited, journal._database
        with pytest.raises(OSError, match=r"can't write .*: database or disk is full\. Make room, or"):
            write(journal)
        journal._database = real
    journal.close()
