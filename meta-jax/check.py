"""rule.py against the library: a small network, some hundred steps. check.py LIBLOPT WEIGHTS; ends with 1 if they differ."""
import ctypes
import sys

import jax
import jax.numpy as jnp
import numpy as np

import rule
import tasks
import weights


def main():
    library, path = sys.argv[1:3]
    lopt = ctypes.CDLL(library)
    lopt.lopt_last_error.restype = ctypes.c_char_p
    shapes = [(13, 7), (7,), (7, 7), (7,), (7, 5), (5,)]
    r = np.random.default_rng(0)
    ps = [np.ascontiguousarray(r.normal(size=s) * 0.5, np.float32) for s in shapes]
    gs = [np.zeros(s, np.float32) for s in shapes]

    def ok(status):
        if status:
            sys.exit(lopt.lopt_last_error().decode())
    handle, frozen, pointer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p
    ok(lopt.lopt_weights_load(path.encode(), None, ctypes.byref(frozen)))
    ok(lopt.lopt_create(frozen, None, ctypes.byref(handle)))
    lopt.lopt_set_lr_scale.argtypes = [pointer, ctypes.c_double]
    for i, (p, g) in enumerate(zip(ps, gs)):
        ok(lopt.lopt_add_tensor(handle, f"t{i}".encode(), pointer(p.ctypes.data), pointer(g.ctypes.data), (ctypes.c_int64 * p.ndim)(*p.shape), p.ndim, None))
    total = 120
    lopt.lopt_set_total_steps.argtypes = [pointer, ctypes.c_int64]
    ok(lopt.lopt_set_total_steps(handle, total))
    flat, m = rule.Flat(shapes), 2
    th = rule.split(jnp.asarray(np.tile(weights.read(path)[0], (m, 1))))

    class Network(tasks.Group):
        pass
    network = Network()
    network.flat = flat
    cfg = network.place(dict(dims=network.dims(m)))
    totals = jnp.full(m, float(total))

    def flatten(xs):
        return flat.flatten([jnp.asarray(np.tile(x, (m,) + (1,) * x.ndim)) for x in xs])
    step = jax.jit(lambda state, p, g, s: rule.step(flat, th, cfg["fixed"], cfg["count"], state, p, g, totals, s)[:2])
    state, p, worst = None, flatten(ps), 0.0
    for t in range(150):
        for i, g in enumerate(gs):
            size = 10 ** (-0.7 * i) * (1e-3 if 40 <= t < 80 else 1)
            g[...] = r.normal(size=g.shape) * size * (1 + np.sin(t / 5)) + 0.3 * ps[i] * size
        if 50 <= t < 60:
            gs[2][...] = 0
        s = 1.0 if t < 30 else 0.5
        ok(lopt.lopt_set_lr_scale(handle, s))
        g = flatten(gs)
        if state is None:
            state = rule.measure(flat, th, cfg["fixed"], cfg["count"], p, g, totals)
        before = [x[1] for x in flat.unflatten(p)]
        p, state = step(state, p, g, jnp.full(m, s))
        own = [x.copy() for x in ps]
        ok(lopt.lopt_step(handle))
        for a, b, c, d in zip(flat.unflatten(p), ps, before, own):
            change = np.linalg.norm(b - d)
            if change > 0:
                worst = max(worst, float(np.linalg.norm((a[1] - c) - (b - d)) / (change + 1e-3 * np.linalg.norm(d))))
    drift = max(float(np.linalg.norm(a[1] - b) / np.linalg.norm(b)) for a, b in zip(flat.unflatten(p), ps))
    print(f"150 steps, total_steps {total}: worst relative difference of an update {worst:.2g}, of the parameters at the end {drift:.2g}")
    sys.exit(int(worst > 1e-3 or drift > 1e-3 or not np.isfinite(worst)))


if __name__ == "__main__":
    main()
