//! The support of some rows: which entries carry weight, how much, and the tails for backward.

use super::scale::Point;

/// One row of a [`Lists`], or a row that is not listed because most of its entries matter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row<T> {
    pub(crate) point: Point<T>,
    /// The point from which the weights of a whole row are computed, and how far θ lies above it.
    pub(crate) base: (Point<T>, f64),
    /// How many entries are listed.
    pub(crate) len: usize,
    /// For how many of them the tail is given.
    pub(crate) tails: usize,
    /// True where the entries are not in the lists, but to be read from x and the threshold.
    pub(crate) whole: bool,
    /// 1, or e^−m in a row whose nearest entry is m ≫ 1 units of alpha from the threshold; the
    /// tails of such a row are e^m times larger than their entries', so that they do not vanish.
    pub(crate) damping: T,
    /// The sum of such tails over entries whose weight is 0 and that are not listed.
    pub(crate) unlisted: f64,
}

/// Rows and their listed entries, one after the other.
///
/// With t = ½e^−|z|, the derivative of an entry is t/alpha, and p is t below the threshold and
/// 1 − t above. So t can be read from p below the threshold, but above it only with the error of
/// rounding 1 − t: there it is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists<T> {
    pub(crate) rows: Vec<Row<T>>,
    pub(crate) indices: Vec<u32>,
    pub(crate) values: Vec<T>,
    /// Positions, within the row's list, of the entries whose tail is given.
    pub(crate) tail_places: Vec<u32>,
    pub(crate) tails: Vec<T>,
}

/// The listed part of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a, T> {
    pub(crate) indices: &'a [u32],
    pub(crate) values: &'a [T],
    pub(crate) tail_places: &'a [u32],
    pub(crate) tails: &'a [T],
}

/// The same, to be written.
#[derive(Debug)]
pub(crate) struct ListedMut<'a, T> {
    pub(crate) indices: &'a mut [u32],
    pub(crate) values: &'a mut [T],
    pub(crate) tail_places: &'a mut [u32],
    pub(crate) tails: &'a mut [T],
}

impl<T> Lists<T> {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.indices.clear();
        self.values.clear();
        self.tail_places.clear();
        self.tails.clear();
    }

    /// The rows in order, each with its entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Row<T>, Listed<'_, T>)> {
        let (mut entry, mut tail) = (0, 0);
        self.rows.iter().map(move |row| {
            let (len, tails) = if row.whole { (0, 0) } else { (row.len, row.tails) };
            let (entries, tails) = (entry..entry + len, tail..tail + tails);
            (entry, tail) = (entries.end, tails.end);
            let listed = Listed {
                indices: &self.indices[entries.clone()],
                values: &self.values[entries],
                tail_places: &self.tail_places[tails.clone()],
                tails: &self.tails[tails],
            };
            (row, listed)
        })
    }
}

impl<'a, T: Copy> ListedMut<'a, T> {
    /// Splits off the first entries.
    pub(crate) fn take(&mut self, entries: usize, tails: usize) -> ListedMut<'a, T> {
        ListedMut {
            indices: front(&mut self.indices, entries),
            values: front(&mut self.values, entries),
            tail_places: front(&mut self.tail_places, tails),
            tails: front(&mut self.tails, tails),
        }
    }

    /// Copies a list of the same size.
    pub(crate) fn copy_from(self, listed: Listed<'_, T>) {
        self.indices.copy_from_slice(listed.indices);
        self.values.copy_from_slice(listed.values);
        self.tail_places.copy_from_slice(listed.tail_places);
        self.tails.copy_from_slice(listed.tails);
    }
}

fn front<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (front, back) = std::mem::take(rest).split_at_mut(len);
    *rest = back;
    front
}
