//! Feature pages as files, and as a browser shows them.

mod browser;
mod features;
mod pages;
