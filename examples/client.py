"""A client of `llmtasker serve`, with only the standard library: one input, then a job of a file.

    python examples/client.py [URL KEY]

Without a URL it starts its own server, with the built-in baseline.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TASK = """
from llmtasker import Classification
triage = Classification(labels={"billing": "charged, invoice, refund", "delivery": "parcel, late, courier"})
"""


def ask(url: str, key: str, body: object = None, method: str | None = None) -> bytes:
    """Send a request with a JSON body and return the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the URL is given by the user
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        content: bytes = response.read()
        return content


def main(url: str, key: str) -> None:
    """Ask for one text, then for three as a job."""
    item = json.loads(ask(f"{url}/tasks/triage", key, {"text": "I was charged twice"}))
    print(item["output"]["label"])
    rows = [{"id": 1, "text": "Where is my parcel?"}, {"id": 2, "text": "A refund, please"}, {"id": 3, "text": "late"}]
    job = json.loads(ask(f"{url}/tasks/triage/jobs", key, {"rows": rows}))
    while job["state"] in {"queued", "running"}:
        time.sleep(0.2)
        job = json.loads(ask(f"{url}/jobs/{job['id']}", key))
    print(f"{job['ok']} of {job['rows']} rows")
    print(ask(f"{url}/jobs/{job['id']}/results?format=csv", key).decode(), end="")
    ask(f"{url}/jobs/{job['id']}", key, method="DELETE")


def with_own_server() -> None:
    """Start a server on a free port, use it, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tasks.py").write_text(TASK, encoding="utf-8")
        command = [sys.executable, "-m", "llmtasker", "serve", "tasks.py:triage", "--llm", "offline", "--port", "0"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603
            try:
                line = server.stderr.readline() if server.stderr else ""
                words = line.split()  # page http://…/ API http://…/docs key lt_… (shown this once)
                main(words[words.index("API") + 1].removesuffix("/docs"), words[words.index("key") + 1])
            finally:
                server.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:3]) if len(sys.argv) > 2 else with_own_server()
