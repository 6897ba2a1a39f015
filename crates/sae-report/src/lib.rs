//! The HTML report of a sweep, from its result files
