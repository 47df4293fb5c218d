"""torch's AdamW for the benchmark, over standard input and output.

Says "torch VERSION" and then, for each line "FORM THREADS SECONDS SHAPE...", the nanoseconds per parameter and step: the
median and the least over samples that take SECONDS in all; with one thread, in time of the thread's own. FORM is fused or forloop; a shape is its extents joined by x. The constants are
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
    clock = time.thread_time if threads == 1 else time.perf_counter
    optimizer.step()
    start = clock()
    optimizer.step()
    one = clock() - start
    steps = max(1, int(seconds / 5 / max(one, 1e-9)))
    samples = []
    for _ in range(5):
        start = clock()
        for _ in range(steps):
            optimizer.step()
        samples.append((clock() - start) / steps)
    scale = 1e9 / sum(p.numel() for p in parameters)
    return scale * statistics.median(samples), scale * min(samples)


print("torch", torch.__version__, flush=True)
for line in sys.stdin:
    form, threads, seconds, *shapes = line.split()
    shapes = [tuple(map(int, shape.split("x"))) for shape in shapes]
    print(*measure(form, int(threads), float(seconds), shapes), flush=True)
