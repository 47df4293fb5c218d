"""Meta-trains weights of kind pooled. `train.py --help`; README.md has the commands."""
import argparse
import json
import math
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

START = time.time()


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--out", required=True, help="a folder for weights, log and state")
    p.add_argument("--start", help="a weights file, or state.npz of another run; without it, the rule's own start")
    p.add_argument("--seconds", type=float, default=480, help="of training, compiling left out; the rate falls along them")
    p.add_argument("--limit", type=float, help="seconds in all, compiling included; training ends in time")
    p.add_argument("--pairs", type=int, default=512, help="of a group whose part is 1")
    p.add_argument("--groups", help="only these, separated by commas")
    p.add_argument("--seed", type=int, default=1, help="1 to 31")
    p.add_argument("--sigma", type=float, default=0.05, help="size of the perturbations")
    p.add_argument("--rate", type=float, default=0.01, help="of the outer Adam")
    p.add_argument("--final-rate", type=float, default=0.1, help="part of the rate at the end")
    p.add_argument("--averaging", type=float, default=0.99, help="of the iterates, for each outer step")
    p.add_argument("--horizons", type=float, nargs=2, default=(100, 10000), metavar="STEPS")
    p.add_argument("--horizon-power", type=float, default=-0.8, help="density of log(horizon)")
    p.add_argument("--schedules", type=float, nargs=4, default=(0.35, 0.1, 0.05, 0.5), help="parts of unrolls: constant, cosine, linear, known horizon")
    p.add_argument("--weights", type=float, nargs=4, default=(0.1, 0.5, 0.1, 1.0), metavar=("TRAIN", "HELD", "TRAIN_END", "HELD_END"),
                   help="of the objective's parts: along the way, and at the end")
    p.add_argument("--length-power", type=float, default=0.4, help="an unroll counts as this power of its length")
    p.add_argument("--cache", help="a folder for compiled programs")
    return p.parse_args()


def measured_ranges(populations, theta, tail=0.002):
    """What the statistics, the log-step and the log-decay were among the networks in training, [2, 18]: the widest range of the
    groups, `tail` of a group's tensors left out on either side."""
    import es
    import rule
    rows = dict(values=[], t=[], fixed=[], total=[], group=[])
    for i, p in enumerate(populations):
        opt = p.state["opt"]
        fixed, count, horizon, kind, reset = (np.concatenate([x] * 2) for x in (p.cfg["fixed"], p.cfg["count"], p.horizon, p.kind, p.reset))
        t = np.asarray(opt["t"])
        live = (t > 0) & (count > 1) & ~reset[:, None]
        total = np.broadcast_to(np.where(kind == es.KNOWN, horizon, 0)[:, None], t.shape)
        for name, x in dict(values=np.asarray(opt["values"]), t=t, fixed=fixed, total=total, group=np.full(t.shape, i)).items():
            rows[name].append(x[live])
    rows = {name: np.concatenate(x)[None] for name, x in rows.items()}
    n, r, _ = rule.logs(rule.split(jnp.asarray(theta)[None]), rows["fixed"], rows, jnp.asarray(rows["total"], jnp.float32))
    columns = np.concatenate([rows["values"], rows["fixed"], np.asarray(n)[..., None], np.asarray(r)[..., None]], -1)[0]
    columns = np.where(np.isfinite(columns), columns, 0)
    group, low, high = rows["group"][0], [], []
    for i in range(len(populations)):
        low.append(np.quantile(columns[group == i], tail, axis=0))
        high.append(np.quantile(columns[group == i], 1 - tail, axis=0))
    shape = slice(rule.DYNAMIC, rule.STATISTICS)
    low, high = np.min(low, 0), np.max(high, 0)
    low[shape], high[shape] = columns[:, shape].min(0), columns[:, shape].max(0)
    trained = rule.split(np.asarray(theta))["statistics_ranges"]
    return np.clip(np.array([low, high], np.float32), trained[0], trained[1])


def main():
    a = arguments()
    if a.cache:
        os.makedirs(a.cache, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", a.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    import data
    import es
    import groups as tasks
    import rule
    import weights as files
    os.makedirs(a.out, exist_ok=True)
    record = open(os.path.join(a.out, "log"), "a")

    def log(*words):
        line = f"[{time.time() - START:6.1f}] " + " ".join(map(str, words))
        print(line, flush=True)
        record.write(line + "\n")
        record.flush()
    log("devices", jax.devices(), "jax", jax.__version__)
    groups = [(g, max(int(a.pairs * part) // 8 * 8, 4)) for g, part in tasks.groups(data.build())
              if not a.groups or g.name in a.groups.split(",")]
    programs = es.compile_all(groups, log=log)
    options = dict(seed=a.seed, horizons=a.horizons, horizon_power=a.horizon_power, schedules=a.schedules)
    populations = [es.Population(g, pairs, i + 1, options) for i, (g, pairs) in enumerate(groups)]
    parts = {k: np.float32(v) for k, v in zip(("train", "held", "train_end", "held_end"), a.weights)}
    parts.update(clip=np.float32(2), length_power=np.float32(a.length_power))

    mean = square = jnp.zeros(rule.SIZE)
    before = 0
    if a.start and a.start.endswith(".npz"):
        state = np.load(a.start)
        theta, average, mean, square, before = (state[k] for k in ("theta", "average", "mean", "square", "steps"))
        mean, square = mean * 0, square * 0
    else:
        theta = average = files.read(a.start)[0] if a.start else files.start()
    for th in map(rule.split, (theta, average)):
        th["statistics_ranges"][:] = files.default_ranges()      # to be measured anew
    theta, average = jnp.asarray(theta), jnp.asarray(average)
    sigma = jnp.asarray(a.sigma * rule.SCALE)
    pending, inner, step, curve = [], 0, 0, []
    running = np.full((len(populations), 3), np.nan)

    def save(ranges=None):
        np.savez(os.path.join(a.out, "state.npz"), theta=theta, average=average, mean=mean, square=square, steps=before + step)
        th = rule.split(np.array(average))
        if ranges is not None:
            th["statistics_ranges"][:] = ranges
        files.write(os.path.join(a.out, "weights.safetensors"), rule.join(th), dict(
            format_version=1, kind="pooled", nominal_stepsize=rule.NOMINAL_STEP_SIZE, initial_momentum_decays=json.dumps([0.8, 0.95]),
            initial_rms_decays="[0.95]", provenance="meta-jax/train.py", data_sources=data.SOURCES, outer_steps=int(before) + step, inner_steps=inner,
            configuration=json.dumps({k: v for k, v in vars(a).items() if k not in ("out", "cache", "limit")})))
        json.dump(curve, open(os.path.join(a.out, "curve.json"), "w"))
    for p in populations:                                # the first chunk is not timed
        for repeat in range(2):
            now = time.time()
            jax.block_until_ready(p.advance(programs[p.group.name], theta, sigma, parts)[0])
        spent = (time.time() - now) / es.CHUNK
        log(f"  {p.group.name}: {1e3 * spent:.2f} ms a step of {2 * p.pairs} networks, {2 * p.pairs / spent / 1e6:.2f} M inner steps a second")
    begin = last = saved = time.time()
    seconds = min(a.seconds, a.limit - (begin - START) - 8) if a.limit else a.seconds
    log(f"training for {seconds:.0f} s")
    while time.time() - begin < seconds:
        step += 1
        part = min((time.time() - begin) / seconds, 1)
        rate = a.rate * (a.final_rate + (1 - a.final_rate) * 0.5 * (1 + math.cos(math.pi * part))) * min(1, step / 20)
        got = [p.advance(programs[p.group.name], theta, sigma, parts) for p in populations]
        gradients = [g * p.group.weight for (g, _), p in zip(got, populations)]
        theta, mean, square, average, norm, agreement = es.outer(
            theta, mean, square, average, gradients, sigma, rate, step, min(a.averaging, step / (step + 10)))
        inner += sum(2 * p.pairs * es.CHUNK for p in populations)
        pending.append((step, [said for _, said in got], norm, agreement))
        if len(pending) < 3:
            continue                                     # let the device run ahead
        s, said, norm, agreement = pending.pop(0)
        for j, x in enumerate(np.array([np.asarray(i) for i in said])):
            if x[3] > 0:
                running[j] = x[:3] if np.isnan(running[j, 0]) else 0.95 * running[j] + 0.05 * x[:3]
        if time.time() - last > 8:
            last = time.time()
            m = np.nanmean(running, 0)
            log(f"{last - begin:6.1f} s  outer step {s}  inner {inner / 1e6:.1f} M  train {m[0]:.3f}  held-out {m[1]:.3f}  diverged {m[2]:.4f}  "
                f"norm {float(norm):.3g}  agreement {float(agreement):.3f} | "
                + " ".join(f"{p.group.name} {x[0]:.2f}/{x[1]:.2f}" for p, x in zip(populations, running)))
            curve.append(dict(step=int(before) + s, inner=inner, train=running[:, 0].tolist(), held=running[:, 1].tolist()))
        if time.time() - saved > 30:
            saved = time.time()
            save()
    save()
    ranges = measured_ranges(populations, average)
    save(ranges)
    log("ranges", ranges.round(2).tolist())
    log(f"{step} outer steps, {inner / 1e6:.1f} M inner steps, {time.time() - begin:.1f} s")


if __name__ == "__main__":
    main()
