"""Weights files of kind pooled, as lopt reads and writes them."""
import json

import numpy as np
from safetensors.numpy import load_file, save_file
from safetensors import safe_open

import rule


def start():
    """Where meta-training begins: about tuned Adam's step on small networks, falling from 1,000 steps on or to a known end."""
    th = {name: np.zeros(shape, np.float32) for name, shape, _ in rule.FIELDS}
    size, vector, tensors, bias = 0, rule.DYNAMIC + 1, rule.DYNAMIC + 3, rule.STATISTICS
    for i, x in {size: 0.8, vector: 0.5, tensors: -0.5, bias: -1.2}.items():
        th["statistics_step"][0, i] = x
    th["statistics_decay"][0, bias] = th["statistics_decay"][0, vector] = -2
    th["schedule_step"][:] = [-1.8, -1.3, -1, -0.5, -0.2, 0, 0, -0.4, -1, -1.8, -2.5]
    th["horizon_step"][0] = [0, 0.2, 0.3, 0.5, 0.3, -0.7, -2, -3.5]
    th["direction"][0] = [0.5, 0.5, 0.1, 0.8]
    th["statistics_ranges"][:] = default_ranges()
    return rule.join(th)


def default_ranges():
    """Before any have been measured: [2, STATISTICS + 2]."""
    ranges = [(-5, 6)] + [(-6, 2)] * 3 + [(-1, 1)] * 2 + [(-3, 1), (-4.7, 0.1), (-4.7, 0.1), (-4, 5), (-1, 2), (0, 1), (-1, 2), (-1, 2), (0, 1), (0, 1), (-1, 2), (-1, 2)]
    return np.array(ranges + [(-12, 3), (-16, 5)], np.float32).T


def read(path):
    """theta and the file's metadata."""
    tensors = load_file(path)
    tensors = of_before(tensors)
    for name, shape, _ in rule.FIELDS:
        if tensors[name].shape != shape:
            raise SystemExit(f"{path}: {name} is {tensors[name].shape}, not {shape}")
    with safe_open(path, "numpy") as file:
        return rule.join(tensors), file.metadata()


def of_before(old):
    """Weights as a start that do not have what the rule has now, which counts as nothing: the widths at the ends of a network as
    statistics, and what a known horizon adds to the weights of all statistics."""
    new, at = dict(old), rule.DYNAMIC + 6
    if old["statistics_ranges"].shape == (2, rule.STATISTICS):
        for name in ("statistics_step", "statistics_decay"):
            new[name] = np.insert(old[name], [at, at], 0, 1)
        new["statistics_ranges"] = np.insert(old["statistics_ranges"], [at, at], default_ranges()[:, at:at + 2], 1)
    for name in ("statistics_step", "statistics_decay"):
        if new[name].shape == (2, rule.TERMS):
            new[name] = np.concatenate([new[name], np.zeros((1, rule.TERMS), np.float32)])
    return new


def write(path, theta, metadata):
    th = rule.split(np.asarray(theta, np.float32))
    save_file({name: np.ascontiguousarray(x) for name, x in th.items()}, path, {k: str(v) for k, v in metadata.items()})


def describe(theta):
    """For people to read."""
    return json.dumps({k: np.round(v, 3).tolist() for k, v in rule.split(np.asarray(theta)).items()}, indent=1)
