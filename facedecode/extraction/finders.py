"""Where the faces of images are taken from, as the options say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from facedecode.errors import UsageError
from facedecode.extraction.jobs import FaceOptions
from facedecode.extraction.landmarks_file import LandmarksFile, read_landmarks
from facedecode.pictures.faces import FaceDetector, FaceFinder
from facedecode.pictures.finding import ImageRef
from facedecode.pictures.given_faces import AlignedCrops, BoxCrops, LandmarkedFaces
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store

_MANY = 0.2  # share of the images without a face above which they may be crops
IF_CROPS = (
    "if they are crops already, say --crop aligned (the recognizer's own) or --crop box (the face's box), or give the "
    "faces' five points with --landmarks"
)


@dataclass(frozen=True)
class FaceSource:
    """Where the faces of some images are. notes: lines on landmarks that are left over."""

    options: FaceOptions
    refs: Sequence[ImageRef]
    landmarks: LandmarksFile | None = None
    given: LandmarkedFaces | None = None
    notes: Sequence[str] = field(default_factory=list)

    @classmethod
    def of(cls, options: FaceOptions, refs: Sequence[ImageRef], target: ImageRef | None = None) -> FaceSource:
        """Read the file of landmarks, if there is one; no picture is looked into.

        target: one more image, which need not have a face.

        Raises BadInput: as `read_landmarks` and `LandmarksFile.faces_of`.
        """
        if options.landmarks is None:
            return cls(options, refs)
        landmarks = read_landmarks(options.landmarks)
        given, notes = landmarks.faces_of(refs, target)
        return cls(options, refs, landmarks, given, notes)

    def finder(self, recognizer: Recognizer | None, device: str) -> FaceFinder:
        """What says where each face is. recognizer: whose crops aligned ones are; device: of the detector.

        Raises BadInput: as `LandmarksFile.require_seen`. UsageError: aligned crops of no recognizer.
        """
        if self.landmarks is not None and self.given is not None:
            self.landmarks.require_seen(self.refs, self.given, FaceDetector(device))
            return self.given
        return plain_finder(self.options.crop, recognizer, device)


def plain_finder(crop: str, recognizer: Recognizer | None, device: str = "cpu") -> FaceFinder:
    """The finder of a value of --crop. Raises UsageError: aligned crops without a recognizer."""
    if crop == "detect":
        return FaceDetector(device)
    if crop == "box":
        return BoxCrops()
    if recognizer is None:
        raise UsageError("aligned crops are a recognizer's, and it is not here; give the faces' landmarks")
    return AlignedCrops(recognizer.spec.crop, recognizer.input_size)


def finder_notes(finder: FaceFinder, failures: Sequence[dict[str, str]], count: int, store: Store | None) -> list[str]:
    """What the images of a run look like by what a finder made of them: a line where they may be crops, or are resized.

    failures: of the `count` images. store: of those that did not fail; None where all did.
    """
    if isinstance(finder, FaceDetector):
        undetected = sum(failure["stage"] == "detect" for failure in failures)
        if undetected > _MANY * count:
            return [f"{undetected} of {count} images show the detector no face; {IF_CROPS}"]
    elif isinstance(finder, AlignedCrops) and store is not None:
        (width, height), longer = finder.size, max(finder.size)
        sizes = [max(row["width"], row["height"]) for row in store.columns(["width", "height"]).to_pylist()]
        if other := sum(size != longer for size in sizes):
            return [f"{other} of {len(sizes)} images are resized: the recognizer takes {width} x {height} pixels"]
    return []
