//! An in-memory engine for tests and simulation, with the crash semantics of the real one.
