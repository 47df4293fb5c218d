#!/usr/bin/env python3
"""Tests/Goldens/rivals.py [--check]: writes rivals.json, the parameters after steps of optimizers that lopt is compared with.

Each update is written here once more in numpy, f64, from its publication: AdamW (Loshchilov and Hutter 2019), NAdamW with AlgoPerf's
configuration of its self-tuning baseline, schedule-free AdamW (Defazio et al. 2024), Prodigy (Mishchenko and Defazio 2024). With
--check they are compared with the packages torch, schedulefree and prodigyopt, in f64 too, and nothing is written. AlgoPerf's NAdamW
is in no package; it is compared with torch's AdamW at beta1 = 0, where the two are one, and its schedule with torch's.

The problem: g = h (x - c) + a stored noise, four elements, 60 steps.
"""
import json
import math
import pathlib
import re
import sys

import numpy as np

STEPS, SHOWN = 60, [1, 2, 5, 10, 20, 40, 60]
random = np.random.default_rng(11)
START = random.normal(size=4).round(3)
CURVATURE = np.array([4.0, 1.0, 0.2, 0.01])
CENTRE = np.array([1.0, -2.0, 0.5, 30.0])
NOISE = (0.3 * random.normal(size=(STEPS, 4))).round(4)


def gradient(x, t):
    return CURVATURE * (x - CENTRE) + NOISE[t]


def constant(t):
    return 1.0


def cosine(t):
    return (1 + math.cos(math.pi * t / STEPS)) / 2


def warmup_cosine(t):
    warmup = int(0.02 * STEPS)
    return t / warmup if t < warmup else (1 + math.cos(math.pi * (t - warmup) / max(STEPS - warmup, 1))) / 2


def adamw(rate, decay, schedule, beta1=0.9, beta2=0.999, nesterov=False):
    x, m, v = START.copy(), np.zeros(4), np.zeros(4)
    for t in range(STEPS):
        g, r = gradient(x, t), rate * schedule(t)
        x = x * (1 - r * decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        ahead = beta1 * m + (1 - beta1) * g if nesterov else m
        x = x - r * ahead / (1 - beta1 ** (t + 1)) / (np.sqrt(v / (1 - beta2 ** (t + 1))) + 1e-8)
        yield x, x


NADAMW = {"rate": 0.0017486387539278373, "decay": 0.08121616522670176, "beta1": 1 - 0.06733926164, "beta2": 0.9955159689799007}


def schedule_free(rate):
    # z takes the steps, x is their average, the gradient is taken at y = 0.9 x + 0.1 z.
    z, x, v, total = START.copy(), START.copy(), np.zeros(4), 0.0
    for t in range(STEPS):
        g = gradient(0.1 * z + 0.9 * x, t)
        v = 0.999 * v + 0.001 * g * g
        z = z - rate * g / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        total += rate * rate
        x = x + rate * rate / total * (z - x)
        yield 0.1 * z + 0.9 * x, x


def prodigy():
    # From 0: the first steps are of 1e-6, which f32 would round beside a start of 1, and the rule multiplies what it sees of them.
    x, m, v, s = np.zeros((4, 4))
    d, numerator, beta3 = 1e-6, 0.0, math.sqrt(0.999)
    for t in range(STEPS):
        g = gradient(x, t)
        numerator = beta3 * numerator + d / 1e-6 * d * float(g @ -x)
        m = 0.9 * m + 0.1 * d * g
        v = 0.999 * v + 0.001 * d * d * g * g
        s = beta3 * s + d / 1e-6 * d * g
        step, d = d, max(d, numerator / np.abs(s).sum())
        x = x - step * m / (np.sqrt(v) + d * 1e-8)
        yield x, x


RULES = {
    "adamw": lambda: adamw(0.01, 0.1, constant), "adamw cosine": lambda: adamw(0.01, 0.1, cosine),
    "nadamw": lambda: adamw(**NADAMW, schedule=warmup_cosine, nesterov=True),
    "schedule-free adamw": lambda: schedule_free(0.0025), "prodigy": prodigy}


def check():
    import prodigyopt
    import schedulefree
    import torch

    def run(make, schedule=constant, start=START):
        p = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        optimizer = make([p])
        rate = optimizer.param_groups[0]["lr"]
        if hasattr(optimizer, "train"):
            optimizer.train()
        for t in range(STEPS):
            optimizer.param_groups[0]["lr"] = rate * schedule(t)
            p.grad = torch.tensor(gradient(p.detach().numpy(), t))
            optimizer.step()
            at = p.detach().numpy().copy()
            if hasattr(optimizer, "eval"):
                optimizer.eval()
            yield at, p.detach().numpy().copy()
            if hasattr(optimizer, "train"):
                optimizer.train()

    pairs = {
        "adamw": (RULES["adamw"](), run(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1))),
        "adamw cosine": (RULES["adamw cosine"](), run(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1), cosine)),
        "nadamw, beta1 = 0": (adamw(0.01, 0.1, warmup_cosine, beta1=0.0, beta2=0.99, nesterov=True),
                              run(lambda p: torch.optim.AdamW(p, 0.01, betas=(0.0, 0.99), weight_decay=0.1), warmup_cosine)),
        "schedule-free adamw": (RULES["schedule-free adamw"](), run(lambda p: schedulefree.AdamWScheduleFree(p))),
        "prodigy": (RULES["prodigy"](), run(lambda p: prodigyopt.Prodigy(p), start=np.zeros(4)))}
    for name, (ours, theirs) in pairs.items():
        worst = max(np.abs(np.array(a) - np.array(b)).max() for a, b in zip(ours, theirs, strict=True))
        print(f"{name}: {worst:.1e}")
        assert worst < 1e-10, name
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], 1.0)
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
    warmup = int(0.02 * STEPS)
    schedule = SequentialLR(
        optimizer, [LinearLR(optimizer, 1e-10, 1.0, warmup), CosineAnnealingLR(optimizer, STEPS - warmup)], [warmup])
    for t in range(STEPS):
        assert abs(schedule.get_last_lr()[0] - warmup_cosine(t)) < 1e-9, t
        optimizer.step()
        schedule.step()
    print("schedule of nadamw: the same")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    else:
        rules = {}
        for name, rule in RULES.items():
            points = list(rule())
            rules[name] = {"start": [0.0] * 4 if name == "prodigy" else list(START), "parameters": [list(points[t - 1][0]) for t in SHOWN]}
            if points[0][0] is not points[0][1]:
                rules[name]["evaluated"] = [list(points[t - 1][1]) for t in SHOWN]
        text = json.dumps({
            "curvature": list(CURVATURE), "centre": list(CENTRE), "noise": NOISE.tolist(), "shown": SHOWN,
            "rules": rules}, indent=1)
        # A line for each list of numbers.
        text = re.sub(r"\[[^\[\]]*\]", lambda numbers: " ".join(numbers[0].split()), text)
        pathlib.Path(__file__).with_name("rivals.json").write_text(text + "\n")
