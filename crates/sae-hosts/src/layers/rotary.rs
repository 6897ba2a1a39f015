//! Rotary position embedding (Su et al. 2021).
//!
//! At position p the pair i of a head's first `size` dimensions turns by p·θ^(−2i/size), or by a
//! scaled angle ([`frequencies`]). Model
//! files pair dimension i with i + size/2; heads here pair 2i with 2i + 1, so that a pair is one
//! complex number and the turn one product. [`Rotary::pair_rows`] reorders the rows of the query
//! and key projections once, at loading; scores are products of queries and keys, both in the same
//! order, and stay what they were.

mod frequencies;

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::{Past, cpu};
use crate::config::HostConfig;
use crate::{Result, layers::Linear};
pub(crate) use frequencies::RotaryKeys;

/// The turns of all positions.
#[derive(Debug)]
pub(crate) struct Rotary {
    head_dim: i64,
    /// Dimensions that turn, counted from the first.
    size: i64,
    /// The angle between two positions of each pair, `[size/2]`.
    frequencies: Tensor,
    /// e^{i·angle}, `[positions, 1, size/2]`, for as many positions as were asked for so far.
    turns: RefCell<Tensor>,
}

impl Rotary {
    /// Reads theta, the share of a head that turns and any scaling of the frequencies.
    pub(crate) fn new(
        config: &HostConfig,
        head_dim: i64,
        keys: RotaryKeys,
        device: Device,
    ) -> Result<Self> {
        let (size, frequencies) = frequencies::read(config, head_dim, keys)?;
        let frequencies = frequencies.to_device(device);
        let turns = RefCell::new(Tensor::empty([0, 1, size / 2], (Kind::ComplexFloat, device)));
        Ok(Self { head_dim, size, frequencies, turns })
    }

    /// Reorders the outputs of a projection to heads, from `(half, pair)` to `(pair, half)`.
    pub(crate) fn pair_rows(&self, linear: &Linear) -> Linear {
        linear.select(|rows| self.pair(rows))
    }

    /// Reorders dimension 0, which runs over the dimensions of one head or of several.
    pub(crate) fn pair(&self, rows: &Tensor) -> Tensor {
        let turning = Tensor::arange(self.size, (Kind::Int64, rows.device()));
        let turning = turning.view([2, self.size / 2]).transpose(0, 1).reshape([self.size]);
        let still = Tensor::arange_start(self.size, self.head_dim, (Kind::Int64, rows.device()));
        let order = Tensor::cat(&[turning, still], 0);
        let shape = rows.size();
        let heads = rows.reshape([shape[0] / self.head_dim, self.head_dim, -1]);
        heads.index_select(1, &order).view(shape.as_slice())
    }

    /// Turns the first `n_turning` heads of each position, queries and keys, of which the first
    /// position is the one after `past`; in place where that is faster.
    ///
    /// # Shapes
    /// `[batch, positions, heads · head_dim]`; returns `[batch, positions, n_turning, head_dim]`.
    pub(crate) fn forward(&self, heads: &mut Tensor, n_turning: i64, past: &Past) -> Tensor {
        let (batch, positions, _) = heads.size3().expect("projections have three dimensions");
        let (head_dim, turns) = (self.head_dim, self.turns(past.length() as i64, positions));
        let [of_head, turning] = [head_dim, n_turning].map(|n| n.unsigned_abs() as usize);
        let in_place = cpu::turn(heads, of_head, turning, &turns.view_as_real()).is_some();
        let heads = heads.view([batch, positions, -1, head_dim]).narrow(2, 0, n_turning);
        if in_place {
            return heads;
        }
        let turning = heads.narrow(-1, 0, self.size).to_kind(Kind::Float);
        let complex =
            turning.reshape([batch, positions, n_turning, self.size / 2, 2]).view_as_complex();
        let turned = (complex * turns)
            .view_as_real()
            .view([batch, positions, n_turning, self.size])
            .to_kind(heads.kind());
        if self.size == head_dim {
            return turned;
        }
        Tensor::cat(&[turned, heads.narrow(-1, self.size, head_dim - self.size)], -1)
    }

    /// Those of positions from `first` on.
    fn turns(&self, first: i64, n: i64) -> Tensor {
        let mut turns = self.turns.borrow_mut();
        let positions = first + n;
        if turns.size()[0] < positions {
            let options = (Kind::Float, self.frequencies.device());
            let angles = Tensor::arange(positions, options).outer(&self.frequencies).unsqueeze(1);
            *turns = Tensor::polar(&angles.ones_like(), &angles);
        }
        turns.narrow(0, first, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rotary(head_dim: i64, size: i64) -> Rotary {
        let share = serde_json::json!({ "share": size as f64 / head_dim as f64 });
        let share = share.as_object().unwrap().clone();
        let config = HostConfig::new(Path::new("config.json"), share);
        let keys = RotaryKeys { share: Some(("share", 1.0)), ..RotaryKeys::default() };
        Rotary::new(&config, head_dim, keys, Device::Cpu).unwrap()
    }

    /// Turns in the layout of the files, from the definition.
    fn rotate_half(x: &[f64], size: usize, position: f64) -> Vec<f64> {
        let half = size / 2;
        let mut out = x.to_vec();
        for i in 0..half {
            let angle = position * 10_000_f64.powf(-2.0 * i as f64 / size as f64);
            let (sin, cos) = angle.sin_cos();
            out[i] = x[i] * cos - x[i + half] * sin;
            out[i + half] = x[i + half] * cos + x[i] * sin;
        }
        out
    }

    #[test]
    fn pairing_then_turning_is_the_definition() {
        for (head_dim, size) in [(8, 8), (8, 4), (2, 2)] {
            let rotary = rotary(head_dim, size);
            let (heads, positions) = (3, 5);
            let x = Tensor::randn([heads * head_dim, positions], (Kind::Float, Device::Cpu));
            let paired = rotary.pair(&x).transpose(0, 1).contiguous();
            let paired = paired.view([1, positions, heads * head_dim]);
            let in_place = rotary.forward(&mut paired.copy(), heads - 1, &Past::none());
            let copied = rotary.forward(&mut paired.shallow_clone(), heads - 1, &Past::none());
            let expected = |position: i64, head: i64| {
                let rows = x.narrow(0, head * head_dim, head_dim).select(1, position);
                let turned = rotate_half(
                    &Vec::<f64>::try_from(rows).unwrap(),
                    size as usize,
                    position as f64,
                );
                rotary.pair(&Tensor::from_slice(&turned))
            };
            for position in 0..positions {
                for head in 0..heads - 1 {
                    for turned in [&in_place, &copied] {
                        let got = turned.get(0).get(position).get(head).to_kind(Kind::Double);
                        let error = (got - expected(position, head)).abs().max().double_value(&[]);
                        assert!(error < 1e-6, "head {head} position {position}: {error}");
                    }
                }
            }
            let read = rotary.pair(&x).transpose(0, 1).reshape([1, positions, heads * head_dim]);
            assert_eq!(paired, read, "a tensor that others hold was changed");
        }
    }
}
