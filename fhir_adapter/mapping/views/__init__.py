"""SQL on FHIR v2 ViewDefinitions: checked when loaded, compiled, run over resources one by one."""

from fhir_adapter.mapping.views.definition import CompiledView, load_view
from fhir_adapter.mapping.views.run import Column, Failure, RunResult

__all__ = ["Column", "CompiledView", "Failure", "RunResult", "load_view"]
