//! `xtask sweep` as a user meets it: real runs, real kills, a real scheduler.

mod bench;
mod cluster;
mod commands;
mod faults;
mod halving;
mod identity;
mod kills;
mod npy;
mod pages;
mod reports;
mod share;
mod slurm;
mod slurm_ends;
mod streams;
