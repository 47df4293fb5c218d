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
    """Before any have been measured: [2, 20]."""
    ranges = [(-5, 6)] + [(-6, 2)] * 3 + [(-1, 1)] * 2 + [(-3, 1), (-4.7, 0.1), (-4.7, 0.1), (-4, 5), (-1, 2), (0, 1), (-1, 2), (-1, 2), (0, 1), (0, 1)]
    return np.array(ranges + [(-12, 3), (-16, 5)], np.float32).T


def read(path):
    """theta and the file's metadata."""
    tensors = load_file(path)
    if tensors["momentum_decays"].shape == (3,):
        tensors = of_three_momenta(tensors)
    for name, shape, _ in rule.FIELDS:
        if tensors[name].shape != shape:
            raise SystemExit(f"{path}: {name} is {tensors[name].shape}, not {shape}")
    with safe_open(path, "numpy") as file:
        return rule.join(tensors), file.metadata()


def of_three_momenta(old):
    """Weights of before commit 075e64f, as a start: the third momentum, which meta-training had made much like the first, joins it;
    cosines that are statistics no longer count as what they mostly were; two new statistics count as nothing."""
    new = {name: old[name] for name in ("horizon_decay", "horizon_step", "schedule_step")}
    for name in ("statistics_step", "statistics_decay"):
        w, none = old[name], np.zeros((2, 1), np.float32)
        bias = w[:, 18:] + 0.97 * w[:, 8:9] + 0.7 * w[:, 9:10]
        new[name] = np.concatenate([w[:, :1], w[:, 1:2] + w[:, 3:4], w[:, 2:3], w[:, 4:5], w[:, 5:6] + w[:, 7:8], w[:, 6:7],
                                    none, w[:, 10:11], none, w[:, 11:18], bias], 1)
    r, unknown = old["statistics_ranges"], default_ranges()
    new["statistics_ranges"] = np.concatenate([r[:, :3], r[:, 4:6], r[:, 6:7], unknown[:, 6:7], r[:, 10:11], unknown[:, 8:9], r[:, 11:]], 1)
    c = old["direction"]
    new["direction"] = np.concatenate([c[:, :1] + c[:, 2:3], c[:, 1:2], c[:, 3:]], 1)
    first, second, root = (0.4 * np.exp(10 * old["momentum_decays"][0]), 0.05 * np.exp(10 * old["momentum_decays"][1]),
                           0.01 * np.exp(10 * old["rms_decays"][0]))
    new["momentum_decays"] = np.log(np.array([first, max(second, 0.6 * root)]) / (1 - rule.MOMENTUM_DECAYS)).astype(np.float32) / 10
    new["rms_decays"] = np.array([np.log(root / (1 - rule.RMS_DECAY)) / 10], np.float32)
    return new


def write(path, theta, metadata):
    th = rule.split(np.asarray(theta, np.float32))
    save_file({name: np.ascontiguousarray(x) for name, x in th.items()}, path, {k: str(v) for k, v in metadata.items()})


def describe(theta):
    """For people to read."""
    return json.dumps({k: np.round(v, 3).tolist() for k, v in rule.split(np.asarray(theta)).items()}, indent=1)
