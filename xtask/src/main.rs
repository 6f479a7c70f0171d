//! The project's own chores (under construction).
fn main() {}
