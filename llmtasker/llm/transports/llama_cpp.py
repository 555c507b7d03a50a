"""LlamaCppTransport: an LLM in this process; llama.cpp runs a GGUF file, and no server has to be started."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from llmtasker.cache.shared import Shared
from llmtasker.errors import CallTimeoutError, ConfigurationError, snippet
from llmtasker.threads import call_in_thread
from llmtasker.wire.completion import Completion
from llmtasker.wire.error_response import read_error
from llmtasker.wire.prompt_request import PromptRequest
from llmtasker.wire.request import Request
from llmtasker.wire.response import read_completion

_MODELS = "LLMTASKER_MODELS"  # the folder where "local/…" is looked for if it is not in the current one
_PROMPTS_MIB = 256  # of earlier prompts that are kept; llama.cpp's own default grows to 8 GiB
_WAITING = "OMP_WAIT_POLICY"  # how the threads of OpenMP wait for each other; it is read when the library is loaded
_SAMPLE = 1 << 16  # bytes of each part of a file that its identity is computed from
_PARTS = 16


class _LoadedModel:
    """The weights in memory, with the threads that use them."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.pid = os.getpid()


_models: Shared[_LoadedModel] = Shared()  # a file is in memory once, however many LLMs are made of it


class LlamaCppTransport:
    """The transport to a GGUF file, which llama.cpp runs in this process (extra `[local]`).

    The file is loaded at the first call, once for all that use it in the same way, and freed when they are closed or
    the process ends. llama.cpp listens on a port of 127.0.0.1 for its own use: a free one, with a random key. A call
    that was abandoned runs to its end in its slot.

    Args:
        path: the file; it must not change while it is used.
        context: tokens of one call, prompt and answer together.
        slots: calls that are answered at a time; each takes memory for its own context. Others wait.
        threads: CPU threads; None: one for each core.

    Raises:
        ConfigurationError: there is no such file, or it is not a GGUF file; at the first call: llama.cpp can't load it.
    """

    timeout = 600.0
    """Seconds for a call unless the LLM sets them: a CPU may write only a few tokens a second."""

    def __init__(
        self, path: str | os.PathLike[str], *, context: int = 4096, slots: int = 4, threads: int | None = None
    ) -> None:
        for name, count in (("context", context), ("slots", slots), ("threads", threads)):
            if count is not None and (type(count) is not int or count < 1):
                raise ConfigurationError(f"{name} must be a whole number from 1, not {snippet(repr(count), 40)}.")
        self.path = _found(path)
        self.model = self.path.stem
        self.max_concurrency = slots
        self.endpoint = f"llama.cpp:{_identity(self.path)}"
        self._context, self._threads = context, threads
        self._loaded: _LoadedModel | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(
            type(self), self.path, context=self._context, slots=self.max_concurrency, threads=self._threads
        ), ()

    def send(self, request: Request) -> Completion:
        """Send one request and wait for its answer."""
        timeout = request.settings.timeout
        try:
            return call_in_thread(partial(self._ask, request), "llmtasker-llama.cpp").result(timeout)
        except TimeoutError:
            raise CallTimeoutError(f"no whole answer came within {timeout:g} s") from None

    async def asend(self, request: Request) -> Completion:
        """Send one request and await its answer; the caller sets the deadline."""
        return await asyncio.wrap_future(call_in_thread(partial(self._ask, request), "llmtasker-llama.cpp"))

    def close(self) -> None:
        """Free the memory of the model unless others use it too; the next call loads it again."""
        self._loaded = None

    async def aclose(self) -> None:
        """Free the memory of the model unless others use it too; the next call loads it again."""
        self._loaded = None

    def _ask(self, request: Request) -> Completion:
        loaded = self._loaded
        if loaded is None or loaded.pid != os.getpid():  # the threads of llama.cpp stay in the parent of a fork
            key = (os.getpid(), self.endpoint, self._context, self.max_concurrency, self._threads)
            loaded = self._loaded = _models.get(key, self._load)
        answers = list[str]()
        try:
            server, prompted = loaded.server, isinstance(request, PromptRequest)
            handle = server.handle_completions if prompted else server.handle_chat_completions
            handle(request.content.decode("ascii"), answers.append)
        except ValueError as error:  # llama.cpp refuses the request
            raise read_error(400, str(error), {}, request) from None
        return read_completion("".join(answers), request=request)

    def _load(self) -> _LoadedModel:
        xllamacpp = _xllamacpp()
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.api_keys = [secrets.token_urlsafe(32)]
        params.n_ctx, params.n_parallel = self._context * self.max_concurrency, self.max_concurrency
        params.cache_ram_mib = _PROMPTS_MIB
        params.use_jinja, params.warmup, params.verbosity = True, False, -1
        if self._threads is not None:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        try:
            return _LoadedModel(xllamacpp.Server(params))
        except RuntimeError as error:
            raise ConfigurationError(
                f"llama.cpp can't load {self.path.name}: {snippet(error)}. The file may be cut, or need more memory."
            ) from None


def _found(path: str | os.PathLike[str]) -> Path:
    given = Path(path).expanduser()
    folder = os.environ.get(_MODELS)
    places = [given, Path(folder).expanduser() / given] if folder else [given]
    for place in places:
        if place.is_file():
            with place.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise ConfigurationError(f"{place.name} is not a GGUF file, the format of llama.cpp.")
            return place.resolve()
    where = f"the current folder or in {_MODELS} ({folder})" if folder else f"the current folder; {_MODELS} is not set"
    raise ConfigurationError(f"there is no file {given} in {where}.")


def _identity(path: Path) -> str:
    """Return a hash that differs for files with different weights: of the size, and of parts spread over the file."""
    size = path.stat().st_size
    hashed = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for part in range(_PARTS + 1):
            file.seek(max(0, size - _SAMPLE) * part // _PARTS)
            hashed.update(file.read(_SAMPLE))
    return hashed.hexdigest()[:32]


def _xllamacpp() -> Any:
    chosen = os.environ.get(_WAITING)
    if chosen is None:
        # By default, waiting threads keep their cores busy: if others need them too, an answer takes 20 times as long.
        os.environ[_WAITING] = "passive"
    try:
        xllamacpp = import_module("xllamacpp")  # it has no types
    except ModuleNotFoundError:
        raise ConfigurationError('an LLM in the process needs xllamacpp: pip install "llmtasker[local]"') from None
    except ImportError as error:  # libgomp.so.1, which no Python package has
        raise ConfigurationError(f"llama.cpp can't start: {error}. On Debian or Ubuntu: apt install libgomp1") from None
    finally:
        if chosen is None:
            os.environ.pop(_WAITING, None)
    return xllamacpp
