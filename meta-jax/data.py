"""Data of meta-training: the digits, one text, and generators. Nothing here is in lopt's evaluation.

Every set has a training and a held-out part.
"""
import os

import numpy as np

CLASSES = 10
# In the metadata of weights, so that `lopt evaluate` refuses to judge them by what they have seen.
SOURCES = "digits, factors, figures, images, low rank, mixture, persuasion, quadratic, tables, teacher labels, teacher regression, waves"
CROSS_ENTROPY, SQUARED_ERROR, BERNOULLI = 0, 1, 2
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")


class Pool:
    """Rows of several sets one after the other. `sets`: training rows (begin, count), held-out rows (begin, count), inputs and
    outputs in use, kind of the loss."""

    def __init__(self, width, outputs):
        self.x, self.y, self.sets, self.rows, self.width, self.outputs = [], [], [], 0, width, outputs

    def add(self, x, y, held, inputs, outputs, loss):
        n = len(x)
        self.x.append(np.pad(x.astype(np.float32), ((0, 0), (0, self.width - x.shape[1]))))
        self.y.append(np.pad(y.astype(np.float32), ((0, 0), (0, self.outputs - y.shape[1]))))
        self.sets.append((self.rows, n - held, self.rows + n - held, held, inputs, outputs, loss))
        self.rows += n

    def done(self):
        self.x, self.y, self.sets = np.concatenate(self.x), np.concatenate(self.y), np.array(self.sets, np.int32)
        return self


def one_hot(y):
    return np.eye(CLASSES, dtype=np.float32)[y]


def read_idx(path):
    with open(path, "rb") as file:
        raw = file.read()
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def digits():
    """1,797 images of 8 x 8, shuffled: standardised, labels, and in [0, 1]."""
    folder = os.path.join(FOLDER, "digits")
    x, y = read_idx(os.path.join(folder, "images-idx3-ubyte")), read_idx(os.path.join(folder, "labels-idx1-ubyte"))
    order = np.random.default_rng(1).permutation(len(x))
    x = x[order].astype(np.float32) / x.max()
    return (x - x.mean()) / x.std(), y[order].astype(int), x


def characters():
    """The text as numbers from 0 on."""
    with open(os.path.join(FOLDER, "text", "persuasion-volume-one.txt"), "rb") as file:
        raw = np.frombuffer(file.read(), np.uint8)
    _, tokens = np.unique(raw, return_inverse=True)
    return tokens.astype(np.int32)


def correlated(r, n, d, power):
    """Gaussian inputs whose spectrum falls as a power."""
    if power == 0:
        return r.normal(size=(n, d))
    s = np.arange(1, d + 1) ** -power
    return (r.normal(size=(n, d)) * s) @ (r.normal(size=(d, d)) / np.sqrt(d)) * np.sqrt(d / (s * s).sum())


def teacher(r, x, outputs):
    """A random network of one hidden layer."""
    d = x.shape[1]
    return np.tanh(x @ (r.normal(size=(d, 16)) * 2 / np.sqrt(d))) @ (r.normal(size=(16, outputs)) * 1.5 / 4)


def images(r, n, side, classes):
    """Smooth prototypes, some for each class, moved by up to a tenth of the side, in noise."""
    prototypes, big = int(r.integers(1, 6)), side + 2 * max(side // 10, 1)
    field = r.normal(size=(classes, prototypes, big, big))
    for axis in (2, 3):
        for _ in range(int(r.integers(1, 5))):
            field = (field + np.roll(field, 1, axis) + np.roll(field, -1, axis)) / 3
    field /= field.std((2, 3), keepdims=True)
    y, k = r.integers(0, classes, n), r.integers(0, prototypes, n)
    dx, dy = r.integers(0, big - side + 1, (2, n))
    noise, shade = r.uniform(0.2, 1.5), np.exp(0.3 * r.normal(size=(n, 1, 1)))
    x = np.stack([field[c, i, a:a + side, b:b + side] for c, i, a, b in zip(y, k, dx, dy)]) * shade
    return (x + noise * r.normal(size=x.shape)).reshape(n, -1), y


def raw_units(r, x):
    """Each column in a unit and with a mean of its own."""
    d = x.shape[1]
    centre = r.exponential(size=d) * r.choice([0, 1, 4]) * r.choice([-1, 1, 1, 1], d)
    return (x / x.std(0) + centre) * 10 ** r.uniform(-r.uniform(0, 2.5), r.uniform(0, 2.5), size=d)


def figures(r, n, classes):
    """Rings, chequers or level sets of waves in a plane, `classes` in turn; no noise."""
    x, kind = r.uniform(-1, 1, size=(n, 2)), r.integers(0, 3)
    if kind == 0:
        level = np.hypot(*(x - r.uniform(-0.5, 0.5, 2)).T) * r.uniform(1.5, 5)
    elif kind == 1:
        turn = r.uniform(0, np.pi)
        x2 = x @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        level = np.floor(x2[:, 0] * r.uniform(1, 3) + 9) + np.floor(x2[:, 1] * r.uniform(1, 3) + 9)
    else:
        level = np.sin(x @ (r.normal(size=(2, 4)) * r.uniform(1, 4)) + r.uniform(0, 6.3, 4)) @ r.normal(size=4) * r.uniform(0.7, 2) + 20
    return x * np.exp(r.uniform(np.log(0.7), np.log(3))), np.floor(level).astype(int) % classes


def larger(x):
    """8 x 8 to 14 x 14 by linear interpolation."""
    at = np.linspace(0, 7, 14)
    i = np.minimum(at.astype(int), 6)
    w = np.zeros((14, 8), np.float32)
    w[np.arange(14), i], w[np.arange(14), i + 1] = 1 - (at - i), at - i
    return np.einsum("ai,nij,bj->nab", w, x, w)


def build(seed=0):
    """The pools by name."""
    r, pools = np.random.default_rng(seed), {}
    dx, dy, raw = digits()
    flat = dx.reshape(len(dx), -1)
    p = Pool(64, CLASSES)
    for _ in range(6):                              # drawn as often as six others
        p.add(flat, one_hot(dy), 360, 64, CLASSES, CROSS_ENTROPY)
    for _ in range(14):
        c = int(r.choice([3, 5, 10]))
        x, y = images(r, 1400, 8, c)
        p.add(x, one_hot(y), 360, 64, c, CROSS_ENTROPY)
    pools["images"] = p.done()

    p = Pool(64, CLASSES)
    for _ in range(32):
        d, c, n = int(r.choice([8, 16, 32])), int(r.choice([2, 3, 5, 10])), 1400
        if r.random() < 0.5:
            x = correlated(r, n, d, r.uniform(0, 1))
            y = teacher(r, x, c).argmax(1)
        else:
            centres = r.normal(size=(c, d)) * r.uniform(0.5, 2) / np.sqrt(d)
            y = r.integers(0, c, n)
            x = centres[y] + 0.5 * r.normal(size=(n, d))
        p.add(x, one_hot(y), 300, d, c, CROSS_ENTROPY)
    pools["synthetic"] = p.done()

    p = Pool(16, 4)
    for _ in range(72):
        d, outputs, n = int(r.choice([1, 2, 2, 2, 4, 8, 16])), int(r.choice([1, 1, 4])), 1400
        scale = 1 if r.random() < 0.7 else np.exp(r.uniform(np.log(0.01), np.log(10)))
        if d <= 2:                                  # a sum of waves, for coordinate networks
            x = r.uniform(-1, 1, size=(n, d))
            waves = r.normal(size=(d, 8)) * r.uniform(2, 9)
            y = np.sin(x @ waves + r.uniform(0, 6.3, 8)) @ r.normal(size=(8, outputs)) / 3
            x *= np.exp(r.uniform(np.log(0.7), np.log(5)))
        else:
            x = correlated(r, n, d, r.uniform(0, 1))
            y = teacher(r, x, outputs)
        y[:1000] += r.choice([0, 0.05, 0.2, 0.5]) * r.normal(size=(1000, outputs)) * y.std()
        p.add(x, y * scale, 400, d, outputs, SQUARED_ERROR)
    pools["regression"] = p.done()

    p = Pool(64, 64)
    for _ in range(6):
        p.add(raw.reshape(len(raw), -1), raw.reshape(len(raw), -1), 360, 64, 64, BERNOULLI)
    for _ in range(18):
        k, w, n = int(r.choice([3, 6, 10])), int(r.choice([16, 32, 64])), 1400
        latent = r.normal(size=(n, k)) * np.arange(1, k + 1) ** -r.uniform(0, 1.5)
        x = latent @ r.normal(size=(k, w)) / np.sqrt(k) + 0.05 * r.normal(size=(n, w))
        p.add(x, x, 300, w, w, SQUARED_ERROR)
    pools["mirror"] = p.done()

    p = Pool(32, CLASSES)
    for _ in range(48):                             # inputs of unlike scales and means, as in raw tables
        c, d, n = int(r.choice([2, 2, 3, 5])), int(r.choice([4, 8, 13, 20, 32])), int(r.choice([200, 500, 1200]))
        x = correlated(r, n, d, r.uniform(0, 0.7))
        y = ((x / x.std(0)) @ r.normal(size=(d, c)) + 0.5 * r.normal(size=(n, c))).argmax(1)
        p.add(raw_units(r, x), one_hot(y), n // 4, d, c, CROSS_ENTROPY)
    pools["scaled"] = p.done()

    p = Pool(32, CLASSES)
    for i in range(72):
        if i % 3 == 0:
            c, n = int(r.choice([2, 3, 4])), 1400
            x, y = figures(r, n, c)
        else:
            c, d, n = int(r.choice([2, 2, 3, 4])), int(r.choice([3, 4, 8, 13, 20, 30])), int(np.exp(r.uniform(np.log(130), np.log(1500))))
            centres = r.normal(size=(c, int(r.integers(1, 3)), d)) * r.uniform(0.5, 2.5) / np.sqrt(d)
            y = r.integers(0, c, n)
            x = centres[y, r.integers(0, centres.shape[1], n)] + 0.5 * correlated(r, n, d, r.uniform(0, 1))
            x = raw_units(r, x) if r.random() < 0.2 else (x - x.mean(0)) / x.std(0)
        p.add(x, one_hot(y), n // 4, x.shape[1], c, CROSS_ENTROPY)
    pools["tables"] = p.done()

    p = Pool(196, CLASSES)
    big = larger(dx).reshape(len(dx), -1)
    for _ in range(3):
        p.add(big, one_hot(dy), 360, 196, CLASSES, CROSS_ENTROPY)
    for _ in range(9):
        c = int(r.choice([5, 10]))
        x, y = images(r, 3000, 14, c)
        p.add(x, one_hot(y), 500, 196, c, CROSS_ENTROPY)
    pools["wide"] = p.done()

    tokens = characters()
    pools["text"] = dict(tokens=tokens, cut=int(len(tokens) * 0.85), vocabulary=int(tokens.max()) + 1)
    return pools
