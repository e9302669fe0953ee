"""`fhir-adapter landing verify|repair|migrate`: looks after the landing of a site."""

from __future__ import annotations

import msgspec
import typer

from fhir_adapter.cli.options import Json, OfSource, Site, site_of
from fhir_adapter.errors import LandingError
from fhir_adapter.landing import Landing
from fhir_adapter.landing.index import REMEDY
from fhir_adapter.landing.migrate import SCHEMA_VERSION
from fhir_adapter.landing.repair import repair as repair_landing
from fhir_adapter.landing.repair import require
from fhir_adapter.landing.repair import verify as verify_landing
from fhir_adapter.rundir import site_lock

__all__ = ["landing_app", "migrate", "repair", "verify"]

landing_app = typer.Typer(
    help="The landing of a site: verify it, repair it, or bring it to this version.", no_args_is_help=True
)


@landing_app.command()
def verify(site: Site, source: OfSource = None, as_json: Json = False) -> None:
    """Compare everything that landed with its hash; status 22 if something is damaged. Nothing is changed."""
    folder = site_of(site, source).landing_dir
    require(folder)
    with site_lock(folder):
        found = verify_landing(folder)
    if as_json:
        typer.echo(msgspec.json.encode(found))
    else:
        typer.echo(f"{found.bodies:>10}  versions compared")
        for type_, number in sorted(found.damaged.items()):
            typer.echo(f"{number:>10}  damaged: {type_ or 'unreadable'}")
        for entry in found.history:
            rest = ", ".join(
                f"{key} {value}" for key, value in entry.items() if key not in {"moment", "action"}
            )
            typer.echo(f"{entry['moment']}  {entry['action']}: {rest}")
    if not found.whole:
        what = [f"{sum(found.damaged.values())} versions are not what landed"] if found.damaged else []
        what += [f"{found.segments} segments are missing or cut"] if found.segments else []
        what += [] if found.index else ["the index is damaged"]
        raise LandingError("; ".join(what), where=folder.name, remedy=REMEDY)
    if not as_json:
        typer.echo("nothing is damaged")


@landing_app.command()
def repair(site: Site, source: OfSource = None, as_json: Json = False) -> None:
    """Take out what is damaged, and forget the checkpoints that vouch for it: the next pull brings it again."""
    folder = site_of(site, source).landing_dir
    require(folder)
    with site_lock(folder):
        done = repair_landing(folder)
    if as_json:
        typer.echo(msgspec.json.encode(done))
        return
    if done.set_aside:
        typer.echo(f"the index cannot be read; everything was moved to {done.set_aside}: pull again in full")
        return
    typer.echo(f"{done.versions:>10}  damaged versions taken out, {done.current} of them current")
    typer.echo(f"{done.checkpoints:>10}  checkpoints forgotten")
    typer.echo("pull again" if done.current else "nothing is to be pulled again")


@landing_app.command()
def migrate(site: Site, source: OfSource = None, as_json: Json = False) -> None:
    """Bring the landing to the version of this release, as the next pull would; a copy of the index is kept."""
    folder = site_of(site, source).landing_dir
    require(folder)
    with site_lock(folder):
        Landing.open(folder).close()
    if as_json:
        typer.echo(msgspec.json.encode({"version": SCHEMA_VERSION}))
    else:
        typer.echo(f"the landing has version {SCHEMA_VERSION}")
