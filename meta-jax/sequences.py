"""Groups of networks that read a text."""
import jax
import jax.numpy as jnp
import numpy as np

from hashing import uniform
from rule import Flat
from tasks import Group, activate, matmul


class Text(Group):
    """Windows of a text; the next character is asked for."""

    def __init__(self, name, pools, width, length, batch):
        p = pools["text"]
        self.name, self.width, self.length, self.batch, self.held_rows = name, width, length, batch, 32
        self.tokens, self.vocabulary, self.cut = jnp.asarray(p["tokens"]), p["vocabulary"], p["cut"]
        self.flat = Flat(self.shapes())

    def draw(self, r, n):
        c = self.common(r, n)
        take = np.exp(r.uniform(np.log(300), np.log(60000), n)).astype(np.int32)
        c.update(begin=(r.random(n) * (self.cut - take - self.length - 2)).astype(np.int32), take=take)
        return self.place(c)

    def start(self, cfg):
        m, out = cfg["seed"].shape[0], []
        for i, s in enumerate(self.flat.shapes):
            if len(s) == 1:
                out.append((jnp.ones if i in self.gains else jnp.zeros)((m,) + s))
            else:
                out.append(self.gaussian(cfg, i) * (cfg["gain"] * self.deviations.get(i, 1 / np.sqrt(s[0])))[:, None, None])
        return out

    def windows(self, begin):
        return jax.nn.one_hot(self.tokens[begin[..., None] + jnp.arange(self.length + 1)], self.vocabulary)

    def train_loss(self, ws, cfg, t):
        b = jnp.arange(self.batch)
        w = (b < cfg["used"][:, None]).astype(jnp.float32)
        i = (uniform(cfg["seed"][:, None], t[:, None], b) * cfg["take"][:, None]).astype(jnp.int32) + cfg["begin"][:, None]
        return (self.per_window(ws, self.windows(i), cfg) * w).sum(1) / w.sum(1)

    def held_loss(self, ws, cfg, t):
        i = self.cut + (jnp.arange(self.held_rows) * 97) % (len(self.tokens) - self.cut - self.length - 2)
        return self.per_window(ws, self.windows(jnp.broadcast_to(i, (t.shape[0], self.held_rows))), cfg).mean(1)


class Transformer(Text):
    """One block of attention and a perceptron."""
    gains, deviations = (2, 6, 12), {0: 1.0, 1: 0.1}

    def __init__(self, name, pools):
        super().__init__(name, pools, width=16, length=10, batch=8)

    def shapes(self):
        v, d = self.vocabulary, self.width
        return [(v, d), (self.length, d), (d,), (d,), (d, 3 * d), (d, d), (d,), (d,), (d, 2 * d), (2 * d,), (2 * d, d), (d,), (d,), (d,), (d, v), (v,)]

    def per_window(self, ws, x, cfg):
        (m, b), d, n = x.shape[:2], self.width, self.length

        def norm(x, gain, bias):
            x = x - x.mean(-1, keepdims=True)
            return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain[:, None] + bias[:, None]
        h = matmul(x[:, :, :n].reshape(m, b * n, -1), ws[0]).reshape(m, b, n, d) + ws[1][:, None]
        h = h.reshape(m, b * n, d)
        q, k, v = jnp.split(matmul(norm(h, ws[2], ws[3]), ws[4]).reshape(m, b, n, 3 * d), 3, -1)
        a = jnp.einsum("mbid,mbjd->mbij", q, k) / np.sqrt(d) + jnp.where(jnp.tril(jnp.ones((n, n))) > 0, 0, -1e9)
        h = h + matmul(jnp.einsum("mbij,mbjd->mbid", jax.nn.softmax(a, -1), v).reshape(m, b * n, d), ws[5])
        h = h + matmul(activate(matmul(norm(h, ws[6], ws[7]), ws[8]) + ws[9][:, None], cfg["activation"]), ws[10]) + ws[11][:, None]
        out = (matmul(norm(h, ws[12], ws[13]), ws[14]) + ws[15][:, None]).reshape(m, b, n, -1)
        return -(jax.nn.log_softmax(out, -1) * x[:, :, 1:]).sum(-1).mean(-1)


class Recurrent(Text):
    """A minimal gated unit."""
    gains, deviations = (), {0: 1.0}

    def __init__(self, name, pools):
        super().__init__(name, pools, width=24, length=8, batch=8)

    def shapes(self):
        v, d = self.vocabulary, self.width
        return [(v, 12), (12, 2 * d), (d, d), (d, d), (2 * d,), (d, v), (v,)]

    def per_window(self, ws, x, cfg):
        (m, b), d, n = x.shape[:2], self.width, self.length
        inputs = matmul(matmul(x[:, :, :n].reshape(m, b * n, -1), ws[0]), ws[1]).reshape(m, b, n, 2 * d) + ws[4][:, None, None]
        h, states = jnp.zeros((m, b, d)), []
        for i in range(n):
            gate = jax.nn.sigmoid(inputs[:, :, i, :d] + matmul(h, ws[2]))
            h = (1 - gate) * h + gate * jnp.tanh(inputs[:, :, i, d:] + matmul(gate * h, ws[3]))
            states.append(h)
        out = (matmul(jnp.stack(states, 2).reshape(m, b * n, d), ws[5]) + ws[6][:, None]).reshape(m, b, n, -1)
        return -(jax.nn.log_softmax(out, -1) * x[:, :, 1:]).sum(-1).mean(-1)
