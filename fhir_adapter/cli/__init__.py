"""The command line: one module per verb. Data go to stdout, progress and errors to stderr.

Every error of the tree in `errors.py` ends the program with its documented exit status and one message; anything else
is a defect of ours (status 70), of which only the place is printed, because the text of an unexpected error may quote
patient data.
"""

from __future__ import annotations

import gc
import sys

import typer

from fhir_adapter import __version__
from fhir_adapter.cli.check import check
from fhir_adapter.cli.demo import demo
from fhir_adapter.cli.explain import explain
from fhir_adapter.cli.export import export
from fhir_adapter.cli.generate import generate
from fhir_adapter.cli.landing import landing_app
from fhir_adapter.cli.purge import purge
from fhir_adapter.cli.retract import retract
from fhir_adapter.cli.run import run
from fhir_adapter.cli.stages import analyse, derive, map_, pull, report, write_back
from fhir_adapter.cli.study import study_app
from fhir_adapter.cli.view import view
from fhir_adapter.defects import defect
from fhir_adapter.errors import AdapterError

__all__ = ["app", "main"]

app = typer.Typer(
    name="fhir-adapter",
    help="Pull oncology study data from FHIR, compute RECIST outcomes, survival and toxicity, report, write back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fhir-adapter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of every command."""


app.command()(demo)
app.command()(check)
app.command()(run)
app.command()(pull)
app.command("map")(map_)
app.command()(derive)
app.command()(analyse)
app.command()(report)
app.command("write-back")(write_back)
app.command()(explain)
app.command()(export)
app.command()(view)
app.command()(generate)
app.command()(retract)
app.command()(purge)
app.add_typer(landing_app, name="landing")
app.add_typer(study_app, name="study")


def main() -> None:
    """Entry point of `fhir-adapter`."""
    # Rows and resources are no cycles: to look for those after every 700 objects takes a tenth of a run.
    gc.set_threshold(50_000, 20, 50)
    try:
        app()
    except AdapterError as error:
        print(f"fhir-adapter: {error.code}: {error}", file=sys.stderr)  # noqa: T201 - where errors are said
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - the last line of defence; the text may quote data, so it is not shown
        print(  # noqa: T201 - where errors are said
            f"fhir-adapter: {defect(error)}. Please report it; the run folder holds "
            "the details that are safe to look at on site.",
            file=sys.stderr,
        )
        sys.exit(70)
