#!/usr/bin/env python3
"""Waits until a FHIR server answers its CapabilityStatement; exit status 20 when it does not."""

from __future__ import annotations

import argparse
import sys
import time
import urllib.error
import urllib.request


def answers(base: str) -> bool:
    """Whether `<base>/metadata` answers with status 200."""
    url = f"{base.rstrip('/')}/metadata"
    request = urllib.request.Request(url, headers={"Accept": "application/fhir+json"})  # noqa: S310 - the scheme is checked in main
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the scheme is checked in main
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """Asks every two seconds until the server answers or the time is over."""
    parser = argparse.ArgumentParser(description="Wait for a FHIR server.")
    parser.add_argument("base", help="FHIR base URL (http or https)")
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    if not options.base.startswith(("http://", "https://")):
        parser.error("an http or https URL is needed")
    end = time.monotonic() + options.seconds
    while not answers(options.base):
        if time.monotonic() > end:
            print(f"no answer within {options.seconds:.0f} s: {options.base}", file=sys.stderr)
            return 20
        time.sleep(2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
