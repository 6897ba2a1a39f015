//! Files of the Hugging Face hub: pinned to a commit, downloaded once, checked.
//!
#![doc = include_str!("../README.md")]

mod cache;
mod client;
mod download;
mod error;
mod hub;
mod reference;

pub use client::Patience;
pub use error::{Error, Result};
pub use hub::{Hub, Listing, go_offline};
pub use reference::{Kind, Reference};
