//! Sets up libtorch, runs sweeps, tests, benches and checks.
fn main() {}
