//! Waiting for a condition, always with a bound.

use std::time::{Duration, Instant};

/// Asks until the answer is `Some`.
///
/// # Panics
/// If there is none within the bound: the message says what was waited for.
pub fn wait_for<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes the kernel forget cached pages, names and inodes of every file system, as far as it may.
pub fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("mounted tests run as root");
}
