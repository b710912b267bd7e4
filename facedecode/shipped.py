"""Where the decoders are that come with the package. Free of torch."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "weights"
