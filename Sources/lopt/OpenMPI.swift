import Foundation
import LOptMeta

/// The processes of one mpirun, by the C interface of Open MPI. It is loaded when the program was started by mpirun, and not needed
/// otherwise.
final class OpenMPI: Ranks, @unchecked Sendable {
    private typealias Initialize = @convention(c) (
        UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, Int32, UnsafeMutablePointer<Int32>
    ) -> Int32
    private typealias Ask = @convention(c) (UnsafeRawPointer, UnsafeMutablePointer<Int32>) -> Int32
    private typealias Gather = @convention(c) (
        UnsafeRawPointer?, Int32, UnsafeRawPointer, UnsafeMutableRawPointer?, Int32, UnsafeRawPointer, UnsafeRawPointer
    ) -> Int32
    private typealias GatherUnequal = @convention(c) (
        UnsafeRawPointer?, Int32, UnsafeRawPointer, UnsafeMutableRawPointer?, UnsafePointer<Int32>, UnsafePointer<Int32>,
        UnsafeRawPointer, UnsafeRawPointer
    ) -> Int32
    private typealias Finalize = @convention(c) () -> Int32

    let rank: Int, count: Int
    private let gatherEqual: Gather, gatherUnequal: GatherUnequal, finalize: Finalize
    private let world: UnsafeRawPointer, byte: UnsafeRawPointer, int32: UnsafeRawPointer

    /// The ranks of this process's mpirun; one if it was started otherwise. Throws where Open MPI's library is not found, and under
    /// the mpirun of another MPI, where every process would else do the whole work.
    static func ranks() throws -> any Ranks {
        let environment = ProcessInfo.processInfo.environment
        guard let size = environment["OMPI_COMM_WORLD_SIZE"].flatMap({ Int($0) }) else {
            if let other = environment["PMI_SIZE"].flatMap({ Int($0) }), other > 1 {
                throw LOptMetaError("started as one of \(other) processes of an MPI that is not Open MPI; use Open MPI's mpirun")
            }
            return OneRank()
        }
        return size > 1 ? try OpenMPI() : OneRank()
    }

    private init() throws {
        let names = ["libmpi.so.40", "libmpi.so"]
        guard let library = names.lazy.compactMap({ (name: String) in dlopen(name, RTLD_NOW | RTLD_GLOBAL) }).first else {
            throw LOptMetaError("started by mpirun, but Open MPI's libmpi.so.40 is not found")
        }
        func symbol(_ name: String) throws -> UnsafeMutableRawPointer {
            guard let address = dlsym(library, name) else { throw LOptMetaError("libmpi has no \(name): it is not Open MPI's") }
            return address
        }
        func function<Function>(_ name: String, _ type: Function.Type) throws -> Function {
            unsafeBitCast(try symbol(name), to: type)
        }
        world = UnsafeRawPointer(try symbol("ompi_mpi_comm_world"))
        byte = UnsafeRawPointer(try symbol("ompi_mpi_byte"))
        int32 = UnsafeRawPointer(try symbol("ompi_mpi_int32_t"))
        gatherEqual = try function("MPI_Allgather", Gather.self)
        gatherUnequal = try function("MPI_Allgatherv", GatherUnequal.self)
        finalize = try function("MPI_Finalize", Finalize.self)
        // One thread calls at a time, not always the same: MPI_THREAD_SERIALIZED.
        var provided: Int32 = 0, number: Int32 = 0, all: Int32 = 0
        guard try function("MPI_Init_thread", Initialize.self)(nil, nil, 2, &provided) == 0, provided >= 2 else {
            throw LOptMetaError("Open MPI does not start with MPI_THREAD_SERIALIZED")
        }
        _ = try function("MPI_Comm_rank", Ask.self)(world, &number)
        _ = try function("MPI_Comm_size", Ask.self)(world, &all)
        (rank, count) = (Int(number), Int(all))
    }

    /// An error in MPI ends all processes, as MPI does by default.
    func gather(_ bytes: [UInt8]) -> [[UInt8]] {
        var own = Int32(bytes.count), sizes = [Int32](repeating: 0, count: count)
        _ = gatherEqual(&own, 1, int32, &sizes, 1, int32, world)
        var begins = [Int32](repeating: 0, count: count + 1)
        for i in 0..<count { begins[i + 1] = begins[i] + sizes[i] }
        var all = [UInt8](repeating: 0, count: Int(begins[count]))
        _ = gatherUnequal(bytes, own, byte, &all, sizes, begins, byte, world)
        return (0..<count).map { Array(all[Int(begins[$0])..<Int(begins[$0 + 1])]) }
    }

    /// At the end; a process that ends without has failed, and mpirun ends the others.
    func finish() { _ = finalize() }
}
