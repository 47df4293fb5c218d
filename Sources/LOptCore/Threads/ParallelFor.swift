/// A caller's own threads, as `lopt_parallel_for` has them.
public struct ParallelFor {
    /// (context of the task, number).
    public typealias Task = @convention(c) (UnsafeMutableRawPointer?, Int32) -> Void
    /// (context, how many tasks, the task, its context).
    public typealias Run = @convention(c) (UnsafeMutableRawPointer?, Int32, Task?, UnsafeMutableRawPointer?) -> Void

    /// Calls the task once for every number from 0 on, on any threads, and returns when all have returned.
    let run: Run
    let context: UnsafeMutableRawPointer?

    public init(run: @escaping Run, context: UnsafeMutableRawPointer?) { (self.run, self.context) = (run, context) }
}
