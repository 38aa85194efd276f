#!/usr/bin/env python3
"""Tries docs/openapi.json against a running fleet: `make check-openapi`.

`longshore dev` starts a fleet of two workers on free ports with data of its own; schemathesis then sends requests made from the document, first
to the gateway, then to the admin service (whose purges and removals come last), and compares the answers with it. Any 5xx, any status, type or
shape that the document has not, and any request that is taken although it is wrong, fails. Requests are the same in each run.
`.longshore/openapi` holds the logs of the last run.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".longshore" / "openapi"
WORDS = DATA / "check"
TENANT = "local-dev"
# Of `longshore dev`, when everything answers. Compiling the examples may take a minute on a busy machine.
UP = "Longshore answers on "
UP_S = 180
# What a fleet may take to end after SIGINT, whose drains are bounded.
END_S = 60
# Random requests for each operation, beside those that try every boundary of the document one by one.
EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "40")
# A run that hangs is a failure, not a wait.
RUN_S = 240


class Fleet:
    """`longshore dev` as a child in a process group of its own; ends with the block."""

    def __init__(self, program):
        # Data of another run would make this one differ.
        shutil.rmtree(DATA, ignore_errors=True)
        WORDS.mkdir(parents=True)
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("LONGSHORE_", "RUNNER_", "EXT_", "DEV_"))}
        settings = {
            # As in production: the registry says who has what. Without it a bundle that is not there is 500, as existing callers know it.
            "EXT_STATIC_STRICT_VALIDATION": "true",
            # Else most answers would be 429.
            "LONGSHORE_GATEWAY_RATE": "0",
        }
        command = [program, "dev", "--ports", "auto", "--data", str(DATA), "--tenant", TENANT]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=keep | settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )
        self.up = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        # Here and not in the constructor: what fails from now on stops the fleet.
        self.reader.start()
        try:
            if not self.up.wait(UP_S) or self.process.poll() is not None:
                raise Failed(f"the fleet did not start; its last lines:\n{self.last_lines()}")
            fleet = json.loads((DATA / "fleet.json").read_text())
            self.gateway, self.admin = fleet["gateway_url"], fleet["admin_url"]
            self.token = (DATA / "admin.token").read_text().strip()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _read(self):
        with open(DATA / "dev.log", "w", encoding="utf-8") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if UP in line:
                    self.up.set()
        # It has ended: nobody waits longer.
        self.up.set()

    def last_lines(self):
        log = DATA / "dev.log"
        return "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:]) if log.exists() else "(none)"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                print(f"longshore dev has not ended {END_S} s after SIGINT: its process group is killed", file=sys.stderr)
        try:
            # Nothing is left of it as a rule; the group is ours alone.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def ask(self, method, path, body=None):
        """A request to the admin service."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.admin + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Failed(Exception):
    """What is printed."""


def words(fleet):
    """Names, ids and hashes of what is installed, for requests that reach it."""
    installs = fleet.ask("GET", f"/v1/installs?tenant={TENANT}")["installs"]
    if not installs:
        raise Failed("the fleet has no example installed")
    # The one that every call of can be counted on; the others by name.
    first = next(i for i in installs if "hello-rust" in i["name"])
    lists = {
        "names": [i["name"] for i in installs] + [first["extension"], first["install_id"]],
        "ids": [first["extension"]],
        "hashes": [first["version"]["content_hash"]],
    }
    for name, values in lists.items():
        (WORDS / f"{name}.txt").write_text("".join(f"{json.dumps(value)}\n" for value in values))
    key = f"tenants/{TENANT}/extensions/{first['extension']}/sha256/{first['version']['content_hash'].removeprefix('sha256:')}/bundle.tar.zst"
    # The development store keeps objects as files; by HTTP it asks for a signature.
    shutil.copy(DATA / "s3" / "buckets" / "extensions" / key, WORDS / "bundle.tar.zst")


def served(fleet):
    """The document that is served is the one that is checked in."""
    with urllib.request.urlopen(f"{fleet.admin}/v1/openapi.json", timeout=30) as answer:
        if json.load(answer) != json.loads((ROOT / "docs" / "openapi.json").read_text()):
            raise Failed("docs/openapi.json is not what the admin service serves: LONGSHORE_WRITE_DOCS=1 cargo test -p longshore-admin openapi")


def each(option, *values):
    """An option with each of these values."""
    return [part for value in values for part in (option, value)]


def count(tags=None):
    """How many operations of the document have one of these tags, or how many it has."""
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"].values()
    operations = [operation for path in paths for operation in path.values() if isinstance(operation, dict) and "operationId" in operation]
    return sum(1 for operation in operations if tags is None or tags & set(operation["tags"]))


def run(name, url, operations, arguments):
    """One run of schemathesis of so many operations; its output is a file, of which a failure shows all and a success what it counted."""
    report = DATA / "check" / f"{name}.json"
    command = [
        "schemathesis", "--config-file", "scripts/schemathesis.toml", "run", "docs/openapi.json", "--url", url, "--no-color",
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--report", "json", "--report-json-path", str(report),
        *arguments,
    ]
    began = time.monotonic()
    try:
        # Else it leaves a folder in the repository.
        env = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": str(DATA / "hypothesis")}
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=RUN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{name}: not done after {RUN_S} s") from error
    (DATA / "check" / f"{name}.log").write_text(done.stdout)
    if done.returncode != 0:
        print(done.stdout)
        raise Failed(f"{name}: the fleet does not answer as docs/openapi.json says (above)")
    counts = json.loads(report.read_text())
    tested, sent = counts["operations"]["tested"], counts["test_cases"]["generated"]
    # A filter that matches nothing would pass too.
    if tested != operations:
        raise Failed(f"{name}: {tested} operations of the document were tried, not {operations}")
    print(f"  {name:18} {tested} operations, {sent} requests, {time.monotonic() - began:.0f} s")



def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    with Fleet(str(target / "debug" / "longshore")) as fleet:
        served(fleet)
        words(fleet)
        created = fleet.ask("POST", f"/v1/tenants/{TENANT}/tokens", {"access": "write", "label": "check-openapi"})
        caller = ["--header", f"Authorization: Bearer {created['secret']}"]
        # What a proxy passed on is not from this machine, from which `longshore dev` takes calls without a token.
        proxied = ["--header", "X-Forwarded-For: 192.0.2.1"]
        gateway = [*each("--include-tag", "gateway", "ui", "health"), "--exclude-operation-id", "openapi"]
        run("gateway", fleet.gateway, count({"gateway", "ui", "health"}) - 1, [*gateway, *caller, *proxied])
        operator = ["--header", f"Authorization: Bearer {fleet.token}"]
        # An answer that follows events has no end: schemathesis would wait for it until RUN_S.
        endless = ["--exclude-operation-id", "read_events"]
        run("admin", fleet.admin, count() - count({"gateway", "ui"}) - 1, [*each("--exclude-tag", "gateway", "ui"), *endless, *operator])
        if fleet.process.poll() is not None:
            raise Failed("the fleet ended during the check")


if __name__ == "__main__":
    # So that a stopped make stops the fleet too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        main()
    except Failed as failed:
        sys.exit(f"check-openapi: {failed}")
