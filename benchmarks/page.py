"""What the web page costs over many rows: pages, filters, searches, the evaluation; the built-in baseline answers.

    python benchmarks/page.py [--rows 100000]

The server runs in a thread of this process, so that each figure has the client's work in it too: an upper bound.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import uvicorn

from llmtasker import LLM
from llmtasker.api import ServerSettings, create_app
from llmtasker.api.http_protocol import HTTPProtocol
from llmtasker.ui import add_pages

LABELS = {"livraison": "colis, livreur", "facturation": "prélèvement, facture", "retour": "renvoi"}


@contextmanager
def served(folder: str) -> Iterator[str]:
    """Serve the page on a free port; gives the URL."""
    llm = LLM("offline", cache=False)
    app = create_app({}, ServerSettings(jobs=Path(folder) / "jobs.db", open=True, llm=llm))
    add_pages(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", http=HTTPProtocol))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def cpu(action: Callable[[], object]) -> float:
    """Return the seconds of CPU that an action takes, in all threads."""
    before = time.process_time()
    action()
    return time.process_time() - before


def token(client: httpx2.Client) -> str:
    """Return what the forms of the session send back."""
    found = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
    assert found is not None
    return found[1]


def answered(client: httpx2.Client, rows: int) -> str:
    """Upload rows, describe the labels and run; return the path of the project when all rows have an answer."""
    lines = (f"{number};colis prélevé {number} renvoi;{list(LABELS)[number % 3]}\n" for number in range(rows))
    content = "id;message;label\n" + "".join(lines)
    csrf = {"csrf": token(client)}
    seconds = cpu(lambda: client.post("/projects", data=csrf, files={"file": ("rows.csv", content.encode())}))
    print(f"upload of {rows:,} rows, read whole: {seconds:.1f} s of CPU")
    found = re.search(r"/p/\w+", client.get("/").text)
    assert found is not None
    form = {**csrf, "label": list(LABELS), "meaning": list(LABELS.values()), "do": "run"}
    client.post(f"{found[0]}/task", data=form)
    while "data-hx-get" in client.get(f"{found[0]}/run").text:
        time.sleep(0.5)
    return found[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory() as folder,
        served(folder) as url,
        httpx2.Client(base_url=url, timeout=600, follow_redirects=True) as client,
    ):
        project = answered(client, rows)
        places = {
            "results": "results",
            "a page in the middle": f"results?after={rows // 2}",
            "one label": "results?label=retour",
            "failed rows (none)": "results?f=failed",
            "corrected rows (none)": "results?f=corrected",
            "rows to label next": "results?f=next",
            "a search": "results?q=99",
            "a search for nothing": "results?q=zebra",
            "a row": f"rows/{rows // 2}",
            "the run": "run",
        }
        for what, place in places.items():
            path = f"{project}/{place}"
            seconds = statistics.median(cpu(lambda path=path: client.get(path)) for _ in range(5))
            print(f"{what}: {1000 * seconds:.0f} ms of CPU, client included (at most 50)")
        first = cpu(lambda: client.get(f"{project}/evaluation"))
        again = cpu(lambda: client.get(f"{project}/evaluation"))
        print(f"evaluation, of 20,000 rows at most: {first:.1f} s of CPU the first time, {1000 * again:.0f} ms after")


if __name__ == "__main__":
    main()
