"""Pulls from a stub with ready-made pages of 1,000 resources, and puts the rate beside a bare loop and two peers.

    python benchmarks/pull.py [--resources 100000] [--concurrency 1] [--rounds 5] [--full]

The stub is a process of its own that writes ready-made bytes to its sockets. Each client is a process of its own,
too, and gets everything from it. A round is one run of each, one after the other, so that a moment in which the machine
is slow hits all; the ratios are those of the rounds' medians. What a client imports is imported before its time begins.

- ours: the connector for REST with the landing, synced to disk, from the start of the process that writes it on; the
  libraries of other stages, which the command line loads with it (100 MB and more), are not;
- bare: requests and orjson, decoding every page and keeping nothing, at the same concurrency;
- fhir-pyrate and fhirpy, where they can be imported; what is missing is said, and no goal of it is judged.

Goals: ours at least 0.8 of the bare loop and at least 8 times each peer; with --full, 1,000,000 resources in less
than 300 MB of resident memory: the peaks of the client and of its writing process, in sum. The exit status is 1 if one
is missed. The resources are synthetic.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import multiprocessing
import re
import resource
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PAGE = 1000
#: Subjects of the cohort; one search for each, so that there is something to do at once.
SUBJECTS = 20
LEAST_OF_BARE = 0.8
LEAST_TIMES_PEER = 8.0
MOST_BYTES = 300_000_000
FULL = 1_000_000
#: Resources whose pages the stub keeps ready.
MOST_READY = 200_000
#: Thresholds of the collector as `fhir_adapter.cli.main` sets them; to import that would load what other stages need.
COLLECT_AFTER = (50_000, 20, 50)
#: Resources, the seconds from the first request to the last answer (imports come before), and the bytes of memory that
#: processes beside the client's own had at the peak.
Measured = tuple[int, float, int]
STUDY = {"research_study": {"system": "urn:bench", "value": "B"}}


def observation(subject: int, number: int) -> dict[str, Any]:
    """A laboratory value as the reference cohort has it and HAPI sends it, about 1 kB."""
    tags = [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "HTEST",
            "display": "test health data",
        }
    ]
    return {
        "resourceType": "Observation",
        "id": f"o-{subject}-{number}",
        "meta": {
            "versionId": "1",
            "lastUpdated": f"2024-05-01T12:{number // 60 % 60:02d}:{number % 60:02d}.{number % 1000:03d}+00:00",
            "source": f"#{number:016d}",
            "security": tags,
            "tag": tags,
        },
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                        "display": "Laboratory",
                    }
                ]
            }
        ],
        "code": {
            "coding": [
                {
                    "system": "http://loinc.org",
                    "code": "718-7",
                    "display": "Hemoglobin [Mass/volume] in Blood",
                }
            ]
        },
        "subject": {"reference": f"Patient/p{subject}"},
        "encounter": {"reference": f"Encounter/v-{subject}-{number // 20}"},
        "effectiveDateTime": f"2024-0{number % 9 + 1}-11",
        "valueQuantity": {
            "value": 100 + number % 50,
            "unit": "g/L",
            "system": "http://unitsofmeasure.org",
            "code": "g/L",
        },
    }


def bundle(total: int, resources: list[dict[str, Any]], url: str, following: str | None = None) -> bytes:
    """A page of a search."""
    links = [{"relation": "self", "url": url}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    base = url.partition("?")[0].rpartition("/")[0]
    entries = [
        {
            "fullUrl": f"{base}/{item['resourceType']}/{item['id']}",
            "resource": item,
            "search": {"mode": "match"},
        }
        for item in resources
    ]
    head = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links}
    whole = head | {"meta": {"lastUpdated": "2024-05-01T12:00:00Z"}, "entry": entries}
    return json.dumps(whole, separators=(",", ":")).encode()


class Pages:
    """Everything the stub answers; pages are made when it starts, from one template for all subjects."""

    def __init__(self, base: str, count: int) -> None:
        self.base = base
        self.each = count // SUBJECTS
        self.parts: list[bytes] = []  # of the first subject
        for start in range(0, self.each, PAGE):
            stop = min(start + PAGE, self.each)
            items = [observation(0, number) for number in range(start, stop)]
            url = f"{base}/Observation?patient=Patient/p0&_count={PAGE}"
            following = None if stop == self.each else f"{url}&start={stop}"
            self.parts.append(bundle(self.each, items, url, following))
        # With --full they would take a gigabyte, and are made when they are asked for.
        self.made = (
            {(s, n): self.page(s, n) for s in range(SUBJECTS) for n in range(len(self.parts))}
            if count <= MOST_READY
            else {}
        )

    def page(self, subject: int, number: int) -> bytes:
        """A page of a subject's search."""
        page = self.parts[number]
        for text in (b"Patient/p%d", b'"o-%d-', b"/o-%d-", b"/v-%d-"):
            page = page.replace(text % 0, text % subject)
        return page

    def answer(self, target: str) -> bytes:
        """The body for a request target."""
        kind, _, query = target.removeprefix("/fhir/").partition("?")
        query = query.replace("%2F", "/")
        url = f"{self.base}/{kind}?{query}"
        if kind == "metadata":
            types = ("ResearchStudy", "ResearchSubject", "Observation")
            return json.dumps(
                {
                    "resourceType": "CapabilityStatement",
                    "fhirVersion": "4.0.1",
                    "rest": [{"mode": "server", "resource": [{"type": type_} for type_ in types]}],
                }
            ).encode()
        if kind == "ResearchStudy":
            study = {"resourceType": kind, "id": "s", "identifier": [{"system": "urn:bench", "value": "B"}]}
            return bundle(1, [] if "_summary" in query else [study], url)
        if kind == "ResearchSubject":
            asked = re.search(r"individual=Patient/p(\d+)", query)
            enrolled = [
                {
                    "resourceType": kind,
                    "id": f"e{number}",
                    "study": {"reference": "ResearchStudy/s"},
                    "individual": {"reference": f"Patient/p{number}"},
                }
                for number in range(SUBJECTS)
                if asked is None or asked[1] == str(number)
            ]
            return bundle(len(enrolled), [] if "_summary" in query else enrolled, url)
        found = re.search(r"patient=Patient/p(\d+)", query)
        subject = int(found[1]) if found else 0
        if "_summary=count" in query:
            return bundle(self.each, [], url)
        start = re.search(r"start=(\d+)", query)
        number = int(start[1]) // PAGE if start else 0
        return self.made.get((subject, number)) or self.page(subject, number)


def serve(count: int, ready: Any) -> None:
    """The stub: HTTP/1.1 with kept connections, no more of it than the clients need."""
    state: dict[str, Pages] = {}

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while line := self.rfile.readline():
                while self.rfile.readline() not in {b"\r\n", b""}:
                    pass
                body = state["pages"].answer(line.split()[1].decode())
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that is done closes its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        base = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        state["pages"] = Pages(base, count)
        ready.send(base)
        server.serve_forever()


def children_peak() -> int:
    """Bytes of resident memory that the processes of this one, which still run, had at the peak; in sum."""
    listed = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    found = [Path(f"/proc/{pid}/status").read_text() for pids in listed for pid in pids]
    return sum(int(line.split()[1]) * 1024 for text in found for line in text.splitlines() if "VmHWM" in line)


def ours(base: str, concurrency: int) -> Measured:
    """Our pull, landing included: resources that landed, as the index counts them afterwards."""
    from fhir_adapter.connectors import plan_from_study, pull
    from fhir_adapter.landing import Landing
    from fhir_adapter.site import Site

    gc.set_threshold(*COLLECT_AFTER)
    with tempfile.TemporaryDirectory() as folder:
        site = Site.model_validate(
            {
                "id": "bench",
                "source": {"kind": "rest", "url": base},
                "page_size": PAGE,
                "concurrency": concurrency,
                "subjects_per_query": 1,
                "state_dir": Path(folder),
            }
        )
        with Landing.open(site.landing_dir) as landing:
            begun = time.perf_counter()
            pull(site, plan_from_study(STUDY, ["Observation"]), landing)
            seconds = time.perf_counter() - begun
            return landing.counts()["Observation"]["current"], seconds, children_peak()


def bare(base: str, concurrency: int) -> Measured:
    """A loop of requests and orjson that keeps nothing: resources that came."""
    import orjson
    import requests

    def one(subject: int) -> int:
        with requests.Session() as session:
            session.trust_env = False
            url: str | None = f"{base}/Observation?patient=Patient/p{subject}&_count={PAGE}"
            number = 0
            while url is not None:
                page = orjson.loads(session.get(url, timeout=60).content)
                number += len(page["entry"])
                url = next((item["url"] for item in page["link"] if item["relation"] == "next"), None)
            return number

    begun = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        number = sum(pool.map(one, range(SUBJECTS)))
    return number, time.perf_counter() - begun, 0


def fhirpy(base: str, concurrency: int) -> Measured:
    """fhirpy, its synchronous client: resources that came."""
    from fhirpy import SyncFHIRClient

    def one(subject: int) -> int:
        search = (
            SyncFHIRClient(base).resources("Observation").search(patient=f"Patient/p{subject}").limit(PAGE)
        )
        return len(search.fetch_all())

    begun = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        number = sum(pool.map(one, range(SUBJECTS)))
    return number, time.perf_counter() - begun, 0


def fhir_pyrate(base: str, concurrency: int) -> Measured:
    """fhir-pyrate, to a table as it is meant to be used: rows that came."""
    from fhir_pyrate import Ahoy, Pirate

    del concurrency  # it has processes of its own, which a benchmark of connections leaves at one
    begun = time.perf_counter()
    number = 0
    for subject in range(SUBJECTS):
        pirate = Pirate(auth=Ahoy(auth_method=None), base_url=base, print_request_url=False, num_processes=1)
        frame = pirate.steal_bundles_to_dataframe(
            resource_type="Observation",
            request_params={"patient": f"Patient/p{subject}", "_count": PAGE},
        )
        number += len(frame)
    return number, time.perf_counter() - begun, 0


CLIENTS = {"ours": ours, "bare": bare, "fhir-pyrate": fhir_pyrate, "fhirpy": fhirpy}
PEERS = {"fhir-pyrate": "fhir_pyrate", "fhirpy": "fhirpy"}


def measure(name: str, base: str, concurrency: int) -> dict[str, float]:
    """Runs a client in a process of its own: resources, seconds, and bytes of memory at the peak."""
    done = subprocess.run(
        [sys.executable, __file__, "--client", name, "--base", base, "--concurrency", str(concurrency)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def client(name: str, base: str, concurrency: int) -> None:
    """One client, in this process; prints what `measure` reads."""
    number, seconds, beside = CLIENTS[name](base, concurrency)
    peak = beside + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"resources": number, "seconds": seconds, "bytes": peak}))


def main() -> int:
    """Measures, prints, judges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resources", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="1,000,000 resources, ours alone, for its memory")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        client(given.client, given.base, given.concurrency)
        return 0
    count = FULL if given.full else given.resources // SUBJECTS * SUBJECTS
    theirs, mine = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(count, mine), daemon=True)
    server.start()
    base = theirs.recv()
    found: dict[str, list[dict[str, float]]] = {}
    missed: list[str] = []
    try:
        for turn in range(1 if given.full else given.rounds):
            for name in ["ours"] if given.full else list(CLIENTS):
                if name in PEERS and importlib.util.find_spec(PEERS[name]) is None:
                    if not turn:
                        print(f"{name:12} is not installed: not compared")
                    continue
                got = measure(name, base, given.concurrency)
                if got["resources"] != count:
                    missed.append(f"{name} got {got['resources']:.0f} resources of {count}")
                found.setdefault(name, []).append(got)
                print(
                    f"{name:12} {got['resources']:9.0f} resources {got['seconds']:7.2f} s "
                    f"{got['resources'] / got['seconds']:8.0f} per second {got['bytes'] / 1e6:6.0f} MB",
                    flush=True,
                )
                if name == "ours" and got["bytes"] > MOST_BYTES:
                    missed.append(f"ours took {got['bytes'] / 1e6:.0f} MB, {MOST_BYTES / 1e6:.0f} at most")
    finally:
        server.terminate()
        server.join()
    rates = {
        name: statistics.median(got["resources"] / got["seconds"] for got in runs)
        for name, runs in found.items()
    }
    for name, rate in rates.items():
        if name == "ours":
            continue
        ratio, least = rates["ours"] / rate, LEAST_OF_BARE if name == "bare" else LEAST_TIMES_PEER
        print(f"ours is {ratio:.2f} times {name}; the goal is {least}")
        if ratio < least:
            missed.append(f"ours is {ratio:.2f} times {name}, {least} at least")
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
