"""Decoders (D): template → portrait. One interface and one checkpoint format for networks and closed forms."""

from facedecode.decoders.checkpoint import Decoder, Provenance, find_decoder, load_decoder, save_decoder
from facedecode.decoders.kinds import KINDS

__all__ = ["KINDS", "Decoder", "Provenance", "find_decoder", "load_decoder", "save_decoder"]
