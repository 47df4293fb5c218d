"""What groups of tasks have in common. A group is networks of one fixed shape, in which width, depth, activation, normalisation,
data, loss and noise vary from particle to particle through masks and flags, so that one compiled program serves a whole family.

A group has `flat`, `draw(r, n)` (the settings of n tasks, arrays of the host), `init(cfg)`, `train_loss` and `held_loss`.
"""
import jax
import jax.numpy as jnp
import numpy as np

import data
from hashing import normals, uniform

ACTIVATIONS = ["relu", "tanh", "gelu", "sigmoid", "sine"]


def activate(x, a):
    """a: [M, 5], one of ACTIVATIONS."""
    a = a.reshape((a.shape[0],) + (1,) * (x.ndim - 1) + (5,))
    return (a[..., 0] * jax.nn.relu(x) + a[..., 1] * jnp.tanh(x) + a[..., 2] * x * jax.nn.sigmoid(1.702 * x)
            + a[..., 3] * jax.nn.sigmoid(x) + a[..., 4] * jnp.sin(x))


def matmul(x, w):
    return jnp.einsum("mbi,mio->mbo", x, w, precision="highest")


def loss_of(out, y, cfg):
    """Of each example: cross-entropy, half a squared error or Bernoulli over the outputs in use."""
    kind, outputs = cfg["loss"][:, None], cfg["outputs"]
    use = (jnp.arange(out.shape[-1]) < outputs[:, None])[:, None]
    entropy = -(jax.nn.log_softmax(out, -1) * y).sum(-1)
    square = 0.5 * (jnp.square(out - y) * use).sum(-1) / outputs[:, None]
    bernoulli = ((jax.nn.softplus(out) - y * out) * use).sum(-1) / outputs[:, None]
    return jnp.where(kind == data.CROSS_ENTROPY, entropy, jnp.where(kind == data.SQUARED_ERROR, square, bernoulli))


class Group:
    name, batch, held_rows, weight = "", 32, 192, 1.0
    activations = [0.33, 0.22, 0.22, 0.13, 0.1]
    squared = 0.12                     # how many tasks of classes have a squared error

    def common(self, r, n):
        """Settings that every task has."""
        k = self.flat.count
        whole = np.where(r.random(n) < 0.4, np.exp(r.uniform(np.log(0.3), np.log(4), n)), 1.0)
        own = np.where((r.random(n) < 0.25)[:, None], np.where(r.random((n, k)) < 0.5, 1.5, 1 / 1.5), 1.0)
        gated = (r.random(n) < 0.12)[:, None] & (r.random((n, k)) < 0.5)
        period = np.exp(r.uniform(np.log(10), np.log(1000), (n, k))).astype(np.int32)
        return dict(
            seed=r.integers(0, 2**31, n).astype(np.uint32),
            scales=(whole[:, None] * own).astype(np.float32),       # the optimizer sees parameter / scale
            gain=np.exp(np.where(r.random(n) < 0.15, r.uniform(np.log(0.1), np.log(5), n), r.uniform(np.log(0.5), np.log(2), n))).astype(np.float32),
            activation=np.eye(5, dtype=np.float32)[r.choice(5, n, p=self.activations)],
            used=np.minimum(r.choice([1, 4, 8, 16, 32, 32, 32], n), self.batch).astype(np.int32),
            # Gradients that come and go, and that are rarely much too large.
            period=period, closed=np.where(gated, period * r.uniform(0.2, 0.9, (n, k)), 0).astype(np.int32),
            closed_factor=np.where(r.random(n) < 0.5, 0, np.exp(r.uniform(np.log(1e-4), np.log(0.1), n))).astype(np.float32),
            spikes=np.where(r.random(n) < 0.06, np.exp(r.uniform(np.log(1e-3), np.log(2e-2), n)), 0).astype(np.float32),
            spike=np.exp(r.uniform(np.log(5), np.log(1000), n)).astype(np.float32),
            dims=self.dims(n))

    def dims(self, n):
        """Extents of every tensor, [n, tensors, 4], filled with 1."""
        d = [list(s) + [1] * (4 - len(s)) for s in self.flat.shapes]
        return np.tile(np.array(d, np.int32), (n, 1, 1))

    def place(self, c):
        """What is fixed about every tensor, from its extents: elements (0: absent), and the eight fixed statistics."""
        dims = np.maximum(c.pop("dims"), 0)
        count = dims.prod(-1)
        present, above = count > 0, dims > 1
        vector = above.sum(-1) < 2
        least = np.where(above, dims, 2**30).min(-1)
        layer = np.cumsum(present & ~vector, 1)          # a layer begins with a tensor of two extents above 1
        last = layer.max(1, keepdims=True)
        c["count"] = np.maximum(count, 1).astype(np.float32)
        tensors = np.maximum(present.sum(1), 1)[:, None]
        # The widths at the ends (docs/update-rule.md, statistics 16 and 17): the narrower sides of the first matrix and of the last, but
        # 1 where two vectors and more are before the first, and no more than the elements of a vector that ends the network.
        matrix, place, rows = present & ~vector, np.arange(count.shape[1]), np.arange(len(count))
        first, final, end = matrix.argmax(1), (matrix * place).argmax(1), (present * place).argmax(1)
        narrow = c["count"] / np.maximum(dims.max(-1), 1)
        before = (present & (place < first[:, None])).sum(1)
        widths = np.where(before < 2, narrow[rows, first], 1), np.minimum(narrow[rows, final], c["count"][rows, end])
        inputs, outputs = (np.where(matrix.any(1), np.log(w) / 3 - 1, 0)[:, None] for w in widths)
        c["fixed"] = np.stack([
            np.log(c["count"]) / 5 - 1, vector, np.where(vector, 0, np.log(np.where(vector, 1, least)) / 3 - 1),
            np.broadcast_to(np.log(tensors) / 2 - 1, count.shape), layer <= 1, layer >= last,
            np.broadcast_to(inputs, count.shape), np.broadcast_to(outputs, count.shape)], -1).astype(np.float32)
        return c

    def rows(self, r, c, sets, smallest=60):
        """One of `sets`, a window of its training rows, noise in the labels; some tasks use all their rows in every step, some
        change what is asked."""
        n = len(c["seed"])
        s = sets[r.integers(0, len(sets), n)]
        take = np.minimum(np.exp(r.uniform(np.log(smallest), np.log(5000), n)).astype(np.int32), s[:, 1])
        full = r.random(n) < 0.08
        loss = np.where((s[:, 6] == data.CROSS_ENTROPY) & (r.random(n) < self.squared), data.SQUARED_ERROR, s[:, 6])
        c.update(
            train_begin=s[:, 0], train_count=s[:, 1], take=np.where(full, c["used"], take).astype(np.int32), full=full,
            begin=(r.random(n) * s[:, 1]).astype(np.int32), held_begin=s[:, 2], held_count=s[:, 3], inputs=s[:, 4], outputs=s[:, 5],
            loss=loss.astype(np.int32), classes=(s[:, 6] == data.CROSS_ENTROPY),
            noise=r.choice([0, 0, 0, 0.05, 0.2], n).astype(np.float32),
            turn=np.where(r.random(n) < 0.06, np.exp(r.uniform(np.log(100), np.log(2000), n)), 1e9).astype(np.int32))
        return c

    def turned(self, y, cfg, t):
        """Every `turn` steps the classes move by one."""
        width = y.shape[-1]
        shift = jnp.where(cfg["classes"], t // cfg["turn"], 0)[:, None]
        i = jnp.arange(width)
        from_ = jnp.where(i < cfg["outputs"][:, None], (i + shift) % jnp.maximum(cfg["outputs"], 1)[:, None], i)
        return jnp.take_along_axis(y, jnp.broadcast_to(from_[:, None], y.shape), -1)

    def examples(self, cfg, t):
        """Inputs, targets and weights of the minibatch of step t; t: [M]."""
        b = jnp.arange(self.batch)
        w = (b < cfg["used"][:, None]).astype(jnp.float32)
        i = (uniform(cfg["seed"][:, None], t[:, None], b) * cfg["take"][:, None]).astype(jnp.int32)
        i = jnp.where(cfg["full"][:, None], b, i)
        row = cfg["train_begin"][:, None] + (cfg["begin"][:, None] + i) % cfg["train_count"][:, None]
        y = self.y[row]
        wrong = (uniform(cfg["seed"][:, None], row, 77) < cfg["noise"][:, None]) & cfg["classes"][:, None]
        other = (uniform(cfg["seed"][:, None], row, 78) * cfg["outputs"][:, None]).astype(jnp.int32)
        y = jnp.where(wrong[..., None], jax.nn.one_hot(other, y.shape[-1]), y)
        return self.x[row], self.turned(y, cfg, t), w

    def train_loss(self, tensors, cfg, t):
        x, y, w = self.examples(cfg, t)
        return (loss_of(self.forward(tensors, x, cfg), y, cfg) * w).sum(1) / w.sum(1)

    def held_loss(self, tensors, cfg, t):
        """After t steps, over held-out rows; of a task that changes, as it was in step t - 1."""
        row = cfg["held_begin"][:, None] + (jnp.arange(self.held_rows) * 7) % cfg["held_count"][:, None]
        y = self.turned(self.y[row], cfg, t - 1)
        return loss_of(self.forward(tensors, self.x[row], cfg), y, cfg).mean(1)

    def gradient_factors(self, cfg, t):
        """[M, tensors]."""
        closed = (t[:, None] % cfg["period"]) >= cfg["period"] - cfg["closed"]
        spike = jnp.where(uniform(cfg["seed"], t, 91) < cfg["spikes"], cfg["spike"], 1)
        return jnp.where(closed, cfg["closed_factor"][:, None], 1) * spike[:, None]

    def init(self, cfg):
        """What the optimizer sees: parameter / scale."""
        return self.flat.flatten([w / self.scale(cfg, i, w) for i, w in enumerate(self.start(cfg))])

    def tensors(self, p, cfg):
        return [w * self.scale(cfg, i, w) for i, w in enumerate(self.flat.unflatten(p))]

    @staticmethod
    def scale(cfg, i, w):
        return cfg["scales"][:, i].reshape((-1,) + (1,) * (w.ndim - 1))

    def gaussian(self, cfg, i):
        shape = self.flat.shapes[i]
        return normals(cfg["seed"][:, None], 1000 + i, jnp.arange(np.prod(shape))).reshape((-1,) + shape)
