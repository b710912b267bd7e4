"""A decoder between one and the run that went on from it: the average of their weights.

    python examples/average_decoders.py decoders/start decoders/run --share 0.8 -o decoders/averaged

Runs from one start with other weights of the terms end in the same valley of the loss, and along the line between two
ends one figure can be had for another without training anew (Wortsman et al. 2022, Model soups). The record is that of
the run, which counts its start's people and networks as its own, with the share beside it.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from arguments import run

from facedecode.decoders import load_decoder, save_decoder
from facedecode.errors import BadInput, OutputError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", help="the decoder that the run went on from")
    parser.add_argument("run", help="the decoder that 'facedecode train --start' made of it")
    parser.add_argument("--share", type=float, required=True, help="0: the start, 1: the run")
    parser.add_argument("--half", action="store_true", help="save float16 tensors, at half the size")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.share <= 1:
        raise BadInput(f"--share {arguments.share}: give 0 to 1")
    if (arguments.output / "decoder.json").exists():
        raise OutputError(f"{arguments.output}: holds a decoder; give another folder")
    start, run = (load_decoder(name) for name in (arguments.start, arguments.run))
    before, after = (decoder.provenance.training for decoder in (start, run))
    if after.start is None or after.start != before.fingerprint:
        raise BadInput(f"{arguments.run}: did not go on from {arguments.start}; give the decoder that it started from")
    net = copy.deepcopy(run.net)
    # Each draws with its own gain; the run's is what the record says of the average, too.
    gains = [record.settings.gain or 1.0 for record in (before, after)]
    start.net.template_scale.mul_(gains[0] / gains[1])
    first, last = start.net.state_dict(), run.net.state_dict()
    mixed = {
        name: torch.lerp(first[name].double(), last[name].double(), arguments.share).to(last[name].dtype)
        if last[name].is_floating_point()
        else last[name]
        for name in last
    }
    net.load_state_dict(mixed)
    mark = f"{before.fingerprint} {after.fingerprint} {arguments.share!r}"
    averaged = {"start": before.fingerprint, "run": after.fingerprint, "share": arguments.share}
    fingerprint = hashlib.sha256(mark.encode()).hexdigest()
    record = replace(after, fingerprint=fingerprint, further={**after.further, "averaged": averaged})
    kept = replace(run.provenance, training=record)
    save_decoder(arguments.output, run.kind, net, kept, arguments.half, run.known.pictures)
    print(f"{arguments.output}: {arguments.share:g} of the way", file=sys.stderr)


if __name__ == "__main__":
    run(main)
