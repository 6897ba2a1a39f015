//! The softsae command line: one process, one job
fn main() {}
