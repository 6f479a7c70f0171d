//! The plan as text, for `ship plan`.
