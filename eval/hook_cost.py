"""What the decode hook costs: Wan's own autoencoder class at random weights, decoded with and without it.

    python -m eval.hook_cost [--width 24] [--out docs/results/hook-cost.json]
    python -m eval.hook_cost --device cuda --dtype bfloat16 --width 96 --height 480 --columns 832 --latent-frames 6 \\
        --rounds 9 --out docs/results/hook-cost-cuda.json

On a CPU time is that of one thread, so that other work on the machine does not count; on a GPU it is the clock's, with
the device's queue empty before and after. Decoding and marking alternate, and their medians are compared. ``--width``
is the channels of the decoder's narrowest level (the published model has 96): a narrower decoder is faster, and the
hook's share of it larger, so a share measured at less bounds the full model's from above. Memory is what the hook's own
work holds at its peak beyond the decoder's output, in frames of float32 RGB; the first clip of a size makes the
patterns, which are then kept. It is measured on the CPU, whose arrays and tensors can be counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from eval.tables import put
from genwm.decoding import LAYOUTS, DecoderHook, mark_decoder
from genwm.keys import Key
from genwm.marking import Mark

#: The hook's share of the decoding time, by kind of device, and its peak memory in frames: what it may cost.
TARGET_SHARES, TARGET_FRAMES = {"cpu": 0.03, "cuda": 0.01}, 2.0
_LAYOUT = LAYOUTS["AutoencoderKLWan"]
_KEY = Key("measured", bytes(range(32)), "2026-01-01T00:00:00+00:00")


def decoder(width: int) -> Any:
    """AutoencoderKLWan at ``width`` base channels (96 in the published model), its published depth, random weights."""
    import diffusers
    import torch

    torch.manual_seed(0)
    model: Any = diffusers.AutoencoderKLWan
    return model(base_dim=width).eval().requires_grad_(False)


def timed(work: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What the work returns, and its seconds: of CPU time of this process, or on a GPU by the clock."""
    import torch

    if device == "cpu":
        started = time.process_time()
        return work(), time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return result, time.perf_counter() - started


def peak_bytes(hook: DecoderHook, clip: Any) -> int:
    """Bytes that marking a decoded clip holds at its peak: of arrays as NumPy reports them, and of tensors as torch's
    profiler does. The sum of the two peaks, which bounds the peak of the sum."""
    from torch.profiler import ProfilerActivity, profile

    copy = clip.clone()  # before anything is counted; the second pass would find the patterns made
    tracemalloc.start()
    hook._mark(clip, _LAYOUT)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        hook._mark(copy, _LAYOUT)
    recorded: Any = profiled.profiler
    events = sorted(recorded.kineto_results.events(), key=lambda event: event.start_ns())
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return int(arrays + max(accumulate(sizes, initial=0)))


def measure(
    width: int, height: int, columns: int, latent_frames: int, rounds: int, *, device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, Any]:
    """One row of the result."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)
    kind: torch.dtype = getattr(torch, dtype)
    vae, mark = decoder(width).to(device), Mark(_KEY, 0x0123456789ABCDEF)
    if kind != torch.float32:
        vae = vae.to(kind)
    latent = torch.randn(1, vae.config.z_dim, latent_frames, height // 8, columns // 8,
                         generator=torch.Generator().manual_seed(1)).to(device, kind)

    def decoded() -> Any:
        with torch.no_grad():
            return vae.decode(latent, return_dict=False)[0]

    before, twins = decoded(), []
    for _ in range(2):
        with mark_decoder(vae, mark):
            twins.append(decoded())
    after = decoded()
    hook = DecoderHook((), (mark,), None)  # the hook's work alone, on what was decoded
    hook._mark(before.clone(), _LAYOUT)
    decoding, marking = [], []
    for _ in range(rounds):
        clip, seconds = timed(decoded, device)
        decoding.append(seconds)
        marking.append(timed(partial(hook._mark, clip, _LAYOUT), device)[1])
    frames = int(before.shape[2])
    return {
        "width": width, "decoder_parameters": sum(item.numel() for item in vae.decoder.parameters()),
        "frames": frames, "size": f"{columns}x{height}", "rounds": rounds,
        "decode_s": round(statistics.median(decoding), 3), "mark_s": round(statistics.median(marking), 4),
        "mark_ms_per_frame": round(1000 * statistics.median(marking) / frames, 2),
        "share": round(statistics.median(marking) / statistics.median(decoding), 5),
        "bit_exact_when_detached": bool(torch.equal(before, after)),
        "same_latent_same_clip": bool(torch.equal(*twins)),
        "marked": not bool(torch.equal(before, twins[0])),
    }  # fmt: skip


def memory(height: int, columns: int) -> dict[str, Any]:
    """Peak memory of the hook at one size, in frames; no decoder is needed."""
    import torch

    hook = DecoderHook((), (Mark(_KEY, 0x0123456789ABCDEF),), None)
    clip = torch.rand(1, 3, 5, height, columns, generator=torch.Generator().manual_seed(1)) * 2 - 1
    frame_bytes = 3 * 4 * height * columns
    first, later = (round(peak_bytes(hook, clip.clone()) / frame_bytes, 2) for _ in range(2))
    return {"size": f"{columns}x{height}", "peak_frames_first": first, "peak_frames": later}


def main() -> None:
    """Writes the result."""
    import diffusers
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=[24])
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--columns", type=int, default=416)
    parser.add_argument("--latent-frames", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=tuple(TARGET_SHARES), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--out", type=Path, default=Path("docs/results/hook-cost.json"))
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("Expected a GPU that torch can use, got none; measure with --device cpu.")
    rows = [measure(width, given.height, given.columns, given.latent_frames, given.rounds, device=given.device,
                    dtype=given.dtype) for width in given.width]
    result = {
        "schema": "genwm.hook-cost/2", "autoencoder": "AutoencoderKLWan, published depth, random weights",
        "published_width": 96, "target": {"share": TARGET_SHARES[given.device], "peak_frames": TARGET_FRAMES},
        "rows": rows,
        "memory": [memory(*size) for size in ((240, 416), (480, 832), (720, 1280))],
        "device": "cpu, one thread" if given.device == "cpu" else torch.cuda.get_device_name(), "dtype": given.dtype,
        "machine": platform.machine(), "cores": os.cpu_count(),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }  # fmt: skip
    put(given.out, json.dumps(result, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
