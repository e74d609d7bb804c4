//! Deterministic simulation of the agreement.
#[test]
fn nothing() {}
