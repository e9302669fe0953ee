#!/bin/sh
# Private files whatever the engine's default is; waits for a server where WAIT_FOR_FHIR names one; then the adapter.
set -eu
umask 077
if [ -n "${WAIT_FOR_FHIR:-}" ]; then
  python /usr/local/lib/fhir-adapter/wait_for_fhir.py "$WAIT_FOR_FHIR"
fi
exec fhir-adapter "$@"
