"""The rule of kind pooled in JAX, over many networks at once; Sources/LOptReference/ReferencePooled.swift says it plainly.

An array has a leading axis M of particles: networks that train side by side, each with meta-parameters of its own. The
parameters of a network are flat: a tensor begins at a multiple of 32, so an array is [M, blocks, 32], and what a tensor needs is
a sum over its blocks: one pass over the elements and a small product, however many tensors there are.
"""
import math

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 32
DYNAMIC, FIXED = 10, 8                       # statistics of the last step; of shape and place
STATISTICS = DYNAMIC + FIXED
UPDATE = 9                                   # of DYNAMIC: the size of the last step
TERMS = STATISTICS + 1                       # and 1
SCHEDULE = np.array([0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000], np.float32)
HORIZON = np.array([0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1], np.float32)
MOMENTA = 2
MOMENTUM_DECAYS, RMS_DECAY = np.array([0.8, 0.95], np.float32), np.float32(0.95)
NOMINAL_STEP_SIZE = 0.01
SLOW = np.float32(0.02)                      # 1 - beta of the slow average of a tensor's mean of g^2

# A tensor of the file, its shape, and for each row how far meta-training perturbs it, in units of sigma; 0: it does not. A decay
# matters little beside the chaos of a training, so that it takes larger perturbations to see which way is better.
FIELDS = [
    ("direction", (2, MOMENTA + 2), (1.5, 1.5)),
    ("horizon_decay", (8,), (6,)),
    ("horizon_step", (2, 8), (2, 1)),
    ("momentum_decays", (MOMENTA,), (0.5,)),
    ("rms_decays", (1,), (0.5,)),
    ("schedule_step", (11,), (1.5,)),
    ("statistics_decay", (3, TERMS), (4, 3, 3)),
    ("statistics_ranges", (2, STATISTICS + 2), (0, 0)),
    ("statistics_step", (3, TERMS), (1, 1, 1)),
]
PLACES, SIZE = {}, 0
for _name, _shape, _ in FIELDS:
    PLACES[_name] = slice(SIZE, SIZE + math.prod(_shape))
    SIZE += math.prod(_shape)
SCALE = np.concatenate([np.repeat(np.array(rows, np.float32), math.prod(shape) // len(rows)) for _, shape, rows in FIELDS])


def split(theta):
    """[..., SIZE] as its tensors."""
    return {name: theta[..., PLACES[name]].reshape(theta.shape[:-1] + shape) for name, shape, _ in FIELDS}


def join(tensors):
    return np.concatenate([np.asarray(tensors[name], np.float32).reshape(-1) for name, _, _ in FIELDS])


# ---- Flat networks ------------------------------------------------------------------------------------------------------------

class Flat:
    """Where the tensors of a network are."""

    def __init__(self, shapes):
        self.shapes = [tuple(s) for s in shapes]
        self.sizes = [math.prod(s) for s in self.shapes]
        self.blocks = [-(-n // BLOCK) for n in self.sizes]
        self.offsets = np.concatenate([[0], np.cumsum(self.blocks)[:-1]]) * BLOCK
        self.block_count, self.count = int(sum(self.blocks)), len(shapes)
        self.tensor_of_block = np.repeat(np.arange(self.count), self.blocks)
        self.membership = np.zeros((self.block_count, self.count), np.float32)
        self.membership[np.arange(self.block_count), self.tensor_of_block] = 1

    def unflatten(self, x):
        m = x.shape[0]
        x = x.reshape(m, -1)
        return [x[:, o:o + n].reshape((m,) + s) for o, n, s in zip(self.offsets, self.sizes, self.shapes)]

    def flatten(self, tensors):
        m, parts = tensors[0].shape[0], []
        for x, n, blocks in zip(tensors, self.sizes, self.blocks):
            parts.append(x.reshape(m, n))
            if blocks * BLOCK > n:
                parts.append(jnp.zeros((m, blocks * BLOCK - n), x.dtype))
        return jnp.concatenate(parts, 1).reshape(m, self.block_count, BLOCK)

    def sums(self, arrays):
        """Of k arrays of elements: [M, tensors, k]."""
        s = jnp.stack([x.sum(-1) for x in arrays], 1)
        return jnp.einsum("msb,bt->mts", s, self.membership, precision="highest")

    def spread(self, x):
        """[M, tensors] for each element."""
        return x[:, self.tensor_of_block][:, :, None]


# ---- The rule -----------------------------------------------------------------------------------------------------------------

def rates(th):
    """1 - beta of the momenta, [M, 2], and of the second moment, [M]."""
    second = jnp.clip((1 - RMS_DECAY) * jnp.exp(10 * th["rms_decays"][:, 0]), 0, 1)
    momenta = (1 - MOMENTUM_DECAYS) * jnp.exp(10 * th["momentum_decays"])
    return jnp.clip(jnp.maximum(momenta, 0.6 * second[:, None]), 0, 1), second


def interpolate(values, knots, x):
    """values: [M, knots]; x: [M, tensors]. Linear between the knots, constant outside of them."""
    k = jnp.asarray(knots)
    left, right = jnp.concatenate([k[:1] - 1, k[:-1]]), jnp.concatenate([k[1:], k[-1:] + 1])
    x = jnp.clip(x, k[0], k[-1])[..., None]
    weight = jnp.clip(jnp.minimum((x - left) / (k - left), (right - x) / (right - k)), 0, 1)
    return (weight * values[:, None]).sum(-1)


def time_feature(t):
    return jnp.log1p(jnp.minimum(t, 30_000) / 30) / 5


def logs(th, fixed, state, total):
    """The log-step and the log-decay of every tensor, [M, tensors], not clamped, and the clamped statistics.

    fixed: [M, tensors, 8], see `tasks.place`; total: [M] or [M, tensors], the number of steps, 0 if
    the optimizer is not told.
    """
    t, tau = state["t"], time_feature(state["t"])
    low, high = th["statistics_ranges"][:, 0], th["statistics_ranges"][:, 1]
    phi = jnp.concatenate([state["values"], fixed], -1)
    phi = jnp.clip(phi, low[:, None, :STATISTICS], high[:, None, :STATISTICS])
    phi = jnp.concatenate([phi, jnp.ones_like(phi[..., :1])], -1)

    total = total.reshape(total.shape[0], -1)
    known, total = total > 0, jnp.maximum(total, 1)
    part = jnp.where(known, jnp.minimum(t / total, 1), 0)

    def linear(w):
        return (phi * (w[:, None, 0] + tau[..., None] * w[:, None, 1] + part[..., None] * w[:, None, 2])).sum(-1)
    n, r = linear(th["statistics_step"]), linear(th["statistics_decay"])
    n += interpolate(th["schedule_step"], np.log1p(SCHEDULE), jnp.log1p(t))
    n += jnp.where(known, interpolate(th["horizon_step"][:, 0], HORIZON, part)
                   + (jnp.log(total) / 2 - 3.4) * interpolate(th["horizon_step"][:, 1], HORIZON, part), 0)
    r += jnp.where(known, interpolate(th["horizon_decay"], HORIZON, part), 0)
    return n, r, phi


def sizes(th, fixed, state, total):
    """The step size and the log-decay, [M, tensors]."""
    n, r, _ = logs(th, fixed, state, total)
    low, high = th["statistics_ranges"][:, 0], th["statistics_ranges"][:, 1]
    n = jnp.clip(n, low[:, None, STATISTICS], high[:, None, STATISTICS])
    r = jnp.clip(r, low[:, None, STATISTICS + 1], high[:, None, STATISTICS + 1])
    return NOMINAL_STEP_SIZE * jnp.exp(n), r


def direction(flat, th, tau, momenta, root, g):
    """G, and h = g r; root: r = rsqrt(v + epsilon)."""
    c = th["direction"][:, None, 0] + tau[..., None] * th["direction"][:, None, 1]
    weight = [flat.spread(c[..., k]) for k in range(3)] + [flat.spread(jnp.clip(c[..., 3], 0, 2))]
    h, a = g * root, [m * root for m in momenta]
    d = weight[0] * a[0] + weight[1] * a[1]
    whole = d + weight[2] * h
    return jnp.where(h * d < 0, weight[3] * whole, whole), h, a


def note(flat, momentum_rates, count, p, v, h, a, g2, G, size, peak, slow):
    """The dynamic statistics, [M, tensors, 10]; peak and slow: a slow maximum and a slow average of the mean of g^2, this step's
    included."""
    live = v > 0
    s = flat.sums([live, live * p * p, h * h, jnp.abs(h)] + [x * x for x in a] + [h * x for x in a] + [G * G])
    n = jnp.maximum(s[..., :1], 1)
    mean = s / n

    def log_rms(square, floor):
        return jnp.log(jnp.sqrt(square) + floor)

    def cosine(product, x2, y2):
        length = jnp.sqrt(jnp.maximum(x2, 0) * jnp.maximum(y2, 0))
        return jnp.where(length > 1e-12, jnp.clip(product / jnp.maximum(length, 1e-12), -1, 1), 0)
    p_size, h2 = mean[..., 1], mean[..., 2]
    values = [log_rms(p_size, 1e-3) + 2] + [log_rms(mean[..., 4 + k], 1e-3) + 1 for k in range(2)] + [log_rms(h2, 1e-3)]
    for k in range(2):
        q, a2, ha = momentum_rates[:, k, None], mean[..., 4 + k], mean[..., 6 + k]
        # What is left of a_k without g may be rounding alone, as in the first step: then it counts as nothing.
        values.append(cosine(ha - q * h2, h2, jnp.maximum(a2 - 2 * q * ha + q * q * h2, 0) + 1e-4 * a2))
    values.append(4 * cosine(mean[..., 3], h2, 1) - 3)              # of |h| with 1
    for square in (g2, slow):
        values.append(jnp.log(jnp.sqrt(square / jnp.maximum(peak, 1e-36)) + 1e-4) / 2)
    G_size = jnp.sqrt(s[..., 8] / count)
    values.append(jnp.log(size * G_size / (jnp.sqrt(p_size) + 1e-3) + 1e-6) / 2 + 3)
    return jnp.stack(values, -1)


def begin(flat, m):
    z, n = jnp.zeros((m, flat.block_count, BLOCK)), jnp.zeros((m, flat.count))
    return dict(momenta=(z,) * MOMENTA, v=z, values=jnp.zeros((m, flat.count, DYNAMIC)), peak=n, slow=n, t=n)


def measure(flat, th, fixed, count, p, g, total):
    """What a first step measures before it is taken: the state that `step` with the same gradient goes on from."""
    m = p.shape[0]
    state = begin(flat, m)
    q, qv = rates(th)
    g2 = flat.sums([g * g])[..., 0] / count
    largest = jnp.stack([jnp.abs(x).reshape(m, -1).max(-1) for x in flat.unflatten(g)], 1)
    root = jax.lax.rsqrt(qv[:, None, None] * g * g + flat.spread(jnp.maximum(1e-10 * largest * largest, 1e-36)))
    momenta = [q[:, k, None, None] * g for k in range(MOMENTA)]
    G, h, a = direction(flat, th, time_feature(state["t"]), momenta, root, g)
    size, _ = sizes(th, fixed, state, total)
    values = note(flat, q, count, p, g * g, h, a, g2, G, size, g2, g2)
    return dict(state, values=values, peak=g2, slow=g2)


def step(flat, th, fixed, count, state, p, g, total, scale):
    """One step. th: split([M, SIZE]); count: [M, tensors], elements; scale: [M], a caller's factor. A tensor whose gradient is 0
    everywhere stays as it is."""
    q, qv = rates(th)
    tau = time_feature(state["t"])
    size, r = sizes(th, fixed, state, total)
    g2 = flat.sums([g * g])[..., 0] / count
    active = g2 > 0
    decay = jnp.minimum(jnp.minimum(size * jnp.exp(r), 0.1), jnp.exp(2 * (state["values"][..., UPDATE] - 3)) / 2)
    keep = jnp.where(active & (decay >= 1e-6), 1 - scale[:, None] * decay, 1)
    applied = jnp.where(active, scale[:, None] * size, 0)
    on = flat.spread(active)
    v = state["v"] + jnp.where(on, qv[:, None, None] * (g * g - state["v"]), 0)
    momenta = tuple(m + jnp.where(on, q[:, k, None, None] * (g - m), 0) for k, m in enumerate(state["momenta"]))
    root = jax.lax.rsqrt(v + flat.spread(jnp.maximum(1e-8 * state["peak"], 1e-36)))
    G, h, a = direction(flat, th, tau, momenta, root, g)
    p = p * jnp.where(v > 0, flat.spread(keep), 1) - flat.spread(applied) * G
    peak = jnp.clip(g2, 0.998 * state["peak"], 4 * state["peak"])
    slow = state["slow"] + SLOW * (jnp.minimum(g2, peak) - state["slow"])
    values = note(flat, q, count, p, v, h, a, g2, G, size, peak, slow)
    return p, dict(momenta=momenta, v=v, values=jnp.where(active[..., None], values, state["values"]),
                   peak=jnp.where(active, peak, state["peak"]), slow=jnp.where(active, slow, state["slow"]), t=state["t"] + active), g2
