"""lopt as a torch.optim.Optimizer, for float32 parameters on the CPU.

    optimizer = lopt.torch.Lopt(model.named_parameters())

There is no learning rate to tune: `lr` is a factor of the step, 1 by default, for torch's schedulers to work on.
"""

import torch

from ._library import Optimizer

__all__ = ["Lopt"]


class Lopt(torch.optim.Optimizer):
    """params: named_parameters() (the names go into checkpoints), parameters(), or groups, dictionaries with a list of either
    under "params" and, if it is to be another, "lr" and "weight_decay".

    weights: the name of built-in weights, or the path of a file. weight_decay: decoupled, as in AdamW. threads: 0: one per processor.
    max_gradient_norm: gradients are clipped to it as torch.nn.utils.clip_grad_norm_ does, but are not written; 0: they are not.
    momenta: "f32", or "bf16", 8 bytes of state a parameter in place of 12.

    Raises lopt.Error, or ValueError for a parameter that is not contiguous float32 on the CPU.
    """

    def __init__(self, params, lr=1.0, weight_decay=0.0, *, weights=None, threads=0, max_update_ratio=0.0, max_gradient_norm=0.0, momenta="f32"):
        # Decay and step size of a group are those of its tensors, so the optimizer's own are 1.
        self._lopt = Optimizer(
            weights, threads=threads, weight_decay=1.0, max_update_ratio=max_update_ratio, max_gradient_norm=max_gradient_norm,
            momenta=momenta,
        )
        self._names, self._numbers, self._bound, self._options = {}, {}, {}, {}
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"params": params}]
        super().__init__([self._without_names(group) for group in groups], {"lr": lr, "weight_decay": weight_decay})

    def _without_names(self, group):
        """The group as every version of torch takes it; the names are noted."""
        members = group["params"]
        members = [members] if isinstance(members, torch.Tensor) else list(members)
        for number, member in enumerate(members):
            if isinstance(member, tuple):
                name, members[number] = member
                self._names[id(members[number])] = name
        return {**group, "params": members}

    def add_param_group(self, param_group):
        group = self._without_names(param_group)
        for parameter in group["params"]:
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu" or not parameter.is_contiguous():
                raise ValueError(
                    f"lopt steps contiguous float32 tensors on the CPU; this one is {parameter.dtype} on {parameter.device}"
                    + ("" if parameter.is_contiguous() else ", not contiguous")
                )
        super().add_param_group(group)
        # Until there are gradients: memory that is not read, since a tensor without a gradient is frozen. All share it.
        nothing = torch.zeros(max((p.numel() for p in group["params"]), default=0))
        for parameter in group["params"]:
            name = self._names.get(id(parameter), f"parameter{len(self._numbers)}")
            memory = parameter.data_ptr(), nothing.data_ptr()
            self._numbers[parameter] = self._lopt.add_memory(name, *memory, parameter.shape, (parameter, nothing))
            self._bound[parameter] = memory

    @torch.no_grad()
    def step(self, closure=None):
        """One step of every parameter that has a gradient; nothing is changed if a gradient is not finite (see `skipped`)."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        active = False
        for group in self.param_groups:
            for parameter in group["params"]:
                frozen = parameter.grad is None
                active |= not frozen
                if not frozen:
                    self._bind(parameter)
                options = float(group["lr"]), float(group["weight_decay"]), frozen
                if self._options.get(parameter) != options:
                    self._lopt.set_tensor_options(self._numbers[parameter], *options)
                    self._options[parameter] = options
        if active:
            self._lopt.step()
        return loss

    def _bind(self, parameter):
        if parameter.grad.is_sparse:
            raise ValueError("lopt steps no sparse gradients")
        gradient = parameter.grad.to(torch.float32).contiguous()
        memory = parameter.data_ptr(), gradient.data_ptr()
        if self._bound[parameter] != memory:
            if not parameter.is_contiguous() or gradient.shape != parameter.shape:
                raise ValueError("a parameter is no longer contiguous, or has another shape than its gradient")
            # The library knows this gradient's address until there is another: it is kept alive till then.
            self._lopt.bind_memory(self._numbers[parameter], *memory, (parameter, gradient))
            self._bound[parameter] = memory

    @property
    def skipped(self):
        """How many steps were not taken because a gradient was not finite."""
        return self._lopt.stats()["steps_skipped"]

    def state_dict(self):
        """For torch.save. The state is one tensor of bytes: a checkpoint as lopt_state_write makes it, without the parameters."""
        numbers, groups = {parameter: number for number, parameter in enumerate(self._numbers)}, []
        for group in self.param_groups:
            groups.append({**group, "params": [numbers[parameter] for parameter in group["params"]]})
        state = torch.frombuffer(bytearray(self._lopt.state()), dtype=torch.uint8)
        return {"state": {"lopt": state}, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Of an optimizer of the same parameters, in the same groups. Raises lopt.Error or ValueError; then nothing has changed."""
        groups = state_dict["param_groups"]
        if [len(group["params"]) for group in groups] != [len(group["params"]) for group in self.param_groups]:
            raise ValueError("the state is of other parameter groups")
        self._lopt.load_state(state_dict["state"]["lopt"].numpy().tobytes())
        for mine, loaded in zip(self.param_groups, groups):
            mine.update({key: value for key, value in loaded.items() if key != "params"})
        self._options.clear()
