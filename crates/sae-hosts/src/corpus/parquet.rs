//! Parquet by column: texts, lists of token ids, chats.

mod chats;
mod columns;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::record::Records;
use crate::{Error, Result};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// A text; the number of its leaf.
    Text(usize),
    /// A list of token ids; the number of its leaf.
    Ids(usize),
    /// Messages of a chat; the number of the field.
    Chat(usize),
}

/// The bytes of each row group of a file, as far as the column takes them; the error within is
/// that of a damaged file.
///
/// # Errors
/// [`Error::File`] if the column is not there or of another type.
pub(super) fn row_groups(path: &Path, field: &str, is_chat: bool) -> Result<Result<Vec<u64>>> {
    let reader = match open_file(path) {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let metadata = reader.metadata();
    let schema = metadata.file_metadata().schema_descr();
    Column::find(path, schema, field, is_chat)?;
    let leaves: Vec<usize> = leaves(schema, field).collect();
    let size = |group: &parquet::file::metadata::RowGroupMetaData| {
        let sizes = leaves.iter().map(|leaf| group.column(*leaf).compressed_size());
        sizes.map(|size| u64::try_from(size).unwrap_or(0)).sum()
    };
    Ok(Ok(metadata.row_groups().iter().map(size).collect()))
}

/// Opens a row group behind its first `skip` rows.
pub(super) fn open(
    path: &Path,
    group: usize,
    field: &str,
    is_chat: bool,
    skip: u64,
) -> Result<Box<dyn Records>> {
    let reader = open_file(path)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    if group >= reader.num_row_groups() {
        let expected = format!("more than {group}");
        return Err(Error::file(path, "row groups", expected, reader.num_row_groups()));
    }
    match Column::find(path, &schema, field, is_chat)? {
        Column::Chat(index) => chats::open(path, group, index, skip),
        Column::Text(leaf) | Column::Ids(leaf) => {
            let reader = reader.get_row_group(group).map_err(damaged(path, "row group"))?;
            columns::open(path, group, &*reader, leaf, skip)
        }
    }
}

fn open_file(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::io(path))?;
    SerializedFileReader::new(file).map_err(damaged(path, "content"))
}

/// An error of the crate that reads the file.
fn damaged(path: &Path, what: impl Into<String>) -> impl FnOnce(ParquetError) -> Error {
    let (path, what) = (path.to_path_buf(), what.into());
    move |error| Error::file(&path, what, "a whole Parquet file", error)
}

/// The leaves of a field.
fn leaves<'a>(schema: &'a SchemaDescriptor, field: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_of_field = move |column: &Arc<ColumnDescriptor>| {
        let path = column.path().string();
        path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let columns = schema.columns().iter().enumerate();
    columns.filter(move |(_, column)| is_of_field(column)).map(|(leaf, _)| leaf)
}

impl Column {
    fn find(path: &Path, schema: &SchemaDescriptor, field: &str, is_chat: bool) -> Result<Self> {
        let of_field: Vec<usize> = leaves(schema, field).collect();
        let fields = schema.root_schema().get_fields();
        if of_field.is_empty() {
            let names: Vec<String> =
                fields.iter().map(|field| format!("`{}`", field.name())).collect();
            let expected = format!("the column `{field}` (`field` names another)");
            return Err(Error::file(path, "columns", expected, names.join(", ")));
        }
        if is_chat {
            let index = fields.iter().position(|one| one.name() == field);
            return index.map(Self::Chat).ok_or_else(|| {
                let expected = "a column of the table for chats";
                Error::file(path, format!("column `{field}`"), expected, "a field of one")
            });
        }
        let column = schema.column(of_field[0]);
        let lists = "a list of ".repeat(usize::try_from(column.max_rep_level()).unwrap_or(0));
        let n_parts = column.path().parts().len();
        let depth = n_parts.saturating_sub(field.split('.').count());
        // The element of a list repeats by itself, or lies in a group that does; what lies elsewhere is
        // a field of something.
        let is_value = match (column.max_rep_level(), repetition(&column)) {
            (0, _) => depth == 0,
            (1, Repetition::REPEATED) => depth <= 1,
            (1, _) => depth == 2,
            _ => true,
        };
        let got = match (of_field.len(), column.physical_type(), column.max_rep_level()) {
            (2.., ..) => "a column of several parts (`chat = {}` reads chats)".to_owned(),
            _ if !is_value => format!("{lists}objects of one field"),
            (_, Physical::BYTE_ARRAY, 0) => return Ok(Self::Text(of_field[0])),
            (_, Physical::INT32 | Physical::INT64, 1) => return Ok(Self::Ids(of_field[0])),
            (_, other, _) => format!("{lists}{other}"),
        };
        let expected = "texts or lists of token ids";
        Err(Error::file(path, format!("column `{field}`"), expected, got))
    }
}

/// Whether the numbers of a leaf have no sign.
fn is_unsigned(column: &ColumnDescriptor) -> bool {
    use ConvertedType::{UINT_8, UINT_16, UINT_32, UINT_64};
    matches!(column.logical_type_ref(), Some(LogicalType::Integer(of)) if !of.is_signed)
        || matches!(column.converted_type(), UINT_8 | UINT_16 | UINT_32 | UINT_64)
}

/// Whether a leaf may be null by itself.
fn is_optional(column: &ColumnDescriptor) -> bool {
    repetition(column) == Repetition::OPTIONAL
}

fn repetition(column: &ColumnDescriptor) -> Repetition {
    column.self_type().get_basic_info().repetition()
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn columns_are_told_by_their_types() {
        let schema = parse_message_type(
            "message table {
                optional binary text (utf8);
                optional int32 number;
                optional group ids (list) { repeated group list { optional int32 element; } }
                repeated int64 bare;
                optional group old (list) { repeated int32 array; }
                optional group objects (list) {
                    repeated group list { optional group element { optional int32 id; } }
                }
                optional group twice (list) {
                    repeated group list {
                        optional group element (list) {
                            repeated group list { optional int32 element; }
                        }
                    }
                }
                optional group alone { optional binary text (utf8); }
                optional group inner {
                    optional binary text (utf8);
                    optional group ids (list) { repeated group list { optional int64 element; } }
                }
            }",
        );
        let schema = SchemaDescriptor::new(Arc::new(schema.unwrap()));
        let find = |field: &str| {
            let found = Column::find(Path::new("a.parquet"), &schema, field, false);
            found.map_err(|error| error.to_string())
        };
        for (field, expected) in [
            ("text", Column::Text(0)),
            ("ids", Column::Ids(2)),
            ("bare", Column::Ids(3)),
            ("old", Column::Ids(4)),
            ("alone.text", Column::Text(7)),
            ("inner.text", Column::Text(8)),
            ("inner.ids", Column::Ids(9)),
        ] {
            assert_eq!(find(field), Ok(expected), "{field}");
        }
        for (field, got) in [
            ("number", "got INT32"),
            ("objects", "got a list of objects of one field"),
            ("objects.list.element.id", "got a list of objects of one field"),
            ("alone", "got objects of one field"),
            ("twice", "got a list of a list of INT32"),
            ("inner", "got a column of several parts (`chat = {}` reads chats)"),
        ] {
            let error = find(field).unwrap_err();
            assert!(
                error.ends_with(&format!("expected texts or lists of token ids, {got}")),
                "{error}"
            );
        }
    }
}
