//! Traces and metrics.
