"""Templates of portraits as they are saved: what a recognizer makes of a decoder's 8-bit pictures."""

from __future__ import annotations

import numpy as np
import torch

from facedecode.recognizers.recognizer import Recognizer


def embed_pictures(recognizer: Recognizer, pictures: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Templates of portraits: (n, P, P, 3) uint8 RGB → (n, dim) float32. No detection: the frame says where to look."""
    templates = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            batch = torch.from_numpy(pictures[start : start + batch_size]).to(recognizer.device)
            templates.append(recognizer.embed_portraits(batch.permute(0, 3, 1, 2).float() / 255).cpu().numpy())
    return np.concatenate(templates)
