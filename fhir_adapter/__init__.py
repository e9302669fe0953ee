"""FHIR interoperability adapter for oncology studies: connect, map, derive, analyse, report, write back."""

__version__ = "0.1.0"
__all__ = ["__version__"]
