//! The order of rows: which rows an epoch's windows hold and where in the stream each goes.
//!
//! An epoch's order is made in two steps. The store is cut into blocks of consecutive rows and the
//! blocks are shuffled; the rows so ordered are dealt to the ranks in equal shares, each share is
//! cut into windows of equal size, and the rows of a window are shuffled. Both shuffles are
//! Fisher-Yates with ChaCha8, keyed by (seed, epoch) and (seed, epoch, rank, window).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::LoaderConfig;
use crate::store::to_usize;

/// Everything that decides the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) n_rows: u64,
    pub(crate) block_rows: u64,
    /// Most rows of a window.
    pub(crate) window_rows: u64,
    pub(crate) world_size: u64,
    pub(crate) rank: u64,
}

/// One epoch's blocks in their order.
#[derive(Debug)]
pub(crate) struct Epoch {
    order: Order,
    epoch: u64,
    blocks: Vec<u64>,
    /// Where the last block of the store, which may be short, came to be.
    place_of_last: u64,
}

/// A window's rows: stretches of the store, and the place in the stream of each row in turn.
#[derive(Debug)]
pub(crate) struct Window {
    /// (first row, number of rows).
    pub(crate) stretches: Vec<(u64, u64)>,
    pub(crate) places: Vec<u32>,
}

impl Order {
    /// Rows of this rank's share of an epoch.
    pub(crate) fn share_rows(&self) -> u64 {
        let (begin, end) = self.share();
        end - begin
    }

    /// Windows of this rank's share of an epoch.
    pub(crate) fn n_windows(&self) -> u64 {
        self.share_rows().div_ceil(self.window_rows)
    }

    /// First row of a window within the share; that of one past the last window is its end.
    pub(crate) fn window_start(&self, window: u64) -> u64 {
        cut(self.share_rows(), window, self.n_windows())
    }

    /// The window that holds a row of the share.
    pub(crate) fn window_of(&self, row: u64) -> u64 {
        let (mut low, mut high) = (0, self.n_windows());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.window_start(middle) <= row { low = middle } else { high = middle }
        }
        low
    }

    /// Rows of the largest window.
    pub(crate) fn max_window_rows(&self) -> u64 {
        self.share_rows().div_ceil(self.n_windows())
    }

    fn share(&self) -> (u64, u64) {
        let at = |rank| cut(self.n_rows, rank, self.world_size);
        (at(self.rank), at(self.rank + 1))
    }

    fn n_blocks(&self) -> u64 {
        self.n_rows.div_ceil(self.block_rows)
    }

    pub(crate) fn epoch(self, epoch: u64) -> Epoch {
        let mut blocks: Vec<u64> = (0..self.n_blocks()).collect();
        shuffle(&mut blocks, &mut rng(&[self.seed, epoch]));
        let last = self.n_blocks() - 1;
        let place_of_last = blocks.iter().position(|&b| b == last).unwrap_or_default() as u64;
        Epoch { order: self, epoch, blocks, place_of_last }
    }
}

impl Epoch {
    pub(crate) fn window(&self, window: u64) -> Window {
        let order = &self.order;
        let begin = order.share().0 + order.window_start(window);
        let end = order.share().0 + order.window_start(window + 1);
        let mut stretches = Vec::new();
        let mut row = begin;
        while row < end {
            let place = self.block_at(row);
            let (first, n) = self.block_rows(place);
            let skipped = row - self.block_start(place);
            let taken = (n - skipped).min(end - row);
            stretches.push((first + skipped, taken));
            row += taken;
        }
        let places = places(end - begin, &[order.seed, self.epoch, order.rank, window]);
        Window { stretches, places }
    }

    /// Rows of the epoch before the block at `place`.
    fn block_start(&self, place: u64) -> u64 {
        let missing = if place > self.place_of_last { self.missing() } else { 0 };
        place * self.order.block_rows - missing
    }

    /// The place of the block that holds row `row` of the epoch.
    fn block_at(&self, row: u64) -> u64 {
        let end_of_last = self.block_start(self.place_of_last + 1);
        let shifted = if row >= end_of_last { row + self.missing() } else { row };
        shifted / self.order.block_rows
    }

    /// First row in the store and number of rows of the block at `place`.
    fn block_rows(&self, place: u64) -> (u64, u64) {
        let first = self.blocks[to_usize(place)] * self.order.block_rows;
        (first, self.order.block_rows.min(self.order.n_rows - first))
    }

    /// Rows that the store's last block lacks.
    fn missing(&self) -> u64 {
        self.order.n_blocks() * self.order.block_rows - self.order.n_rows
    }
}

/// The order in which `n_rows` rows of dimension `d_model` come that are window number `window` of
/// an epoch, where the rows of the epoch are not counted before they are read. Where they are all
/// there are, it is the order in which [`crate::Loader`] gives a store of them in one window.
///
/// # Panics
/// 2³² rows or more.
#[must_use]
pub fn window_order(seed: u64, epoch: u64, window: u64, n_rows: usize, d_model: usize) -> Vec<u32> {
    let n = n_rows as u64;
    let block_rows = rows_of(LoaderConfig::default().block_bytes, d_model);
    let order = Order { seed, n_rows: n, block_rows, window_rows: n, world_size: 1, rank: 0 };
    let Window { stretches, .. } = order.epoch(epoch).window(0);
    let mut rows = vec![0; n_rows];
    let read = stretches.into_iter().flat_map(|(first, n)| first..first + n);
    for (row, place) in read.zip(places(n, &[seed, epoch, 0, window])) {
        rows[place as usize] = u32::try_from(row).expect("less than the number of places");
    }
    rows
}

/// Rows of f32 that fit some bytes; at least one.
pub(crate) fn rows_of(bytes: usize, d_model: usize) -> u64 {
    (bytes / (4 * d_model)).max(1) as u64
}

/// The places of the rows of a window.
fn places(n_rows: u64, key: &[u64]) -> Vec<u32> {
    let n = u32::try_from(n_rows).expect("windows are checked to have fewer rows");
    let mut places: Vec<u32> = (0..n).collect();
    shuffle(&mut places, &mut rng(key));
    places
}

/// Where part `i` of `n` equal parts of `total` begins: ⌊i·total/n⌋.
fn cut(total: u64, i: u64, n: u64) -> u64 {
    let at = u128::from(i) * u128::from(total) / u128::from(n);
    u64::try_from(at).expect("at most total, which is a u64")
}

/// A generator keyed by numbers.
fn rng(key: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    for part in key {
        hasher.update(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Fisher-Yates; the place is the high half of a 64×64 bit product, whose bias is below 2^-32 for
/// anything that fits memory.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        let product = u128::from(rng.next_u64()) * (i as u128 + 1);
        let j = usize::try_from(product >> 64).expect("at most i, which is a usize");
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rows of an epoch of one rank in the order of the stream.
    fn stream(order: Order, epoch: u64) -> Vec<u64> {
        let plan = order.epoch(epoch);
        let mut rows = Vec::new();
        for w in 0..order.n_windows() {
            let window = plan.window(w);
            assert_eq!(rows.len() as u64, order.window_start(w));
            let base = rows.len();
            rows.resize(base + window.places.len(), u64::MAX);
            let source = window.stretches.iter().flat_map(|&(first, n)| first..first + n);
            for (row, &place) in source.zip(&window.places) {
                rows[base + place as usize] = row;
            }
            assert!(window.places.len() as u64 <= order.max_window_rows());
        }
        for row in [0, order.share_rows() / 2, order.share_rows() - 1] {
            let w = order.window_of(row);
            assert!(order.window_start(w) <= row && row < order.window_start(w + 1));
        }
        rows
    }

    proptest! {
        #[test]
        fn ranks_share_every_row_exactly_once(
            seed: u64, epoch in 0..5_u64, n_rows in 1..400_u64, block_rows in 1..50_u64,
            window_rows in 1..120_u64, world_size in 1..6_u64,
        ) {
            prop_assume!(world_size <= n_rows);
            let mut all = Vec::new();
            for rank in 0..world_size {
                let order = Order { seed, n_rows, block_rows, window_rows, world_size, rank };
                let rows = stream(order, epoch);
                prop_assert!(rows.len() as u64 - n_rows / world_size <= 1);
                all.extend(rows);
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..n_rows).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn a_window_of_all_rows_has_the_order_of_a_loader(
            seed: u64, epoch in 0..5_u64, n_rows in 1..400_usize, d_model in 200..9000_usize,
        ) {
            let config = LoaderConfig::default();
            let order = Order {
                seed,
                n_rows: n_rows as u64,
                block_rows: (config.block_bytes / (4 * d_model)) as u64,
                window_rows: n_rows as u64,
                world_size: 1,
                rank: 0,
            };
            let window = |window| -> Vec<u64> {
                let rows = window_order(seed, epoch, window, n_rows, d_model);
                rows.into_iter().map(u64::from).collect()
            };
            prop_assert_eq!(window(0), stream(order, epoch));
            let mut later = window(1);
            prop_assert!(n_rows < 20 || later != window(0));
            later.sort_unstable();
            prop_assert_eq!(later, (0..n_rows as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seeds_and_epochs_differ() {
        let order = Order {
            seed: 1,
            n_rows: 1000,
            block_rows: 10,
            window_rows: 300,
            world_size: 1,
            rank: 0,
        };
        let first = stream(order, 0);
        assert_eq!(first, stream(order, 0));
        assert_ne!(first, stream(order, 1));
        assert_ne!(first, stream(Order { seed: 2, ..order }, 0));
    }

    /// In one window, every row is equally likely at every place.
    #[test]
    fn the_shuffle_is_uniform() {
        let n = 6;
        let mut counts = [[0_u32; 6]; 6];
        for seed in 0..6000 {
            let order =
                Order { seed, n_rows: n, block_rows: 2, window_rows: n, world_size: 1, rank: 0 };
            for (place, row) in stream(order, 0).into_iter().enumerate() {
                counts[place][row as usize] += 1;
            }
        }
        let chi_squared: f64 =
            counts.iter().flatten().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_squared < 60.0, "25 degrees of freedom, got {chi_squared}");
    }
}
