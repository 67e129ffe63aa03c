//! The locks of one owner on one file, as Linux keeps them: what is set replaces what was there,
//! neighbours of the same kind become one, and a hole in the middle makes two. Pure.

use crate::protocol::locks::LockRange;

/// Locked bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSpan {
    /// Which.
    pub range: LockRange,
    /// For writing.
    pub write: bool,
    /// The process that took them.
    pub pid: u32,
}

/// The locks of an owner (ascending, none touching another of the same kind) after a range of them is
/// locked, or unlocked if `set` is None.
pub fn replace(spans: &[LockSpan], range: LockRange, set: Option<(bool, u32)>) -> Vec<LockSpan> {
    let mut left: Vec<LockSpan> = Vec::with_capacity(spans.len() + 2);
    for span in spans {
        if !span.range.overlaps(range) {
            left.push(*span);
            continue;
        }
        if span.range.start < range.start {
            left.push(LockSpan { range: LockRange { start: span.range.start, end: range.start - 1 }, ..*span });
        }
        if span.range.end > range.end {
            left.push(LockSpan { range: LockRange { start: range.end + 1, end: span.range.end }, ..*span });
        }
    }
    if let Some((write, pid)) = set {
        left.push(LockSpan { range, write, pid });
    }
    left.sort_unstable_by_key(|span| span.range.start);
    let mut merged: Vec<LockSpan> = Vec::with_capacity(left.len());
    for span in left {
        match merged.last_mut() {
            Some(last) if last.write == span.write && last.range.end + 1 == span.range.start => {
                last.range.end = span.range.end;
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// Whether any byte of a range is locked.
pub fn holds_any(spans: &[LockSpan], range: LockRange) -> bool {
    spans.iter().any(|span| span.range.overlaps(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: u64 = 24;

    /// Every byte by itself: None, or whether it is locked for writing.
    type Model = [Option<bool>; BYTES as usize];

    fn model_of(spans: &[LockSpan]) -> Model {
        let mut model = [None; BYTES as usize];
        for span in spans {
            for byte in span.range.start..=span.range.end {
                assert!(model[byte as usize].replace(span.write).is_none(), "{spans:?} overlap");
            }
        }
        model
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranges_are_what_every_byte_by_itself_would_be(
            steps in prop::collection::vec((0..BYTES, 0..BYTES, prop::option::of(any::<bool>())), 1..40)
        ) {
            let (mut spans, mut model): (Vec<LockSpan>, Model) = (Vec::new(), [None; BYTES as usize]);
            for (a, b, set) in steps {
                let range = LockRange { start: a.min(b), end: a.max(b) };
                let before = holds_any(&spans, range);
                prop_assert_eq!(before, (range.start..=range.end).any(|byte| model[byte as usize].is_some()));
                spans = replace(&spans, range, set.map(|write| (write, 7)));
                for byte in range.start..=range.end {
                    model[byte as usize] = set;
                }
                prop_assert_eq!(model_of(&spans), model);
                for pair in spans.windows(2) {
                    prop_assert!(pair[0].range.end < pair[1].range.start, "{:?} are out of order", &spans);
                    let touch = pair[0].range.end + 1 == pair[1].range.start;
                    prop_assert!(!(touch && pair[0].write == pair[1].write), "{:?} could be fewer", &spans);
                }
            }
        }
    }

    #[test]
    fn the_end_of_all_offsets_is_no_edge() {
        let whole = replace(&[], LockRange::WHOLE, Some((true, 1)));
        let cut = replace(&whole, LockRange { start: 10, end: LockRange::LAST }, None);
        assert_eq!(cut, [LockSpan { range: LockRange { start: 0, end: 9 }, write: true, pid: 1 }]);
        assert_eq!(replace(&cut, LockRange { start: 10, end: LockRange::LAST }, Some((true, 1))), whole);
    }
}
