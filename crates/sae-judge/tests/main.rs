//! A judge behind a real socket, which answers by rule and fails as told.

mod judge;
mod server;
mod support;
