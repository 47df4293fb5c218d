#!/usr/bin/env python3
"""Tests/Goldens/extensions.py: what the default weights compute, by an implementation of its own.

Writes extensions.json beside it: gradients of three tensors and the parameters after every step, in f64. The formulas are those of
docs/update-rule.md; nothing is shared with the Swift sources. The authors' code knows none of these extensions, so its goldens cannot
test them. Needs numpy: python3 Tests/Goldens/extensions.py
"""
import json
import pathlib
import struct

import numpy as np

here = pathlib.Path(__file__).parent
SHAPES = {"matrix": [5, 9], "vector": [7], "column": [6, 1]}
STEPS = 14


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + size:][begin:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return metadata, tensors


metadata, w = read(here / "../../weights/star.safetensors")
value = lambda key: json.loads(metadata[key])
assert value("step_mult") == 0 and value("weight_decay") == 0 and metadata["nominal_grad_estimator"] == "AdamAggMo"
assert metadata["skip_idle_tensors"] == "true" and value("hidden_layers") == 2
rms = lambda x: np.sqrt(np.mean(np.square(x))) if np.size(x) else 0.0


def nominal_head(t):
    """n of the network. It sees the step alone: the paths from the other features are 0."""
    features = len(w["w0"]) - 11
    unit = np.abs(w["w1"]) @ (np.abs(w["w2"][:, 2]) > 0) > 0
    assert not w["w0"][:features, unit].any()
    x = np.concatenate([np.zeros(features), np.tanh(t / np.array([1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5]) - 1)])
    for layer in range(2):
        x = np.maximum(x @ w[f"w{layer}"] + w[f"b{layer}"], 0)
    return (x @ w["w2"] + w["b2"])[2]


def one_minus_beta(initial, offsets):
    return (1 - np.array(initial)) * np.exp(10 * offsets)


q = one_minus_beta(value("initial_momentum_decays"), w["momentum_decays"])
qv = np.clip(one_minus_beta(value("initial_rms_decays"), w["rms_decays"])[0], 0, 1)


def step(p, g, s):
    if not np.any(np.abs(g) >= np.finfo(np.float32).tiny):
        return p
    s["v"] = s["v"] + qv * (g * g - s["v"])
    s["m"] = [m + qk * (g - m) for m, qk in zip(s["m"], q)]
    live = s["v"] > 0
    phi = [np.log(rms(p[live]) + 1e-3) + 2]
    phi += [np.log(rms(m) / (rms(g) + 1e-12) + 1e-3) + 1.5 for m in s["m"]]
    phi += [np.log(rms(m / np.sqrt(s["v"] + 1e-6)) + 1e-3) + 1 for m in s["m"]]
    phi += [np.log(p.size) / 5 - 1, 1.0 if sum(e > 1 for e in p.shape) < 2 else 0.0]
    psi = np.log(rms(g) / (np.sqrt(rms(s["v"])) + 1e-12) + 1e-3)
    chi = np.log(len(SHAPES)) / 2 - 1
    least, most = w["tensor_ranges"]
    *phi, psi, chi = np.clip(np.array([*phi, psi, chi]), least[:-1], most[:-1])
    tau = np.log(1 + min(s["t"], 30_000) / 30) / 5
    u, c = w["tensor_scale"], w["tensor_count"]
    w0, wi = w["tensor_schedule"][0], w["tensor_schedule"][1:]
    n = nominal_head(s["t"]) + u @ phi + w0 * psi + tau * (wi @ [*phi, psi, 1]) + (c[0] + tau * c[1]) * chi
    n = np.clip(n, least[-1], most[-1])
    s["t"] += 1
    direction = np.mean(s["m"], axis=0) / np.sqrt(s["v"] + value("nominal_epsilon"))
    return p - value("nominal_stepsize") * np.exp(n * value("exp_mult")[1]) * direction


random = np.random.default_rng(1)
result = {}
for name, shape in SHAPES.items():
    f32 = lambda x: np.asarray(x, np.float32).astype(np.float64)
    p = f32(0.5 * random.normal(size=shape))
    s = dict(t=0, m=[np.zeros(shape)] * 3, v=np.zeros(shape))
    entry = dict(shape=shape, start=p.ravel().tolist(), gradients=[], parameters=[])
    for t in range(STEPS):
        # Persistent and noisy; tiny, a spike, none at all; one element never has any.
        size = {4: 0.0, 6: 1e-7, 9: 1e3}.get(t, 1.0)
        g = f32(size * (0.3 * np.sign(p) + random.normal(size=shape)))
        g.ravel()[0] = 0
        p = step(p, g, s)
        entry["gradients"].append(g.ravel().tolist())
        entry["parameters"].append(p.ravel().tolist())
    result[name] = entry
(here / "extensions.json").write_text(json.dumps(result, indent=0) + "\n")
