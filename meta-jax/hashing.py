"""Random numbers as functions of integers, so that they fuse into whatever uses them and every run repeats."""
import jax.numpy as jnp


def _mix(x):
    x = x.astype(jnp.uint32)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7feb352d)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846ca68b)
    return x ^ (x >> 16)


def uniform(*keys):
    """In [0, 1)."""
    h = jnp.uint32(0x9e3779b9)
    for k in keys:
        h = _mix(h * jnp.uint32(0x01000193) ^ jnp.asarray(k).astype(jnp.uint32))
    return (h >> 8).astype(jnp.float32) * (1.0 / (1 << 24))


def normals(*keys):
    """Box and Muller."""
    return jnp.sqrt(-2 * jnp.log(uniform(*keys, 1) + 1e-7)) * jnp.cos(6.2831853 * uniform(*keys, 2))
