"""Two examples of template protection with a key: a rotation, and BioHashing.

- `rotation`: a secret rotation (or reflection) of template space. Scores under one key stay what they were; without
  the key, and without pairs of templates under both, it says nothing of the directions. It keeps every template's
  length, which therefore links the same template under different keys.
- `biohash` (Jin, Ling and Goh, Pattern Recognition 2004; Teoh, Goh and Ngo, IEEE TPAMI 2006): the signs of the
  projections on secret orthonormal directions, compared by Hamming distance. Projections are cut at 0, after a
  center has been taken off. The center is public and must be no property of the enrolled people: without one, the
  templates of a recognizer that is not centered (dlib-resnet's mean is 0.9 of their length) agree in most bits
  whoever they are of.

Examples to be measured against: neither is a product, and nothing here has been reviewed as cryptography. Whoever
holds the key can undo the rotation, and narrow a biohash down to its half-spaces.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.files import atomic_write, json_text, open_file
from facedecode.identity import RecognizerId, Score

SCHEMES = ("rotation", "biohash")
KEY_BYTES = 32
SHORTEST_KEY, LONGEST_KEY = 16, 4096  # bytes
FEWEST_BITS, MOST_BITS_A_NUMBER = 8, 16


@dataclass(frozen=True, eq=False)
class Scheme:
    """A scheme with its key, which makes protected templates of templates."""

    name: str  # one of `SCHEMES`
    matrix: np.ndarray  # float64 (dim out, dim in); its rows are orthonormal, in blocks of dim in where there are more
    score: Score  # of protected templates
    key_id: str  # tells keys apart without giving them away
    center: np.ndarray | None = None  # float64 (dim in,), subtracted before the projection of a biohash

    @property
    def dim(self) -> int:
        """Length of a protected template."""
        return len(self.matrix)

    def protect(self, templates: np.ndarray) -> np.ndarray:
        """Templates (n, dim in), any float type → float32 (n, dim out); of a biohash +1 and -1.

        Computed in float64. Raises BadInput for another shape.
        """
        templates = np.asarray(templates, dtype=np.float64)
        if templates.ndim != 2 or templates.shape[1] != self.matrix.shape[1]:
            raise BadInput(f"{self.name} takes templates (n, {self.matrix.shape[1]}), not {templates.shape}")
        if self.center is not None:
            templates = templates - self.center
        projected = templates @ self.matrix.T
        if self.name == "biohash":
            return np.where(projected >= 0, np.float32(1), np.float32(-1))
        return projected.astype(np.float32)

    def describe(self) -> dict:
        """JSON: all that decides the numbers, the key by its id."""
        center = None if self.center is None else hashlib.sha256(self.center.astype("<f8").tobytes()).hexdigest()
        return {"scheme": self.name, "dim": self.dim, "key_id": self.key_id, "center_sha256": center}


def make_scheme(
    name: str, key: bytes, dim: int, score: Score, *, bits: int | None = None, center: np.ndarray | None = None
) -> Scheme:
    """A scheme for templates of `dim` numbers that are compared by `score`.

    Args:
        key: secret bytes; expanded by `orthonormal_rows`.
        bits: of a biohash: 8 to 16 · dim; as many as the template has numbers if None.
        center: (dim,) of a biohash, such as the mean template of a public set.

    Raises UsageError: an unknown scheme, bits out of range, or bits or a center for a rotation. BadInput: a center of
    another length, or not finite.
    """
    if name not in SCHEMES:
        raise UsageError(f"no protection is called {name!r}; known: {', '.join(SCHEMES)}")
    if name == "rotation":
        if bits is not None or center is not None:
            raise UsageError("a rotation has neither bits nor a center: leave --bits and --center to biohash")
        return Scheme(name, orthonormal_rows(key, name, dim, dim), score, key_id(key))
    bits = dim if bits is None else bits
    if not FEWEST_BITS <= bits <= MOST_BITS_A_NUMBER * dim:
        most = MOST_BITS_A_NUMBER * dim
        raise UsageError(f"--bits {bits}: a biohash of templates of {dim} numbers has {FEWEST_BITS} to {most} bits")
    if center is not None:
        center = np.asarray(center, dtype=np.float64)
        if center.shape != (dim,) or not np.isfinite(center).all():
            raise BadInput(f"a center of shape {center.shape}: templates have {dim} finite numbers")
    return Scheme(name, orthonormal_rows(key, name, bits, dim), "negative-hamming", key_id(key), center)


def orthonormal_rows(key: bytes, label: str, rows: int, dim: int) -> np.ndarray:
    """Secret directions: float64 (rows, dim), orthonormal in each block of `dim` rows.

    Each block is the Q of the QR decomposition of a matrix of standard normal numbers, with the signs of R's
    diagonal taken into it, and so uniform (Haar) over the orthogonal matrices (Mezzadri, Notices of the AMS 2007).
    The normal numbers are the Box–Muller transform of SHAKE-256's output, so that no generator's version changes
    them; the last digits depend on the machine's arithmetic.
    """
    blocks = []
    for block in range(math.ceil(rows / dim)):
        q, r = np.linalg.qr(_normal(key, f"{label} {dim} {block}", dim * dim).reshape(dim, dim))
        blocks.append(q * np.where(np.diag(r) < 0, -1.0, 1.0))
    return np.concatenate(blocks)[:rows]


def key_id(key: bytes) -> str:
    """16 hex digits that tell keys apart: the first of SHA-256("facedecode key id" ‖ key)."""
    return hashlib.sha256(b"facedecode key id" + key).hexdigest()[:16]


def study_key(seed: int, label: str) -> bytes:
    """A key for an experiment that others can repeat; no secret."""
    return hashlib.sha256(f"facedecode study key {seed} {label}".encode()).digest()


def read_key(path: Path) -> bytes:
    """The bytes of a key file, all of them (a newline at the end is part of the key).

    Raises BadInput: missing, unreadable, not a regular file, or of fewer than 16 or more than 4,096 bytes.
    """
    if not path.is_file():
        state = "not a regular file" if path.exists() else "no such key file"
        raise BadInput(f"{path}: {state}; make a key with --new-key {path}")
    with open_file(path) as file:
        try:
            key = file.read(LONGEST_KEY + 1)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(key) < SHORTEST_KEY:
        raise BadInput(f"{path}: a key of {len(key)} bytes; give one of {SHORTEST_KEY} or more, or make one: --new-key")
    if len(key) > LONGEST_KEY:
        raise BadInput(f"{path}: more than {LONGEST_KEY} bytes; that is no key")
    return key


def new_key() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def refuse_key(path: Path) -> None:
    """Refuse to replace a key. Raises OutputError: something is at `path` already."""
    if os.path.lexists(path):
        raise OutputError(f"{path}: is there already, and a key is not replaced; use it by --key-file {path}")


def write_key(path: Path, key: bytes) -> None:
    """Write a key to a new file that only its owner can read, atomically.

    Raises OutputError: the file is there already (a key is never replaced), or cannot be written.
    """
    refuse_key(path)
    with atomic_write(path, secret=True) as file:
        file.write(key)


def protected_recognizer(recognizer: RecognizerId, protection: dict, dim: int, score: Score) -> RecognizerId:
    """What a manifest records of protected templates in the place of their recognizer.

    recognizer: of the templates that were protected. protection: `Scheme.describe()`, or more.
    dim, score: of the protected templates.

    Returns:
        name: the recognizer's, the scheme and the key's id, `dlib-resnet+biohash@0123456789abcdef`;
        weights_sha256: a hash of the recognizer's weights and contract, and of all of the protection, so that whatever
        was made for other templates, another key or another center is refused; `protection` and `unprotected`.
    """
    of = {"name": recognizer.name, "weights_sha256": recognizer.weights_sha256}
    if recognizer.contract_sha256:
        of["contract_sha256"] = recognizer.contract_sha256
    return RecognizerId(
        name=f"{recognizer.name}+{protection['scheme']}@{protection['key_id']}",
        weights_sha256=hashlib.sha256(json_text({"of": of, "protection": protection}).encode()).hexdigest(),
        dim=dim,
        score=score,
        protection=protection,
        unprotected=recognizer,
    )


def _normal(key: bytes, label: str, count: int) -> np.ndarray:
    """`count` standard normal numbers, float64, of SHAKE-256("facedecode protection" ‖ label ‖ key)."""
    half = (count + 1) // 2
    stream = hashlib.shake_256(b"facedecode protection\0" + label.encode() + b"\0" + key).digest(16 * half)
    # The middles of 2⁵³ steps: neither 0, which has no logarithm, nor 1.
    uniform = ((np.frombuffer(stream, ">u8") >> 11).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[:half])), 2 * np.pi * uniform[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
