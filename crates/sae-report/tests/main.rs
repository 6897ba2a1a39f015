//! Feature pages as files, and as a browser shows them.

mod browser;
mod exports;
mod features;
mod pages;
mod reports;
