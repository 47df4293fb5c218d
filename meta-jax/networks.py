"""Groups of networks that look at rows of numbers: dense and convolutional."""
import jax
import jax.numpy as jnp
import numpy as np

import data
from rule import Flat
from tasks import ACTIVATIONS, Group, activate, matmul


class MLP(Group):
    """Dense layers; `normal`: with layer or batch normalisation between them; some have skip connections."""

    def __init__(self, name, pools, sets, depth, width, inputs=64, outputs=10, normal=False, batch=32, bottleneck=False):
        self.name, self.batch, self.normal, self.depths, self.width, self.bottleneck = name, batch, normal, depth, width, bottleneck
        used, base, self.sets = [pools[s] for s in sets], 0, []
        for p in used:
            s = p.sets.copy()
            s[:, [0, 2]] += base
            base += p.rows
            self.sets.append(s)
        self.sets = np.concatenate(self.sets)
        self.x, self.y = (jnp.asarray(np.concatenate([getattr(p, a) for p in used])) for a in "xy")
        self.layers, self.per = depth[1], 4 if normal else 2
        sizes, shapes = [inputs] + [width] * self.layers, []
        for a, b in zip(sizes, sizes[1:]):
            shapes += [(a, b), (b,)] + ([(b,), (b,)] if normal else [])
        self.flat, self.inputs, self.outputs = Flat(shapes + [(sizes[-1], outputs), (outputs,)]), inputs, outputs

    def full_outputs(self, c):
        """Cross-entropy has a gradient for classes that do not occur, too."""
        return np.where(c["loss"] == data.CROSS_ENTROPY, self.outputs, c["outputs"])

    def draw(self, r, n):
        c = self.rows(r, self.common(r, n), self.sets)
        k = self.layers
        depth = r.integers(self.depths[0], k + 1, n)
        w = np.exp(r.uniform(np.log(8), np.log(self.width + 0.99), (n, 1))).astype(np.int32).repeat(max(k, 1), 1)
        if self.bottleneck:
            w[:, 1::2] = np.maximum(w[:, 1::2] // r.choice([1, 2, 4], (n, 1)), 2)
        taper = r.random(n) < 0.3
        w = np.where(taper[:, None], np.maximum(w >> np.arange(max(k, 1)), 4), w)
        on = np.arange(max(k, 1)) < np.maximum(depth, 1)[:, None]
        c.update(widths=np.where(on, w, 0).astype(np.int32), on=on.astype(np.float32),
                 norm=(r.integers(1, 3, n) if self.normal else np.zeros(n)).astype(np.int32),
                 skip=(r.random(n) < 0.25) & ~taper)
        coordinate = (c["loss"] == data.SQUARED_ERROR) & (c["inputs"] <= 2) & (r.random(n) < 0.5)
        c["activation"][coordinate] = np.eye(5, dtype=np.float32)[ACTIVATIONS.index("sine")]
        fan, dims, one = c["inputs"].copy(), [], np.ones(n, int)

        def tensor(*extents):
            dims.append(np.stack(list(extents) + [one] * (4 - len(extents)), -1))
        for l in range(k):
            o = np.where(on[:, l], w[:, l], 0)
            tensor(fan, o)
            for _ in range(self.per - 1):
                tensor(o)
            fan = np.where(on[:, l], w[:, l], fan)
        tensor(fan, self.full_outputs(c))
        tensor(self.full_outputs(c))
        c["dims"] = np.stack(dims, 1)
        return self.place(c)

    def start(self, cfg):
        out, fan, before = [], cfg["inputs"], jnp.arange(self.inputs) < cfg["inputs"][:, None]
        rectified = 1 + 0.4 * (cfg["activation"][:, 0] + cfg["activation"][:, 2])
        for l in range(self.layers + 1):
            i, last = self.per * l, l == self.layers
            a, b = self.flat.shapes[i]
            width = jnp.where(cfg["loss"] == data.CROSS_ENTROPY, self.outputs, cfg["outputs"]) if last else cfg["widths"][:, l]
            here = jnp.arange(b) < width[:, None]
            deviation = cfg["gain"] * (1.0 if last else rectified) / jnp.sqrt(jnp.maximum(fan, 1).astype(jnp.float32))
            w = self.gaussian(cfg, i) * deviation[:, None, None] * before[:, :, None] * here[:, None, :]
            out += [w, jnp.zeros((w.shape[0], b))]
            if last:
                break
            if self.normal:
                out += [here.astype(jnp.float32), jnp.zeros((w.shape[0], b))]
            on = cfg["on"][:, l] > 0
            fan = jnp.where(on, cfg["widths"][:, l], fan)
            before = jnp.where(on[:, None], here, before) if before.shape[1] == b else here
        return out

    def forward(self, ws, x, cfg):
        h, i = x, 0
        for l in range(self.layers):
            mask = (jnp.arange(ws[i].shape[-1]) < cfg["widths"][:, l][:, None])[:, None].astype(jnp.float32)
            y = matmul(h, ws[i]) + ws[i + 1][:, None]
            if self.normal:
                n = jnp.maximum(cfg["widths"][:, l], 1).astype(jnp.float32)[:, None, None]
                d = (y - (y * mask).sum(-1, keepdims=True) / n) * mask
                by_layer = d * jax.lax.rsqrt((d * d).sum(-1, keepdims=True) / n + 1e-5)
                d = y - y.mean(1, keepdims=True)
                by_batch = d * jax.lax.rsqrt((d * d).mean(1, keepdims=True) + 1e-5)
                y = jnp.where(cfg["norm"][:, None, None] == 1, by_layer, by_batch) * ws[i + 2][:, None] + ws[i + 3][:, None]
            y = activate(y, cfg["activation"]) * mask
            if l > 0:
                y = jnp.where(cfg["skip"][:, None, None], h + y, y)
                y = jnp.where(cfg["on"][:, l][:, None, None] > 0, y, h)
            h, i = y, i + self.per
        return matmul(h, ws[i]) + ws[i + 1][:, None]


class Logistic(MLP):
    """No hidden layer; inputs of unlike scales."""

    def __init__(self, name, pools):
        super().__init__(name, pools, ["scaled"], (0, 0), 8, inputs=32)

    def common(self, r, n):
        c = super().common(r, n)
        c["gain"] *= np.where(r.random(n) < 0.5, 0.1, 0).astype(np.float32)
        return c


class Tables(MLP):
    """Small networks on few numbers: tables, and figures in a plane whose edges must be found exactly."""
    activations, squared = [0.2, 0.35, 0.2, 0.25, 0], 0.3

    def __init__(self, name, pools):
        super().__init__(name, pools, ["tables"], (1, 3), 32, inputs=32)


class Convolution(Group):
    """8 x 8 images: 3 x 3 convolution, 2 x 2 patches, dense."""

    def __init__(self, name, pools, batch=16):
        self.name, self.batch, self.held_rows = name, batch, 96
        p = pools["images"]
        self.sets, self.x, self.y = p.sets, jnp.asarray(p.x), jnp.asarray(p.y)
        self.flat = Flat([(9, 8), (8,), (32, 12), (12,), (192, 10), (10,)])

    def dims(self, n):
        d = [(8, 1, 3, 3), (8, 1, 1, 1), (12, 8, 2, 2), (12, 1, 1, 1), (192, 10, 1, 1), (10, 1, 1, 1)]
        return np.tile(np.array(d, np.int32), (n, 1, 1))

    def draw(self, r, n):
        return self.place(self.rows(r, self.common(r, n), self.sets))

    def start(self, cfg):
        out = []
        for i in range(0, 6, 2):
            a, b = self.flat.shapes[i]
            out += [self.gaussian(cfg, i) * (cfg["gain"] * np.sqrt((1 if i == 4 else 2) / a))[:, None, None], jnp.zeros((cfg["seed"].shape[0], b))]
        return out

    def forward(self, ws, x, cfg):
        m, b = x.shape[:2]
        image = jnp.pad(x.reshape(m, b, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = jnp.stack([image[:, :, i:i + 8, j:j + 8] for i in range(3) for j in range(3)], -1).reshape(m, b * 64, 9)
        h = activate(matmul(patches, ws[0]) + ws[1][:, None], cfg["activation"]).reshape(m, b, 4, 2, 4, 2, 8)
        h = h.transpose(0, 1, 2, 4, 3, 5, 6).reshape(m, b * 16, 32)
        h = activate(matmul(h, ws[2]) + ws[3][:, None], cfg["activation"]).reshape(m, b, 192)
        return matmul(h, ws[4]) + ws[5][:, None]
