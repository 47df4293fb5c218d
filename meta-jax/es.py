"""Noise-reuse evolution strategies on an accelerator.

Antithetic pairs that live long: a pair keeps its perturbation, task and horizon for a whole unroll, and every outer step takes all
pairs CHUNK steps further. What a chunk says (the part of the objective along the way), and what the end of an unroll says, counts
in the outer step in which it happens, at the iterate of that moment. Pairs are out of step with each other, so an outer step sees
all phases of short and long unrolls, and no program depends on a horizon.
"""
import functools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

import rule
from hashing import normals

CHUNK = 50
FLOOR, CAP = 3e-5, 1.4                       # of a loss relative to the first, before and after the logarithm
CONSTANT, COSINE, LINEAR, KNOWN = range(4)   # a caller's schedule; known: none, and the optimizer is told the number of steps


# ---- Inner training -----------------------------------------------------------------------------------------------------------

def schedule(kind, part):
    return jnp.where(kind == COSINE, 0.5 * (1 + jnp.cos(math.pi * part)), jnp.where(kind == LINEAR, 1 - part, 1.0))


def empty(group, m):
    s = dict(p=jnp.zeros((m, group.flat.block_count, rule.BLOCK)), opt=rule.begin(group.flat, m))
    s.update({k: jnp.zeros(m) for k in ("first", "end", "dead")})
    return jax.tree.map(jnp.copy, s)                     # no buffer twice: the program takes them over


def chunk(group, state, cfg, thetas, reset, t0, horizon, kind):
    """Takes M particles CHUNK steps further. Returns the state, and for each particle: mean loss of the chunk, mean loss of the last
    tenth of the run so far, held-out loss, first loss, whether it has diverged."""
    flat, th = group.flat, rule.split(thetas)
    m, total = thetas.shape[0], jnp.where(kind == KNOWN, horizon, 0).astype(jnp.float32)

    def loss_and_gradient(p, t):
        def f(ws):
            loss = group.train_loss([w * group.scale(cfg, i, w) for i, w in enumerate(ws)], cfg, t)
            return loss.sum(), loss
        (_, loss), g = jax.value_and_grad(f, has_aux=True)(flat.unflatten(p))
        return loss, flat.flatten(g) * flat.spread(group.gradient_factors(cfg, t))

    def pick(new, old):
        return jnp.where(reset.reshape((-1,) + (1,) * (old.ndim - 1)), new, old)
    p = pick(group.init(cfg), state["p"])
    first_loss, g = loss_and_gradient(p, t0)
    opt = jax.tree.map(pick, rule.measure(flat, th, cfg["fixed"], cfg["count"], p, g, total), state["opt"])
    first, end, dead = pick(first_loss, state["first"]), pick(jnp.zeros(m), state["end"]), pick(jnp.zeros(m), state["dead"])
    last = jnp.maximum(horizon // 10, 1)

    def body(carry, i):
        p, opt, end, dead, mean = carry
        t = t0 + i
        loss, g = loss_and_gradient(p, t)
        new, opt, g2 = rule.step(flat, th, cfg["fixed"], cfg["count"], opt, p, g, total, schedule(kind, t / horizon))
        bad = ~(jnp.isfinite(loss) & jnp.isfinite(g2).all(1) & (loss <= 1e6 * jnp.maximum(first, 1e-6)))
        dead = jnp.maximum(dead, bad.astype(jnp.float32))
        p = jnp.where((dead == 0)[:, None, None], new, p)
        loss = jnp.where(dead > 0, 1e6 * first, loss)
        end = end + jnp.where(t >= horizon - last, loss / last, 0)
        return (p, opt, end, dead, mean + loss / CHUNK), None

    (p, opt, end, dead, mean), _ = jax.lax.scan(body, (p, opt, end, dead, jnp.zeros(m)), jnp.arange(CHUNK))
    held = group.held_loss(group.tensors(p, cfg), cfg, t0 + CHUNK)
    held = jnp.where((dead > 0) | ~jnp.isfinite(held), 1e6 * first, held)
    return dict(p=p, opt=opt, first=first, end=end, dead=dead), (mean, end, held, first, dead)


def value(loss, first):
    v = jnp.log((jnp.maximum(loss, 0) / first + FLOOR) / (1 + FLOOR))
    return jnp.where(jnp.isfinite(v), jnp.minimum(v, CAP), CAP)


# ---- Outer steps --------------------------------------------------------------------------------------------------------------

def noise(ids, salt):
    return normals(ids[:, None], salt, jnp.arange(rule.SIZE))


@jax.jit
def perturbed(theta, ids, sigma, salt):
    e = noise(ids, salt) * sigma
    return jnp.concatenate([theta + e, theta - e])


@jax.jit
def estimate(out, ids, horizon, done, weights, salt):
    """The gradient that one chunk of a group gives, and what to print: means of the objective's parts over unrolls that ended."""
    mean, end, held, first, dead = out
    pairs = ids.shape[0]

    def difference(loss):
        v = value(loss, first)
        d = v[:pairs] - v[pairs:]
        return weights["clip"] * jnp.tanh(d / weights["clip"]), (v[:pairs] + v[pairs:]) / 2
    (dm, _), (de, ve), (dh, vh) = difference(mean), difference(end), difference(held)
    c = (CHUNK / horizon) * (weights["train"] * dm + weights["held"] * dh) + done * (weights["train_end"] * de + weights["held_end"] * dh)
    c *= jnp.clip((horizon / 500) ** weights["length_power"], 0.5, 4)    # long unrolls are drawn less often
    g = (c[:, None] * noise(ids, salt)).sum(0) / (2 * pairs)
    n = jnp.maximum(done.sum(), 1)
    return g, jnp.stack([(ve * done).sum() / n, (vh * done).sum() / n, ((dead[:pairs] + dead[pairs:]) * done).sum() / (2 * n), done.sum()])


@jax.jit
def outer(theta, mean, square, average, gradients, sigma, rate, step, averaging):
    """Adam in units of SCALE. Also returned: the gradient's norm, and how well successive estimates agree."""
    g = sum(gradients) / jnp.where(sigma > 0, sigma, 1) * (sigma > 0) * rule.SCALE
    mean, square = 0.9 * mean + 0.1 * g, 0.98 * square + 0.02 * g ** 2
    m, v = mean / (1 - 0.9 ** step), square / (1 - 0.98 ** step)
    theta = theta - rate * rule.SCALE * m / (jnp.sqrt(v) + 1e-12)
    average = averaging * average + (1 - averaging) * theta
    return theta, mean, square, average, jnp.sqrt((g ** 2).sum()), (m ** 2).sum() / (v.sum() + 1e-20)


class Population:
    """The pairs of one group."""

    def __init__(self, group, pairs, salt, options):
        self.group, self.pairs, self.salt, self.options = group, pairs, np.uint32(salt), options
        self.random, self.next_id, self.state = np.random.default_rng([options["seed"], int(salt)]), 1, None
        self.cfg = group.draw(self.random, pairs)
        self.t, self.horizon, self.kind = (np.zeros(pairs, np.int32) for _ in range(3))
        self.ids, self.reset = np.zeros(pairs, np.uint32), np.ones(pairs, bool)
        self.renew(self.reset)

    def horizons(self, n):
        """In whole chunks; density of the logarithm as a power, so that long ones do not take all the time."""
        low, high = self.options["horizons"]
        u, k = self.random.random(n), self.options["horizon_power"]
        h = (low ** k + u * (high ** k - low ** k)) ** (1 / k)
        return CHUNK * np.maximum(np.round(h / CHUNK), 2).astype(np.int32)

    def renew(self, which):
        n = int(which.sum())
        if n == 0:
            return
        fresh = self.group.draw(self.random, n)
        for k in self.cfg:
            self.cfg[k][which] = fresh[k]
        self.horizon[which] = self.horizons(n)
        self.kind[which] = self.random.choice(4, n, p=self.options["schedules"])
        self.ids[which] = np.arange(self.next_id, self.next_id + n) + (int(self.salt) << 22) + (self.options["seed"] << 27)
        self.next_id += n
        self.t[which] = 0

    def advance(self, program, theta, sigma, weights):
        if self.state is None:
            self.state = empty(self.group, 2 * self.pairs)
        ids = jnp.asarray(self.ids.copy())
        thetas = perturbed(theta, ids, sigma, self.salt)

        def two(x):
            return np.concatenate([x, x])
        self.state, out = program(
            self.state, {k: two(v) for k, v in self.cfg.items()}, thetas, two(self.reset), two(self.t), two(self.horizon), two(self.kind))
        self.t += CHUNK
        done = self.t >= self.horizon
        g, said = estimate(out, ids, self.horizon.astype(np.float32), done.astype(np.float32), weights, self.salt)
        self.reset = done
        self.renew(done)
        return g, said


def compile_all(groups, threads=16, log=print):
    """groups: [(group, pairs)]. Tracing takes turns, compiling is parallel. Programs by the group's name."""
    begin, done, turn = time.time(), {}, threading.Lock()

    def one(item):
        group, pairs = item
        m = 2 * pairs
        with turn:
            cfg = group.draw(np.random.default_rng(0), m)
            state = jax.eval_shape(lambda: empty(group, m))

            def shape(x, kind=None):
                return jax.ShapeDtypeStruct(x.shape, kind or x.dtype)
            i = jax.ShapeDtypeStruct((m,), jnp.int32)
            args = (state, {k: shape(v) for k, v in cfg.items()}, jax.ShapeDtypeStruct((m, rule.SIZE), jnp.float32),
                    jax.ShapeDtypeStruct((m,), bool), i, i, i)
            lowered = jax.jit(functools.partial(chunk, group), donate_argnums=0).lower(*args)
        done[group.name] = lowered.compile()
        log(f"  {group.name}: {sum(group.flat.sizes)} parameters, {pairs} pairs, compiled at {time.time() - begin:.1f} s")
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, groups))
    return done
