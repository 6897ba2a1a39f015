//! Metrics against golden numbers, properties, real SAEs over stores and hosts.

mod golden;
