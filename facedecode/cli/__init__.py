"""The command line: each command parses, validates, makes one library call, and writes."""

from facedecode.cli.app import app
from facedecode.cli.commands import attack, confidence, evaluate, extract, invert, mapping, train, transform, walk

for module in (extract, train, invert, confidence, mapping, transform, attack, walk, evaluate):
    module.register(app)

__all__ = ["app"]
