"""From results to the figures and one self-contained page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from babel.support import NullTranslations, Translations
from jinja2 import (
    ChoiceLoader,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from fhir_adapter.accounting import Finding
from fhir_adapter.assets import asset
from fhir_adapter.errors import SiteFileError
from fhir_adapter.report.context import Page, build_page
from fhir_adapter.report.figures import draw_figures
from fhir_adapter.report.figures.flow import FlowStep
from fhir_adapter.results import Results
from fhir_adapter.rundir import private_dir, write_atomic
from fhir_adapter.study import Study

__all__ = ["render_report"]

_TEMPLATE, _STYLE = "report.html.j2", "style.css"


def render_report(
    *,
    study: Study,
    results: Results,
    datasets: Mapping[str, pd.DataFrame],
    accounting: Mapping[str, Any],
    findings: Sequence[Finding],
    manifest: Mapping[str, Any],
    flow: Sequence[FlowStep],
    template_dirs: Sequence[Path] = (),
    folder: Path,
) -> Path:
    """Writes `figures/*.svg` and `report.html` into a run folder.

    The same arguments give the same bytes: the page has no clock, and of the manifest only what does not vary
    between two runs on the same resources (versions, study hash); the adapter's own output is not in it.

    Args:
        study: the study definition.
        results: what the analyse stage computed.
        datasets: ADaM datasets by name; the figures need ADSL, ADTR, ADRS and ADTTE.
        accounting: `accounting.summary`, or a mapping that has it under a key.
        findings: findings of all stages.
        manifest: the run's manifest.
        flow: steps of the cohort (id, label, n), in order; without them the analysis' own flow is drawn.
        template_dirs: folders whose templates replace those that ship, by name; the first that has one wins.
        folder: the run folder.

    Returns:
        Path of `report.html` (mode 0600).

    Raises:
        SiteFileError: a template of `template_dirs` cannot be read or rendered.
        RunDirError: a file cannot be written.
    """
    translations = Translations.load(str(asset("templates") / "locale"), [study.report.language])
    _ = translations.gettext
    language = study.report.language if isinstance(translations, Translations) else "en"
    drawings = draw_figures(study, results, datasets, flow, _)
    page = build_page(
        study=study,
        results=results,
        accounting=accounting,
        findings=findings,
        manifest=manifest,
        flow=flow,
        drawings=drawings,
        language=language,
        _=_,
    )
    html = _render(page, template_dirs, translations)
    figures = private_dir(folder / "figures")
    for _kind, drawn in drawings:
        write_atomic(figures / f"{drawn.id.removeprefix('figure-')}.svg", drawn.file.encode())
    return write_atomic(folder / "report.html", html.encode())


def _render(page: Page, template_dirs: Sequence[Path], translations: NullTranslations) -> str:
    loader = ChoiceLoader([FileSystemLoader(str(path)) for path in (*template_dirs, asset("templates"))])
    # A site's templates may arrange what is on the page; the sandbox keeps them from reaching anything else.
    environment = ImmutableSandboxedEnvironment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    try:
        style, _name, _fresh = loader.get_source(environment, _STYLE)
        return environment.get_template(_TEMPLATE).render(page=page, style=Markup(style))  # noqa: S704 - our own style sheet
    except (TemplateNotFound, TemplateSyntaxError) as error:
        line = f":{error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise SiteFileError(
            f"a report template cannot be used ({error.message or 'not found'})",
            where=f"{error.name or _TEMPLATE}{line}",
        ) from error
    except (TemplateError, SecurityError) as error:
        raise SiteFileError(
            f"a report template cannot be rendered ({error})",
            where=_TEMPLATE,
            remedy="Compare the site's templates with those that ship.",
        ) from error
