//! argv to exit code (under construction).
fn main() {}
