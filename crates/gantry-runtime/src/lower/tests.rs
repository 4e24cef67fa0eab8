//! Lowering, as text.
