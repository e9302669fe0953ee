"""The FHIRPath subset of SQL on FHIR v2: parsed, checked against the element tables, compiled to closures."""

from fhir_adapter.mapping.fhirpath.compiler import Compiled, Scope, compile_path
from fhir_adapter.mapping.fhirpath.parser import FhirPathError

__all__ = ["Compiled", "FhirPathError", "Scope", "compile_path"]
