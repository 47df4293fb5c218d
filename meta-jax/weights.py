"""Weights files of kind pooled, as lopt reads and writes them."""
import json

import numpy as np
from safetensors.numpy import load_file, save_file
from safetensors import safe_open

import rule


def start():
    """Where meta-training begins: about tuned Adam's step on small networks, falling from 1,000 steps on or to a known end."""
    th = {name: np.zeros(shape, np.float32) for name, shape, _ in rule.FIELDS}
    size, vector, tensors, bias = 0, 13, 15, rule.STATISTICS
    for i, x in {size: 0.8, vector: 0.5, tensors: -0.5, bias: -1.2}.items():
        th["statistics_step"][0, i] = x
    th["statistics_decay"][0, bias] = th["statistics_decay"][0, vector] = -2
    th["schedule_step"][:] = [-1.8, -1.3, -1, -0.5, -0.2, 0, 0, -0.4, -1, -1.8, -2.5]
    th["horizon_step"][0] = [0, 0.2, 0.3, 0.5, 0.3, -0.7, -2, -3.5]
    th["direction"][0] = [0.33, 0.33, 0.33, 0.1, 0.8]
    th["statistics_ranges"][:] = default_ranges()
    return rule.join(th)


def default_ranges():
    """Before any have been measured: [2, 20]."""
    ranges = [(-5, 6)] + [(-6, 2)] * 4 + [(-1, 1)] * 5 + [(-4.7, 0.1), (-4, 5), (-1, 2), (0, 1), (-1, 2), (-1, 2), (0, 1), (0, 1)]
    return np.array(ranges + [(-12, 3), (-16, 4)], np.float32).T


def read(path):
    """theta and the file's metadata. A file of before statistics_decay had two rows is read too."""
    tensors = load_file(path)
    decay = tensors["statistics_decay"]
    if decay.ndim == 1:
        tensors["statistics_decay"] = np.stack([decay, np.zeros_like(decay)])
    for name, shape, _ in rule.FIELDS:
        if tensors[name].shape != shape:
            raise SystemExit(f"{path}: {name} is {tensors[name].shape}, not {shape}")
    with safe_open(path, "numpy") as file:
        return rule.join(tensors), file.metadata()


def write(path, theta, metadata):
    th = rule.split(np.asarray(theta, np.float32))
    save_file({name: np.ascontiguousarray(x) for name, x in th.items()}, path, {k: str(v) for k, v in metadata.items()})


def describe(theta):
    """For people to read."""
    return json.dumps({k: np.round(v, 3).tolist() for k, v in rule.split(np.asarray(theta)).items()}, indent=1)
