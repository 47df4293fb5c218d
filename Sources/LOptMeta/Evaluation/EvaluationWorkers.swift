import Foundation

/// How far an evaluation is.
public struct EvaluationProgress: Sendable {
    public let runs: Int
    public let allRuns: Int
    /// Of the expected cost, in 0 ... 1.
    public let share: Double
    public let elapsed: TimeInterval
    public var remaining: TimeInterval? { share > 0 ? elapsed * (1 - share) / share : nil }
    /// As `12 min`.
    public var remainingText: String? { remaining.map { Format.duration($0) } }
}

/// Threads that take jobs off a list until it is empty or one has failed.
final class EvaluationWorkers: Sendable {
    private struct State {
        var next = 0
        var finished = 0
        var cost = 0.0
        var lastReport = Date()
        var error: (any Error)?
    }
    private let jobs: [Job]
    private let log: RunLog
    private let report: @Sendable (EvaluationProgress) -> Void
    private let start = Date()
    private let totalCost: Double
    private let state = Locked(State())
    private static let secondsBetweenReports = 5.0

    init(jobs: [Job], log: RunLog, report: @escaping @Sendable (EvaluationProgress) -> Void) {
        (self.jobs, self.log, self.report) = (jobs, log, report)
        totalCost = jobs.reduce(0) { $0 + $1.cost }
    }

    /// Returns when all threads are done; throws what the first failed job threw.
    func run(threads: Int) throws {
        if !jobs.isEmpty { report(EvaluationProgress(runs: 0, allRuns: jobs.count, share: 0, elapsed: 0)) }
        let group = DispatchGroup()
        for _ in 0..<min(threads, jobs.count) {
            group.enter()
            let thread = Thread { [self] in
                while let job = take() { make(job) }
                group.leave()
            }
            thread.stackSize = 8 << 20
            thread.start()
        }
        group.wait()
        if let error = state.withLock({ $0.error }) { throw error }
    }

    private func take() -> Job? {
        state.withLock {
            guard $0.error == nil, $0.next < jobs.count else { return nil }
            $0.next += 1
            return jobs[$0.next - 1]
        }
    }

    private func make(_ job: Job) {
        let outcome = Result { try log.add(job.run()) }
        let progress: EvaluationProgress? = state.withLock {
            if case .failure(let error) = outcome, $0.error == nil { $0.error = error }
            $0.finished += 1
            $0.cost += job.cost
            let now = Date()
            guard now.timeIntervalSince($0.lastReport) >= EvaluationWorkers.secondsBetweenReports else { return nil }
            $0.lastReport = now
            return EvaluationProgress(
                runs: $0.finished, allRuns: jobs.count, share: $0.cost / totalCost,
                elapsed: now.timeIntervalSince(start))
        }
        if let progress { report(progress) }
    }
}
