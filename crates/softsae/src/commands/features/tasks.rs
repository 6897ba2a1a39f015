//! `softsae features tasks`: what a judge of features is asked, with the right answers.

use std::io::Write as _;

use sae_report::{SavedFeatures, Tasks};

use super::super::{check_apart, locked_file};
use super::chosen::chosen;
use crate::cli::FeaturesTasksArgs;
use crate::failure::{Blame as _, Failure};
use crate::output::say;

pub(super) fn run(args: &FeaturesTasksArgs) -> Result<(), Failure> {
    check_apart(&args.out, &[&args.pages])?;
    let pages = SavedFeatures::open(&args.pages).or_usage()?;
    let numbers = chosen(&args.chosen, &pages)?;
    let mut tasks = Tasks::open(&pages).or_usage()?;
    let _lock = locked_file(&args.out)?;
    let mut file = atomic_write_file::AtomicWriteFile::open(&args.out).or_run()?;
    let mut n_written = 0;
    for feature in &numbers {
        if let Some(task) = tasks.of(*feature).or_usage()? {
            let mut line = serde_json::to_vec(&task).or_run()?;
            line.push(b'\n');
            file.write_all(&line).or_run()?;
            n_written += 1;
        }
    }
    file.commit().or_run()?;
    say!("{}: {}", args.out.display(), told(n_written, numbers.len()));
    Ok(())
}

/// How many features there are tasks of.
pub(super) fn told(n: usize, of: usize) -> String {
    match of - n {
        0 => format!("{n} features"),
        left => format!("{n} features; {left} more have no contexts to judge by"),
    }
}
