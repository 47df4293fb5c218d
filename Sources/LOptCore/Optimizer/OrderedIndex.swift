/// The numbers of tensors in some order of the tensors, to be found in log n steps.
///
/// A treap (Seidel and Aragon, "Randomized Search Trees", 1996): a search tree that is a heap of pseudo-random priorities too,
/// which keeps it as flat as insertions in random order would, whatever the order of the insertions. What the order is, the
/// caller says in each call, always the same. The links lie in the tensors, so nothing is allocated.
struct OrderedIndex {
    /// Of the two numbers in `TensorPlace.links` that are this tree's.
    let slot: Int
    private var root: Int32 = -1

    init(slot: Int) { self.slot = slot }

    /// Where a link is: that of a tensor to those before (0) or after it (1), or the root.
    private struct Place {
        var tensor: Int32 = -1
        var side = 0
    }

    private func get(_ place: Place, _ tensors: UnsafePointer<Tensor>) -> Int32 {
        place.tensor < 0 ? root : tensors[Int(place.tensor)].place.links[slot + place.side]
    }

    private mutating func set(_ place: Place, _ tensor: Int32, _ tensors: UnsafeMutablePointer<Tensor>) {
        if place.tensor < 0 {
            root = tensor
        } else {
            tensors[Int(place.tensor)].place.links[slot + place.side] = tensor
        }
    }

    /// A bijection, so that no two are equal.
    private func priority(_ i: Int32) -> UInt64 {
        var x = UInt64(UInt32(bitPattern: i)) &* 0x9e37_79b9_7f4a_7c15
        x ^= x >> 32
        x &*= 0xd6e8_feb8_6659_fd93
        return x ^ (x >> 32)
    }

    /// The tensor for which `compare` is 0; it is negative for those before and positive for those after.
    func find(_ tensors: UnsafePointer<Tensor>, _ compare: (Tensor) -> Int) -> Int? {
        var at = root
        while at >= 0 {
            let order = compare(tensors[Int(at)])
            if order == 0 { return Int(at) }
            at = get(Place(tensor: at, side: order < 0 ? 1 : 0), tensors)
        }
        return nil
    }

    /// Adds a tensor that is not in it; `precedes` says of one that is whether it comes before.
    mutating func insert(_ new: Int, _ tensors: UnsafeMutablePointer<Tensor>, _ precedes: (Tensor) -> Bool) {
        let new = Int32(new)
        var place = Place()
        var rest = root
        while rest >= 0, priority(rest) > priority(new) {
            place = Place(tensor: rest, side: precedes(tensors[Int(rest)]) ? 1 : 0)
            rest = get(place, tensors)
        }
        // It takes this place; what hung there is split into what comes before and what comes after.
        set(place, new, tensors)
        var before = Place(tensor: new, side: 0), after = Place(tensor: new, side: 1)
        while rest >= 0 {
            let isBefore = precedes(tensors[Int(rest)])
            set(isBefore ? before : after, rest, tensors)
            place = Place(tensor: rest, side: isBefore ? 1 : 0)
            if isBefore { before = place } else { after = place }
            rest = get(place, tensors)
        }
        set(before, -1, tensors)
        set(after, -1, tensors)
    }

    /// Takes a tensor out that is in it.
    mutating func remove(_ old: Int, _ tensors: UnsafeMutablePointer<Tensor>, _ precedes: (Tensor) -> Bool) {
        let old = Int32(old)
        var place = Place()
        while true {
            let at = get(place, tensors)
            if at == old { break }
            place = Place(tensor: at, side: precedes(tensors[Int(at)]) ? 1 : 0)
        }
        var before = get(Place(tensor: old, side: 0), tensors), after = get(Place(tensor: old, side: 1), tensors)
        while before >= 0, after >= 0 {
            let isBefore = priority(before) > priority(after), upper = isBefore ? before : after
            set(place, upper, tensors)
            place = Place(tensor: upper, side: isBefore ? 1 : 0)
            if isBefore { before = get(place, tensors) } else { after = get(place, tensors) }
        }
        set(place, max(before, after), tensors)
    }
}
