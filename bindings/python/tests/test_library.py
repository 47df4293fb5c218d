"""The wheel's own layer over lopt.h: it trains, errors arrive as exceptions and change nothing, a resumed run has the same bits."""

import array
import gc
import subprocess
import sys
import unittest

import lopt

try:
    import numpy
except ImportError:
    numpy = None


def shaped(values, shape):
    """A memoryview of this shape onto an array.array of floats."""
    return memoryview(array.array("f", values)).cast("B").cast("f", shape)


def train(opt, w, dw, steps):
    for _ in range(steps):
        for i, value in enumerate(w):
            dw[i] = value - (i + 1)
        assert opt.step()


class Library(unittest.TestCase):
    def test_version_is_that_of_the_header(self):
        with open(lopt.include_dir() + "/lopt.h") as header:
            numbers = [line.split()[2] for line in header if line.startswith("#define LOPT_VERSION_M") or "VERSION_PATCH " in line]
        self.assertEqual(lopt.__version__, ".".join(numbers[:3]))

    def test_it_finds_the_minimum(self):
        w, dw = array.array("f", [0, 0, 0]), array.array("f", [0, 0, 0])
        opt = lopt.Optimizer()
        opt.add("w", w, dw)
        train(opt, w, dw, 2000)
        for found, expected in zip(w, (1, 2, 3)):
            self.assertAlmostEqual(found, expected, delta=1e-3)

    def test_a_matrix_is_a_matrix(self):
        """The rule looks at rows and columns, so the shape that arrives shows in the numbers."""
        results = []
        for shape in ([2, 3], [3, 2], [6]):
            w, dw = array.array("f", [0] * 6), array.array("f", [3, 1, 4, 1, 5, 9])
            opt = lopt.Optimizer("star-authors-rule")
            opt.add("w", w, dw, shape)
            for _ in range(3):
                opt.step()
            results.append(list(w))
            view, gradient = shaped([0] * 6, shape), shaped([3, 1, 4, 1, 5, 9], shape)
            same = lopt.Optimizer("star-authors-rule")
            same.add("w", view, gradient)
            for _ in range(3):
                same.step()
            self.assertEqual(list(memoryview(view).cast("B").cast("f")), results[-1])
        self.assertNotEqual(results[0], results[1])
        self.assertNotEqual(results[0], results[2])

    def test_errors_say_what_is_wrong(self):
        w, dw = array.array("f", [0] * 6), array.array("f", [0] * 6)
        opt = lopt.Optimizer()
        with self.assertRaisesRegex(lopt.Error, "tensor") as raised:
            opt.step()
        self.assertEqual(raised.exception.status, -1)
        opt.add("w", w, dw)
        for arguments, error in (
            (("w", array.array("f", [0]), array.array("f", [0])), lopt.Error),  # a name that there is
            (("v", w, array.array("f", [0] * 6)), lopt.Error),  # memory that is another's
            (("v", array.array("i", [0]), array.array("i", [0])), ValueError),
            (("v", array.array("f", [0]), array.array("f", [0, 0])), ValueError),
            (("v", array.array("f", [0]), array.array("f", [0]), [2]), ValueError),
            (("v", memoryview(array.array("f", [0])).toreadonly(), array.array("f", [0])), ValueError),
            (("v", memoryview(array.array("f", [0] * 8))[::2], array.array("f", [0] * 4)), ValueError),
            (("v\0", array.array("f", [0]), array.array("f", [0])), ValueError),
        ):
            with self.assertRaises(error):
                opt.add(*arguments)
        self.assertEqual(opt.add("v", array.array("f", [0]), array.array("f", [0])), 1)
        with self.assertRaisesRegex(lopt.Error, "star"):
            lopt.Optimizer("moon")
        with self.assertRaisesRegex(lopt.Error, "no/such"):
            lopt.Optimizer("no/such")
        with self.assertRaisesRegex(lopt.Error, "threads"):
            lopt.Optimizer(threads=-1)
        with self.assertRaises(lopt.Error):
            opt.set_tensor_options(0, lr_scale=-1)
        with self.assertRaises(lopt.Error):
            opt.load_state(b"nonsense")

    def test_a_gradient_that_is_not_finite_changes_nothing(self):
        w, dw = array.array("f", [1, 2]), array.array("f", [0, float("nan")])
        opt = lopt.Optimizer()
        opt.add("w", w, dw)
        self.assertFalse(opt.step())
        self.assertEqual(list(w), [1, 2])
        self.assertEqual(opt.stats()["steps_skipped"], 1)

    def test_resuming_gives_the_same_bits(self):
        w, dw = array.array("f", [0] * 6), array.array("f", [0] * 6)
        opt = lopt.Optimizer("star-authors-rule", weight_decay=0.01)
        opt.add("w", w, dw, [2, 3])
        train(opt, w, dw, 10)
        state, parameters = opt.state(), list(w)
        train(opt, w, dw, 10)
        for whole in (False, True):
            v, dv = array.array("f", parameters), array.array("f", [0] * 6)
            other = lopt.Optimizer("star-authors-rule")
            other.add("w", v, dv, [2, 3])
            other.load_state(state)
            if whole:
                self.assertEqual(other.state(), state)
            train(other, v, dv, 10)
            self.assertEqual(v, w)

    def test_options_arrive(self):
        def moved(opt, **options):
            w, dw = array.array("f", [1] * 4), array.array("f", [1] * 4)
            index = opt.add("w", w, dw)
            if options:
                opt.set_tensor_options(index, **options)
            opt.step()
            return 1 - w[0]

        def size(opt):
            return opt.stats(0)["step_size"]

        plain = lopt.Optimizer()
        one = moved(plain)
        self.assertTrue(size(plain) > 0)
        self.assertAlmostEqual(moved(lopt.Optimizer(lr_scale=0.5)), one / 2, delta=one / 1000)
        self.assertAlmostEqual(moved(lopt.Optimizer(), lr_scale=0.5), one / 2, delta=one / 1000)
        self.assertAlmostEqual(moved(lopt.Optimizer(weight_decay=0.5)), one + 0.5 * size(plain), delta=one / 1000)
        self.assertAlmostEqual(moved(lopt.Optimizer(weight_decay=0.5), weight_decay_scale=0), one, delta=one / 1000)
        self.assertEqual(moved(lopt.Optimizer(), frozen=True), 0)
        limited = moved(lopt.Optimizer(max_update_ratio=1e-6))
        self.assertTrue(0 < limited < one / 10)
        there, back = (moved(lopt.Optimizer("star", gradient_scale=sign)) for sign in (1, -1))  # which has no decay of its own
        self.assertAlmostEqual(back, -there, delta=there / 1000)
        self.assertEqual(moved(lopt.Optimizer(weight_decay=0.5, weight_decay_on_matrices=True)), one)
        clipped = lopt.Optimizer(max_gradient_norm=0.5)
        moved(clipped)
        self.assertAlmostEqual(clipped.stats()["gradient_norm"], 2, delta=1e-6)
        self.assertEqual(clipped.stats()["steps_clipped"], 1)
        negative = lopt.Optimizer("star")
        negative.set_gradient_scale(-1)
        self.assertAlmostEqual(moved(negative), -there, delta=there / 1000)

    def test_momenta_in_16_bits(self):
        state = []
        for momenta in ("f32", "bf16"):
            opt = lopt.Optimizer(momenta=momenta)
            w, dw = (array.array("f", [value] * 4) for value in (1, 1))
            opt.add("w", w, dw)
            opt.step()
            self.assertLess(w[0], 1)
            self.assertEqual(opt.info()["state_bytes"], 4 * (12 if momenta == "f32" else 8))
            state.append(opt.state())
        self.assertIn(b'"w/momentum":{"dtype":"BF16"', state[1])
        opt.load_state(state[0])  # of the other type
        with self.assertRaises(lopt.Error):
            lopt.Optimizer("star", momenta="bf16")
        with self.assertRaises(KeyError):
            lopt.Optimizer(momenta="f16")

    def test_averages(self):
        opt = lopt.Optimizer(average="ema")
        w, dw, mean = (array.array("f", [value] * 4) for value in (1, 1, 0))
        opt.add("w", w, dw)
        opt.step()
        first = w[0]
        opt.step()
        second = w[0]
        opt.average(0, mean)
        self.assertAlmostEqual(mean[3], (first + second) / 2, delta=1e-6)
        opt.swap_averages()
        self.assertEqual(w, mean)
        with self.assertRaises(lopt.Error):
            opt.step()
        opt.swap_averages()
        self.assertEqual(w[0], second)
        with self.assertRaises(lopt.Error):
            opt.average(0, array.array("f", [0] * 5))

    def test_layers_that_have_an_optimizer_each(self):
        shapes = {"w": [2, 3], "b": [3]}
        memory = [{name: (array.array("f", [0.5] * n), array.array("f", [1] * n)) for name, n in (("w", 6), ("b", 3))} for _ in range(2)]
        whole, parts = lopt.Optimizer(), {"w": lopt.Optimizer(), "b": lopt.Optimizer()}
        for number, (name, shape) in enumerate(shapes.items()):
            whole.add(name, *memory[0][name], shape)
            for own, opt in parts.items():
                if own == name:
                    self.assertEqual(opt.add(name, *memory[1][name], shape), number)
                else:
                    self.assertEqual(opt.add_elsewhere(name, shape), number)
        self.assertEqual(parts["b"].inspect_gradients(), {"nonfinite": 0, "norm_squared": 3})
        self.assertEqual(parts["b"].inspect_gradients(0)["norm_squared"], 0)
        for opt in (whole, *parts.values()):
            for _ in range(4):
                opt.step()
        for name in shapes:
            self.assertEqual(memory[0][name][0], memory[1][name][0])
        whole.load_state(parts["b"].state(), shard=True)
        self.assertEqual(whole.info()["tensors_restored"], 1)
        self.assertEqual(parts["w"].info()["tensors_elsewhere"], 1)
        with self.assertRaises(lopt.Error):
            whole.load_state(parts["b"].state())

    def test_floats_of_other_sizes(self):
        trained = []
        for kinds in ("ff", "dd", "fd", "df"):
            w, dw = (array.array(kind, [1] * 6) for kind in kinds)
            opt = lopt.Optimizer()
            opt.add("w", w, dw, [2, 3])
            train(opt, w, dw, 1)  # one: the next gradients depend on the rounding
            trained.append(list(w))
        self.assertTrue(all(one == trained[0] for one in trained))
        self.assertNotEqual(trained[0][1:], [1] * 5)

    def test_memory_is_kept_alive(self):
        """What was added is still there when the caller has let go of it."""
        opt = lopt.Optimizer()
        kept = array.array("f", [0] * 1000)
        opt.add("kept", kept, array.array("f", [1] * 1000))
        for number in range(20):
            opt.add(f"w{number}", array.array("f", [0] * 1000), array.array("f", [1] * 1000))
        gc.collect()
        other = [array.array("f", [7] * 1000) for _ in range(50)]
        for _ in range(3):
            opt.step()
        self.assertTrue(all(value == 7 for one in other for value in one))
        self.assertTrue(kept[0] < 0)

    @unittest.skipUnless(numpy, "numpy is not there")
    def test_numpy(self):
        w, dw = numpy.zeros((2, 3), numpy.float32), numpy.zeros((2, 3), numpy.float32)
        target = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
        opt = lopt.Optimizer(total_steps=2000)
        opt.add("w", w, dw)
        opt.add("number", numpy.zeros((), numpy.float32), numpy.zeros((), numpy.float32))
        opt.add("nothing", numpy.zeros((0, 3), numpy.float32), numpy.zeros((0, 3), numpy.float32))
        for _ in range(2000):
            dw[:] = w - target
            opt.step()
        numpy.testing.assert_allclose(w, target, atol=1e-3)
        half = numpy.zeros((2, 3), numpy.float16)
        opt.add("half", half, numpy.ones((2, 3), numpy.float64))
        opt.step()
        assert (half < 0).all()
        for wrong in (numpy.zeros((2, 3), numpy.int32), numpy.zeros((3, 2), numpy.float32).T, numpy.zeros((2, 3), ">f4")):
            with self.assertRaises(ValueError):
                opt.add("wrong", wrong, wrong)

    def test_command_line(self):
        def prints(*arguments):
            run = subprocess.run([sys.executable, "-m", "lopt", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            return run.returncode, run.stdout.decode()

        status, text = prints("--cflags", "--libs")
        self.assertEqual(status, 0)
        self.assertIn("-I", text)
        self.assertIn("-llopt", text)
        self.assertIn("liblopt.a", prints("--libs", "--static")[1])
        self.assertEqual(prints("--version"), (0, lopt.__version__ + "\n"))
        self.assertEqual(prints()[0], 2)


if __name__ == "__main__":
    unittest.main()
