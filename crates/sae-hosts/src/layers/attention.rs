//! Multi-head attention over whole sequences, or their last positions.

use tch::{Kind, Tensor};

use super::cpu;

/// Which positions a position attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All.
    Full,
    /// Itself and those before it.
    Causal,
    /// Itself and those before it, this many at most.
    Window(i64),
}

/// softmax(c·tanh(s·q kᵀ / c)) v, where c is a cap that few families have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) mask: Mask,
    /// s.
    pub(crate) scale: f64,
    /// c.
    pub(crate) softcap: Option<f64>,
}

impl Attention {
    /// Keys and values may have fewer heads than queries: each then serves as many queries in turn.
    /// Where there are fewer queries than keys they are of the last positions.
    ///
    /// # Shapes
    /// Queries `[batch, positions, heads, head_dim]`, keys and values
    /// `[batch, keys, kv_heads, head_dim]`; returns `[batch, positions, heads · head_dim]`.
    pub(crate) fn forward(&self, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Tensor {
        let (batch, positions, heads, head_dim) =
            queries.size4().expect("queries have four dimensions");
        if let Some(out) = cpu::attention(self, queries, keys, values) {
            return out;
        }
        let shared = heads / keys.size()[2];
        let q = queries.transpose(1, 2);
        let (k, v) = (by_head(keys, shared), by_head(values, shared));
        let n_keys = keys.size()[1];
        let mask = match self.mask {
            Mask::Window(window) if window < n_keys => Mask::Window(window),
            Mask::Window(_) => Mask::Causal,
            other => other,
        };
        let of_last = positions < n_keys;
        let causal = mask == Mask::Causal && !of_last;
        let bias = || Some(bias(mask, positions, n_keys, queries));
        let bias = match mask {
            Mask::Window(_) => bias(),
            Mask::Causal if self.softcap.is_some() || of_last => bias(),
            Mask::Causal | Mask::Full => None,
        };
        let out = match self.softcap {
            None => Tensor::scaled_dot_product_attention(
                &q, &k, &v, bias, 0.0, causal, self.scale, false,
            ),
            Some(cap) => {
                let scores = q.matmul(&k.transpose(2, 3)) * (self.scale / cap);
                let scores = scores.tanh() * cap;
                let scores = match bias {
                    Some(bias) => scores + bias,
                    None => scores,
                };
                scores.softmax(-1, q.kind()).matmul(&v)
            }
        };
        out.transpose(1, 2).reshape([batch, positions, heads * head_dim])
    }
}

/// `[batch, positions, kv_heads, head_dim]` to `[batch, kv_heads · shared, positions, head_dim]`.
fn by_head(x: &Tensor, shared: i64) -> Tensor {
    let x = x.transpose(1, 2);
    if shared == 1 {
        return x;
    }
    let (batch, kv_heads, positions, head_dim) = x.size4().expect("keys have four dimensions");
    x.unsqueeze(2).expand([batch, kv_heads, shared, positions, head_dim], false).reshape([
        batch,
        kv_heads * shared,
        positions,
        head_dim,
    ])
}

/// 0 where one of the last positions (row) attends to another (column), −∞ where it does not.
fn bias(mask: Mask, positions: i64, n_keys: i64, like: &Tensor) -> Tensor {
    let before = n_keys - positions;
    let ones = Tensor::ones([positions, n_keys], (Kind::Bool, like.device()));
    let seen = match mask {
        Mask::Full => ones,
        Mask::Causal => ones.tril(before),
        Mask::Window(window) => ones.tril(before).triu(before + 1 - window),
    };
    Tensor::zeros([positions, n_keys], (like.kind(), like.device()))
        .masked_fill(&seen.logical_not(), f64::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// The definition, in f64, one query at a time.
    fn naive(attention: Attention, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (_, positions, heads, head_dim) = q.size4().unwrap();
        let shared = heads / k.size()[2];
        let mut rows = Vec::new();
        for at in 0..positions {
            for head in 0..heads {
                let (first, last) = match attention.mask {
                    Mask::Full => (0, positions),
                    Mask::Causal => (0, at + 1),
                    Mask::Window(window) => ((at + 1 - window).max(0), at + 1),
                };
                let query = q.select(1, at).select(1, head).view([head_dim, 1]);
                let keys = k.select(2, head / shared).get(0).narrow(0, first, last - first);
                let values = v.select(2, head / shared).get(0).narrow(0, first, last - first);
                let mut scores = keys.matmul(&query) * attention.scale;
                if let Some(cap) = attention.softcap {
                    scores = (scores / cap).tanh() * cap;
                }
                let shares = scores.softmax(0, Kind::Double);
                rows.push((values * shares).sum_dim_intlist(0, false, Kind::Double));
            }
        }
        Tensor::cat(&rows, 0).view([1, positions, heads * head_dim])
    }

    #[test]
    fn on_the_cpu_in_f32_blocks_agree_with_the_definition() {
        tch::manual_seed(1);
        for (positions, head_dim) in [(1, 8), (9, 4), (64, 16), (65, 16), (150, 5)] {
            // Parts of one projection, as families have them.
            let qkv = Tensor::randn([2, positions, 8, head_dim], (Kind::Float, Device::Cpu));
            for kv_heads in [1, 2] {
                let [q, k, v] = [(0, 4), (4, kv_heads), (6, kv_heads)]
                    .map(|(first, n)| qkv.narrow(2, first, n));
                let [q64, k64, v64] = [&q, &k, &v].map(|x| x.to_kind(Kind::Double));
                for mask in [Mask::Full, Mask::Causal, Mask::Window(3), Mask::Window(90)] {
                    for softcap in [None, Some(0.7)] {
                        let attention = Attention { mask, scale: 0.4, softcap };
                        let got = cpu::attention(&attention, &q, &k, &v).unwrap();
                        let expected = attention.forward(&q64, &k64, &v64);
                        let error = (got.to_kind(Kind::Double) - expected).abs().max();
                        assert!(error.double_value(&[]) < 2e-6, "{attention:?}: {error}");
                    }
                }
            }
        }
        // A query of its own, as in attention pooling.
        let keys = Tensor::randn([2, 70, 4, 8], (Kind::Float, Device::Cpu));
        let query = keys.narrow(1, 3, 1);
        let attention = Attention { mask: Mask::Full, scale: 0.4, softcap: None };
        let whole = cpu::attention(&attention, &keys, &keys, &keys).unwrap();
        let error = attention.forward(&query, &keys, &keys) - whole.narrow(1, 3, 1);
        assert!(error.abs().max().double_value(&[]) < 1e-6);
        // What does not fit together is left to libtorch, and to its errors.
        let causal = Attention { mask: Mask::Causal, ..attention };
        let part = |dim, length| keys.narrow(dim, 0, length);
        for (attention, queries, keys, values) in [
            (causal, keys.copy(), part(1, 9), part(1, 9)),
            (attention, keys.copy(), part(2, 3), part(2, 3)),
            (attention, keys.copy(), keys.copy(), part(1, 9)),
            (attention, keys.copy(), keys.copy(), part(3, 4)),
            (attention, keys.copy(), part(0, 1), part(0, 1)),
        ] {
            assert!(cpu::attention(&attention, &queries, &keys, &values).is_none());
        }
    }

    #[test]
    fn the_last_positions_are_those_of_the_whole() {
        tch::manual_seed(2);
        for kind in [Kind::Double, Kind::Float] {
            let random = |heads| Tensor::randn([2, 71, heads, 4], (kind, Device::Cpu));
            let (q, k, v) = (random(4), random(2), random(2));
            for mask in [Mask::Full, Mask::Causal, Mask::Window(3), Mask::Window(90)] {
                for softcap in [None, Some(0.7)] {
                    let attention = Attention { mask, scale: 0.4, softcap };
                    let whole = attention.forward(&q, &k, &v);
                    for n in [1, 2, 66, 70] {
                        let last = |x: &Tensor| x.narrow(1, 71 - n, n);
                        let error = attention.forward(&last(&q), &k, &v) - last(&whole);
                        let error = error.abs().max().double_value(&[]);
                        assert!(error < 2e-6, "{attention:?}, {n} in {kind:?}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_mask_cap_and_head_sharing_agrees_with_the_definition() {
        tch::manual_seed(0);
        let random = |heads| Tensor::randn([1, 9, heads, 4], (Kind::Double, Device::Cpu));
        for kv_heads in [1, 2, 4] {
            let (q, k, v) = (random(4), random(kv_heads), random(kv_heads));
            for mask in [Mask::Full, Mask::Causal, Mask::Window(3), Mask::Window(20)] {
                for softcap in [None, Some(0.7)] {
                    let attention = Attention { mask, scale: 0.4, softcap };
                    let got = attention.forward(&q, &k, &v);
                    let error = (got - naive(attention, &q, &k, &v)).abs().max().double_value(&[]);
                    assert!(error < 1e-12, "{attention:?}, {kv_heads} kv heads: {error}");
                }
            }
        }
    }
}
