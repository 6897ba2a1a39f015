//! The hub against a server on loopback that answers as the real one does.

mod hub;
mod server;
