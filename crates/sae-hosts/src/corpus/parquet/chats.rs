//! The messages of chats, row by row.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::Number;

use super::super::json::Json;
use super::super::record::{Record, Records, at_record};
use super::damaged;
use crate::{Error, Result};

struct Chats {
    path: PathBuf,
    group: usize,
    rows: RowIter<'static>,
    at: u64,
    n_rows: u64,
}

impl std::fmt::Debug for Chats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chats").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens the field of a row group behind its first `skip` rows.
pub(super) fn open(path: &Path, group: usize, index: usize, skip: u64) -> Result<Box<dyn Records>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let only = Box::new(move |_: &_, number: usize| number == group);
    let options = ReadOptionsBuilder::new().with_predicate(only).build();
    let reader =
        SerializedFileReader::new_with_options(file, options).map_err(damaged(path, "content"))?;
    let metadata = reader.metadata();
    let n_rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    let schema = metadata.file_metadata().schema_descr().root_schema();
    let field = Arc::clone(&schema.get_fields()[index]);
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![field])
        .build()
        .map_err(damaged(path, "schema"))?;
    let rows = RowIter::from_file_into(Box::new(reader))
        .project(Some(projection))
        .map_err(damaged(path, "schema"))?
        .with_batch_size(64);
    let path = path.to_path_buf();
    let n_rows = u64::try_from(n_rows).unwrap_or(0);
    let mut chats = Chats { path, group, rows, at: 0, n_rows };
    for _ in 0..skip {
        if chats.row()?.is_none() {
            let expected = format!("at least {skip} in row group {group}");
            return Err(Error::file(&chats.path, "rows", expected, chats.at));
        }
    }
    Ok(Box::new(chats))
}

impl Chats {
    fn row(&mut self) -> Result<Option<Row>> {
        let place = self.place();
        let row = self.rows.next().transpose().map_err(damaged(&self.path, place))?;
        self.at += u64::from(row.is_some());
        Ok(row)
    }

    fn place(&self) -> String {
        format!("row {} of row group {}", self.at, self.group)
    }
}

impl Records for Chats {
    fn next(&mut self) -> Result<Option<Result<Record>>> {
        let place = self.place();
        let Some(row) = self.row()? else { return Ok(None) };
        let messages = row.into_columns().into_iter().next();
        let messages = messages.map_or(Ok(Json::Null), |(_, field)| json(&field));
        let record = messages.and_then(|messages| Record::from_json(messages, true));
        let expected = Record::expected(true);
        Ok(Some(record.map_err(|got| at_record(&self.path, place, expected, got))))
    }

    fn fraction(&self) -> f64 {
        (self.at as f64 / self.n_rows.max(1) as f64).min(1.0)
    }
}

/// The value of JSON that a field is; else its type.
fn json(field: &Field) -> Result<Json, String> {
    let float = |number: f64| match Number::from_f64(number) {
        Some(number) => Ok(Json::Number(number)),
        None => Err(format!("the number {number}")),
    };
    Ok(match field {
        Field::Null => Json::Null,
        Field::Bool(value) => Json::Bool(*value),
        Field::Byte(value) => Json::Number((*value).into()),
        Field::Short(value) => Json::Number((*value).into()),
        Field::Int(value) => Json::Number((*value).into()),
        Field::Long(value) => Json::Number((*value).into()),
        Field::UByte(value) => Json::Number((*value).into()),
        Field::UShort(value) => Json::Number((*value).into()),
        Field::UInt(value) => Json::Number((*value).into()),
        Field::ULong(value) => Json::Number((*value).into()),
        Field::Float(value) => float(f64::from(*value))?,
        Field::Double(value) => float(*value)?,
        Field::Str(text) => Json::Text(text.clone()),
        Field::Group(row) => {
            let entry = |(name, field): (&String, &Field)| Ok((name.clone(), json(field)?));
            Json::Object(row.get_column_iter().map(entry).collect::<Result<_, String>>()?)
        }
        Field::ListInternal(list) => {
            Json::List(list.elements().iter().map(json).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a value of another type: {other}")),
    })
}
