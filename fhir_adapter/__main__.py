"""`python -m fhir_adapter`: the same as the `fhir-adapter` command."""

from fhir_adapter.cli import main

main()
