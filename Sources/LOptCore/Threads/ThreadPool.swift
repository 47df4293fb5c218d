import CLOptShims

/// Runs the items of a phase on the optimizer's own threads, on the caller's parallel-for, or inline.
///
/// `run(count)` has one worker per thread draw items from a shared counter until none is left. Which worker gets which item
/// does not matter for the result: every item writes memory of its own. Threads that wait spin briefly, since the next phase
/// of a step is microseconds away, and then sleep.
///
/// Threads belong to the process that started them: in the child of a fork the pool finds itself without any, and nothing waits
/// for those of the parent.
struct ThreadPool: ~Copyable {
    /// (context, item, worker); workers are numbered from 0 so that each has scratch memory of its own.
    typealias Body = @convention(c) (UnsafeMutableRawPointer, Int, Int) -> Void

    /// What the threads share.
    struct Shared {
        var monitor = lopt_monitor()
        /// Counts the phases; a change is the signal to start.
        var generation: Int64 = 0
        /// Threads that have not finished the phase.
        var running: Int64 = 0
        var nextItem: Int64 = 0
        var count = 0
        var workers = 0
        var body: Body?
        var context: UnsafeMutableRawPointer?
        var stops = false
        /// Own threads.
        var started = 0
        /// The process that `started` is of.
        var process = lopt_system_process()
    }

    struct Worker {
        var thread = lopt_thread()
        var shared: UnsafeMutablePointer<Shared>
        var number: Int
        /// The phases before it was there.
        var seen: Int64
    }

    /// Workers including the calling thread.
    let workers: Int
    /// The system's reason for the thread that could not be started; 0 if there is none.
    private(set) var refusal: Int32 = 0
    /// The floating-point environment of who called for this step, in which the caller's parallel-for is called: threads that it
    /// makes inherit it.
    var hostFloat: UInt64 = 0
    private var hasTried = false
    private let allocator: Allocator
    private let shared: UnsafeMutablePointer<Shared>
    private let threads: UnsafeMutablePointer<Worker>
    private let parallelFor: ParallelFor?

    /// About 20 microseconds.
    private static let spins = 1000

    init(workers: Int, parallelFor: ParallelFor?, allocator: Allocator) throws(LOptError) {
        let shared = try allocator.allocate(Shared.self, 1)
        let threads: UnsafeMutablePointer<Worker>
        do {
            threads = try allocator.allocate(Worker.self, workers)
        } catch {
            allocator.deallocate(shared, 1)
            throw error
        }
        shared.initialize(to: Shared())
        shared.pointee.workers = workers
        guard lopt_monitor_init(&shared.pointee.monitor) == 0 else {
            allocator.deallocate(threads, workers)
            allocator.deallocate(shared, 1)
            throw LOptError(.noMemory, "the system has no room for a mutex")
        }
        self.workers = workers
        self.allocator = allocator
        self.parallelFor = parallelFor
        self.shared = shared
        self.threads = threads
    }

    deinit {
        let started = ownThreads()
        if started > 0 {
            lopt_monitor_lock(&shared.pointee.monitor)
            shared.pointee.stops = true
            lopt_atomic_add(&shared.pointee.generation, 1)
            lopt_monitor_broadcast(&shared.pointee.monitor)
            lopt_monitor_unlock(&shared.pointee.monitor)
            for i in 0..<started { lopt_thread_join(threads[i].thread) }
        }
        lopt_monitor_destroy(&shared.pointee.monitor)
        allocator.deallocate(threads, workers)
        allocator.deallocate(shared, 1)
    }

    /// Threads that a step may use, the calling one included: those asked for until they are needed, then those that are there.
    var usable: Int { parallelFor == nil && hasTried ? 1 + ownThreads() : workers }

    var memoryBytes: Int { Allocator.bytes(Shared.self, 1) + Allocator.bytes(Worker.self, workers) }

    /// Own threads of this process. A monitor that a fork has copied may be held or waited at by threads that the child lacks: the
    /// child begins with a new one, and with no threads.
    private func ownThreads() -> Int {
        guard shared.pointee.started > 0 else { return 0 }
        let process = lopt_system_process()
        if shared.pointee.process != process {
            _ = lopt_monitor_init(&shared.pointee.monitor)
            shared.pointee.process = process
            shared.pointee.started = 0
        }
        return shared.pointee.started
    }

    /// Starts the threads that are not there yet, as far as the system gives them; see `refusal`.
    mutating func start() {
        guard parallelFor == nil else { return }
        hasTried = true
        refusal = 0
        var started = ownThreads()
        shared.pointee.process = lopt_system_process()
        while started < workers - 1 && refusal == 0 {
            threads[started] = Worker(
                shared: shared, number: started + 1, seen: lopt_atomic_load(&shared.pointee.generation))
            refusal = lopt_thread_start(&threads[started].thread, ThreadPool.threadBody, threads + started)
            if refusal == 0 { started += 1 }
            shared.pointee.started = started
        }
    }

    /// Calls body(context, i, worker) for i in 0 ..< count and returns when all are done.
    func run(_ count: Int, inline: Bool, _ context: UnsafeMutableRawPointer, _ body: @escaping Body) {
        if inline || count <= 1 || (parallelFor == nil ? ownThreads() == 0 : workers == 1) {
            for i in 0..<count { body(context, i, 0) }
            return
        }
        shared.pointee.count = count
        shared.pointee.body = body
        shared.pointee.context = context
        lopt_atomic_store(&shared.pointee.nextItem, 0)
        if let parallelFor {
            lopt_system_restore_float(hostFloat)
            parallelFor.run(
                parallelFor.context, Int32(min(workers, count)),
                { shared, worker in
                    guard let shared = shared?.assumingMemoryBound(to: Shared.self),
                        worker >= 0 && worker < shared.pointee.workers
                    else { return }
                    ThreadPool.drawItems(shared, Int(worker))
                }, shared)
            _ = lopt_system_enter_float()
            // What a hook that called too few tasks has left.
            ThreadPool.drawItems(shared, 0)
            return
        }
        lopt_atomic_store(&shared.pointee.running, Int64(shared.pointee.started))
        lopt_monitor_lock(&shared.pointee.monitor)
        lopt_atomic_add(&shared.pointee.generation, 1)
        lopt_monitor_broadcast(&shared.pointee.monitor)
        lopt_monitor_unlock(&shared.pointee.monitor)
        ThreadPool.drawItems(shared, 0)
        ThreadPool.wait(shared) { shared in lopt_atomic_load(&shared.pointee.running) == 0 }
    }

    private static func drawItems(_ shared: UnsafeMutablePointer<Shared>, _ worker: Int) {
        guard let body = shared.pointee.body, let context = shared.pointee.context else { return }
        let floatState = lopt_system_enter_float()
        let count = Int64(shared.pointee.count)
        while true {
            let item = lopt_atomic_add(&shared.pointee.nextItem, 1)
            if item >= count { break }
            body(context, Int(item), worker)
        }
        lopt_system_restore_float(floatState)
    }

    /// Spins for a while, then sleeps, until the condition holds.
    @inline(__always)
    private static func wait(
        _ shared: UnsafeMutablePointer<Shared>, until holds: (UnsafeMutablePointer<Shared>) -> Bool
    ) {
        for _ in 0..<spins {
            if holds(shared) { return }
            lopt_system_pause()
        }
        lopt_monitor_lock(&shared.pointee.monitor)
        while !holds(shared) { lopt_monitor_wait(&shared.pointee.monitor) }
        lopt_monitor_unlock(&shared.pointee.monitor)
    }

    private static let threadBody: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
        guard let worker = argument?.assumingMemoryBound(to: Worker.self) else { return nil }
        let shared = worker.pointee.shared
        let number = worker.pointee.number
        var seen = worker.pointee.seen
        lopt_thread_widen(Int32(shared.pointee.workers))
        while true {
            wait(shared) { shared in lopt_atomic_load(&shared.pointee.generation) != seen }
            if shared.pointee.stops { return nil }
            seen += 1
            drawItems(shared, number)
            if lopt_atomic_add(&shared.pointee.running, -1) == 1 {
                lopt_monitor_lock(&shared.pointee.monitor)
                lopt_monitor_broadcast(&shared.pointee.monitor)
                lopt_monitor_unlock(&shared.pointee.monitor)
            }
        }
    }
}
