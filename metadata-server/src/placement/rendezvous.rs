//! Scores of weighted rendezvous hashing: a pseudo-random number for each (row, candidate), from
//! integers only, so that the same table comes out on every machine and in every version.

/// Mixes 64 bits (the finalizer of SplitMix64, Steele, Lea & Flood, 2014).
pub(super) fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Seed of a candidate that has a name.
pub(super) fn name_seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| mix(hash ^ u64::from(byte)))
}

/// Seed of a candidate that has a number; `kind` keeps nodes and disks apart.
pub(super) fn number_seed(kind: u64, number: u32) -> u64 {
    mix((kind << 32) ^ u64::from(number))
}

/// An exponentially distributed number for a row and a candidate; the candidate with the greatest
/// `weight / exponential` wins with a probability proportional to its weight.
pub(super) fn exponential(row: u32, seed: u64) -> f64 {
    let bits = mix(seed ^ mix(u64::from(row))) >> 11;
    // (bits + 0.5) / 2^53 lies strictly between 0 and 1, so the logarithm is finite and not zero.
    -(((bits as f64) + 0.5) / 9_007_199_254_740_992.0).ln()
}
