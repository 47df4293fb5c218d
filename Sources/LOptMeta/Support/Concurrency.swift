/// Runs jobs, at most `threads` at a time, until `next` has none and none is left running.
///
/// `next` and `take` are called in turn, never at once and never while the caller goes on, so they may share variables: what becomes of
/// one job may decide which the next is.
func runConcurrently<Value: Sendable>(
    threads: Int, next: () -> (@Sendable () -> Value)?, take: (Value) -> Void
) async {
    await withTaskGroup(of: Value.self) { group in
        var running = 0
        while true {
            while running < max(threads, 1), let job = next() {
                group.addTask { job() }
                running += 1
            }
            guard let value = await group.next() else { return }
            running -= 1
            take(value)
        }
    }
}

/// What `body` makes of each item, in the order of the items, at most `threads` at a time.
///
/// - Parameter goOn: told each result as it comes, one at a time; after false no item is begun, and those that were are waited for.
func concurrentMap<Item: Sendable, Value: Sendable>(
    _ items: [Item], threads: Int, _ body: @escaping @Sendable (Item) -> Value, goOn: (Item, Value) -> Bool = { _, _ in true }
) async -> [Value] {
    var values = [Value?](repeating: nil, count: items.count)
    var begun = 0, isStopped = false
    await runConcurrently(threads: threads) { () -> (@Sendable () -> (Int, Value))? in
        guard !isStopped, begun < items.count else { return nil }
        let (i, item) = (begun, items[begun])
        begun += 1
        return { (i, body(item)) }
    } take: { (i: Int, value: Value) in
        values[i] = value
        if !goOn(items[i], value) { isStopped = true }
    }
    return values.compactMap { $0 }
}

/// The same; throws what `body` or `done`, which is told each result as it comes, threw first.
func concurrentMap<Item: Sendable, Value: Sendable>(
    _ items: [Item], threads: Int, _ body: @escaping @Sendable (Item) throws -> Value, done: (Item, Value) throws -> Void
) async throws -> [Value] {
    var failure: (any Error)?
    let results = await concurrentMap(items, threads: threads) { item in Result { try body(item) } } goOn: { item, result in
        do { try done(item, result.get()) } catch { failure = failure ?? error }
        return failure == nil
    }
    if let failure { throw failure }
    return try results.map { try $0.get() }
}
