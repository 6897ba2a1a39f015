//! Normal numbers as PyTorch draws them on the CPU from a seed.
//!
//! SAELens does not save what it draws with a seed that it saves. The generator is MT19937
//! (M. Matsumoto and T. Nishimura, ACM TOMACS 8, 1998); from 16 numbers on, `torch.randn` turns
//! blocks of 16 uniform numbers of 24 bits into normal ones by Box and Muller, and the last 16
//! numbers are drawn once more where they are not a whole block; fewer are drawn in pairs of 53
//! bits.

/// Words of the state.
const N: usize = 624;

/// Distance of the words that are combined.
const M: usize = 397;

/// Numbers made at a time.
const BLOCK: usize = 16;

/// `torch.randn(n, generator=torch.Generator().manual_seed(seed))`, but for rounding.
pub(super) fn randn(seed: u64, n: usize) -> Vec<f32> {
    let mut words = MersenneTwister::new(seed);
    if n < BLOCK {
        return pairs(&mut words, n);
    }
    let mut numbers: Vec<f32> = (0..n).map(|_| words.uniform_24()).collect();
    numbers.chunks_exact_mut(BLOCK).for_each(box_muller);
    if !n.is_multiple_of(BLOCK) {
        let last = &mut numbers[n - BLOCK..];
        last.fill_with(|| words.uniform_24());
        box_muller(last);
    }
    numbers
}

fn pairs(words: &mut MersenneTwister, n: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(n + 1);
    while numbers.len() < n {
        let (angle, u) = (std::f64::consts::TAU * words.uniform_53(), words.uniform_53());
        let radius = (-2.0 * (-u).ln_1p()).sqrt();
        numbers.extend([radius * angle.cos(), radius * angle.sin()].map(|v| v as f32));
    }
    numbers.truncate(n);
    numbers
}

/// Turns uniform numbers into normal ones: the first half of the block holds radii, the second
/// angles.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * (1.0 - *first).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * *second).sin_cos();
        (*first, *second) = (radius * cos, radius * sin);
    }
}

struct MersenneTwister {
    state: [u32; N],
    place: usize,
}

impl MersenneTwister {
    /// Of a seed, the lower 32 bits count.
    fn new(seed: u64) -> Self {
        let mut state = [seed as u32; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, place: N }
    }

    fn word(&mut self) -> u32 {
        if self.place == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.place = 0;
        }
        let mut y = self.state[self.place];
        self.place += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn uniform_24(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 * 2f32.powi(-24)
    }

    fn uniform_53(&mut self) -> f64 {
        let (high, low) = (u64::from(self.word()), u64::from(self.word()));
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 * 2f64.powi(-53)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_reference_implementation() {
        // The 10,000th word of seed 5489, as the C++ standard requires of `std::mt19937`.
        let mut words = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| words.word()).last();
        assert_eq!(last, Some(4_123_659_995));
    }
}
