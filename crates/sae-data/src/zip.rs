//! Two stores read side by side: the rows of one token, document and position belong together.

use std::sync::Arc;

use crate::planted::PLANTED;
use crate::selection::META_AT_ONCE;
use crate::store::to_usize;
use crate::{ActivationStore, Error, Ports, Provenance, Result, RowMeta, Selection};

/// Rows of `target` in the order of those of `input`, matched by document and position; where two
/// hook points were harvested in the same way, one by one.
///
/// Where both hold the same rows in ascending order, no more than a few are in memory at a time;
/// else the rows of the target, 24 bytes each, and of the result 16 bytes for each stretch of rows
/// that follow one another in both. Rows of the target that the input lacks are passed over.
///
/// # Errors
/// [`Error::NoMetadata`]; the first row of the input that the target lacks; two rows of one document
/// and position in one of the stores; another token there; planted rows of another seed.
pub fn zip(
    input: Arc<dyn ActivationStore>,
    target: Arc<dyn ActivationStore>,
) -> Result<Ports<Arc<dyn ActivationStore>>> {
    for store in [&input, &target] {
        // A store without rows has no metadata to ask for.
        store.read_meta(0, &mut vec![RowMeta::default(); to_usize(store.n_rows().min(1))])?;
    }
    check_seed(&*input, &*target)?;
    if are_alike(&*input, &*target)? || are_of_one_harvest(&*input, &*target)? {
        return Ok(Ports { input, target: Some(target) });
    }
    let rows = Table::new(&*target)?.rows_of(&*input)?;
    let target = Selection::by_index(target, rows)?;
    Ok(Ports { input, target: Some(Arc::new(target)) })
}

/// Refuses planted rows of two seeds: those of one number have nothing in common.
fn check_seed(input: &dyn ActivationStore, target: &dyn ActivationStore) -> Result<()> {
    let seed = |store: &dyn ActivationStore| {
        let config = store.provenance().filter(|of| of.host == PLANTED)?.settings.get("config")?;
        let config: serde_json::Value = serde_json::from_str(config).ok()?;
        config.get("seed").cloned()
    };
    match (seed(input), seed(target)) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let expected = format!("planted rows of seed {ours}, as the input has it");
            Err(Error::format(&target.locate(0).0, expected, format!("seed {theirs}")))
        }
        _ => Ok(()),
    }
}

/// What tells a row from all others of its store, in the order in which hosts write.
type Key = (u32, u32);

const fn key(meta: &RowMeta) -> Key {
    (meta.document, meta.position)
}

/// Whether both stores hold the same rows one by one, in an order in which none can come twice.
fn are_alike(input: &dyn ActivationStore, target: &dyn ActivationStore) -> Result<bool> {
    if input.n_rows() != target.n_rows() {
        return Ok(false);
    }
    let (mut last, mut alike) = (None, true);
    for_each(input, |start, ours| {
        let mut theirs = vec![RowMeta::default(); ours.len()];
        target.read_meta(start, &mut theirs)?;
        for (row, (ours, theirs)) in (start..).zip(ours.iter().zip(&theirs)) {
            let key = key(ours);
            if last.is_some_and(|last| last >= key) || key != self::key(theirs) {
                alike = false;
                return Ok(false);
            }
            check_token(input, (row, ours), target, (row, theirs.token_id))?;
            last = Some(key);
        }
        Ok(true)
    })?;
    Ok(alike)
}

/// Whether both stores hold the rows of one harvest, each at a hook point of its own: then they
/// belong together one by one, also where a document has several contexts and each of them the same
/// positions.
fn are_of_one_harvest(input: &dyn ActivationStore, target: &dyn ActivationStore) -> Result<bool> {
    let (Some(ours), Some(theirs)) = (input.provenance(), target.provenance()) else {
        return Ok(false);
    };
    let of_hook = Provenance { hook_point: theirs.hook_point.clone(), ..ours.clone() };
    let is_known = ours.host_hash.is_some() && ours.tokenizer_hash.is_some();
    if !is_known || of_hook != *theirs || input.n_rows() != target.n_rows() {
        return Ok(false);
    }
    let mut alike = true;
    for_each(input, |start, ours| {
        let mut theirs = vec![RowMeta::default(); ours.len()];
        target.read_meta(start, &mut theirs)?;
        alike = ours == theirs;
        Ok(alike)
    })?;
    Ok(alike)
}

/// The rows of a store, in the order of their keys.
struct Table<'a> {
    store: &'a dyn ActivationStore,
    rows: Vec<Entry>,
}

struct Entry {
    key: Key,
    token_id: u32,
    row: u64,
}

impl<'a> Table<'a> {
    fn new(store: &'a dyn ActivationStore) -> Result<Self> {
        let mut rows = Vec::with_capacity(to_usize(store.n_rows()));
        for_each(store, |start, meta| {
            let entry = |(row, meta): (u64, &RowMeta)| {
                let RowMeta { token_id, .. } = *meta;
                Entry { key: key(meta), token_id, row }
            };
            rows.extend((start..).zip(meta).map(entry));
            Ok(true)
        })?;
        rows.sort_unstable_by_key(|entry| (entry.key, entry.row));
        let twice = rows.windows(2).filter(|pair| pair[0].key == pair[1].key);
        if let Some(pair) = twice.min_by_key(|pair| pair[1].row) {
            return Err(is_twice(store, pair[0].row, pair[1].row, pair[0].key));
        }
        Ok(Self { store, rows })
    }

    /// The row that belongs to each of `input`.
    fn rows_of(&self, input: &dyn ActivationStore) -> Result<Vec<u64>> {
        // The row of the input that each entry was found for.
        let mut found = vec![u64::MAX; self.rows.len()];
        let mut rows = Vec::with_capacity(to_usize(input.n_rows()));
        for_each(input, |start, meta| {
            for (row, meta) in (start..).zip(meta) {
                let at = self.rows.binary_search_by_key(&key(meta), |entry| entry.key);
                let at = at.map_err(|_| self.lacks(input, row, meta))?;
                if found[at] != u64::MAX {
                    return Err(is_twice(input, found[at], row, key(meta)));
                }
                let entry = &self.rows[at];
                check_token(input, (row, meta), self.store, (entry.row, entry.token_id))?;
                found[at] = row;
                rows.push(entry.row);
            }
            Ok(true)
        })?;
        Ok(rows)
    }

    fn lacks(&self, input: &dyn ActivationStore, row: u64, meta: &RowMeta) -> Error {
        let (path, at) = input.locate(row);
        let (of_target, _) = self.store.locate(0);
        let expected = format!("a row of {} for each of the input", of_target.display());
        Error::format(&path, expected, format!("none for row {at}, {}", named(key(meta))))
    }
}

/// Calls `see` with the first row and the metadata of consecutive rows, until it returns false.
fn for_each(
    store: &dyn ActivationStore,
    mut see: impl FnMut(u64, &[RowMeta]) -> Result<bool>,
) -> Result<()> {
    let mut start = 0;
    while start < store.n_rows() {
        let n = META_AT_ONCE.min(store.n_rows() - start);
        let mut meta = vec![RowMeta::default(); to_usize(n)];
        store.read_meta(start, &mut meta)?;
        if !see(start, &meta)? {
            break;
        }
        start += n;
    }
    Ok(())
}

/// Refuses two rows of one document and position that are of different tokens.
fn check_token(
    input: &dyn ActivationStore,
    (row, meta): (u64, &RowMeta),
    target: &dyn ActivationStore,
    (of_target, got): (u64, u32),
) -> Result<()> {
    if meta.token_id == got {
        return Ok(());
    }
    let ((path, row), (of_input, at)) = (target.locate(of_target), input.locate(row));
    let (token, place, of_input) = (meta.token_id, named(key(meta)), of_input.display());
    let expected = format!("token {token} at {place}, as row {at} of {of_input} has it");
    Err(Error::format(&path, expected, format!("token {got} in row {row}")))
}

fn is_twice(store: &dyn ActivationStore, first: u64, second: u64, key: Key) -> Error {
    let ((path, first), (_, second)) = (store.locate(first), store.locate(second));
    let got = format!("rows {first} and {second} of {}", named(key));
    Error::format(&path, "one row of each document and position", got)
}

fn named((document, position): Key) -> String {
    format!("document {document}, position {position}")
}
