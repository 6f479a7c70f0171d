//! Integration tests, one binary.

mod demo;
mod session;
