"""The command line: each command parses, validates, makes one library call, and writes."""

from facedecode.cli.app import app
from facedecode.cli.commands import (
    aggregate,
    attack,
    cluster,
    confidence,
    embeddings,
    evaluate,
    extract,
    invert,
    mapping,
    merge,
    models,
    train,
    transform,
    walk,
)

for module in (
    extract,
    embeddings,
    merge,
    train,
    invert,
    confidence,
    mapping,
    transform,
    cluster,
    aggregate,
    attack,
    walk,
    evaluate,
    models,
):
    module.register(app)

__all__ = ["app"]
