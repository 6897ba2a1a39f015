//! The few entries of a row that matter, found in one pass over it.

use super::real::Real;
use super::scale::{Point, Scale};

const LANES: usize = 8;
const BLOCK: usize = 64;
/// Rows shorter than this are taken whole.
const SHORT: usize = 512;

/// Room for the candidates of one row.
#[derive(Debug, Default)]
pub(crate) struct Candidates<T> {
    /// The largest of each eight entries of a block that lie eight apart.
    groups: Vec<T>,
    /// The largest of each block of 64.
    blocks: Vec<T>,
    selection: Vec<T>,
    values: Vec<T>,
    indices: Vec<u32>,
    len: usize,
}

/// What is known of a row before its threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survey<T> {
    /// An entry is not finite.
    NotFinite,
    /// Any entry may matter.
    Whole {
        /// A guess at the threshold.
        first: Option<Point<T>>,
    },
    /// The candidates hold every entry that matters.
    Listed {
        /// A guess at the threshold.
        first: Option<Point<T>>,
    },
}

impl<T: Real> Candidates<T> {
    /// Reads the row once and lists its candidates, in order.
    ///
    /// With r = ⌈2k⌉, θ is at least the r-th largest entry, since there r entries alone give
    /// Σp ≥ r/2 ≥ k. And the r-th largest of the maxima of disjoint groups is a lower bound of
    /// the r-th largest entry. So entries more than CUT·alpha below it have p = 0.
    #[inline(always)]
    pub(crate) fn survey(&mut self, x: &[T], k: f64, scale: Scale<T>) -> Survey<T> {
        if !self.maxima(x) {
            return Survey::NotFinite;
        }
        if x.len() < SHORT {
            return Survey::Whole { first: None };
        }
        let rank = (2.0 * k).ceil().max(1.0) as usize;
        if !self.select_level(rank) {
            return Survey::Whole { first: None };
        }
        let descending = |a: &T, b: &T| T::order(b, a);
        let bound = *self.selection.select_nth_unstable_by(rank - 1, descending).1;
        let top = &mut self.selection[..rank];
        let near = (k.ceil() as usize).clamp(1, rank) - 1;
        let guess = *top.select_nth_unstable_by(near, descending).1;
        let largest = top[..=near].iter().fold(guess, |a, b| if *b > a { *b } else { a });
        // Where alpha·ln(n/2k) exceeds the spread of the top, θ may lie above every entry; from
        // just above the largest one closed-form step is then exact.
        let reach = scale.alpha * (x.len() as f64 / (2.0 * k)).ln();
        let spread = largest.to_f64() - guess.to_f64();
        let first = Some(if reach > spread {
            Point { pivot: largest, offset: 0.01 }
        } else {
            Point::at(guess)
        });
        let lowest = T::from_f64(bound.to_f64() - (T::CUT.to_f64() + 1.0) * scale.alpha);
        let reaching = self.groups.iter().filter(|group| **group >= lowest).count();
        if reaching > self.groups.len() * 3 / 4 {
            return Survey::Whole { first };
        }
        self.gather(x, lowest);
        Survey::Listed { first: if self.len > SHORT { first } else { None } }
    }

    /// Reads the row once and finds its `rank`-th largest entry, 1 ≤ rank ≤ n; every entry at
    /// least as large is then listed. `None` if an entry is not finite.
    #[inline(always)]
    pub(crate) fn ranked(&mut self, x: &[T], rank: usize) -> Option<T> {
        let descending = |a: &T, b: &T| T::order(b, a);
        if !self.maxima(x) {
            return None;
        }
        if self.select_level(rank) {
            let bound = *self.selection.select_nth_unstable_by(rank - 1, descending).1;
            self.gather(x, bound);
        } else {
            self.list_all(x);
        }
        self.selection.clear();
        self.selection.extend_from_slice(&self.values[..self.len]);
        Some(*self.selection.select_nth_unstable_by(rank - 1, descending).1)
    }

    /// Lists every entry of the row.
    pub(crate) fn list_all(&mut self, x: &[T]) {
        self.values.clear();
        self.values.extend_from_slice(x);
        self.indices.clear();
        self.indices.extend(0..x.len() as u32);
        self.len = x.len();
    }

    /// The values of the candidates.
    pub(crate) fn values(&self) -> &[T] {
        &self.values[..self.len]
    }

    /// The places of the candidates in the row, ascending.
    pub(crate) fn indices(&self) -> &[u32] {
        &self.indices[..self.len]
    }

    /// Copies the coarsest maxima that bound the entry of a rank well, at least 2·rank of them.
    fn select_level(&mut self, rank: usize) -> bool {
        let level = [&self.blocks, &self.groups].into_iter().find(|level| level.len() >= 2 * rank);
        self.selection.clear();
        self.selection.extend_from_slice(level.map_or(&[], |level| level));
        level.is_some()
    }

    /// Finds the maxima of groups and blocks; false if an entry is not finite.
    #[inline(always)]
    fn maxima(&mut self, x: &[T]) -> bool {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        self.groups.resize(blocks.len() * LANES, T::ZERO);
        self.blocks.resize(blocks.len(), T::ZERO);
        let (groups, _) = self.groups.as_chunks_mut::<LANES>();
        // x·0 is NaN exactly where x is not finite.
        let mut zero = [T::ZERO; LANES];
        for ((block, group), top) in blocks.iter().zip(groups).zip(&mut self.blocks) {
            let (rows, _) = block.as_chunks::<LANES>();
            let mut largest = [T::ZERO; LANES];
            // Pairs of pairs, so that no step waits for the one before.
            for lane in 0..LANES {
                let x = |row: usize| rows[row][lane];
                let zeros = |row: usize| x(row) * T::ZERO + x(row + 1) * T::ZERO;
                let greater = |a: T, b: T| if b > a { b } else { a };
                let top = |row: usize| greater(x(row), x(row + 1));
                zero[lane] += (zeros(0) + zeros(2)) + (zeros(4) + zeros(6));
                largest[lane] = greater(greater(top(0), top(2)), greater(top(4), top(6)));
            }
            *group = largest;
            *top = max_of_lanes(largest);
        }
        if !rest.is_empty() {
            self.groups.push(max(rest));
            self.blocks.push(max(rest));
            zero[0] += rest.iter().fold(T::ZERO, |sum, x| sum + *x * T::ZERO);
        }
        zero.iter().all(|zero| *zero == T::ZERO)
    }

    /// Lists the entries that are at least `lowest`, without a branch for each.
    ///
    /// Eight comparisons make an eight-bit mask; the places of its bits, from a table, are all
    /// written, and the next write begins after those that count.
    #[inline(always)]
    fn gather(&mut self, x: &[T], lowest: T) {
        self.indices.resize(x.len() + LANES, 0);
        let mut len = 0;
        for (number, (block, top)) in x.chunks(BLOCK).zip(&self.blocks).enumerate() {
            if *top < lowest {
                continue;
            }
            let mut flags = [0_u8; BLOCK];
            for (flag, &x) in flags.iter_mut().zip(block) {
                *flag = u8::from(x >= lowest);
            }
            for (eighth, flags) in flags.as_chunks::<LANES>().0.iter().enumerate() {
                let spread = u64::from_le_bytes(*flags);
                let mask = (spread.wrapping_mul(0x0102_0408_1020_4080) >> 56) as usize;
                let start = (number * BLOCK + eighth * LANES) as u32;
                if let Some(out) = self.indices[len..].first_chunk_mut::<LANES>() {
                    for (out, place) in out.iter_mut().zip(PLACES[mask]) {
                        *out = start + u32::from(place);
                    }
                }
                len += mask.count_ones() as usize;
            }
        }
        self.len = len;
        self.values.clear();
        self.values.extend(self.indices[..len].iter().map(|index| x[*index as usize]));
    }
}

/// The places of the bits set in each eight-bit mask, in order.
static PLACES: [[u8; LANES]; 256] = {
    let mut table = [[0; LANES]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut bit, mut len) = (0, 0);
        while bit < LANES {
            if mask >> bit & 1 == 1 {
                table[mask][len] = bit as u8;
                len += 1;
            }
            bit += 1;
        }
        mask += 1;
    }
    table
};

#[inline(always)]
fn max_of_lanes<T: Real>(mut lanes: [T; LANES]) -> T {
    for half in [4, 2, 1] {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
        }
    }
    lanes[0]
}

#[inline(always)]
fn max<T: Real>(x: &[T]) -> T {
    x.iter().fold(x[0], |max, x| if *x > max { *x } else { max })
}

#[cfg(test)]
mod tests {
    use super::{Candidates, Survey};
    use crate::engine::scale::Scale;

    fn row(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 10_007) as f32 / 10_007.0).collect()
    }

    #[test]
    fn the_candidates_hold_every_entry_near_the_top() {
        for n in [512, 1000, 4096] {
            let x = row(n);
            let mut candidates = Candidates::default();
            let survey = candidates.survey(&x, 5.5, Scale::new(1e-4));
            assert!(matches!(survey, Survey::Listed { .. }), "{survey:?}");
            let mut sorted = x.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let lowest = sorted[10] - 86.0 * 1e-4;
            let expected: Vec<u32> = (0..n as u32).filter(|i| x[*i as usize] >= lowest).collect();
            let listed = candidates.indices();
            assert!(expected.iter().all(|i| listed.contains(i)));
            assert!(listed.is_sorted());
            assert!(listed.len() < n / 4);
        }
    }

    #[test]
    fn one_entry_that_is_not_finite_is_seen_anywhere() {
        for place in [0, 77, 639, 640, 699] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = row(700);
                x[place] = value;
                let survey = Candidates::default().survey(&x, 5.5, Scale::new(1e-4));
                assert!(matches!(survey, Survey::NotFinite), "{place} {value}");
            }
        }
    }
}
