//! Which disk holds which partition: pure functions.
