//! Sizes of tests: small by default, as CI runs them; `docs/testing.md` has the full ones.

/// The number in the environment variable, or the default of CI.
///
/// # Panics
/// If the variable is no number.
pub fn size(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
        Err(_) => default,
    }
}
