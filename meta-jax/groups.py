"""All groups, and the two that have no network."""
import jax
import jax.numpy as jnp
import numpy as np

from hashing import normals, uniform
from networks import MLP, Convolution, Logistic, Tables
from rule import Flat
from sequences import Recurrent, Transformer
from tasks import Group, matmul


class Quadratic(Group):
    """Noisy, 128 parameters in two tensors; the losses reported are without the noise."""

    def __init__(self, name):
        self.name, self.flat = name, Flat([(10, 10), (28,)])

    def draw(self, r, n):
        c = self.common(r, n)
        c["condition"] = np.exp(r.uniform(np.log(3), np.log(1000), n)).astype(np.float32)
        c["sigma"] = r.choice([0, 0.01, 0.1, 0.5], n).astype(np.float32)
        return self.place(c)

    def start(self, cfg):
        return [self.gaussian(cfg, i) for i in range(2)]

    def clean(self, ws, cfg):
        i = jnp.arange(128)
        x = jnp.concatenate([ws[0].reshape(-1, 100), ws[1]], 1) - normals(cfg["seed"][:, None], 6, i)
        h = jnp.exp(-jnp.log(cfg["condition"])[:, None] * uniform(cfg["seed"][:, None], 5, i))
        return 0.5 * (h * x * x).sum(1) / 128, x, h

    def train_loss(self, ws, cfg, t):
        loss, x, h = self.clean(ws, cfg)
        noise = normals(cfg["seed"][:, None], t[:, None], jnp.arange(128)) * cfg["sigma"][:, None] * jnp.sqrt(h) / 128
        push = (noise * x).sum(1)
        return loss + push - jax.lax.stop_gradient(push)

    def held_loss(self, ws, cfg, t):
        return self.clean(ws, cfg)[0]


class Factors(Group):
    """Matrix factorisation: rows of two tables, most of which have no gradient in a step."""

    def __init__(self, name):
        self.name, self.batch, self.flat = name, 32, Flat([(60, 6), (50, 6)])

    def draw(self, r, n):
        return self.place(self.common(r, n))

    def start(self, cfg):
        return [0.3 * self.gaussian(cfg, i) * cfg["gain"][:, None, None] for i in range(2)]

    def error(self, ws, cfg, i, j, noise):
        s, k = cfg["seed"][:, None, None], jnp.arange(4)
        target = (normals(s, 11, i[..., None], k) * normals(s, 12, j[..., None], k)).sum(-1)
        mine = (matmul(jax.nn.one_hot(i, 60), ws[0]) * matmul(jax.nn.one_hot(j, 50), ws[1])).sum(-1)
        return (mine - target - noise) ** 2

    def train_loss(self, ws, cfg, t):
        b, s = jnp.arange(self.batch), cfg["seed"][:, None]
        k = (uniform(s, t[:, None], b) * 1500).astype(jnp.int32)         # half of the entries
        i, j = (uniform(s, 21, k) * 60).astype(jnp.int32), (uniform(s, 22, k) * 50).astype(jnp.int32)
        w = (b < cfg["used"][:, None]).astype(jnp.float32)
        return (self.error(ws, cfg, i, j, 0.1 * normals(s, 23, k)) * w).sum(1) / w.sum(1)

    def held_loss(self, ws, cfg, t):
        b, s = jnp.arange(256), cfg["seed"][:, None]
        i, j = (uniform(s, 31, b) * 60).astype(jnp.int32), (uniform(s, 32, b) * 50).astype(jnp.int32)
        return self.error(ws, cfg, i, j, 0.0).mean(1)


def groups(pools):
    """With each: its part of a base number of pairs."""
    both = ["images", "synthetic"]
    return [                                             # those that take longest to compile first
        (Transformer("text", pools), 0.75),
        (MLP("norm", pools, both, (2, 4), 24, normal=True), 0.75),
        (MLP("deep", pools, both, (4, 8), 24), 0.75),
        (MLP("deepregr", pools, ["regression"], (4, 6), 24, inputs=16, outputs=4), 0.75),
        (Recurrent("recurrent", pools), 0.5),
        (MLP("auto", pools, ["mirror"], (1, 3), 32, outputs=64, bottleneck=True), 0.75),
        (MLP("mlp3", pools, both, (1, 3), 32), 1),
        (Tables("tables", pools), 1.25),
        (MLP("regr", pools, ["regression"], (1, 3), 40, inputs=16, outputs=4), 1),
        (Convolution("conv", pools), 0.75),
        (MLP("wide", pools, ["wide"], (1, 2), 80, inputs=196, batch=16), 0.25),
        (MLP("broad", pools, ["images"], (1, 2), 160, batch=16), 0.1875),
        (MLP("mlp1", pools, both, (1, 1), 64), 1),
        (Logistic("logistic", pools), 1),
        (Quadratic("quadratic"), 0.75),
        (Factors("factors"), 0.75),
    ]
