//! What all nodes agree on.
