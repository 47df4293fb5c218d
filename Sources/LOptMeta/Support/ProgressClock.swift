/// Says when it is time for another line on how far something is, and how long what is left will take.
public struct ProgressClock {
    private let interval: Duration
    /// Up to the last line, without pauses.
    private var elapsed = Duration.zero
    private var last = ContinuousClock.now

    public init(every interval: Duration = .seconds(5)) { self.interval = interval }

    /// nil until the interval has passed since the last time.
    ///
    /// - Parameter share: of what there was to do when the clock was made, what is done: 0 to 1.
    /// - Returns: seconds since the last time, and what is left as `40 s`, `12 min` or `3.5 h`.
    public mutating func tick(_ share: Double) -> (seconds: Double, left: String)? {
        let passed = ContinuousClock.now - last
        guard passed >= interval else { return nil }
        elapsed += passed
        last += passed
        return (passed / .seconds(1), ProgressClock.text(elapsed / .seconds(1) * (1 / max(share, 1e-9) - 1)))
    }

    /// After a pause that does not count.
    public mutating func restart() { last = .now }

    private static func text(_ seconds: Double) -> String {
        let minutes = (seconds / 60).rounded(.up)
        if seconds < 60 { return "\(Int(seconds.rounded(.up))) s" }
        return minutes < 120 ? "\(Int(minutes)) min" : "\((seconds / 360).rounded() / 10) h"
    }
}
