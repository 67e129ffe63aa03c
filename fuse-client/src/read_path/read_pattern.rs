//! Tells sequential readers from others. Pure.

/// Reads of the kernel arrive a little out of order; this far, in bytes, is still in sequence.
const TOLERANCE: u64 = 2 << 20;

/// What a handle has read lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadPattern {
    next: u64,
    streak: u32,
}

impl ReadPattern {
    /// Notes a read; answers whether the reader goes through the file in order.
    pub fn observe(&mut self, offset: u64, length: u64) -> bool {
        let end = offset + length;
        let near = offset <= self.next.saturating_add(TOLERANCE) && end.saturating_add(TOLERANCE) >= self.next;
        if near && (end > self.next || self.streak > 1) {
            self.streak = self.streak.saturating_add(1);
            self.next = self.next.max(end);
        } else {
            self.streak = 0;
            self.next = end;
        }
        self.streak >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_is_sequential_and_jumps_are_not() {
        let mut pattern = ReadPattern::default();
        let verdicts: Vec<bool> = (0..4).map(|n| pattern.observe(n << 20, 1 << 20)).collect();
        assert_eq!(verdicts, [false, true, true, true]);
        assert!(!pattern.observe(1 << 30, 4096));
        assert!(!pattern.observe(1 << 20, 4096));
    }
}
