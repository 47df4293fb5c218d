/// A guard against steps that would wreck a tensor: RMS(u + w) <= ratio max(RMS(p), 1e-3), kept by scaling u and w, the
/// learning-rate scale included, with one number for the tensor. Decay is neither counted nor scaled. p is that before the
/// step. The least parameter size is that of Adafactor's relative step (Shazeer and Stern, 2018, section 8), so that
/// tensors that start at 0 can move.
///
/// With a guard u and w are measured in passes that write nothing, then applied (`StepPlan`). An update that is not finite is
/// not applied at all, and the tensor stays as it is.
public enum UpdateLimit {
    static let leastParameterRMS = 1e-3

    /// What u and w are to be multiplied by; 0: the tensor stays as it is. `update` and `parameter` are mean squares.
    public static func factor(ratio: Double, update: Double, parameter: Double) -> Double {
        let size = max(update, 0).squareRoot(), most = ratio * max(parameter.squareRoot(), leastParameterRMS)
        if !size.isFinite || !update.isFinite { return 0 }
        return size > most ? most / size : 1
    }
}
