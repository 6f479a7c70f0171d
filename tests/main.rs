//! Integration tests, one binary.

mod session;
