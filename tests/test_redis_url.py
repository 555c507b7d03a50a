"""The URL of a Redis as `cache=`: checked when it is given, without a connection; its password is not shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from llmtasker import LLM, ConfigurationError, InputField, OutputField, Signature, Task
from llmtasker.cache.open_cache import accepted
from llmtasker.cache.redis_url import RedisURL

PEM = str(Path(__file__).parent / "localhost.pem")


class Thanks(Signature):
    """Say whether a note is a thank-you."""

    note: str = InputField()
    thanks: bool = OutputField()


@pytest.mark.parametrize(
    ("url", "portable"),
    [
        ("redis://cache.intra", "redis://cache.intra:6379/0?namespace=llmtasker"),
        ("redis://cache.intra:7000/3", "redis://cache.intra:7000/3?namespace=llmtasker"),
        ("redis://ada:s3cr%2Fet@h/0?ttl=60", "redis://ada@h:6379/0?namespace=llmtasker&ttl=60"),
        ("redis://a%40b:s3cr%2Fet@[::1]/", "redis://a%40b@[::1]:6379/0?namespace=llmtasker"),
        ("redis://:s3cr%2Fet@h?namespace=t.a:b-c", "redis://h:6379/0?namespace=t.a%3Ab-c"),
        (f"rediss://h?ssl_ca_certs={PEM}", f"rediss://h:6379/0?namespace=llmtasker&ssl_ca_certs={PEM}"),
    ],
)
def test_a_url_without_its_password_is_the_same_place(url: str, portable: str) -> None:
    parsed = RedisURL.parse(url)
    assert parsed.portable == portable
    again = RedisURL.parse(portable)
    assert (again.portable, again.name, again.user) == (portable, parsed.name, parsed.user)
    assert parsed.password == ("s3cr/et" if "s3cr" in url else None)
    assert "s3cr" not in repr(parsed) + parsed.name
    assert parsed.without_password("AUTH s3cr/et, s3cr%2Fet") == (
        "AUTH ***, ***" if parsed.password else "AUTH s3cr/et, s3cr%2Fet"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", "is not valid"),
        ("redis://:s3cret@", "is not valid"),
        ("redis:///0", "is not valid"),
        ("redis://h:0/0", "is not valid"),
        ("redis://h:70000/0", "is not valid"),
        ("redis://:s3/cret@h/0", "special characters as %XX"),
        ("redis://:s3#cret@h/0", "special characters as %XX"),
        ("redis://:s3[cret@h/0", "special characters as %XX"),
        ("redis://s3?cret@h/0", "special characters as %XX"),
        ("redis://s3?ttl=s3cret@h/0", "special characters as %XX"),
        ("redis://h:1?s3cret@h/0", "special characters as %XX"),
        ("redis://h?ttl=1&ttl=2", "has two values for ttl: give one"),
        ("redis://h/zero", "is not valid"),
        ("redis://h/0/1", "is not valid"),
        ("redis://h/-1", "is not valid"),
        ("redis://h?ttl=0", "ttl in the URL of the cache is a whole number"),
        ("redis://h?ttl=1h", "ttl in the URL of the cache is a whole number"),
        ("redis://h?namespace=", "namespace in the URL of the cache is up to 64 letters"),
        ("redis://h?namespace=a*", "namespace in the URL of the cache is up to 64 letters"),
        ("redis://h?db=3", "has no option 'db': it takes namespace, ttl"),
        ("redis://h?ssl_ca_certs=/etc/passwd", "has no option 'ssl_ca_certs'"),
        ("rediss://h?ssl_ca_certs=/none.pem", "ssl_ca_certs in the URL of the cache is the path of a file"),
        ("rediss://h?ssl_cert_reqs=none", "has no option 'ssl_cert_reqs'"),
    ],
)
def test_a_url_that_is_wrong_is_an_error_where_it_is_given(url: str, expected: str) -> None:
    for attempt in (RedisURL.parse, lambda url: LLM("offline", cache=url), lambda url: Task(Thanks, cache=url)):
        with pytest.raises(ConfigurationError, match=expected) as raised:
            attempt(url)
        assert "s3" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (" redis://:s3cret@h/0\n", "redis://h:6379/0"),
        ("REDIS://:s3cret@h/0", "redis://h:6379/0"),
        ("Rediss://ada:s3cret@h/0", "rediss://h:6379/0"),
        *(
            (place, None)
            for place in (
                "unix:///tmp/redis.sock",
                "unix://:s3cret@/tmp/redis.sock?db=1",
                "redis+sentinel://:s3cret@h/0",
                "redis+unix:///tmp/redis.sock",
                "valkey://:s3cret@h/0",
                "memcached://h",
                "s3://bucket/answers",
                "postgresql://ada:s3cret@h/db",
                "sqlite:///answers.db",
                "file:///tmp/answers",
                " s3://bucket",
                "redis:h",
                "Redis:s3cret@h",
                "redis:/h/0",
                "//:s3cret@h/0",
                "ada:s3cret@h:6379",
                ":s3cret@h:6379/0",
                "valkey:h",
                "localhost:6379",
                "cache.intra:6379/0",
            )
        ),
    ],
)
def test_a_url_is_never_the_name_of_a_folder(
    place: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if expected is None:
        with pytest.raises(ConfigurationError, match="is not a folder: a cache is a folder") as raised:
            LLM("offline", cache=place)
        assert "s3cret" not in str(raised.value)
        with pytest.raises(ConfigurationError, match="is not a folder"):
            LLM("offline", cache=Path(place))
    else:
        assert repr(accepted(place)) == f"RedisCache({expected!r})"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place",
    ["answers", "./a b", "redis/h", "redisses", "a:6379/b", "a@b", "a:b", "/data/a:b@c", "C:/answers", r"C:\ada@h"],
)
def test_a_folder_may_have_any_other_name(place: str) -> None:
    assert accepted(place) == place


def test_the_password_of_the_environment_is_taken_where_the_url_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTASKER_REDIS_PASSWORD", "from outside")
    assert RedisURL.parse("redis://ada@h").password == "from outside"
    assert RedisURL.parse("redis://ada:own@h").password == "own"


def test_a_task_shows_and_carries_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = "redis://ada:s3cret@host/0"
    task = Task(Thanks, llm=LLM("offline", cache=url), cache=url)
    assert "s3cret" not in repr(task) + repr(task.plan) + repr(task.llm) + str(vars(task.llm))
    assert b"s3cret" not in pickle.dumps(task)
    again = pickle.loads(pickle.dumps(task)).with_(attempts=2)
    assert repr(again.plan.cache) == repr(task.plan.cache) == "RedisCache('redis://host:6379/0')"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["redis//h/0", "Rediss//:s3cret@h"])
def test_a_url_without_its_colon_is_not_a_folder(place: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder: a cache is a folder") as raised:
        accepted(place)
    assert "s3cret" not in str(raised.value)
