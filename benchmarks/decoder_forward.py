"""The decoder's forward pass: plain fp32, channels-last, as `Decoder` does it (channels-last, batch
normalization folded into the convolutions), and that in bfloat16; prints ratios of medians.

python benchmarks/decoder_forward.py [DECODER] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F

from facedecode.decoders import load_decoder
from facedecode.decoders.network import DeepFaceDecoder


def plain_forward(net: DeepFaceDecoder, templates: torch.Tensor) -> torch.Tensor:
    """`net.forward` without its memory format, as one would first write it."""
    e = (templates - net.template_mean) / net.template_scale
    x = F.relu(net.stem(e)).view(len(e), -1, net.base, net.base)
    for stage in net.stages:
        x = stage(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    x = net.head(x)
    if not (side := net.config["coarse"]):
        return x + 0.5
    coarse = F.linear(e, net.coarse_weight, net.coarse_bias).view(len(e), 3, side, side)
    return x + F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoder", nargs="?", default="dlib-resnet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    plain = load_decoder(options.decoder, options.device).net
    if not isinstance(plain, DeepFaceDecoder):
        parser.error(f"{options.decoder}: a closed form; give a dfd decoder")
    plain = plain.to(memory_format=torch.contiguous_format)
    decoder = load_decoder(options.decoder, options.device)
    spread = torch.randn(options.batch, decoder.dim, device=options.device)
    templates = decoder.net.template_mean + spread * decoder.net.template_scale
    sides = {
        "plain": (lambda: plain_forward(plain, templates), False),
        "channels last": (lambda: decoder.net(templates), False),
        "folded": (lambda: decoder(templates), False),
        "folded, bf16": (lambda: decoder(templates), True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    pictures = {}
    with torch.inference_mode():
        for round_ in range(options.rounds + 2):  # two to warm up; in turn, so that a busy moment hits all
            for name, (draw, half) in sides.items():
                start = time.perf_counter()
                with torch.autocast(options.device.partition(":")[0], torch.bfloat16, enabled=half):
                    pictures[name] = draw().float().clamp(0, 1)
                if options.device != "cpu":
                    torch.cuda.synchronize()
                if round_ > 1:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                "ms a picture": {name: round(1e3 * value / options.batch, 3) for name, value in medians.items()},
                "times as fast as plain": {name: round(medians["plain"] / value, 2) for name, value in medians.items()},
                "largest difference from plain, levels of 255": {
                    name: round(255 * (picture - pictures["plain"]).abs().max().item(), 3)
                    for name, picture in pictures.items()
                },
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
