//! The values of one leaf column, page by page.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::reader::RowGroupReader;

use super::super::record::{Record, Records, at_record};
use super::{damaged, is_optional, is_unsigned};
use crate::{Error, Result};

/// Rows decoded at once.
const BATCH: usize = 64;

/// Opens the column behind its first `skip` rows.
pub(super) fn open(
    path: &Path,
    group: usize,
    reader: &dyn RowGroupReader,
    leaf: usize,
    skip: u64,
) -> Result<Box<dyn Records>> {
    let schema = reader.metadata().schema_descr_ptr();
    let descriptor = schema.column(leaf);
    let levels = Levels {
        value: descriptor.max_def_level(),
        element: descriptor.max_def_level() - i16::from(is_optional(&descriptor)),
    };
    let is_unsigned = is_unsigned(&descriptor);
    let n_rows = u64::try_from(reader.metadata().num_rows()).unwrap_or(0);
    let column = reader.get_column_reader(leaf).map_err(damaged(path, "column"))?;
    let path = path.to_path_buf();
    let rows = Rows { path, group, levels, is_unsigned, at: 0, n_rows };
    match column {
        ColumnReader::ByteArrayColumnReader(_) => {
            Leaf::<ByteArrayType>::open(rows, column, skip, texts)
        }
        ColumnReader::Int32ColumnReader(_) => Leaf::<Int32Type>::open(rows, column, skip, lists),
        _ => Leaf::<Int64Type>::open(rows, column, skip, lists),
    }
}

/// The definition levels of a value, and of an element of a list that may be null.
#[derive(Debug, Clone, Copy)]
struct Levels {
    value: i16,
    element: i16,
}

/// The rows of a row group, as messages name them.
#[derive(Debug)]
struct Rows {
    path: PathBuf,
    group: usize,
    levels: Levels,
    /// Whether numbers are read without a sign.
    is_unsigned: bool,
    /// Rows decoded.
    at: u64,
    n_rows: u64,
}

impl Rows {
    /// The place of the row that is decoded next, and of those after it.
    fn place(&self, ahead: usize) -> String {
        format!("row {} of row group {}", self.at + ahead as u64, self.group)
    }

    fn wrong(&self, ahead: usize, expected: &str, got: impl std::fmt::Display) -> Error {
        at_record(&self.path, self.place(ahead), expected, got)
    }
}

/// What was decoded of some rows: their levels and values that are not null.
struct Decoded<T> {
    n_rows: usize,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    values: Vec<T>,
}

/// Makes records of what was decoded.
type Assemble<T> = fn(&Rows, Decoded<T>) -> Result<Vec<Result<Record>>>;

struct Leaf<T: DataType> {
    rows: Rows,
    column: ColumnReaderImpl<T>,
    assemble: Assemble<T::T>,
    ready: VecDeque<Result<Record>>,
}

impl<T: DataType> std::fmt::Debug for Leaf<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<T: DataType> Leaf<T> {
    fn open(
        mut rows: Rows,
        column: ColumnReader,
        skip: u64,
        assemble: Assemble<T::T>,
    ) -> Result<Box<dyn Records>> {
        let mut column = get_typed_column_reader::<T>(column);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let skipped = column.skip_records(skip).map_err(damaged(&rows.path, rows.place(0)))?;
        rows.at = skipped as u64;
        if skipped != skip {
            let expected = format!("at least {skip} in row group {}", rows.group);
            return Err(Error::file(&rows.path, "rows", expected, skipped));
        }
        Ok(Box::new(Self { rows, column, assemble, ready: VecDeque::new() }))
    }

    fn decode(&mut self) -> Result<()> {
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let read = self.column.read_records(
            BATCH,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        );
        let (n_rows, ..) = read.map_err(damaged(&self.rows.path, self.rows.place(0)))?;
        if n_rows == 0 {
            return match self.rows.at == self.rows.n_rows {
                true => Ok(()),
                false => Err(self.rows.wrong(0, "as many rows as the footer says", "the end")),
            };
        }
        let decoded = Decoded { n_rows, definitions, repetitions, values };
        let records = (self.assemble)(&self.rows, decoded)?;
        self.rows.at += n_rows as u64;
        self.ready.extend(records);
        Ok(())
    }
}

impl<T: DataType> Records for Leaf<T>
where
    ColumnReaderImpl<T>: Send,
{
    fn next(&mut self) -> Result<Option<Result<Record>>> {
        if self.ready.is_empty() {
            self.decode()?;
        }
        Ok(self.ready.pop_front())
    }

    fn fraction(&self) -> f64 {
        (self.rows.at as f64 / self.rows.n_rows.max(1) as f64).min(1.0)
    }
}

/// A text a row.
fn texts(
    rows: &Rows,
    decoded: Decoded<parquet::data_type::ByteArray>,
) -> Result<Vec<Result<Record>>> {
    let mut values = decoded.values.into_iter();
    let mut records = Vec::with_capacity(decoded.n_rows);
    for row in 0..decoded.n_rows {
        let is_null = decoded.definitions.get(row).is_some_and(|level| *level < rows.levels.value);
        if is_null {
            records.push(Err(rows.wrong(row, "a text", "null")));
            continue;
        }
        let value = values.next().ok_or_else(|| rows.wrong(row, "a value", "none"))?;
        records.push(match std::str::from_utf8(value.data()) {
            Ok(text) => Ok(Record::Text(text.to_owned())),
            Err(error) => {
                let got = format!("an invalid byte at offset {}", error.valid_up_to());
                Err(rows.wrong(row, "UTF-8 text", got))
            }
        });
    }
    Ok(records)
}

/// A list of token ids a row.
fn lists<T: Into<i64> + Copy>(rows: &Rows, decoded: Decoded<T>) -> Result<Vec<Result<Record>>> {
    let mut values = decoded.values.into_iter();
    let mut records: Vec<Result<Vec<u32>>> = Vec::with_capacity(decoded.n_rows);
    let levels = decoded.definitions.iter().zip(&decoded.repetitions);
    for (definition, repetition) in levels {
        if *repetition == 0 {
            records.push(Ok(Vec::new()));
        }
        let row = records.len().saturating_sub(1);
        let wrong = |got: String| rows.wrong(row, "a list of token ids of 32 bits", got);
        let record = records.last_mut().ok_or_else(|| wrong("half a list".to_owned()))?;
        if *definition == rows.levels.value {
            let value: i64 = values.next().ok_or_else(|| wrong("fewer values".to_owned()))?.into();
            let mut value = i128::from(value);
            if value < 0 && rows.is_unsigned {
                value += 1 << (8 * size_of::<T>());
            }
            match (u32::try_from(value), record.as_mut()) {
                (Ok(id), Ok(ids)) => ids.push(id),
                (Err(_), Ok(_)) => *record = Err(wrong(value.to_string())),
                (_, Err(_)) => {}
            }
        } else if *definition != rows.levels.element - 1 {
            // Below the level of an empty list it is null, above it an element is.
            *record = Err(wrong("null".to_owned()));
        }
    }
    if records.len() != decoded.n_rows {
        return Err(rows.wrong(0, "whole lists", "half a list"));
    }
    Ok(records.into_iter().map(|ids| ids.map(Record::Ids)).collect())
}
