// swift-tools-version: 6.2
import PackageDescription

// The shipped liblopt.so is built by the Makefile, in Embedded Swift, from the same sources; this manifest builds the
// ordinary mode for `swift test` and the command line tool.

/// One kernel source, compiled once for each instruction set; LOptKernelsAVX2 and LOptKernelsAVX512 are symbolic links
/// to LOptKernels. psabi would warn of vectors passed between functions of different instruction sets; ours are inlined.
/// Build and test in release mode (`make test` does): a debug build compiles file by file and inlines nothing.
func kernels(_ name: String, define: String, march: [String]) -> Target {
    .target(
        name: name, dependencies: ["CLOptShims"],
        swiftSettings: [
            .define(define),
            .unsafeFlags((["-Wno-psabi"] + march).flatMap { ["-Xcc", $0] } + ["-Ounchecked"]),
        ])
}

#if arch(x86_64)
let kernelTargets = [
    kernels("LOptKernels", define: "LOPT_BASELINE", march: []),
    kernels("LOptKernelsAVX2", define: "LOPT_AVX2", march: ["-march=x86-64-v3"]),
    kernels("LOptKernelsAVX512", define: "LOPT_AVX512", march: ["-march=x86-64-v4", "-mprefer-vector-width=512"]),
]
#else
let kernelTargets = [kernels("LOptKernels", define: "LOPT_BASELINE", march: [])]
#endif

let package = Package(
    name: "lopt",
    products: [
        .executable(name: "lopt", targets: ["lopt"]),
        // Tasks, meta-training and evaluation for a workload of one's own (docs/meta-training.md).
        .library(name: "LOptMeta", targets: ["LOptMeta", "LOptCore"]),
    ],
    dependencies: [.package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")],
    targets: [
        // MARK: - C modules
        .systemLibrary(name: "CLOpt"),
        .systemLibrary(name: "CLOptShims", path: "Sources/CLOptShims/include"),
        .systemLibrary(name: "CLOptWorkload"),
        .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    ] + kernelTargets + [
        // MARK: - The runtime
        .target(
            name: "LOptCore",
            dependencies: ["CLOptShims"] + kernelTargets.map { .target(name: $0.name) }),
        .target(name: "LOptCAPI", dependencies: ["CLOpt", "LOptCore"]),

        // The rule once more, plain and slow: the oracle of the tests. Swift arrays, so it never ships in the library.
        .target(name: "LOptReference", dependencies: ["CLOptShims", "LOptCore"]),

        // MARK: - Meta-training and evaluation
        .target(name: "LOptMeta", dependencies: ["CLOptShims", "LOptCore", "LOptReference", "COpenBLAS", "CLOptWorkload"]),
        .executableTarget(
            name: "lopt",
            dependencies: [
                "LOptMeta", "LOptCore", "CLOpt", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        // MARK: - Examples
        .executableTarget(name: "specialise", dependencies: ["LOptMeta", "LOptCore"], path: "examples-swift/specialise"),

        // MARK: - Tests
        // LOptMeta makes and writes weights.
        .testTarget(name: "LOptTests", dependencies: ["LOptCore", "LOptReference", "LOptMeta", "LOptCAPI", "CLOpt"]),
        .testTarget(name: "LOptMetaTests", dependencies: ["LOptMeta", "LOptCore", "LOptReference", "specialise"]),
    ],
    swiftLanguageModes: [.v6]
)
