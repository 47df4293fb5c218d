"""lopt.h through ctypes: a status below 0 becomes an Error, a handle frees itself. What a call means is said in lopt.h."""

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32, c_void_p

_folder = os.path.dirname(os.path.abspath(__file__))

WITH_PARAMETERS, SHARD = 1, 2
SKIPPED_NONFINITE = 1


def include_dir():
    """Where lopt.h is."""
    return os.path.join(_folder, "include")


def library_dir():
    """Where liblopt.so and liblopt.a are."""
    return os.path.join(_folder, "lib")


class _Options(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("threads", c_int32),
        ("max_isa", c_int32),
        ("nonfinite", c_int32),
        ("reserved", c_int32),
        ("lr_scale", c_double),
        ("weight_decay", c_double),
        ("total_steps", c_int64),
        ("hooks", c_void_p * 7),
        ("max_update_ratio", c_double),
        ("weight_decay_form", c_int32),
        ("reserved2", c_int32),
        ("gradient_scale", c_double),
        ("max_gradient_norm", c_double),
        ("weight_decay_tensors", c_int32),
        ("average", c_int32),
        ("average_span", c_double),
        ("learned_decay_scale", c_double),
        ("gather", c_void_p * 2),
        ("part", c_int32),
        ("parts", c_int32),
        ("momentum_type", c_int32),
        ("reserved3", c_int32),
    ]


class _TensorOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("lr_scale", c_double),
        ("weight_decay_scale", c_double),
        ("frozen", c_int32),
        ("reserved", c_int32),
    ]


class _Statistics(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("steps", c_int64),
        ("steps_skipped", c_int64),
        ("nonfinite", c_int64),
        ("gradient_rms", c_double),
        ("update_rms", c_double),
        ("parameter_rms", c_double),
        ("blackbox_share", c_double),
        ("updates_limited", c_int64),
        ("steps_idle", c_int64),
        ("nonfinite_parameters", c_int64),
        ("step_size", c_double),
        ("gradient_norm", c_double),
        ("steps_clipped", c_int64),
    ]


class _Gradients(Structure):
    _fields_ = [("struct_size", c_size_t), ("nonfinite", c_int64), ("norm_squared", c_double)]


class _Information(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("isa", c_int32),
        ("threads", c_int32),
        ("tensors", c_int32),
        ("uses_total_steps", c_int32),
        ("parameters", c_int64),
        ("state_bytes", c_int64),
        ("memory_bytes", c_int64),
        ("kernel", c_char_p),
        ("total_steps", c_int64),
        ("tensors_elsewhere", c_int32),
        ("tensors_restored", c_int32),
    ]


_lopt = ctypes.CDLL(os.path.join(library_dir(), "liblopt.so.0"))
_signatures = {
    "lopt_create": [c_void_p, POINTER(_Options), POINTER(c_void_p)],
    "lopt_add_typed": [c_void_p, c_char_p, c_void_p, c_int32, c_void_p, c_int32, POINTER(c_int64), c_int32, POINTER(c_int32)],
    "lopt_add_elsewhere": [c_void_p, c_char_p, POINTER(c_int64), c_int32, POINTER(c_int32)],
    "lopt_bind": [c_void_p, c_int32, c_void_p, c_void_p],
    "lopt_step": [c_void_p],
    "lopt_inspect_gradients": [c_void_p, c_int32, POINTER(_Gradients)],
    "lopt_info": [c_void_p, POINTER(_Information)],
    "lopt_options_init": [POINTER(_Options), c_size_t],
    "lopt_tensor_options_init": [POINTER(_TensorOptions), c_size_t],
    "lopt_set_tensor_options": [c_void_p, c_int32, POINTER(_TensorOptions)],
    "lopt_set_lr_scale": [c_void_p, c_double],
    "lopt_set_total_steps": [c_void_p, c_int64],
    "lopt_set_gradient_scale": [c_void_p, c_double],
    "lopt_average_get": [c_void_p, c_int32, c_void_p, c_int64],
    "lopt_average_swap": [c_void_p],
    "lopt_stats": [c_void_p, c_int32, POINTER(_Statistics)],
    "lopt_state_size": [c_void_p, c_uint32, POINTER(c_size_t)],
    "lopt_state_write": [c_void_p, c_uint32, c_void_p, c_size_t],
    "lopt_state_read": [c_void_p, c_uint32, c_void_p, c_size_t],
    "lopt_weights_builtin": [c_char_p, c_void_p, POINTER(c_void_p)],
    "lopt_weights_load": [c_char_p, c_void_p, POINTER(c_void_p)],
}
for _name, _arguments in _signatures.items():
    getattr(_lopt, _name).argtypes = _arguments
_lopt.lopt_destroy.argtypes, _lopt.lopt_destroy.restype = [c_void_p], None
_lopt.lopt_weights_free.argtypes, _lopt.lopt_weights_free.restype = [c_void_p], None
_lopt.lopt_status_string.argtypes = [c_int32]
for _name in ("lopt_last_error", "lopt_status_string", "lopt_version_string"):
    getattr(_lopt, _name).restype = c_char_p


def version():
    """The library's version, such as "0.1.0"."""
    return _lopt.lopt_version_string().decode()


class Error(RuntimeError):
    """What a call of lopt.h refused; `status` is its number. Nothing has changed."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def _check(status):
    if status < 0:
        words = _lopt.lopt_status_string(status), _lopt.lopt_last_error()
        raise Error(status, ": ".join(word.decode(errors="replace") for word in words if word))
    return status


def _path_or_name(text):
    """Bytes for a C string, which cannot have a 0 in it."""
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("a name or path with a 0 in it")
    return data


class _Weights:
    """Weights for as long as an optimizer is made with them: a built-in name, or the path of a file."""

    def __init__(self, weights):
        self.handle = c_void_p()
        if weights is None:
            return
        data = _path_or_name(weights)
        load = _lopt.lopt_weights_load if b"/" in data or data.endswith(b".safetensors") else _lopt.lopt_weights_builtin
        _check(load(data, None, byref(self.handle)))

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        _lopt.lopt_weights_free(self.handle)


_types = {"f": 0, "d": 1, "e": 3}  # lopt_element by the code of Python's struct


def _address(what, view, writable, types="f"):
    """Of the memory of floats in C order that a memoryview shows."""
    if view.format.lstrip("@=<") not in types or not view.c_contiguous:
        raise ValueError(f"{what} is to be {'32-bit ' if types == 'f' else ''}floats, contiguous in C order")
    if writable and view.readonly:
        raise ValueError(f"{what} cannot be written")
    if view.nbytes == 0:
        return None
    if view.readonly:
        raise ValueError(f"{what} is read-only memory, which Python does not give the address of")
    return ctypes.addressof(c_char.from_buffer(view.cast("B")))


class Optimizer:
    """An optimizer of lopt.h, for one thread at a time.

    weights: the name of built-in weights, or the path of a file; None: "pooled". threads: 0: one per processor.
    average: of the parameters, None, "growing" or "ema". momenta: "f32", or "bf16", 8 bytes of state a parameter in place of 12. Other options as in lopt.h.
    Raises lopt.Error, whose message says what is wrong and what is allowed.
    """

    def __init__(self, weights=None, *, threads=0, lr_scale=1.0, weight_decay=0.0, total_steps=0, max_update_ratio=0.0,
                 gradient_scale=1.0, max_gradient_norm=0.0, weight_decay_on_matrices=False,
                 average=None, average_span=0.0, learned_decay_scale=1.0, momenta="f32"):
        self._handle = c_void_p()
        self._memory = []  # what a tensor's memory belongs to, kept as long as the library knows its address
        options = _Options()
        _check(_lopt.lopt_options_init(byref(options), ctypes.sizeof(options)))
        options.threads, options.lr_scale, options.weight_decay = threads, lr_scale, weight_decay
        options.total_steps, options.max_update_ratio = total_steps, max_update_ratio
        options.gradient_scale, options.max_gradient_norm = gradient_scale, max_gradient_norm
        options.weight_decay_tensors = int(weight_decay_on_matrices)
        options.average, options.average_span = {None: 0, "growing": 1, "ema": 2}[average], average_span
        options.learned_decay_scale = learned_decay_scale
        options.momentum_type = {"f32": 0, "bf16": 2}[momenta]
        with _Weights(weights) as handle:
            _check(_lopt.lopt_create(handle, byref(options), byref(self._handle)))

    def __del__(self):
        if getattr(self, "_handle", None):
            _lopt.lopt_destroy(self._handle)
            self._handle = None

    def add(self, name, parameter, gradient, shape=None):
        """Adds a tensor and returns its number. Both are arrays of floats (whatever has Python's buffer protocol: numpy, array.array) of
        32 bits, or 64 or 16, which cost a copy in 32 (lopt_add_typed in lopt.h); shape: None: that of `parameter`. The arrays' memory
        is read and written at every step."""
        p, g = memoryview(parameter), memoryview(gradient)
        count, count_of_gradient = p.nbytes // p.itemsize, g.nbytes // g.itemsize
        if count != count_of_gradient:
            raise ValueError(f"{name}: the parameter has {count} elements, the gradient {count_of_gradient}")
        shape = tuple(p.shape if shape is None else shape)
        elements = 1
        for extent in shape:
            elements *= extent
        if elements != count:
            raise ValueError(f"{name}: the shape {shape} has {elements} elements, the parameter {count}")
        addresses = _address("the parameter", p, True, "fde"), _address("the gradient", g, False, "fde")
        return self.add_memory(name, *addresses, shape, (p, g), *(_types[view.format[-1]] for view in (p, g)))

    def add_memory(self, name, parameter, gradient, shape, owner, parameter_type=0, gradient_type=0):
        """The same by addresses; `owner` is kept alive with them. The types are those of lopt_element."""
        index = c_int32()
        extents = (c_int64 * max(1, len(shape)))(*shape)
        data = _path_or_name(name)
        types = parameter_type, gradient_type
        _check(_lopt.lopt_add_typed(self._handle, data, parameter, types[0], gradient, types[1], extents, len(shape), byref(index)))
        self._memory.append(owner)
        return index.value

    def add_elsewhere(self, name, shape):
        """Adds a tensor of the same network that another optimizer steps, of another process perhaps; returns its number."""
        index = c_int32()
        extents = (c_int64 * max(1, len(shape)))(*shape)
        _check(_lopt.lopt_add_elsewhere(self._handle, _path_or_name(name), extents, len(shape), byref(index)))
        self._memory.append(None)
        return index.value

    def bind_memory(self, index, parameter, gradient, owner):
        _check(_lopt.lopt_bind(self._handle, index, parameter, gradient))
        self._memory[index] = owner

    def step(self):
        """Reads every gradient, updates every parameter. True, or False for a step that was not taken because a gradient
        was not finite."""
        return _check(_lopt.lopt_step(self._handle)) != SKIPPED_NONFINITE

    def inspect_gradients(self, index=-1):
        """What the next step would see of one tensor, or of all with -1: a dictionary with "nonfinite", a number of elements, and
        "norm_squared". Changes nothing."""
        return self._read(_lopt.lopt_inspect_gradients, _Gradients, index)

    def set_lr_scale(self, lr_scale):
        _check(_lopt.lopt_set_lr_scale(self._handle, lr_scale))

    def set_total_steps(self, total_steps):
        """Steps the training will take, for weights that know their horizon; 0: not known."""
        _check(_lopt.lopt_set_total_steps(self._handle, total_steps))

    def set_gradient_scale(self, gradient_scale):
        _check(_lopt.lopt_set_gradient_scale(self._handle, gradient_scale))

    def set_tensor_options(self, index, lr_scale=1.0, weight_decay_scale=1.0, frozen=False):
        options = _TensorOptions()
        _check(_lopt.lopt_tensor_options_init(byref(options), ctypes.sizeof(options)))
        options.lr_scale, options.weight_decay_scale, options.frozen = lr_scale, weight_decay_scale, int(frozen)
        _check(_lopt.lopt_set_tensor_options(self._handle, index, byref(options)))

    def average(self, index, out):
        """Copies the average of a tensor into `out`, an array of 32-bit floats with as many elements."""
        view = memoryview(out)
        _check(_lopt.lopt_average_get(self._handle, index, _address("the average", view, True), view.nbytes // 4))

    def swap_averages(self):
        """Averages take the place of the parameters, or leave it again; in between there are no steps and no checkpoints."""
        _check(_lopt.lopt_average_swap(self._handle))

    def stats(self, index=-1):
        """lopt_statistics as a dictionary; -1: of all tensors together."""
        return self._read(_lopt.lopt_stats, _Statistics, index)

    def info(self):
        """lopt_information as a dictionary."""
        return self._read(_lopt.lopt_info, _Information)

    def _read(self, call, structure, *arguments):
        value = structure(struct_size=ctypes.sizeof(structure))
        _check(call(self._handle, *arguments, byref(value)))
        return {name: getattr(value, name) for name, _ in structure._fields_[1:]}

    def state(self, with_parameters=False):
        """A checkpoint, as bytes of a safetensors file."""
        contents, size = WITH_PARAMETERS if with_parameters else 0, c_size_t()
        _check(_lopt.lopt_state_size(self._handle, contents, byref(size)))
        memory = bytearray(size.value)
        _check(_lopt.lopt_state_write(self._handle, contents, (c_char * len(memory)).from_buffer(memory), len(memory)))
        return bytes(memory)

    def load_state(self, state, with_parameters=False, shard=False):
        """Resumes from what state() returned, for the same tensors and weights; the same bits as never having stopped.
        shard: it may have some of the tensors alone; info()["tensors_restored"] is how many it had."""
        state = bytes(state)
        contents = (WITH_PARAMETERS if with_parameters else 0) | (SHARD if shard else 0)
        _check(_lopt.lopt_state_read(self._handle, contents, state, len(state)))
