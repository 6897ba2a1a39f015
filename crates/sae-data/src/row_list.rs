//! Lists of row numbers in text files.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use crate::{Error, Result};

/// The numbers of a text file, one a line, each of a row out of `n_rows`; empty lines and a
/// byte-order mark are passed over.
///
/// # Errors
/// A file that cannot be read or has no number; a line that is no number of a row, by its number.
pub fn read_row_list(path: &Path, n_rows: u64) -> Result<Vec<u64>> {
    let mut rows = Vec::new();
    for (i, line) in BufReader::new(File::open(path).map_err(Error::io(path))?).lines().enumerate()
    {
        let line = line.map_err(Error::io(path))?;
        let line = if i == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        let number = line.trim();
        if number.is_empty() {
            continue;
        }
        let row = number.parse().ok().filter(|&row| row < n_rows);
        rows.push(row.ok_or_else(|| {
            let place = format!("{}: line {}", path.display(), i + 1);
            Error::value(place, format!("a row number, from 0, of at most {n_rows} rows"), number)
        })?);
    }
    if rows.is_empty() {
        return Err(Error::format(path, "at least one row number", "none"));
    }
    Ok(rows)
}
