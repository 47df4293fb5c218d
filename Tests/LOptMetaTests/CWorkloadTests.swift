import Foundation
import LOptCore
import Testing

@testable import LOptMeta

/// Workloads in C: what lopt_workload.h promises to them, and what it asks of them.
@Suite struct CWorkloadTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// A shared library from C, in a folder of its own.
    private static func library(_ source: String, flags: [String] = []) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "workload-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let (file, library) = (folder.appending(path: "task.c"), folder.appending(path: "libtask.so"))
        try Data(source.utf8).write(to: file)
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        let options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
        compiler.arguments = ["cc"] + options + flags
            + ["-I\(root.path)/include", "-I\(root.path)/examples-c", file.path, "-o", library.path, "-lm"]
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0, "the workload does not compile")
        return library
    }

    private static func example() throws -> CWorkload {
        let source = root.appending(path: "examples-c/workload.c")
        return try CWorkload(contentsOf: library(String(decoding: try Data(contentsOf: source), as: UTF8.self)))
    }

    /// (p - 1)^2 of three numbers in two tensors, each replaced piece by piece: its functions by their names.
    static let bowl: [String: String] = [
        "tensors": """
            static lopt_workload_tensor table[2] = {{"a", 1, {2}}, {"b", 0, {0}}};
            const lopt_workload_tensor *lopt_workload_tensors(int32_t *count) { *count = 2; return table; }
            """,
        "init": "void lopt_workload_init(uint64_t seed, float *const *p) { p[0][0] = seed; p[0][1] = 3; p[1][0] = -1; }",
        "loss": """
            static int calls __attribute__((unused));
            float lopt_workload_loss_and_gradient(uint64_t seed, int64_t step, const float *const *p, float *const *g) {
                float sum = 0, noise = (float)((seed + (uint64_t)step) % 7 + 1) / 100;
                for (int i = 0; i < 3; i++) {
                    float d = p[i / 2][i % 2] - 1 - noise;
                    g[i / 2][i % 2] = 2 * d;
                    sum += d * d;
                }
                return sum;
            }
            """,
        "more": "",
    ]

    private static func bowl(_ changes: [String: String], flags: [String] = []) throws -> CWorkload {
        let parts = bowl.merging(changes) { $1 }, functions = ["tensors", "init", "loss", "more"].map { parts[$0] ?? "" }
        let source = (["#include <lopt_workload.h>", "#include <math.h>"] + functions).joined(separator: "\n")
        return try CWorkload(contentsOf: library(source, flags: flags))
    }

    @Test func `the example in C has its tensors, trains, and its held-out loss falls`() throws {
        let task = try Self.example()
        #expect(task.name == "two_joint_arm" && task.hasHeldOutLoss)
        #expect(task.tensors.map(\.name) == ["w0", "b0", "w1", "b1", "w2", "b2"])
        #expect(task.tensors.map(\.shape) == [[2, 24], [24], [24, 24], [24], [24, 2], [2]])
        #expect(abs(task.gradientOverSlope - 1) < 0.02)
        let run = try TrainingRun(RunSettings(task: task, horizon: 400, seed: 3), .lopt(NamedWeights("pooled")))
        run.advance(1)
        let before = try #require(run.heldOutLoss)
        run.advance(399)
        #expect(try #require(run.heldOutLoss) < 0.05 * before)
    }

    @Test func `what a library may leave out has defaults`() throws {
        let task = try Self.bowl([:])
        #expect(task.name == "task" && !task.hasHeldOutLoss)
        #expect(task.makeWorker().heldOutLoss([0, 0, 0]) == nil)
        #expect(task.tensors == [TensorSpec("a", [2]), TensorSpec("b", [])])
    }

    /// Two threads that call at once would see each other's count.
    @Test func `calls come one at a time unless the library says that they may overlap`() async throws {
        let counting = """
            #include <stdatomic.h>
            static _Atomic int inside, most;
            static void enter(void) {
                int now = ++inside, seen = most;
                while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now)) {}
                for (volatile int i = 0; i < 200000; i++) {}
                inside--;
            }
            float lopt_workload_held_out_loss(const float *const *p) { (void)p; enter(); return (float)most; }
            """
        for isSafe in [false, true] {
            let more = counting + (isSafe ? "\nint32_t lopt_workload_is_thread_safe(void) { return 1; }" : "")
            let task = try Self.bowl(["more": more])
            let most = await concurrentMap(Array(0..<400), threads: 8) { _ in task.makeWorker().heldOutLoss([0, 0, 0]) ?? 0 }.max()
            if !isSafe { #expect(most == 1) } else { #expect((most ?? 0) >= 1) }
        }
    }

    /// A function in place of the bowl's, or one of the bowl's with some text in place of other, and what is said of it.
    struct Slip: Sendable, CustomTestStringConvertible {
        let part: String
        let source: String
        let line: String
        var testDescription: String { line }

        init(_ part: String, _ source: String, _ line: String) { (self.part, self.source, self.line) = (part, source, line) }

        init(_ part: String, _ old: String, to new: String, _ line: String) {
            let source: String = CWorkloadTests.bowl[part] ?? ""
            self.init(part, source.replacingOccurrences(of: old, with: new), line)
        }
    }

    private static let start = "void lopt_workload_init(uint64_t seed, float *const *p) "

    static let slips: [Slip] = [
        Slip("init", "", "it does not define lopt_workload_init; lopt_workload.h says what it does"),
        Slip("tensors", "", "it does not define lopt_workload_tensors; lopt_workload.h"),
        Slip("loss", "", "it does not define lopt_workload_loss_and_gradient; lopt_workload.h"),
        Slip(
            "tensors", "const lopt_workload_tensor *lopt_workload_tensors(int32_t *count) { *count = 0; return 0; }",
            "lopt_workload_tensors returns NULL or a count of 0"),
        Slip("tensors", "\"b\"", to: "\"a\"", "tensor 1 has the name 'a'; names have 1 to 255 bytes, each another"),
        Slip("tensors", "\"b\"", to: "0", "tensor 1 has no name"),
        Slip("tensors", "{2}", to: "{0}", "tensor 'a' has an extent of 0; allowed are 1 to 2^30"),
        Slip("tensors", "\"a\", 1", to: "\"a\", 9", "tensor 'a' has rank 9; allowed are 0 to 8"),
        Slip("tensors", "1, {2}", to: "3, {1024, 1024, 1025}", "up to 'a' have more than 2^30 elements"),
        Slip(
            "tensors", "{ *count = 2;", to: "{ static int64_t calls; *count = 2; table[0].shape[0] = calls++ ? 1 : 2;",
            "lopt_workload_tensors gives other tensors than before"),
        Slip("init", start + "{ p[0][0] = seed; p[0][1] = 3; }", "lopt_workload_init leaves element 0 of the parameter 'b' as it was"),
        Slip(
            "init", start + "{ static float n; p[0][0] = seed + n++; p[0][1] = p[1][0] = 3; }",
            "lopt_workload_init with the same seed writes another start"),
        Slip(
            "init", start + "{ p[0][0] = seed; p[0][1] = p[1][0] = p[1][1] = 3; }",
            "it writes outside of its tensors, beside the parameters"),
        Slip("loss", "return sum;", to: "return NAN;", "the loss at the start, of seed 1 and step 0, is nan"),
        Slip("loss", "= 2 * d", to: "= i == 1 ? INFINITY : 2 * d", "leaves element 1 of the gradient 'a' as it was, or writes inf"),
        Slip("loss", "i < 3", to: "i < 2", "leaves element 0 of the gradient 'b' as it was, or writes nan"),
        Slip("loss", "return sum;", to: "g[1][1] = 0; return sum;", "it writes outside of its tensors, beside the gradient"),
        Slip(
            "loss", "sum += d * d", to: "static int n; sum += d * d + (float)n++",
            "the loss of the same seed, step and parameters is"),
        Slip(
            "loss", "= 2 * d", to: "= 2 * d + noise * (float)calls++",
            "gives another gradient for the same seed, step and parameters"),
        Slip("loss", "return sum;", to: "((float *)p[0])[0] += 1; return sum;", "changes the parameters, which it may only read"),
        Slip("more", "float lopt_workload_held_out_loss(const float *const *p) { return p[0][1] / 0.0f; }", "the held-out loss at the start is inf"),
        Slip("more", "const char *lopt_workload_name(void) { return \"a b\"; }", "its name is 'a b'; allowed are 1 to 60 letters"),
    ]

    @Test(arguments: slips)
    func `what a library does that it may not is named`(slip: Slip) {
        let found = failure { _ = try Self.bowl([slip.part: slip.source], flags: ["-Wno-cast-qual"]) }
        #expect(found.hasPrefix("the workload '") && found.contains(slip.line), "'\(found)' in place of '\(slip.line)'")
    }

    @Test func `what is no library is refused with the loader's reason`() throws {
        let text = FileManager.default.temporaryDirectory.appending(path: "text-\(UUID().uuidString).so")
        try Data("text".utf8).write(to: text)
        defer { try? FileManager.default.removeItem(at: text) }
        #expect(failure { _ = try CWorkload(contentsOf: text) }.contains("it cannot be loaded: "))
        #expect(failure { _ = try CWorkload(contentsOf: URL(filePath: "/nowhere/libtask.so")) }.contains("there is no such file"))
    }

    /// The two slips that gradients of C codes have: another sign, and a sum where the loss is a mean.
    @Test(arguments: [("-2 * d", -1.0), ("32 * d", 16.0), ("2 * d", 1.0)])
    func `a gradient is compared with the slope of the loss`(gradient: String, ratio: Double) throws {
        let task = try Self.bowl(["loss": Slip("loss", "= 2 * d", to: "= \(gradient)", "").source])
        #expect(abs(task.gradientOverSlope / ratio - 1) < 0.02)
    }

    /// A loss that turns to nan later is a run that diverges, not an error.
    @Test func `a workload that diverges ends its run`() throws {
        let task = try Self.bowl(["loss": Slip("loss", "return sum;", to: "return step < 5 ? sum : NAN;", "").source])
        let run = try TrainingRun(RunSettings(task: task, horizon: 20, seed: 1), .lopt(NamedWeights("pooled")))
        run.advance(20)
        #expect(run.hasDiverged && run.step == 6)
    }

    // MARK: - Specialisation

    private static func specialised(_ base: String, threads: Int, outerSteps: Int) async throws -> NamedWeights {
        var specialisation = try Specialisation(of: Bowl(), from: NamedWeights(base), steps: 30)
        specialisation.threads = threads
        let folder = FileManager.default.temporaryDirectory.appending(path: "specialised-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        return try await specialisation.train(minutes: 100, into: RunDirectory(folder.path), commit: "none") { state, _ in
            state.outerStep >= outerSteps ? .stop : .goOn
        }
    }

    /// A cheap one.
    private struct Bowl: TrainingTask {
        let name = "bowl"
        let tensors = [TensorSpec("a", [3, 2]), TensorSpec("b", [2])]
        func initialize(_ parameters: UnsafeMutablePointer<Float>, seed: UInt64) {
            var random = Random(seed, 1)
            for i in 0..<8 { parameters[i] = Float(random.normal()) }
        }
        func makeWorker() -> any TaskWorker { Worker() }
        final class Worker: TaskWorker {
            func loss(_ p: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, seed: UInt64, step: Int) -> Float {
                var sum: Float = 0
                for i in 0..<8 {
                    gradient[i] = p[i] - 5
                    sum += (p[i] - 5) * (p[i] - 5) / 2
                }
                return sum
            }
        }
    }

    /// The target is far away for the time: what is learned is to take larger steps.
    @Test(arguments: ["pooled", "star"])
    func `specialised weights do better on their workload, on seeds of their own, and repeat`(base: String) async throws {
        let one = try await Self.specialised(base, threads: 1, outerSteps: 60), two = try await Self.specialised(base, threads: 3, outerSteps: 60)
        #expect(one.digest == two.digest)
        func loss(_ weights: NamedWeights) throws -> Double {
            try (1...3).reduce(0) { sum, seed in
                let run = try TrainingRun(RunSettings(task: Bowl(), horizon: 30, seed: UInt64(seed)), .lopt(weights))
                var last: Float = 0
                run.advance(30) { last = $1 }
                return sum + Double(last)
            }
        }
        #expect(try loss(one) < 0.9 * loss(NamedWeights(base)))
    }

    @Test func `weights that it cannot train are refused`() throws {
        let small = try NamedWeights(
            name: "small", architecture: Architecture(.smallFC), theta: [Float](repeating: 0, count: Architecture(.smallFC).metaParameters))
        let line = failure { _ = try Specialisation(of: Bowl(), from: small, steps: 10) }
        #expect(line.contains("weights 'small' are of kind small_fc; specialised can be those of kind pooled"))
    }
}
