"""torch's AdamW for the benchmark, over standard input and output.

Says "torch VERSION" and then, for each line "FORM THREADS SECONDS SHAPE...", the nanoseconds per parameter and step: the
median over samples that take SECONDS in all. FORM is fused or forloop; a shape is its extents joined by x. The constants are
those of the benchmark's own AdamW.
"""
import statistics
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(0)


def measure(form, threads, seconds, shapes):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    parameters = [torch.nn.Parameter(0.05 * torch.randn(shape)) for shape in shapes]
    for p in parameters:
        p.grad = 0.01 * torch.randn_like(p)
    optimizer = torch.optim.AdamW(
        parameters, lr=1e-3, weight_decay=0.01, fused=form == "fused", foreach=False)
    optimizer.step()
    start = time.perf_counter()
    optimizer.step()
    one = time.perf_counter() - start
    steps = max(1, int(seconds / 5 / max(one, 1e-9)))
    samples = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.step()
        samples.append((time.perf_counter() - start) / steps)
    return 1e9 * statistics.median(samples) / sum(p.numel() for p in parameters)


print("torch", torch.__version__, flush=True)
for line in sys.stdin:
    form, threads, seconds, *shapes = line.split()
    shapes = [tuple(map(int, shape.split("x"))) for shape in shapes]
    print(measure(form, int(threads), float(seconds), shapes), flush=True)
