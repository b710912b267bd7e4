"""`facedecode evaluate …`: one module an evaluation."""

from __future__ import annotations

import typer

from facedecode.cli.commands.evaluate import (
    aggregation,
    equivariance,
    leakage,
    protection,
    reconstruction,
    security,
    verification,
)

group = typer.Typer(help="Figures with intervals, and reports of them, from stores.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="evaluate")
    for module in (reconstruction, verification, security, protection, equivariance, aggregation, leakage):
        module.register(group)
