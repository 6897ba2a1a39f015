//! Feature pages as files, and as a browser shows them.

mod browser;
mod explanations;
mod exports;
mod features;
mod labels;
mod pages;
mod pictures;
mod reports;
mod tasks;
mod unfinished;
