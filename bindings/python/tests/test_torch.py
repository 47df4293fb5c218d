"""lopt.torch with the real PyTorch: it trains as lopt.h does, in whatever way torch's loops treat their optimizers."""

import io
import unittest

try:
    import torch
except ImportError:
    torch = None
else:
    import lopt.torch


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))


def loss_of(net, step=0):
    generator = torch.Generator().manual_seed(step % 8)
    x = torch.randn(32, 5, generator=generator)
    return ((net(x) - torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1)) ** 2).mean()


def train(net, optimizer, first, last, **zero):
    for step in range(first, last):
        optimizer.zero_grad(**zero)
        loss_of(net, step).backward()
        optimizer.step()


def bits(net):
    return [p.detach().numpy().tobytes() for p in net.parameters()]


@unittest.skipUnless(torch, "torch is not there")
class Torch(unittest.TestCase):
    def test_it_trains(self):
        net = model()
        before = loss_of(net).item()
        train(net, lopt.torch.Lopt(net.named_parameters()), 0, 300)
        self.assertLess(loss_of(net).item(), before / 20)

    def test_the_numbers_are_those_of_the_library(self):
        """Gradients that torch frees and makes anew, gradients in place, and memory that never moves: the same bits."""
        results = []
        for zero in ({"set_to_none": True}, {"set_to_none": False}):
            net = model()
            train(net, lopt.torch.Lopt(net.named_parameters()), 0, 20, **zero)
            results.append(bits(net))
        net = model()
        opt, gradients = lopt.Optimizer(), []
        for name, p in net.named_parameters():
            gradients.append(torch.zeros_like(p))
            opt.add_memory(name, p.data_ptr(), gradients[-1].data_ptr(), p.shape, p)
        for step in range(20):
            for gradient, new in zip(gradients, torch.autograd.grad(loss_of(net, step), list(net.parameters()))):
                gradient.copy_(new)
            opt.step()
        results.append(bits(net))
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    def test_parameters_without_names_and_groups(self):
        for members in (
            lambda net: net.parameters(),
            lambda net: [{"params": net.parameters()}],
            lambda net: [{"params": list(net[0].named_parameters("a"))}, {"params": net[2].named_parameters("b")}],
            lambda net: [{"params": net[0].weight}, {"params": [net[0].bias, net[2].weight, net[2].bias]}],
        ):
            net, plain = model(), model()
            train(net, lopt.torch.Lopt(members(net)), 0, 5)
            train(plain, lopt.torch.Lopt(plain.named_parameters()), 0, 5)
            self.assertEqual(bits(net), bits(plain))

    def test_learning_rate_and_decay_of_a_group(self):
        def moved(**options):
            p = torch.nn.Parameter(torch.ones(4))
            optimizer = lopt.torch.Lopt([{"params": [("p", p)], **options}])
            p.grad = torch.ones(4)
            optimizer.step()
            self.size = optimizer._lopt.stats(0)["step_size"]
            return 1 - p[0].item()

        one = moved()
        size = self.size
        self.assertAlmostEqual(moved(lr=0.5), one / 2, delta=one / 1000)
        self.assertAlmostEqual(moved(weight_decay=0.25), one + 0.25 * size, delta=one / 1000)
        self.assertEqual(moved(lr=0.0), 0)

    def test_a_scheduler(self):
        net = model()
        optimizer = lopt.torch.Lopt(net.named_parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 if step < 3 else 0.0)
        for step in range(3):
            train(net, optimizer, step, step + 1)
            scheduler.step()
        before = bits(net)
        train(net, optimizer, 3, 6)
        self.assertEqual(bits(net), before)

    def test_frozen_and_unused_parameters_stay(self):
        net = model()
        net[0].weight.requires_grad_(False)
        unused = torch.nn.Parameter(torch.ones(3))
        optimizer = lopt.torch.Lopt(list(net.named_parameters()) + [("unused", unused)])
        optimizer.step()  # no gradient at all
        before = net[0].weight.clone(), net[2].weight.clone()
        train(net, optimizer, 0, 3)
        self.assertTrue(torch.equal(net[0].weight, before[0]) and torch.equal(unused, torch.ones(3)))
        self.assertFalse(torch.equal(net[2].weight, before[1]))
        net[0].weight.requires_grad_(True)
        train(net, optimizer, 3, 4)
        self.assertFalse(torch.equal(net[0].weight, before[0]))

    def test_a_closure(self):
        net, plain = model(), model()
        optimizer = lopt.torch.Lopt(net.named_parameters())

        def closure():
            optimizer.zero_grad()
            loss = loss_of(net)
            loss.backward()
            return loss

        self.assertGreater(optimizer.step(closure).item(), 0)
        train(plain, lopt.torch.Lopt(plain.named_parameters()), 0, 1)
        self.assertEqual(bits(net), bits(plain))

    def test_resuming_gives_the_same_bits(self):
        net = model()
        optimizer = lopt.torch.Lopt(net.named_parameters(), lr=0.7, weight_decay=0.01)
        train(net, optimizer, 0, 10)
        file = io.BytesIO()
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
        train(net, optimizer, 10, 20)

        other = model(seed=1)
        resumed = lopt.torch.Lopt(other.named_parameters())
        train(other, resumed, 0, 2)
        file.seek(0)
        loaded = torch.load(file)
        other.load_state_dict(loaded["model"])
        resumed.load_state_dict(loaded["optimizer"])
        self.assertEqual(resumed.param_groups[0]["lr"], 0.7)
        train(other, resumed, 10, 20)
        self.assertEqual(bits(other), bits(net))

    def test_a_state_of_other_parameters_changes_nothing(self):
        net, other = model(), torch.nn.Linear(5, 2)
        optimizer = lopt.torch.Lopt(net.named_parameters())
        train(net, optimizer, 0, 2)
        state = optimizer.state_dict()
        with self.assertRaises(ValueError):
            optimizer.load_state_dict(lopt.torch.Lopt(other.named_parameters()).state_dict())
        renamed = lopt.torch.Lopt((f"x{name}", p) for name, p in model().named_parameters())
        with self.assertRaisesRegex(lopt.Error, "0.weight"):
            optimizer.load_state_dict(renamed.state_dict())
        self.assertTrue(torch.equal(optimizer.state_dict()["state"]["lopt"], state["state"]["lopt"]))

    def test_a_gradient_that_is_not_finite_changes_nothing(self):
        net = model()
        optimizer = lopt.torch.Lopt(net.named_parameters())
        train(net, optimizer, 0, 2)
        before = bits(net)
        loss_of(net).backward()
        net[2].bias.grad[0] = float("inf")
        optimizer.step()
        self.assertEqual(bits(net), before)
        self.assertEqual(optimizer.skipped, 1)

    def test_gradients_in_other_orders_and_types(self):
        p, q = torch.nn.Parameter(torch.zeros(3, 4)), torch.nn.Parameter(torch.zeros(3, 4))
        gradient = torch.arange(12.0).reshape(4, 3).t() - 5
        for parameter, given in ((p, gradient), (q, gradient.contiguous())):
            optimizer = lopt.torch.Lopt([("p", parameter)])
            for _ in range(3):
                parameter.grad = given
                optimizer.step()
        self.assertTrue(torch.equal(p, q))

    def test_what_it_cannot_step_is_refused(self):
        for wrong in (torch.zeros(3, dtype=torch.float64), torch.zeros(3, 4).t()):
            with self.assertRaisesRegex(ValueError, "contiguous float32"):
                lopt.torch.Lopt([torch.nn.Parameter(wrong)])
        sparse = torch.nn.Embedding(4, 3, sparse=True)
        optimizer = lopt.torch.Lopt(sparse.parameters())
        sparse(torch.tensor([1])).sum().backward()
        with self.assertRaisesRegex(ValueError, "sparse"):
            optimizer.step()
        with self.assertRaisesRegex(lopt.Error, "star"):
            lopt.torch.Lopt(model().parameters(), weights="moon")

    def test_a_parameter_that_moved(self):
        net, plain = model(), model()
        optimizer = lopt.torch.Lopt(net.named_parameters())
        for step in range(4):
            for p in net.parameters():
                p.data = p.data.clone()
            train(net, optimizer, step, step + 1)
        train(plain, lopt.torch.Lopt(plain.named_parameters()), 0, 4)
        self.assertEqual(bits(net), bits(plain))


if __name__ == "__main__":
    unittest.main()
