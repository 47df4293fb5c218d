#!/usr/bin/env python3
"""Writes the trees and steps that the tests of `lopt convert` read, with the authors' own code.

    python3 Tests/Trees/make.py LEARNED_OPTIMIZATION [DEST]

LEARNED_OPTIMIZATION is a clone of google/learned_optimization (32186aa46a96f26ba0625755f93c55659adcd523); jax 0.10.2, dm-haiku
0.0.17, flax and absl-py are needed. tensorflow, which the clone imports for its summaries and does not use here, is left out.

What is written is numbers that Apache-2.0 code produced, none of the code; it is distributed under the same licence.
"""
import pathlib
import sys
from unittest.mock import MagicMock

import flax.training.checkpoints  # before tensorflow seems to be there
import jax
import jax.numpy as jnp
import numpy as np

for module in ("tensorflow", "tensorflow.compat", "tensorflow.compat.v2", "oryx", "oryx.core"):
    sys.modules[module] = MagicMock()
sys.path.insert(0, sys.argv[1])
from learned_optimization import checkpoints  # noqa: E402
from learned_optimization.learned_optimizers import adafac_nominal  # noqa: E402
from learned_optimization.outer_trainers import gradient_learner  # noqa: E402

STEPS = 15


def flat(tree):
    """Leaves under their paths, as docs/weights-file.md says."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in paths}


def trajectory(optimizer, theta):
    rng = np.random.default_rng(0)
    start = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in (("w", (7, 5)), ("b", (5,)))}
    start["s"] = jnp.asarray(0.3, jnp.float32)
    opt = optimizer.opt_fn(theta)
    state = opt.init(start, num_steps=STEPS)
    gradients = [{k: rng.normal(size=v.shape).astype(np.float32) for k, v in start.items()} for _ in range(STEPS)]
    after = []
    for gradient in gradients:
        state = opt.update(state, jax.tree_util.tree_map(jnp.asarray, gradient), jnp.asarray(1.0))
        after.append(opt.get_params(state))
    leaves = {f"init/{k}": np.asarray(v) for k, v in start.items()}
    leaves |= {f"grads/{k}": np.stack([g[k] for g in gradients]) for k in start}
    return leaves | {f"traj/{k}": np.stack([np.asarray(p[k]) for p in after]) for k in start}


destination = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent).resolve()
star = adafac_nominal.MLPNomLOpt(
    nominal_stepsize=0.01, exp_mult=(0.1, 0.2, 0.3), weight_decay=0.001, nominal_controller=True, regularization_controller=True)
theta = star.init(jax.random.PRNGKey(0))
np.savez(destination / "star.npz", **flat(theta))
np.savez(destination / "star_steps.npz", **trajectory(star, theta))
checkpoints.save_state(str(destination / "star.checkpoint"), gradient_learner.ParameterCheckpoint(theta, "gen", 5))
