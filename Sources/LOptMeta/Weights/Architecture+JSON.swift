import LOptCore

/// JSON under the keys of a weights file's metadata, and the extensions that are tensors as truth values under the names of
/// these. A key that is absent has the default of the authors' constructor. Whether the values are allowed is checked by `checked`
/// and by `Weights`.
extension Architecture: Codable {
    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }

        static let kind = Key(stringValue: "kind")
        /// A file has a list of one there.
        static let rmsDecay = Key(stringValue: "initial_rms_decay")

        init(_ item: ConstructorValue) { self = item.isSingleInList ? .rmsDecay : Key(stringValue: "\(item.key)") }
        init(_ block: MetaParameterBlock) { stringValue = String(block.name) }
    }

    public init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: Key.self)
        func fault(_ line: String) -> DecodingError {
            .dataCorrupted(DecodingError.Context(codingPath: decoder.codingPath, debugDescription: line))
        }
        if let name = try container.decodeIfPresent(String.self, forKey: .kind) {
            guard let kind = Kind.all.first(where: { "\($0.name)" == name }) else {
                throw fault("kind is '\(name)'; allowed are \(Kind.all.map { "\($0.name)" }.joined(separator: ", "))")
            }
            self.init(kind)
        }
        func read(_ item: inout ConstructorValue) throws {
            let key = Key(item)
            guard container.contains(key) else { return }
            switch item.form {
            case .integer: item.values[0] = Double(try container.decode(Int.self, forKey: key))
            case .number: item.values[0] = try container.decode(Double.self, forKey: key)
            case .flag: item.values[0] = try container.decode(Bool.self, forKey: key) ? 1 : 0
            case .estimator:
                let name = try container.decode(String.self, forKey: key)
                guard let one = NominalEstimator.all.first(where: { "\($0.name)" == name }) else {
                    throw fault("\(item.key) is '\(name)'; allowed is \(String(item.expectation))")
                }
                item.values[0] = Double(one.rawValue)
            case .list:
                let list = item.isSingleInList
                    ? [try container.decode(Double.self, forKey: key)] : try container.decode([Double].self, forKey: key)
                guard item.lengths.contains(list.count) else {
                    throw fault("\(item.key) has \(list.count) values; allowed is \(String(item.expectation))")
                }
                item.values = .zero
                item.count = list.count
                for (i, value) in list.enumerated() { item.values[i] = value }
            }
        }
        var first: (any Error)?
        do throws(LOptError) {
            try forEachValue(ofEveryKind: true) { item throws(LOptError) in
                do { try read(&item) } catch { first = first ?? error }
            }
        } catch {
            first = first ?? fault("\(error)")
        }
        if let first { throw first }
        for which in Extension.all {
            if let isOn = try container.decodeIfPresent(Bool.self, forKey: Key(block(of: which))) { self[which] = isOn }
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode("\(kind.name)", forKey: .kind)
        for item in values(ofEveryKind: true) {
            let key = Key(item)
            switch item.form {
            case .integer: try container.encode(Int(item.values[0]), forKey: key)
            case .number: try container.encode(item.values[0], forKey: key)
            case .flag: try container.encode(item.values[0] == 1, forKey: key)
            case .estimator: try container.encode(item.text, forKey: key)
            case .list where item.isSingleInList: try container.encode(item.values[0], forKey: key)
            case .list: try container.encode((0..<item.count).map { item.values[$0] }, forKey: key)
            }
        }
        for which in Extension.all { try container.encode(self[which], forKey: Key(block(of: which))) }
    }
}

extension ConstructorValue {
    fileprivate var isSingleInList: Bool { form == .list && lengths == 1...1 }
}
