//! The rows of a store around one of them, as a text shows them.

use std::ops::Range;

use sae_config::{ContextToken, FeatureContext, Patch};
use sae_data::RowMeta;

use super::places::{Kind, Places};

/// A row of more than this multiple of the median norm is an outlier.
pub(super) const OUTLIER_RATIO: f64 = 10.0;

/// The rows of a pass, as they are shown.
#[derive(Debug)]
pub(super) struct Rows {
    /// None where they are not known.
    meta: Option<Vec<RowMeta>>,
    kind: Kind,
    norms: Vec<f32>,
    limit: f64,
    window: usize,
}

/// The activations of a feature: the rows where it is not 0, ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activations<'a> {
    pub(super) rows: &'a [u32],
    pub(super) values: &'a [f32],
}

impl Activations<'_> {
    fn at(&self, row: usize) -> f32 {
        self.rows.binary_search(&(row as u32)).map_or(0.0, |at| self.values[at])
    }

    /// Those in some rows.
    fn within(&self, rows: &Range<usize>) -> impl Iterator<Item = (u32, f32)> {
        let at = |row: usize| self.rows.partition_point(|of| (*of as usize) < row);
        let range = at(rows.start)..at(rows.end);
        self.rows[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// Whether there is one in some rows.
    pub(super) fn touches(&self, rows: &Range<usize>) -> bool {
        self.within(rows).next().is_some()
    }
}

impl Rows {
    /// Rows of these norms, of which so many neighbours are shown.
    pub(super) fn new(places: Places, norms: Vec<f32>, median: f64, window: usize) -> Self {
        let Places { meta, kind } = places;
        Self { meta, kind, norms, limit: OUTLIER_RATIO * median, window }
    }

    /// Whether rows are of tokens.
    pub(super) fn has_tokens(&self) -> bool {
        self.kind == Kind::Tokens
    }

    /// Positions of a context: one more than the last that a row has.
    pub(super) fn n_positions(&self) -> usize {
        let meta = self.meta.iter().flatten();
        meta.map(|meta| meta.position as usize + 1).max().unwrap_or(0)
    }

    /// Rows.
    pub(super) fn n_rows(&self) -> usize {
        self.norms.len()
    }

    /// Rows of more than ten times the median norm.
    pub(super) fn n_outliers(&self) -> u64 {
        (0..self.norms.len()).filter(|row| self.is_outlier(*row)).count() as u64
    }

    fn is_outlier(&self, row: usize) -> bool {
        f64::from(self.norms[row]) > self.limit
    }

    /// What is known of rows that are shown with their neighbours.
    fn joined(&self) -> Option<&Vec<RowMeta>> {
        self.meta.as_ref().filter(|_| self.kind != Kind::Unknown)
    }

    /// Stretches of rows that are of one document and in the order of their positions.
    pub(super) fn n_contexts(&self) -> u64 {
        let Some(meta) = self.joined() else { return self.norms.len() as u64 };
        let n_starts = meta.windows(2).filter(|pair| !follows(&pair[0], &pair[1])).count();
        n_starts as u64 + u64::from(!meta.is_empty())
    }

    /// The rows shown around `row`: the neighbours in the store that are of the same context, which
    /// positions ascend in; of a picture all.
    pub(super) fn around(&self, row: usize) -> Range<usize> {
        let Some(meta) = self.joined() else { return row..row + 1 };
        let window = if self.has_tokens() { self.window } else { usize::MAX };
        let follows = |at: usize| follows(&meta[at], &meta[at + 1]);
        let (mut start, mut end) = (row, row + 1);
        while start > 0 && row - start < window && follows(start - 1) {
            start -= 1;
        }
        while end < meta.len() && end - row <= window && follows(end - 1) {
            end += 1;
        }
        start..end
    }

    /// The context of a row in which a feature is active.
    pub(super) fn context(&self, row: usize, of: Activations<'_>) -> FeatureContext {
        let meta = self.meta.as_ref();
        let around = self.around(row);
        let token = |at: usize| {
            let meta = meta?;
            let gap = match at.checked_sub(1).filter(|_| at > around.start) {
                Some(before) => meta[at].position - meta[before].position - 1,
                None => 0,
            };
            let (id, value) = (meta[at].token_id, of.at(at));
            Some(ContextToken { id, value, gap, is_outlier: self.is_outlier(at) })
        };
        FeatureContext {
            row: row as u64,
            place: meta.map(|meta| [meta[row].document, meta[row].position]),
            value: of.at(row),
            at: row - around.start,
            tokens: match self.kind {
                Kind::Tokens => around.clone().filter_map(token).collect(),
                _ => Vec::new(),
            },
            patches: match self.kind {
                Kind::Pictures => self.patches(&around, of),
                _ => Vec::new(),
            },
        }
    }

    /// The rows of a picture in which a feature is active.
    fn patches(&self, rows: &Range<usize>, of: Activations<'_>) -> Vec<Patch> {
        let Some(meta) = &self.meta else { return Vec::new() };
        let patch =
            |(row, value): (u32, f32)| Patch { position: meta[row as usize].position, value };
        of.within(rows).map(patch).collect()
    }

    /// Whether two stretches of rows have the same tokens.
    pub(super) fn same_tokens(&self, a: &Range<usize>, b: &Range<usize>) -> bool {
        let Some(meta) = &self.meta else { return false };
        let ids = |rows: &Range<usize>| meta[rows.clone()].iter().map(|meta| meta.token_id);
        a.len() == b.len() && ids(a).eq(ids(b))
    }

    /// The first `most` of `rows` of which none is shown around an earlier one.
    pub(super) fn apart(&self, rows: impl Iterator<Item = u32>, most: usize) -> Vec<u32> {
        let (mut kept, mut shown): (Vec<u32>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
        for row in rows {
            if kept.len() == most {
                break;
            }
            if !shown.iter().any(|shown| shown.contains(&(row as usize))) {
                shown.push(self.around(row as usize));
                kept.push(row);
            }
        }
        kept
    }
}

/// Whether a row is of the same context as the one before.
fn follows(before: &RowMeta, after: &RowMeta) -> bool {
    before.document == after.document && before.position < after.position
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(places: &[(u32, u32)], window: usize) -> Rows {
        let of = |(at, place): (usize, &(u32, u32))| RowMeta {
            token_id: 100 + at as u32,
            document: place.0,
            position: place.1,
        };
        let meta: Vec<_> = places.iter().enumerate().map(of).collect();
        let mut norms = vec![1.0; places.len()];
        norms[0] = 11.0;
        Rows { meta: Some(meta), kind: Kind::Tokens, norms, limit: 10.0, window }
    }

    #[test]
    fn windows_stay_in_their_context_and_show_gaps() {
        // Two contexts of document 0, the first with a hole, and one of document 1.
        let places = [(0, 1), (0, 2), (0, 5), (0, 6), (0, 1), (0, 2), (1, 3)];
        let found = rows(&places, 10);
        let around: Vec<_> = (0..7).map(|row| found.around(row)).collect();
        assert_eq!(around, [0..4, 0..4, 0..4, 0..4, 4..6, 4..6, 6..7]);
        let narrow = rows(&places, 1);
        assert_eq!(
            (0..4).map(|row| narrow.around(row)).collect::<Vec<_>>(),
            [0..2, 0..3, 1..4, 2..4]
        );
        assert_eq!(rows(&places, 0).around(2), 2..3);

        let active = Activations { rows: &[1, 3], values: &[0.5, 2.0] };
        let context = found.context(3, active);
        let token = |id, value, gap, is_outlier| ContextToken { id, value, gap, is_outlier };
        assert_eq!(
            context,
            FeatureContext {
                row: 3,
                place: Some([0, 6]),
                value: 2.0,
                at: 3,
                tokens: vec![
                    token(100, 0.0, 0, true),
                    token(101, 0.5, 0, false),
                    token(102, 0.0, 2, false),
                    token(103, 2.0, 0, false),
                ],
                patches: vec![],
            }
        );
        assert_eq!((found.n_outliers(), found.n_contexts()), (1, 3));
    }

    #[test]
    fn contexts_that_are_listed_do_not_show_one_another() {
        let places: Vec<_> = (0..20).map(|position| (0, position)).collect();
        let found = rows(&places, 2);
        let kept = found.apart([9, 8, 11, 6, 7, 12, 0].into_iter(), 4);
        assert_eq!(kept, [9, 6, 12, 0]);
        assert_eq!(found.apart([9, 8, 12].into_iter(), 1), [9]);
    }

    #[test]
    fn rows_without_tokens_are_alone() {
        let mut found = rows(&[(0, 1), (0, 2)], 10);
        found.kind = Kind::Unknown;
        let active = Activations { rows: &[1], values: &[0.5] };
        let alone = found.context(1, active);
        assert_eq!((alone.place, alone.value, alone.at), (Some([0, 2]), 0.5, 0));
        assert!(alone.tokens.is_empty());
        found.meta = None;
        assert_eq!(found.context(1, active).place, None);
    }

    #[test]
    fn pictures_are_shown_whole() {
        let mut found = rows(&[(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)], 1);
        found.kind = Kind::Pictures;
        let active = Activations { rows: &[1, 3, 5], values: &[0.5, 2.0, 1.0] };
        let shown = found.context(3, active);
        assert_eq!((shown.place, shown.value, shown.tokens.len()), (Some([1, 1]), 2.0, 0));
        let patch = |position, value| Patch { position, value };
        assert_eq!(shown.patches, [patch(1, 2.0), patch(3, 1.0)]);
        assert_eq!(found.n_contexts(), 2);
        // One of each picture, the one that is active most.
        assert_eq!(found.apart([3, 5, 1].into_iter(), 9), [3, 1]);
    }

    #[test]
    fn rows_are_compared_by_their_tokens() {
        let found = rows(&[(0, 1), (0, 2), (0, 3), (0, 4)], 1);
        assert!(found.same_tokens(&(1..3), &(1..3)));
        assert!(!found.same_tokens(&(1..3), &(0..2)) && !found.same_tokens(&(1..3), &(1..2)));
        let active = Activations { rows: &[1, 3], values: &[0.5, 2.0] };
        assert!(active.touches(&(0..2)) && active.touches(&(3..4)));
        assert!(!active.touches(&(2..3)) && !active.touches(&(4..9)));
    }
}
